"""Saving while training goes on: a copy of the state is written by a thread of its own, one checkpoint at a time."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxgpt.errors import UserError
from jaxgpt.run.checkpoint import ready, write
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
        copy = jax.tree.map(np.array, state)  # the next step takes the state's memory
        self._pending = self._thread.submit(write, self._manager, copy, self._documents)

    def wait(self) -> None:
        """Returns when what was begun is whole; raises what has failed of it."""
        if (pending := self._pending) is not None:
            self._pending = None
            pending.result()


@contextlib.contextmanager
def saving(manager: ocp.CheckpointManager, documents: dict[str, Any], behind: bool) -> Iterator[Saver]:
    """Yields a Saver. What it has begun is whole at the end, even where something else fails: the thread ends it."""
    with ThreadPoolExecutor(1, "saving") as thread:
        saver = Saver(manager, documents, thread if behind else None)
        yield saver
        saver.wait()


def saves_behind(asked: bool | None) -> bool:
    """Returns whether saves go on behind training: as asked; else where devices have memory of their own.

    Raises UserError where several processes are asked to: they save together, each its part, and wait.
    """
    if jax.process_count() > 1:
        if asked:
            raise UserError("run.async_saves: True was given, and several processes wait for their saves; leave it out")
        return False
    return jax.default_backend() != "cpu" if asked is None else asked
