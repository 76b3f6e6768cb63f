"""Where a run resumes: its newest whole checkpoint, and what is known of the steps up to there."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxgpt.buckets import is_there
from jaxgpt.errors import RunError
from jaxgpt.run.checkpoint import Best, read_best, write_best
from jaxgpt.run.folder import Run
from jaxgpt.run.integrity import newest_whole, set_aside
from jaxgpt.run.metrics import read_records
from jaxgpt.run.starts import record_start


def find_start(run: Run) -> int:
    """Returns the step a run resumes from: that of its newest whole checkpoint, or 0 where it has none yet.

    Damaged ones are named, recorded in run.json, and moved aside. Raises RunError when all that there are, are damaged.
    """
    newest, damaged = newest_whole(run.checkpoints)
    if newest is None and damaged:
        raise RunError(
            f"{'; '.join(damaged)}. No whole checkpoint is left: bring one back from a copy, or start over with "
            "--run.restart, which moves this run aside"
        )
    if newest is None and is_there(run.path / "run.json"):
        print("no step of this run was saved yet: it begins again at step 0")
    moved = set_aside(run.checkpoints, newest)
    for text in damaged:
        print(f"WARNING: {text}. Resuming from the one before, of step {newest}", file=sys.stderr, flush=True)
    for place in moved:
        print(f"moved aside: {place}", file=sys.stderr, flush=True)
    for text in record_start(run.path, newest or 0, damaged, run.settled):
        print(f"note: {text}. From here on numbers may differ by rounding from an uninterrupted run's")
    return newest or 0


def best_so_far(path: Path, steps: Sequence[int]) -> Best | None:
    """Returns the best checkpoint that is there, as best.json or else the metrics have it; None before the first."""
    best = read_best(path / "checkpoints")
    if best is not None and best.step in steps:
        return best
    records = [
        r for r in read_records(path / "metrics.jsonl") if r["step"] in steps and _is_finite(r.get("valid_loss"))
    ]
    if not records:
        return None
    least = min(records, key=lambda record: record["valid_loss"])
    best = Best(least["step"], least["valid_loss"])
    write_best(path / "checkpoints", best)
    return best


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def skipped_at_the_end(path: Path) -> int:
    """Returns how many of the last recorded steps were skipped, one after the other."""
    steps = [record for record in read_records(path / "metrics.jsonl") if "valid_loss" not in record]
    return next((n for n, record in enumerate(reversed(steps)) if "skipped" not in record), len(steps))
