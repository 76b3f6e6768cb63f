"""What a run has on record: its files read back, however far it has come, and text it has not learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.buckets import is_there
from jaxgpt.config import data_in_context
from jaxgpt.data.batch import Batch
from jaxgpt.data.mixture import open_mixed
from jaxgpt.errors import UserError, shown
from jaxgpt.files import parse_json
from jaxgpt.run.folder import Run, latest_step, read_run
from jaxgpt.run.metrics import read_records

ROWS = 40  # windows of held-out text that are scored: enough for means, quick on a laptop


@dataclass(frozen=True)
class Record:
    """A run's identity, its measurements by name as (steps, values), what it said, and where it ran."""

    run: Run
    measured: dict[str, tuple[np.ndarray, np.ndarray]]
    samples: list[tuple[int, str]]
    machine: dict[str, Any]
    checkpoint: int | None
    """The latest step with a checkpoint, or None before the first."""

    @property
    def name(self) -> str:
        return self.run.path.resolve().name

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, loss in nats per token) of the best evaluation after a step, or None before the first."""
        steps, losses = self.curve("valid_loss")
        scored = [(loss, step) for step, loss in zip(steps, losses, strict=True) if step > 0 and np.isfinite(loss)]
        return (int(min(scored)[1]), float(min(scored)[0])) if scored else None

    @property
    def steps(self) -> int:
        """Training steps on record."""
        steps = [self.curve(name)[0] for name in ("loss", "grad_norm")]  # of a step without answers there is no loss
        return int(max((each[-1] for each in steps if len(each)), default=self.checkpoint or 0))

    @property
    def seconds(self) -> float | None:
        """Time spent in training steps, from their measured speed; None where no speed is on record."""
        _, speeds = self.curve("tokens_per_second")
        speeds = speeds[speeds > 0]
        return float(np.mean(self.step_tokens / speeds)) * self.steps if len(speeds) else None

    @property
    def step_tokens(self) -> int:
        """Tokens of a training step."""
        return self.run.config.data.batch_size * self.run.config.data.seq_len

    @property
    def wall_seconds(self) -> float | None:
        """Wall time up to the last step, compiling and evaluations included; None where it is not on record."""
        seconds = self.seconds_at(np.array([self.steps], float))
        return None if seconds is None else float(seconds[0])

    def seconds_at(self, steps: np.ndarray) -> np.ndarray | None:
        """Returns the wall time at these steps, between those on record too; None where that is not known of all."""
        known, seconds = self.curve("seconds")
        known, seconds = known[np.isfinite(seconds)], seconds[np.isfinite(seconds)]
        if not len(known) or steps.min() < known.min() or steps.max() > known.max():
            return None
        order = np.argsort(known, kind="stable")
        return np.interp(steps, known[order], np.maximum.accumulate(seconds[order]))

    @property
    def floor(self) -> float | None:
        """Nats per token below which no model gets on the validation split, where that is known."""
        return self.run.data.floor("valid")

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns (steps, values) of a measurement; both empty where there is none yet."""
        return self.measured.get(name, (np.zeros(0), np.zeros(0)))


def read_record(path: str | Path) -> Record:
    """Returns what a run folder has on record; raises UserError when it is none, or a file of it is damaged."""
    run = read_run(path)
    lists: dict[str, tuple[list[float], list[float]]] = {}
    for entry in _entries(run.path / "metrics.jsonl"):
        for name, value in entry.items():
            name = "mfu" if name == "utilisation" else name  # as version 0.1 calls it
            if name != "step" and (isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)):
                steps, values = lists.setdefault(name, ([], []))
                steps.append(entry["step"])
                values.append(value)
    measured = {name: (np.array(steps, float), np.array(values, float)) for name, (steps, values) in lists.items()}
    said = [(int(entry["step"]), str(entry.get("text", ""))) for entry in _entries(run.path / "samples.jsonl")]
    return Record(run, measured, said, _machine(run.path / "run.json"), latest_step(run.path))


def _entries(path: Path) -> list[dict[str, Any]]:
    return [entry for entry in read_records(path) if 0 <= entry["step"] < 2**63]


def _machine(path: Path) -> dict[str, Any]:
    if not is_there(path):
        return {}
    try:
        machine = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(machine, dict):
            raise ValueError("it is no object")
        for name, kind in (("devices", list), ("packages", dict)):
            if not isinstance(machine.get(name, kind()), kind):
                raise ValueError(f"{name} is {shown(machine[name])}")
    except ValueError as error:
        raise UserError(f"{path}: not a record of a machine ({error}); delete it, the report can do without") from None
    return machine


@dataclass(frozen=True)
class HeldOut:
    """Windows of a run's validation split, evenly spread over it, and what a reader should know of them."""

    batch: Batch
    note: str


def held_out(run: Run, rows: int = ROWS) -> HeldOut:
    """Returns text of the run's corpus that it was not trained on; raises UserError where there is none."""
    config = run.config.data if run.data.kind == "pairs" else data_in_context(run.config)
    manifest, source = open_mixed(run.data, run.tokenizer, config, "valid")
    if not len(source):
        raise UserError(f"{run.data.name}: it has no validation text")
    note = f"The validation split of {run.data.full_name}, which the model was not trained on."
    if not manifest.is_of_same_data(run.data):
        note += " The corpus has changed since, so the model may have seen some of this."
    return HeldOut(source.gather(_spread(len(source), rows)), note)


def text_batch(tokens: Sequence[int]) -> Batch:
    """Returns one text as a batch of one row: each token predicted from those before it."""
    row = np.asarray(tokens, np.int32)[None]
    return Batch(row[:, :-1], row[:, 1:], np.ones(row[:, 1:].shape, np.float32))


def said(record: Record) -> list[int]:
    """Returns the tokens of the run's last sample, or of its prompt."""
    text = record.samples[-1][1] if record.samples else record.run.config.run.sample_prompt
    return record.run.tokenizer.encode(text)


def _spread(size: int, count: int) -> np.ndarray:
    """Returns the numbers of at most `count` of `size` samples, evenly spread."""
    return np.unique(np.linspace(0, size - 1, min(size, count)).round().astype(int))
