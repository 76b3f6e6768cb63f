"""What a run measured, on disk: metrics.jsonl; and told to trackers."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from jaxgpt.buckets import Growing, is_in_bucket, is_there, written_at_the_end
from jaxgpt.files import append_text, parse_json, write_text

Tracker = Callable[[int, dict[str, float]], None]
"""Takes the values of a step, all finite, by name."""


class MetricsFile:
    """Appends records, each with its step and the run's wall time, to metrics.jsonl, and tells trackers the same.

    `seconds_before` is that time when this process opened the run; None where it is not known.
    """

    def __init__(self, file: TextIO | Growing, trackers: Sequence[Tracker], seconds_before: float | None):
        self.file = file
        self.trackers = trackers
        self.seconds_before = seconds_before
        self.opened = time.perf_counter()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes one record; the file has it at once, should the process die. What is not finite becomes null.

        A file in a bucket has it with the next checkpoint or evaluation, or after a minute.
        """
        if self.seconds_before is not None:
            values = values | {"seconds": round(self.seconds_before + time.perf_counter() - self.opened, 3)}
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.file.write(json.dumps({"step": step, **known}) + "\n")
        self.file.flush()
        for tracker in self.trackers:
            tracker(step, {name: value for name, value in known.items() if value is not None})

    def sync(self) -> None:
        """Has a file in a bucket written, too."""
        if isinstance(self.file, Growing):
            self.file.sync()


@contextlib.contextmanager
def open_metrics(path: Path, start: int, trackers: Sequence[Tracker] = ()) -> Iterator[MetricsFile]:
    """Yields the run's metrics, cut back to the step it starts from: what came after is computed anew.

    So is a sample of that very step, unless its evaluation is on record: the process may have died before or after it.
    """
    drop_after(path / "metrics.jsonl", start)
    for name in ("samples.jsonl", "answers.jsonl"):
        drop_after(path / name, start if start in evaluated_steps(path) else start - 1)
    seconds_before = seconds_so_far(path)
    if is_in_bucket(path):
        growing = Growing(path / "metrics.jsonl")
        with written_at_the_end(growing.sync):
            yield MetricsFile(growing, trackers, seconds_before)
        return
    with (path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        yield MetricsFile(file, trackers, seconds_before)


def append_sample(path: Path, step: int, text: str) -> None:
    """Adds what the model said at a step to samples.jsonl."""
    append_text(path / "samples.jsonl", json.dumps({"step": step, "text": text}, ensure_ascii=False) + "\n")


def append_answers(path: Path, step: int, answers: Sequence[dict[str, Any]]) -> None:
    """Adds what the model answered to held-out questions at a step to answers.jsonl, a line each."""
    if answers:
        lines = [json.dumps({"step": step, **answer}, ensure_ascii=False) + "\n" for answer in answers]
        append_text(path / "answers.jsonl", "".join(lines))


def read_records(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a JSON lines file; a line cut short by a crash, or damaged, is left out."""
    records = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().decode("utf-8", "replace").split("\n"):  # other line breaks may be in texts
            with contextlib.suppress(ValueError):
                record = parse_json(line)
                if isinstance(record, dict) and type(record.get("step")) is int:
                    records.append(record)
    return records


def evaluated_steps(path: Path) -> list[int]:
    """Returns the steps of a run whose evaluation is on record."""
    return [record["step"] for record in read_records(path / "metrics.jsonl") if "valid_loss" in record]


def seconds_so_far(path: Path) -> float | None:
    """Returns the wall time of a run's starts up to its last record: 0 where nothing is recorded yet.

    Time spent on steps that were lost with a process and computed anew is not in it. None where the last record has no
    time: versions up to 0.1 kept none.
    """
    records = read_records(path / "metrics.jsonl")
    if not records:
        return 0.0
    seconds = records[-1].get("seconds")
    return float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < math.inf else None


def drop_after(path: Path, step: int) -> None:
    """Rewrites a JSON lines file without the records of later steps."""
    if is_there(path):
        kept = [json.dumps(record, ensure_ascii=False) for record in read_records(path) if record["step"] <= step]
        write_text(path, "".join(line + "\n" for line in kept))
