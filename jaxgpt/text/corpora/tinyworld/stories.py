"""Stories: one of the plots, and sometimes whoever read it aloud asks what happened."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from jaxgpt.text.corpora.tinyworld import animals, days, outings, people, teller
from jaxgpt.text.corpora.tinyworld.questions import wordings
from jaxgpt.text.corpora.tinyworld.teller import Teller
from jaxgpt.text.corpora.tinyworld.world import ELDERS

PLOTS = (*people.PLOTS, *animals.PLOTS, *days.PLOTS, *outings.PLOTS)
WEIGHTS = [{days.lesson: 4, animals.parrot: 3}.get(plot, 1) for plot in PLOTS]

# seed and number of stories
SPLITS = {"train": (1, 23_500), "valid": (2, 1_250), "test": (3, 1_250)}


@dataclass(frozen=True)
class Story:
    """A story on one line, and the natural logarithm of the probability of it, its end included."""

    text: str
    log_prob: float


def tell_plot(t: Teller) -> None:
    """Tells one of the plots, at times with a word about it all."""
    t.pick(PLOTS, WEIGHTS)(t)
    if t.maybe(0.1):
        closing(t)


def tell(t: Teller) -> None:
    """Tells one story, at times with a question about it at the end."""
    tell_plot(t)
    if t.facts and t.maybe(0.5):
        recall(t)


def closing(t: Teller) -> None:
    """Ends a story."""
    t.say(
        "It was a [wonderful|perfect|great|happy|strange|long|funny|quiet] [day|evening|week|morning] [for everyone|for the whole family|in the village|after all].",
        "[Everybody|Nobody|The whole village|The old owl|A little bird] [talked about it|laughed about it|sang about it|dreamed of it|smiled about it] [that night|for weeks|for days|all summer|all winter].",
        "And [the moon|the night|a star|an owl|the wind] [smiled|watched|listened|whispered|laughed] over the [houses|hills|trees|river|village].",
    )


def recall(t: Teller) -> None:
    """Whoever read the story aloud asks about it."""
    reader = t.pick(ELDERS)
    t.say(
        f"{reader} [closed|put down] the book.",
        f"{reader} [stopped reading|looked up|had a question].",
    )
    fact = t.pick(list(t.facts))
    questions = wordings(fact)
    question = questions[t.pick(range(len(questions)))]
    t.say(f'"{question}"', f'"[So|And now|Well], {question[0].lower()}{question[1:]}"')
    answer = t.facts[fact]
    t.say(
        f'"{answer}"',
        f'"{answer[:-1]}," said [the children|the twins|the little girl|the little boy].',
    )


def stories(split: str) -> Iterator[Story]:
    """Yields the stories of the split: always the same ones, in the same order."""
    seed, count = SPLITS[split]
    random = Random(seed).random
    for _ in range(count):
        t = Teller(random)
        tell(t)
        yield Story(t.text, t.log_prob)


def log_prob(text: str) -> float:
    """Returns the natural log-probability of the text as one story, -inf when the world cannot write it."""
    return teller.log_prob(text, tell)
