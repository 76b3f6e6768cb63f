"""What a run has been evaluated on: evaluations.json, a record of each task and step, for reports."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxgpt.buckets import is_there
from jaxgpt.errors import UserError
from jaxgpt.files import parse_json, read_text, write_text

FILE = "evaluations.json"


@dataclass(frozen=True)
class Evaluation:
    """What was measured in one task, or in a group of them."""

    task: str
    step: int
    """Of the checkpoint."""
    metrics: dict[str, float | None]
    """By the harness's names; NAME_stderr is the standard error of NAME, None where a number is not finite."""
    examples: int | None
    """None for a group."""
    num_fewshot: int | None
    """Answered examples before each question."""
    version: str | float | None
    """Of the task."""
    harness: str
    """What ran the task, and its version."""

    def lines(self) -> list[str]:
        """Returns the evaluation in words, a metric a line."""
        shots = "" if self.num_fewshot is None else f", {self.num_fewshot}-shot"
        over = "a group of tasks" if self.examples is None else f"{self.examples:,} examples{shots}"
        told = [f"  {self.task}, version {self.version}, by {self.harness}: {over}"]
        for name, value in self.metrics.items():
            if "_stderr" not in name and value is not None:
                first, *rest = name.split(",")
                error = self.metrics.get(",".join([f"{first}_stderr", *rest]))
                told.append(f"    {name:16} {value:.4f}{'' if error is None else f' ± {error:.4f}'}")
        return told


def read_evaluations(run: Path) -> list[Evaluation]:
    """Returns the evaluations of a run folder, the oldest first; raises UserError where the file is damaged."""
    file = run / FILE
    if not is_there(file):
        return []
    try:
        return [Evaluation(**record) for record in parse_json(read_text(file))]
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: it is damaged ({error}); move it aside") from None


def add_evaluations(run: Path, new: list[Evaluation]) -> None:
    """Adds evaluations to a run folder; one of the same task and step is replaced."""
    replaced = {(evaluation.task, evaluation.step) for evaluation in new}
    kept = [old for old in read_evaluations(run) if (old.task, old.step) not in replaced]
    records = [dataclasses.asdict(evaluation) for evaluation in [*kept, *map(_finite, new)]]
    write_text(run / FILE, json.dumps(records, indent=2) + "\n")


def _finite(evaluation: Evaluation) -> Evaluation:
    known: dict[str, Any] = {
        name: value if value is not None and math.isfinite(value) else None
        for name, value in evaluation.metrics.items()
    }
    return dataclasses.replace(evaluation, metrics=known)
