"""From the engine's thread to a client: tokens become text as they come."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from jaxgpt.inference.engine import ClosedError, Engine, Finish, Generation, QueueFullError, Request, TokenOutput
from jaxgpt.inference.writer import Piece, Writer
from jaxgpt.serve.errors import ApiError
from jaxgpt.serve.meters import Meters

Delivery = tuple[list[TokenOutput], Finish | None]
"""New tokens of a text, and at its end why it ended."""


class Writing:
    """The texts of one API call. Iterate over `pieces`, and `cancel` in any case: slots come free by that."""

    def __init__(
        self,
        engine: Engine,
        requests: Sequence[Request],
        writers: Sequence[Writer],
        meters: Meters,
        ready: Sequence[Delivery] | None = None,
    ) -> None:
        """Raises ApiError where the engine takes no more; texts that are `ready` do not come to it."""
        self._engine = engine
        self._requests, self._writers = requests, writers
        self._meters, self._began = meters, time.perf_counter()
        self._first: dict[int, tuple[float, int]] = {}  # when each text got its first tokens, and how many at once
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, list[TokenOutput], Finish | None]] = asyncio.Queue()
        self._texts: list[Generation] = []
        if ready is not None:
            for index, (outputs, finish) in enumerate(ready):
                self._queue.put_nowait((index, outputs, finish))
            return
        try:
            self._texts = engine.submit(requests, [self._deliver_to(index) for index in range(len(requests))])
        except QueueFullError:
            raise ApiError(429, "too many requests wait already; try again soon", code="queue_full") from None
        except ClosedError:
            raise ApiError(503, "the server is shutting down") from None

    def _deliver_to(self, index: int):
        def deliver(outputs: list[TokenOutput], finish: Finish | None) -> None:
            with contextlib.suppress(RuntimeError):  # the event loop is closed: there is nobody left to hear
                self._loop.call_soon_threadsafe(self._queue.put_nowait, (index, outputs, finish))

        return deliver

    @property
    def count(self) -> int:
        """How many tokens have been written in all."""
        return sum(writer.count for writer in self._writers)

    def _note(self, index: int, grown: int, ended: bool) -> None:
        """Counts the tokens that have come, and how long they took."""
        now, count = time.perf_counter(), self._writers[index].count
        self._meters.written_tokens.inc(grown)
        if grown and index not in self._first:
            self._first[index] = now, count
            self._meters.first_token_seconds.observe(now - self._began)
        if ended and index in self._first:
            began, at_once = self._first[index]
            if count > at_once:
                self._meters.token_seconds.observe((now - began) / (count - at_once))

    def cancel(self) -> None:
        """Lets go of all texts that are not done."""
        for text in self._texts:
            self._engine.cancel(text)

    async def pieces(self) -> AsyncIterator[tuple[int, list[Piece], str | None]]:
        """Yields (which text, what it has grown by, why it ended or None); raises ApiError where the engine ends it."""
        running = set(range(len(self._writers)))
        while running:
            index, outputs, finish = await self._queue.get()
            if index not in running:
                continue
            if finish in ("closed", "failed"):
                raise (
                    ApiError(503, "the server is shutting down")
                    if finish == "closed"
                    else ApiError(500, "the model could not be run; the server's output says why")
                )
            writer, ending = self._writers[index], None
            before = writer.count
            if finish == "stop" and self._requests[index].with_stop:
                *outputs, ending = outputs
            pieces, stopped = writer.write(outputs)
            if stopped:
                finish = "stop"
                if self._texts:
                    self._engine.cancel(self._texts[index])
            elif finish:
                pieces += writer.rest()
                pieces += [] if ending is None else [writer.end(ending)]
            self._note(index, writer.count - before, finish is not None)
            if finish:
                running.remove(index)
            if pieces or finish:
                yield index, pieces, finish
