"""Tasks that come with the package: what a model knows of tinyworld, in which right and wrong are exact.

Pairs are BLiMP's kind (Warstadt et al. 2020): which of two stories that differ in a word is likelier. Cloze is
LAMBADA's (Paperno et al. 2016): the last word of a story, which only who has read it knows.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib import metadata
from itertools import islice
from random import Random
from typing import NamedTuple, cast

import jax

from jaxgpt.errors import UserError
from jaxgpt.inference.decode import padded
from jaxgpt.inference.eval_chat import answer_all, checkable
from jaxgpt.inference.generate import banned_tokens, in_full_precision
from jaxgpt.inference.score import score_sorted
from jaxgpt.inference.slots import TokenOutput
from jaxgpt.ops.sampling import GREEDY
from jaxgpt.run.evaluations import Evaluation
from jaxgpt.run.load import Trained
from jaxgpt.text.corpora import open_chat
from jaxgpt.text.corpora.tinyworld import log_prob, stories

VERSION = 1  # of the tasks; a change that changes results needs another
MOST = 250  # pairs of a kind, and stories whose end is asked for
SWAPS = {
    "verb": {"was": "were", "were": "was", "is": "are", "are": "is", "has": "have", "have": "has"},
    "pronoun": {"She": "He", "He": "She", "she": "he", "he": "she", "her": "his", "his": "her", "him": "her"},
    "article": {"a": "an", "an": "a"},
}
"""Kind of pair -> the words that take each other's place."""


class Pair(NamedTuple):
    """A held-out story, and another text that differs from it in a place and that the world never tells."""

    kind: str
    told: str
    never: str


def make_pairs() -> list[Pair]:
    """Returns the pairs of the test split: always the same ones, at most MOST of a kind."""
    random, found = Random(0), defaultdict(list)
    for story in stories("test"):
        for kind in (*SWAPS, "order"):
            if len(found[kind]) < MOST:
                changes = _changes(kind, story.text)
                random.shuffle(changes)
                never = (changed for changed in changes if log_prob(changed) == -math.inf)
                found[kind] += [Pair(kind, story.text, changed) for changed in islice(never, 1)]
    return [pair for kind in sorted(found) for pair in found[kind]]


def _changes(kind: str, text: str) -> list[str]:
    """Returns the texts that a word, or two neighbours, in each other's place make."""
    if kind == "order":
        return [
            f"{text[: m.start(1)]}{m[2]} {m[1]}{text[m.end(2) :]}"
            for m in re.finditer(r"\b(?:a|the) ([a-z]+) ([a-z]+)\b", text)
        ]
    words = SWAPS[kind]
    found = re.finditer(rf"\b(?:{'|'.join(words)})\b", text)
    return [f"{text[: m.start()]}{words[m[0]]}{text[m.end() :]}" for m in found]


def make_clozes() -> list[tuple[str, str]]:
    """Returns (a held-out story up to its last word, that word) where an answer about the story is its end."""
    found = []
    for story in stories("test"):
        end = re.search(r"[?]\" \"[^\"]* (\w+)[.]\"$", story.text)
        if end and re.search(rf"\b{end[1]}\b", story.text[: end.start()]):
            found.append((story.text[: end.start(1)].rstrip(), end[1]))
    return found[:MOST]


def pairs(trained: Trained) -> Evaluation:
    """Returns in how many pairs the story that the world tells is the likelier text."""
    made = make_pairs()
    nats = [
        -sum(cast(float, output.logprob) for output in outputs)
        for outputs in _scored(trained, [text for pair in made for text in (pair.told, pair.never)])
    ]
    right = defaultdict(list)
    for number, pair in enumerate(made):
        right[pair.kind].append(nats[2 * number] < nats[2 * number + 1])
    return _evaluation(trained, "tinyworld-pairs", right)


def cloze(trained: Trained) -> Evaluation:
    """Returns how often the last word of a story is the model's likeliest next one."""
    made, tokenizer = make_clozes(), trained.run.tokenizer
    scored = _scored(trained, [f"{beginning} {word}" for beginning, word in made])
    right = []
    for (beginning, word), outputs in zip(made, scored, strict=True):
        count = len(tokenizer.encode(f"{beginning} {word}")) - len(tokenizer.encode(beginning))
        right.append(all(output.token == output.candidates[0][0] for output in outputs[len(outputs) - count :]))
    return _evaluation(trained, "tinyworld-cloze", {"last word": right})


def answers(trained: Trained) -> Evaluation:
    """Returns how many held-out questions a model that talks answers exactly; raises UserError where it does not."""
    run, model = trained.run, trained.config.model
    if not run.data.is_chat:
        raise UserError(f"tasks: tinyworld-answers are of models that talk, and {run.path} is a language model")
    asked = list(checkable(open_chat("tinyworld-chat", None).read(), "test", run.tokenizer, model.context_len))
    given = answer_all(
        trained.params, model, run.tokenizer, asked, GREEDY, jax.random.key(0), max_tokens=model.context_len
    )
    right = defaultdict(list)
    for answer in given:
        right[answer.question.kind].append(answer.right)
    return _evaluation(trained, "tinyworld-answers", right)


TASKS: dict[str, Callable[[Trained], Evaluation]] = {
    "tinyworld-answers": answers,
    "tinyworld-pairs": pairs,
    "tinyworld-cloze": cloze,
}


def _scored(trained: Trained, texts: Sequence[str]) -> list[list[TokenOutput]]:
    """Returns each text's tokens after bos, scored; raises UserError where the model sees fewer than one has."""
    tokenizer, config = trained.run.tokenizer, in_full_precision(trained.config.model)
    ids = [[tokenizer.special.bos, *tokenizer.encode(text)] for text in texts]
    if (longest := max(map(len, ids))) > config.context_len:
        raise UserError(f"tasks: a story has {longest} tokens, and the model sees {config.context_len}")
    banned_V = padded(banned_tokens(tokenizer, tokenizer.special.eos), config)
    found: list[list[TokenOutput]] = [[]] * len(ids)
    for number, outputs in score_sorted(trained.params, config, banned_V, ids):
        found[number] = outputs
    return found


def _evaluation(trained: Trained, task: str, right: dict[str, list[bool]]) -> Evaluation:
    """Returns the share right, of all and of each kind, each with its standard error."""
    metrics: dict[str, float | None] = {}
    everything = [each for kind in right.values() for each in kind]
    for name, part in (("", everything), *sorted(right.items())):
        share, suffix = sum(part) / len(part), f",{name}" if name and len(right) > 1 else ""
        metrics[f"acc{suffix}"] = share
        metrics[f"acc_stderr{suffix}"] = math.sqrt(share * (1 - share) / len(part))
    harness = f"jaxgpt {metadata.version('jaxgpt')}"
    return Evaluation(task, trained.step, metrics, len(everything), None, VERSION, harness)
