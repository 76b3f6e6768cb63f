"""Several processes that train one run: how they find each other, who writes, how they agree, how they end."""

import contextlib
import hashlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from orbax.checkpoint import multihost

from jaxgpt.buckets import failures
from jaxgpt.devices.mesh import replicated
from jaxgpt.errors import INTERRUPTED, RunError, UserError, first_line, shown

COUNTS = ("JAX_NUM_PROCESSES", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
"""Variables that tell of how many processes this one is: ours, srun's and mpirun's; the first that is set counts."""

MOST_LATE = 300
"""Seconds for which a process waits for the others of its job to start."""

PATIENCE = 30
"""Seconds a process that has ended waits for the others to end: they are in step, unless one of them failed."""

MOST_APART = 600
"""Seconds that processes may take longer than others to write or to read their part of a checkpoint."""

LAST_WORDS = 3
"""Seconds for which the first of several processes outlives its error: JAX aborts the others when it goes, and they may
be about to say what is wrong with them."""

Value = TypeVar("Value")


def join_processes() -> None:
    """Connects the processes of one job, where it has several; all but the first are silent. Call it before JAX.

    JAX_NUM_PROCESSES, JAX_PROCESS_ID and JAX_COORDINATOR_ADDRESS (of the first, with a port) say who they are; what is
    not set JAX finds out by itself under Slurm, Open MPI and on TPU pods. Raises UserError where it cannot. Where
    others have not come after MOST_LATE seconds, ends this process with one line; JAX would do so with its C++ stack.
    """
    count = next((_number(name) for name in COUNTS if name in os.environ), 1)
    if count == 1:
        return
    me = _number("JAX_PROCESS_ID") if "JAX_PROCESS_ID" in os.environ else None
    where = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if me is not None:
        print(f"process {me} of {count}: waiting for the others at {where}", file=sys.stderr, flush=True)
    giving_up = threading.Timer(MOST_LATE, _give_up, (count,))
    giving_up.daemon = True
    giving_up.start()  # before JAX does
    try:
        jax.distributed.initialize(
            *(where, count, me), initialization_timeout=MOST_LATE + PATIENCE, shutdown_timeout_seconds=PATIENCE
        )
    except (ValueError, IndexError) as error:
        raise UserError(
            f"JAX_NUM_PROCESSES, JAX_PROCESS_ID, JAX_COORDINATOR_ADDRESS: {count}, {me}, {where} do not make a job of "
            f"several processes ({error}); for example 2, 0, 10.0.0.1:1234 and 2, 1, 10.0.0.1:1234"
        ) from None
    finally:
        giving_up.cancel()
    multihost_utils.sync_global_devices("joined")  # the links are made now: later one of them may be late
    if not is_primary():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _give_up(count: int) -> None:
    print(
        f"error: processes: {count} were to train this run, and not all have come within {MOST_LATE} seconds; see what "
        "the others printed, and whether they can reach the first",
        file=sys.stderr,
        flush=True,
    )
    os._exit(RunError.exit_code)


def _number(variable: str) -> int:
    given = os.environ[variable]
    if not (given.isascii() and given.isdecimal() and len(given) < 10):
        raise UserError(f"{variable}: {shown(given)} was given; it must be a whole number below 10**9")
    return int(given)


def is_primary() -> bool:
    """Returns whether this process is the one that writes the run's folder."""
    return jax.process_index() == 0


def on_primary(work: Callable[[], Value]) -> Value:
    """Returns work() of the first process, in all of them; what it returns must be as JSON has it.

    The other processes wait for it. Where it raises UserError or RunError, all of them end with its exit code.
    """
    if jax.process_count() == 1:
        return work()
    if not is_primary():
        told = json.loads(_broadcast(b""))
        if "exit" in told:
            _end(told["exit"])
        return told["value"]
    try:
        value = work()
    except (UserError, RunError) as error:
        _broadcast(json.dumps({"exit": error.exit_code}).encode())
        raise
    _broadcast(json.dumps({"value": value}).encode())
    return value


def _broadcast(message: bytes) -> bytes:
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
    content = np.frombuffer(message.ljust(size), np.uint8)[:size]
    return bytes(bytearray(np.asarray(multihost_utils.broadcast_one_to_all(content))))


def wait_for_all(what: str) -> None:
    """Returns when every process has come to `what`, which happens once; in any thread, as no device is used.

    Raises JaxRuntimeError where one does not come, because it has ended or within MOST_APART seconds.
    """
    everyone = set(range(jax.process_count()))
    multihost.get_barrier_sync_fn(processes=everyone)(key=what, timeout_ms=MOST_APART * 1000)


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
    """Where one of several processes fails, ends it without waiting for the others: they notice, and end, too."""
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        code = RunError.exit_code
        if isinstance(error, UserError | RunError):
            print(f"error: {error}", file=sys.stderr, flush=True)
            code = error.exit_code
        elif isinstance(error, jax.errors.JaxRuntimeError):
            print(
                f"error: another process of this job has ended, or cannot be reached ({str(error).splitlines()[0]}). "
                "What was saved before is whole, and the same command continues from there",
                file=sys.stderr,
            )
        elif isinstance(error, failures()):
            print(f"error: a bucket failed: {first_line(error)}", file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
        _end(code)
    except KeyboardInterrupt:
        if jax.process_count() == 1:
            raise
        _end(INTERRUPTED)


def _end(code: int) -> NoReturn:
    """Ends this process now: an exit as usual would wait for the others, which wait for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    if is_primary():
        time.sleep(LAST_WORDS)
    os._exit(code)


def require_same(what: str) -> None:
    """Raises UserError, in every process, where the processes do not train the same: `what` describes it."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(what.encode()).digest(), np.uint8)
    digests = np.asarray(multihost_utils.process_allgather(digest))
    others = [str(number) for number, theirs in enumerate(digests) if (theirs != digests[0]).any()]
    if others:
        raise UserError(
            f"processes: number {', '.join(others)} has other settings or other data than number 0; start all of them "
            "with the same command, on the same files"
        )


def highest_of_all(ask: Callable[[], int]) -> Callable[[], int]:
    """Returns a function that gives the highest number any process's `ask` gave: the same in all of them.

    All must call it equally often. With several processes the answer is that of the call before: by then it has
    arrived, and no device waits for it.
    """
    if jax.process_count() == 1:
        return ask
    mesh = jax.make_mesh((jax.device_count(),), ("devices",), axis_types=(AxisType.Auto,))
    each = NamedSharding(mesh, PartitionSpec("devices"))
    highest = jax.jit(jnp.max, out_shardings=replicated(mesh))
    coming: jax.Array | int = 0

    def agreed() -> int:
        nonlocal coming
        mine = np.array([ask()], np.int32)
        arrived = int(coming)
        coming = highest(jax.make_array_from_callback((jax.device_count(),), each, lambda index: mine))
        return arrived

    return agreed


def gather_replicated(tree: Any) -> Any:
    """Returns a tree of arrays that this process can use alone; all must call it where there are several."""
    if jax.process_count() == 1:
        return tree
    whole = replicated(jax.tree.leaves(tree)[0].sharding.mesh)
    return jax.tree.map(lambda x: x.addressable_data(0), jax.jit(lambda x: x, out_shardings=whole)(tree))
