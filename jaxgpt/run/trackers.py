"""Where metrics are shown while a run is under way: TensorBoard, Weights & Biases, Trackio; run.track names them."""

import contextlib
import dataclasses
import importlib.util
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from jaxgpt.buckets import SECONDS, copy_into, is_in_bucket, is_there, written_at_the_end
from jaxgpt.errors import UserError
from jaxgpt.run.folder import Run
from jaxgpt.run.metrics import Tracker, read_records

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

PROJECT = "jaxgpt"


def require_installed(names: Sequence[str]) -> None:
    """Raises UserError for a tracker whose package is not there."""
    for name in names:
        if name != "tensorboard" and importlib.util.find_spec(name) is None:
            raise UserError(f'run.track: {name} is not installed; pip install "jaxgpt[{name}]"')


@contextlib.contextmanager
def open_trackers(run: Run, start: int) -> Iterator[list[Tracker]]:
    """Yields the trackers of a run that starts from a step; to be opened before its metrics, which are cut back to it.

    Raises UserError where one cannot be started.
    """
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(TRACKERS[name](run, start)) for name in run.config.run.track]


@contextlib.contextmanager
def tensorboard(run: Run, start: int) -> Iterator[Tracker]:
    """Writes event files into the run's folder; what was written of later steps is no longer shown.

    Into a bucket they are copied once a minute and at the end.
    """
    if not is_in_bucket(run.path):
        with _board(str(run.path / "tensorboard"), start) as track:
            yield track
        return
    with tempfile.TemporaryDirectory() as folder:

        def copy() -> None:
            copy_into(run.path / "tensorboard", Path(folder).iterdir())

        with written_at_the_end(copy), _board(folder, start) as track:
            copied = time.monotonic()

            def track_and_copy(step: int, values: dict[str, float]) -> None:
                nonlocal copied
                track(step, values)
                if time.monotonic() - copied > SECONDS:
                    copied = time.monotonic()
                    copy()

            yield track_and_copy


@contextlib.contextmanager
def _board(folder: str, start: int) -> Iterator[Tracker]:
    board = _summary_writer(folder, purge_step=start + 1)

    def track(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            board.add_scalar(name, value, step)

    try:
        yield track
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


@contextlib.contextmanager
def wandb(run: Run, start: int) -> Iterator[Tracker]:
    """Logs to Weights & Biases; with WANDB_MODE=offline into the run's folder alone, for `wandb sync`.

    The folder is wandb/ here where the run's is in a bucket.
    """
    import wandb  # pyright: ignore[reportMissingImports]  # an extra

    config = dataclasses.asdict(run.config)
    try:
        online = wandb.init(
            project=PROJECT,
            name=run.path.name,
            id=_id(run),
            resume="allow",
            dir=None if is_in_bucket(run.path) else run.path,
            config=config,
        )
    except wandb.Error as error:
        why = str(error).splitlines()[0]
        raise UserError(f"run.track: wandb: {why}; wandb login, or set WANDB_MODE=offline") from None
    try:
        yield _once(run, lambda step, values: online.log(values, step=step))
    finally:
        online.finish()


@contextlib.contextmanager
def trackio(run: Run, start: int) -> Iterator[Tracker]:
    """Logs to Trackio's files on this machine, which `trackio show` serves; TRACKIO_DIR says where they are."""
    import trackio  # pyright: ignore[reportMissingImports]  # an extra

    config = dataclasses.asdict(run.config)
    local = trackio.init(project=PROJECT, name=f"{run.path.name}-{_id(run)}", resume="allow", config=config)
    try:
        yield _once(run, lambda step, values: local.log(values, step=step))
    finally:
        trackio.finish()


TRACKERS: dict[str, Callable[[Run, int], AbstractContextManager[Tracker]]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
    "trackio": trackio,
}


def _id(run: Run) -> str:
    """Returns what a run is called by trackers, in all its starts and in no other run of its name."""
    file = run.path / "tracker-id"
    if not is_there(file):
        file.write_text(secrets.token_hex(4), encoding="utf-8")
    return file.read_text(encoding="utf-8")


def _once(run: Run, track: Tracker) -> Tracker:
    """Returns a tracker that is told nothing it was told by an earlier start; steps computed anew come out the same."""
    told = {(record["step"], "valid_loss" in record) for record in read_records(run.path / "metrics.jsonl")}

    def track_once(step: int, values: dict[str, float]) -> None:
        if (step, "valid_loss" in values) not in told:
            track(step, values)

    return track_once
