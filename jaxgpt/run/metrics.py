"""What a run measured, on disk: metrics.jsonl and the same for TensorBoard."""

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from jaxgpt.files import parse_json, write_text

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class MetricsFile:
    """Appends records, each with its step, to metrics.jsonl and to TensorBoard's event files."""

    def __init__(self, file: TextIO, board: "SummaryWriter"):
        self.file = file
        self.board = board

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes one record; the file has it at once, should the process die. What is not finite becomes null."""
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.file.write(json.dumps({"step": step, **known}) + "\n")
        self.file.flush()
        for name, value in known.items():
            if value is not None:
                self.board.add_scalar(name, value, step)


@contextlib.contextmanager
def open_metrics(path: Path, start: int) -> Iterator[MetricsFile]:
    """Yields the run's metrics, cut back to the step it starts from: what came after is computed anew.

    So is a sample whose evaluation is not on record: the process died between the two.
    """
    drop_after(path / "metrics.jsonl", start)
    for name in ("samples.jsonl", "answers.jsonl"):
        drop_after(path / name, max(evaluated_steps(path), default=-1))
    board = _summary_writer(str(path / "tensorboard"), purge_step=start + 1)
    with (path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        try:
            yield MetricsFile(file, board)
        finally:
            board.close()


def _summary_writer(path: str, purge_step: int) -> "SummaryWriter":
    """Returns TensorBoard's writer. tensorboardX imports torch where it finds it: seconds and 180 MB for nothing."""
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hide:
            del sys.modules["torch"]
    return SummaryWriter(path, purge_step=purge_step, flush_secs=5)


def append_sample(path: Path, step: int, text: str) -> None:
    """Adds what the model said at a step to samples.jsonl."""
    with (path / "samples.jsonl").open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(json.dumps({"step": step, "text": text}, ensure_ascii=False) + "\n")


def append_answers(path: Path, step: int, answers: Sequence[dict[str, Any]]) -> None:
    """Adds what the model answered to held-out questions at a step to answers.jsonl, a line each."""
    if answers:
        with (path / "answers.jsonl").open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(json.dumps({"step": step, **answer}, ensure_ascii=False) + "\n" for answer in answers)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a JSON lines file; a line cut short by a crash, or damaged, is left out."""
    records = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                record = parse_json(line)
                if isinstance(record, dict) and type(record.get("step")) is int:
                    records.append(record)
    return records


def evaluated_steps(path: Path) -> list[int]:
    """Returns the steps of a run whose evaluation is on record."""
    return [record["step"] for record in read_records(path / "metrics.jsonl") if "valid_loss" in record]


def drop_after(path: Path, step: int) -> None:
    """Rewrites a JSON lines file without the records of later steps."""
    if path.exists():
        kept = [json.dumps(record, ensure_ascii=False) for record in read_records(path) if record["step"] <= step]
        write_text(path, "".join(line + "\n" for line in kept))
