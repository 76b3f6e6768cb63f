"""A run in words: a score with the data it was measured on, a sample, how the run ended."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxgpt.config import Config
from jaxgpt.data.manifest import Manifest
from jaxgpt.run.checkpoint import Best
from jaxgpt.run.folder import Run
from jaxgpt.text.tokenizer import for_terminal
from jaxgpt.training.evaluate import Score
from jaxgpt.training.progress import clock


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    step: int
    best: Best
    seconds: float
    """All its starts together."""


def summarize(windows: np.ndarray) -> str:
    """Returns the first of a batch's windows by number, counted on from one epoch to the next."""
    first = ", ".join(map(str, windows[:8].tolist()))
    return first if len(windows) <= 8 else f"{first} and {len(windows) - 8} more"


def describe(score: Score, manifest: Manifest, split: str, part: str) -> str:
    """Returns a score in words, with the data it was measured on and, where it is known, the floor.

    `part` says how much of the split that is; the floor is known of all of it only.
    """
    over = f"over {score.tokens:,} {manifest.unit}s of {manifest.full_name}"
    if not math.isfinite(score.loss):
        return f"{part} loss {score.loss} {over}: not finite, so this checkpoint is not the best"
    bits = manifest.bits_per_byte(split, score.loss)
    per_byte = "" if bits is None else f", {bits:.4f} bits per byte,"
    text = f"{part} loss {score.loss:.4f} nats per token, perplexity {score.perplexity_in_words}{per_byte} {over}"
    floor = manifest.floor(split)
    if floor is None or part.startswith("part"):
        return text
    gap = score.loss - floor
    return f"{text}; {gap:+.4f} from the entropy floor of {floor:.4f}{below_floor(gap)}"


def describe_all(scores: Sequence[Score], loss: float, run: Run, split: str, part: str) -> list[str]:
    """Returns the scores of a corpus, or of each corpus of a mixture and their mean in its shares, a line each."""
    manifest = run.data
    if run.config.objective.name == "dpo":
        (score,) = scores
        preferred = f"{score.measures['preferred']:.1%} of {score.tokens:,} pairs the right way round"
        return [f"{part} loss {loss:.4f} nats per pair, {preferred}, of {manifest.full_name}"]
    if not manifest.parts:
        return [describe(scores[0], manifest, split, part)]
    lines = [describe(score, of.manifest, split, part) for score, of in zip(scores, manifest.parts, strict=True)]
    return [*lines, f"{part} loss {loss:.4f} nats per token over the mixture, {manifest.full_name}"]


FEW_STEPS = 20  # of a whole run: a small text in large batches is read in fewer, and nothing is learned
FLOOR_NOISE = 0.01  # nats per token by which a finite text may be easier than its source


def below_floor(gap: float) -> str:
    """Returns a warning when a loss lies under the entropy floor by more than chance, else nothing."""
    return " (BELOW the floor: no model can do that, so something is wrong)" if gap < -FLOOR_NOISE else ""


def without_restart(config: Config) -> str:
    """Returns what must be left out of the command that resumes this run, if anything."""
    return " without --run.restart" if config.run.restart else ""


def indent(text: str) -> str:
    """Returns text set off from the lines around it."""
    return "\n".join(f"    {line}" for line in for_terminal(text).splitlines())


def summary(run: Run, result: Result, made: str, report: str, next_commands: Sequence[str]) -> str:
    """Returns the last words of a stage: what it made, what it measured, where its report is, what to do next."""
    few = result.step < FEW_STEPS and run.config.run.max_steps is None and run.config.run.train_tokens is None
    lines = [
        f"{run.path}: {made}, {result.step:,} steps in {clock(result.seconds)}",
        *([f"  {result.step} steps teach it little: --run.epochs says how often it reads its text"] if few else []),
        f"  best checkpoint: step {result.best.step}, {_loss_in_words(run, result.best.valid_loss)}",
        f"  report: {report}",
        "next:",
        *(f"  {command}" for command in next_commands),
    ]
    return "\n".join(lines)


def _loss_in_words(run: Run, loss: float) -> str:
    """Returns what the validation loss of a run's objective says."""
    on = f"on {run.data.full_name}"
    if run.config.objective.name == "grpo":
        return f"reward {-loss:.4f} {on}"
    if run.config.objective.name == "dpo":
        return f"valid loss {loss:.4f} nats per pair {on}"
    bits = run.data.bits_per_byte("valid", loss)
    per_byte = "" if bits is None else f", {bits:.4f} bits per byte"
    return f"valid loss {loss:.4f} nats per token, perplexity {Score(loss, 1).perplexity_in_words}{per_byte} {on}"
