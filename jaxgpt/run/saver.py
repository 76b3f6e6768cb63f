"""Saving while training goes on: a copy of the state is written by a thread of its own, one checkpoint at a time."""

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxgpt.errors import INTERRUPTED
from jaxgpt.model.parameters import is_stacked, unstacked
from jaxgpt.run.checkpoint import apart, ready, write
from jaxgpt.run.state import TrainState


class Saver:
    """Saves the states of a run; with a thread a save goes on while the next steps are taken."""

    def __init__(
        self, manager: ocp.CheckpointManager, documents: dict[str, Any], thread: ThreadPoolExecutor | None
    ) -> None:
        self._manager, self._documents, self._thread = manager, documents, thread
        self._pending: Future[None] | None = None

    def save(self, state: TrainState) -> None:
        """Saves a state, or begins to, once the one before is whole; raises as `checkpoint.save`, also for that one."""
        self.wait()
        state = ready(self._manager, state)
        if self._thread is None:
            write(self._manager, state, self._documents)
            return
        self._pending = self._thread.submit(write, self._manager, _on_host(state), self._documents)

    @property
    def busy(self) -> bool:
        """Whether something that was begun is being written."""
        return self._pending is not None and not self._pending.done()

    def wait(self) -> None:
        """Returns when what was begun is whole; raises what has failed of it."""
        if (pending := self._pending) is not None:
            self._pending = None
            pending.result()


def _on_host(state: TrainState) -> TrainState:
    """Returns a copy in the host's memory, every block apart, each process's part with it.

    The next step takes the state's own memory, and a second copy on the devices might find no room.
    """
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    shardings = jax.tree.map(lambda x: x.sharding.with_memory_kind("pinned_host"), apart(abstract))
    if is_stacked(state):
        return jax.block_until_ready(jax.jit(unstacked, out_shardings=shardings)(state))
    return jax.block_until_ready(jax.device_put(state, shardings))


@contextlib.contextmanager
def saving(manager: ocp.CheckpointManager, documents: dict[str, Any], behind: bool) -> Iterator[Saver]:
    """Yields a Saver. What it has begun is whole at the end, even where something else fails: the thread ends it.

    Only where another process has gone, without which it cannot end, it is left.
    """
    thread = ThreadPoolExecutor(1, "saving")
    saver = Saver(manager, documents, thread if behind else None)
    others_there = True
    try:
        yield saver
        saver.wait()
    except jax.errors.JaxRuntimeError:
        others_there = jax.process_count() == 1
        raise
    except KeyboardInterrupt:  # the second one, which waits for nothing: what is being written never gets its digests
        if saver.busy:
            os._exit(INTERRUPTED)
        raise
    finally:
        thread.shutdown(wait=others_there)


def saves_behind(asked: bool | None) -> bool:
    """Returns whether saves go on behind training: as asked; else where devices have memory of their own."""
    return jax.default_backend() != "cpu" if asked is None else asked
