"""Conversations in the small world: questions about a story, about how the world is, and small talk."""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from jaxgpt.text.corpora.tinyworld import facts, questions
from jaxgpt.text.corpora.tinyworld.stories import tell_plot
from jaxgpt.text.corpora.tinyworld.teller import Teller
from jaxgpt.text.corpora.tinyworld.world import a

# seed and number of conversations
SPLITS = {"train": (11, 12_000), "valid": (14, 500), "test": (15, 600)}
FRESH = 12, 25_600  # of questions that a model has not been shown the answers to

# A story belongs to the split its checksum says, so that no conversation shares its story with another split.
STORY_SPLITS = ("train", "train", "train", "train", "train", "train", "valid", "test")

# With its control tokens, a conversation fits a window of 128 tokens.
MAX_WORDS = 120
CONTROL_WORDS = 3

SMALL_TALK = {
    "I am a small model. I know stories about a small world.": (
        "Who are you?",
        "What are you?",
        "What is your name?",
        "What do you know?",
    ),
    "Hello! Do you want to hear a story?": ("Hello!", "Hi!", "Good morning!", "Good evening!", "Hey!"),
    "I am fine, thank you.": ("How are you?", "How do you feel?", "Hello, how are you?"),
    "I can tell you stories and answer questions.": (
        "What can you do?",
        "Can you help me?",
        "Can you answer questions?",
    ),
    "You are welcome!": ("Thank you!", "Thanks!", "Thanks for the story!", "Well done!", "You are clever!"),
    "Goodbye! Come back soon!": ("Goodbye!", "Bye!", "See you tomorrow!", "Good night!"),
}
REQUESTS = (
    "Tell me a story about {}.",
    "Can you tell me a story about {}?",
    "Do you know a story about {}?",
    "I want to hear a story about {}.",
)

_WORD = re.compile(r"'?\w+|[^\w\s]")


@dataclass(frozen=True)
class Dialogue:
    """A conversation; `kind` is that of the last question, `exact` says that only one last answer is right."""

    messages: tuple[dict[str, str], ...]
    kind: str
    exact: bool


Turn = tuple[str, str]


def typed(t: Teller, question: str) -> str:
    """Returns the question as people type it, at times without capital letter or mark."""
    careless = question if question.startswith("I ") else question[0].lower() + question[1:]
    return t.pick((question, question[:-1], careless, careless[:-1]), (6, 1, 1, 2))


def about_story(t: Teller, split: str) -> tuple[list[Turn], str]:
    """The user tells a story and asks about it, one to four times."""
    while True:
        told = Teller(t.random)
        tell_plot(told)
        if told.facts and STORY_SPLITS[zlib.crc32(told.text.encode()) % len(STORY_SPLITS)] == split:
            break
    left = list(told.facts)
    turns = []
    kind = ""
    for number in range(t.pick((1, 2, 3, 4), QUESTIONS[split])):
        if left:
            fact = left.pop(t.pick(range(len(left))))
            kind = fact[0]
            question = typed(t, t.pick(questions.wordings(fact)))
            turns.append((question if number else f"{told.text} {question}", told.facts[fact]))
    return turns, kind


def about_world(t: Teller, split: str) -> tuple[list[Turn], str]:
    """The user asks how the world is, one to three times."""
    wordings = facts.wordings(split)
    turns = []
    for _ in range(t.pick((1, 2, 3), (5, 3, 2))):
        number = t.pick(range(len(facts.FACTS)))
        turns.append((typed(t, t.pick(wordings[number])), facts.FACTS[number].answer))
    return turns, "fact"


def small_talk(t: Teller, split: str) -> tuple[list[Turn], str]:
    turns = []
    for _ in range(t.pick((1, 2))):
        answer, remarks = t.pick(list(SMALL_TALK.items()))
        turns.append((typed(t, t.pick(remarks)), answer))
    return turns, "smalltalk"


def story_time(t: Teller, split: str) -> tuple[list[Turn], str]:
    """The user asks for a story about somebody and gets one."""
    while True:
        told = Teller(t.random)
        tell_plot(told)
        if told.about and STORY_SPLITS[zlib.crc32(told.text.encode()) % len(STORY_SPLITS)] == split:
            break
    turns = [(typed(t, t.pick(REQUESTS).format(a(t.pick(told.about)))), told.text)]
    if t.maybe(0.3):
        answer = "You are welcome!"
        turns.append((typed(t, t.pick(SMALL_TALK[answer])), answer))
        return turns, "smalltalk"
    return turns, "tell"


TOPICS = (about_story, about_world, small_talk, story_time)
SHARES = {"train": (68, 22, 6, 4), "valid": (75, 25, 0, 0), "test": (75, 25, 0, 0)}

FRESH_SHARES = 90, 10, 0, 0  # facts of the world are learned from a few

# How many questions about a story, one to four: train asks more of them, so that more is learned from each.
QUESTIONS = {"train": (1, 2, 3, 3), "valid": (5, 3, 2, 0), "test": (5, 3, 2, 0)}

# How often people change the subject, once or more.
CHANGES = {"train": 0.4, "valid": 0.0, "test": 0.0}


def dialogues(split: str) -> Iterator[Dialogue]:
    """Yields the conversations of the split: always the same ones, in the same order.

    Those of valid and test are about stories that train has none of, or ask known facts in wordings
    that train does not use for them.
    """
    return _dialogues(split, *SPLITS[split], SHARES[split], CHANGES[split])


def fresh_questions() -> Iterator[Dialogue]:
    """Yields more conversations of train, which end with a question as valid and test have them: for practice."""
    return _dialogues("train", *FRESH, FRESH_SHARES, 0.0)


def _dialogues(
    split: str, seed: int, count: int, shares: tuple[int, int, int, int], changes: float
) -> Iterator[Dialogue]:
    t = Teller(Random(seed).random)
    while count:
        turns, kind = t.pick(TOPICS, shares)(t, split)
        while t.random() < changes:
            more, kind = t.pick(TOPICS[1:], shares[1:])(t, split)
            turns += more
        words = sum(len(_WORD.findall(text)) + CONTROL_WORDS for turn in turns for text in turn)
        if words <= MAX_WORDS:
            count -= 1
            messages = [
                {"role": role, "content": text}
                for turn in turns
                for role, text in zip(("user", "assistant"), turn, strict=True)
            ]
            yield Dialogue(tuple(messages), kind, kind != "tell")
