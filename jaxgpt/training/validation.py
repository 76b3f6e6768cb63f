"""What held-out data says of a run's parameters, in numbers and in words: its loss, and that of text learned beside."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxgpt.data.manifest import Manifest
from jaxgpt.data.sources import Mixture, Source
from jaxgpt.run.folder import Run
from jaxgpt.training.evaluate import Score, some_of
from jaxgpt.training.rollouts import Judged
from jaxgpt.training.summary import describe, describe_all

Scorer = Callable[[Source, str], Score]
"""(source, what it is called meanwhile) -> its score."""


class Measured(NamedTuple):
    """What is recorded by name, the same in words, and answers to held-out questions where there are any."""

    values: dict[str, float]
    said: list[str]
    answers: list[dict[str, Any]]


def judged(told: Judged) -> Measured:
    """Returns what answers to held-out questions say; the loss is the reward's negative."""
    return Measured({"valid_loss": -told.reward} | told.measures, told.said, told.answers)


def measure(valid: Source, run: Run, score: Scorer, whole: bool) -> Measured:
    """Returns the losses of the validation split, or of a part of a large one; with `whole` of all of it, too."""
    parts = valid.sources if isinstance(valid, Mixture) else {"": valid}
    shares = valid.shares if isinstance(valid, Mixture) else (1.0,)
    some = {name: some_of(source, run.config.data.seq_len) for name, source in parts.items()}
    is_part = any(some[name] is not source for name, source in parts.items())
    scored = [("part of valid" if is_part else "valid", "valid_loss", some)]
    if is_part and whole:
        scored.append(("all of valid", "whole_valid_loss", parts))
    values: dict[str, float] = {}
    said: list[str] = []
    for what, name, sources in scored:
        scores = [score(source, what) for source in sources.values()]
        values[name] = sum(share * each.loss for share, each in zip(shares, scores, strict=True))
        values |= {f"valid_{measure}": value for measure, value in scores[0].measures.items()}
        if isinstance(valid, Mixture):
            values |= {f"{name}/{part}": each.loss for part, each in zip(sources, scores, strict=True)}
        said += describe_all(scores, values[name], run, "valid", what)
    return Measured(values, said, [])


def measure_text(valid: Source, manifest: Manifest, seq_len: int, score: Scorer) -> Measured:
    """Returns the loss of what is held out of text that is learned beside."""
    some = some_of(valid, seq_len)
    part = "valid" if some is valid else "part of valid"
    found = score(some, f"{part}, {manifest.name}")
    return Measured({"valid_text_loss": found.loss}, [describe(found, manifest, "valid", part)], [])
