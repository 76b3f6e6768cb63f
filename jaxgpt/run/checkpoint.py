"""Checkpoints with Orbax: the latest two and the best, params and optimizer apart, each explaining itself."""

import contextlib
import json
import logging
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint import checkpoint_managers

from jaxgpt.buckets import failures, is_in_bucket, path_of
from jaxgpt.devices.distributed import on_primary
from jaxgpt.errors import RunError, UserError, first_line
from jaxgpt.files import parse_json, write_text
from jaxgpt.model.gpt import Params
from jaxgpt.model.parameters import each_block_apart, is_stacked, stacked, unstacked
from jaxgpt.run.integrity import seal
from jaxgpt.run.state import TrainState

ARRAYS = ("params", "optimizer")
DOCUMENTS = ("config", "tokenizer", "data")

OLDER_STAND = "What was saved before is whole, and the same command continues from there"
ROOM_BESIDE_ARRAYS = 2_000_000  # bytes for documents and metadata


class Best(NamedTuple):
    """The checkpoint with the lowest validation loss of its objective so far; one that is not finite is none."""

    step: int
    valid_loss: float


def read_best(folder: Path) -> Best | None:
    """Returns the best checkpoint of a folder of checkpoints, or None before the first evaluation.

    None as well for a damaged best.json, and for one whose loss is not finite: which checkpoint was best is known from
    the metrics, too.
    """
    try:
        record = parse_json((folder / "best.json").read_text(encoding="utf-8"))
        best = Best(int(record["step"]), float(record["valid_loss"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        if is_in_bucket(folder) and isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise  # it cannot be reached
        return None
    return best if math.isfinite(best.valid_loss) else None


def write_best(folder: Path, best: Best) -> None:
    """Records the best checkpoint; it is kept until a better one is recorded."""
    write_text(folder / "best.json", json.dumps({"step": best.step, "valid_loss": best.valid_loss}) + "\n")


class _KeepBest(checkpoint_managers.PreservationPolicy):
    """Keeps the checkpoint that best.json names: a checkpoint is saved before it is evaluated."""

    def __init__(self, folder: Path):
        self.folder = folder

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        best = read_best(self.folder)
        return [best is not None and checkpoint.step == best.step for checkpoint in checkpoints]


def open_checkpoints(
    folder: Path, alone: bool = False, create: bool = True, in_thread: bool = False
) -> ocp.CheckpointManager:
    """Returns the manager of a folder of checkpoints, which `create` makes. Use it in a `with` statement.

    Where there are several processes all must call it, and save and restore together; with `alone` one reads by itself.
    With `in_thread` they wait for each other without their devices, which another thread keeps busy.
    """
    folder = folder if is_in_bucket(folder) else folder.absolute()
    if create:
        on_primary(lambda: folder.mkdir(parents=True, exist_ok=True))  # in a bucket, too: Orbax asks for it
    policy = checkpoint_managers.AnyPreservationPolicy([checkpoint_managers.LatestN(2), _KeepBest(folder)])
    together = ocp.options.MultiprocessingOptions()
    if alone:
        me = jax.process_index()
        together = ocp.options.MultiprocessingOptions(me, active_processes={me}, barrier_sync_key_prefix=f"{me}")
    elif in_thread:  # Orbax uses no devices where processes are named
        together = ocp.options.MultiprocessingOptions(active_processes=set(range(jax.process_count())))
    options = ocp.CheckpointManagerOptions(
        create=False,
        preservation_policy=policy,
        enable_async_checkpointing=False,
        multiprocessing_options=together,
    )
    handlers: dict[str, Any] = {
        name: ocp.StandardCheckpointHandler(multiprocessing_options=together) for name in ARRAYS
    }
    handlers |= {name: ocp.JsonCheckpointHandler(multiprocessing_options=together) for name in DOCUMENTS}
    return ocp.CheckpointManager(folder, item_handlers=handlers, options=options)


def save(manager: ocp.CheckpointManager, state: TrainState, documents: dict[str, Any]) -> None:
    """Saves the state and the run's documents (config, tokenizer, data) at the state's step, and seals them.

    Raises UserError when the disk has no room for it, and RunError when the state holds numbers that are not finite or
    saving fails otherwise; those that are there already stay.
    """
    write(manager, ready(manager, state), documents)


def ready(manager: ocp.CheckpointManager, state: TrainState) -> TrainState:
    """Returns what is saved of a state; raises as `save` does before it writes."""
    step, folder = int(state.step), path_of(manager.directory)
    state = state._replace(frozen=None)  # the run it came from has that
    if not _all_finite(state):
        raise RunError(
            f"{folder}: step {step} was not saved: its parameters are not finite. The same command would come to the "
            "same numbers; start over with --run.restart and a lower --optimizer.learning-rate"
        )
    on_primary(lambda: _require_room(folder, state, step))
    return state


def write(manager: ocp.CheckpointManager, state: TrainState, documents: dict[str, Any]) -> None:
    """Writes what is `ready`, every block apart, and seals it; a thread may, where the manager was opened for one."""
    step, folder = int(state.step), path_of(manager.directory)
    state = each_block_apart(state)
    items: dict[str, Any] = {name: ocp.args.JsonSave(document) for name, document in documents.items()}
    items["params"] = ocp.args.StandardSave(state.params)
    items["optimizer"] = ocp.args.StandardSave({"step": state.step, "opt_state": state.opt_state})
    with _failing_in_words(folder, step), _quiet():
        saved = manager.save(step, args=ocp.args.Composite(**items))
    if not saved:
        raise RunError(f"{folder}: step {step} was not saved: a checkpoint of this or a later step is there")
    with _failing_in_words(folder, step):
        seal(folder / str(step))


@contextlib.contextmanager
def _failing_in_words(folder: Path, step: int) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, jax.errors.JaxRuntimeError, *failures()) as error:
        raise RunError(f"{folder}: step {step} could not be saved: {first_line(error)}. {OLDER_STAND}") from error


@jax.jit
def _all_finite(state: TrainState) -> jax.Array:
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(state)]))


def _require_room(folder: Path, state: TrainState, step: int) -> None:
    """Asks before it is too late: a disk that fills up in the middle of a save fails in many places at once."""
    if is_in_bucket(folder):
        return  # it has no end
    needed = sum(x.nbytes for x in jax.tree.leaves(state)) + ROOM_BESIDE_ARRAYS
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: the checkpoint of step {step} needs {needed / 1e6:.1f} MB and the disk has "
            f"{free / 1e6:.1f} MB left. Make room. {OLDER_STAND}"
        )


def restore_state(manager: ocp.CheckpointManager, step: int, abstract: TrainState) -> TrainState:
    """Returns the state saved at a step, laid out as `abstract` says; what is frozen is not saved, and not in it."""
    optimizer = {"step": abstract.step, "opt_state": abstract.opt_state}
    items = _restore(manager, step, params=abstract.params, optimizer=optimizer)
    return TrainState(items["optimizer"]["step"], items["params"], items["optimizer"]["opt_state"])


def restore_params(manager: ocp.CheckpointManager, step: int, abstract: Params) -> Params:
    """Returns the parameters saved at a step, laid out as `abstract` says; the optimizer is not read."""
    return _restore(manager, step, params=abstract)["params"]


def apart(abstract: Any) -> Any:
    """Returns shapes, types and shardings as checkpoints have them: every block's apart."""

    def of_one(x: jax.ShapeDtypeStruct, i: int) -> jax.ShapeDtypeStruct:
        sharding = x.sharding
        if isinstance(sharding, NamedSharding):
            sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[1:]))
        return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=sharding)

    return unstacked(abstract, of_one)


def _restore(manager: ocp.CheckpointManager, step: int, **abstract: Any) -> Any:
    saved = apart(abstract)
    args = ocp.args.Composite(**{name: ocp.args.StandardRestore(tree) for name, tree in saved.items()})
    try:
        with _quiet():
            items = dict(manager.restore(step, args=args))
        if not is_stacked(abstract):
            return items
        shardings = jax.tree.map(lambda x: x.sharding, abstract)
        return jax.jit(stacked, out_shardings=shardings)(items)
    except (OSError, ValueError, KeyError) as error:
        folder = manager.directory / str(step)
        raise RunError(f"{folder}: this checkpoint cannot be read as this model's: {first_line(error)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from printing tracebacks of an error that it also raises, and that we put in words.

    After an error it stays quiet: its threads notice one after the other, and the run is about to end.
    """
    loggers = [logging.getLogger("absl"), logging.getLogger("asyncio")]
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook

    def but_closed_loops(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = but_closed_loops
    yield
    sys.unraisablehook = hook
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
