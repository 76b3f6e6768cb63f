"""From the engine's thread to a client: tokens become text as they come, and no part of a stop text gets out."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from jaxgpt.inference.engine import ClosedError, Engine, Finish, QueueFullError, Request, TokenOutput
from jaxgpt.serve.errors import ApiError
from jaxgpt.text.tokenizer import Tokenizer

MOST_BYTES = 4  # of a character in UTF-8


class Piece(NamedTuple):
    """The text that a token adds, its log-probability, and what each likeliest token would have added."""

    text: str
    logprob: float
    candidates: list[tuple[str, float]]


class Writer:
    """Turns one text's tokens into pieces. What may be the beginning of a stop text is held back until it is known."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self.count = 0  # of tokens written
        self._line: list[int] = []  # how a token is written depends on the line before it
        self._fed: deque[int] = deque()
        self._texts = tokenizer.decode_stream(self._feed())
        for token in prompt:
            self._text_of(token)
            self._go_on(token)
        self._held: list[Piece] = []

    def _feed(self) -> Iterator[int]:
        while True:
            yield self._fed.popleft()

    def _text_of(self, token: int) -> str:
        self._fed.append(token)
        return next(self._texts)

    def _go_on(self, token: int) -> None:
        if token == self._tokenizer.special.newline:
            self._line.clear()
            return
        self._line.append(token)
        if self._tokenizer.special.newline is None:  # then only the bytes of a character that is not whole yet matter
            del self._line[:-MOST_BYTES]

    def _text_instead(self, token: int) -> str:
        """Returns what a token would add to the line that is being written."""
        *_, text = self._tokenizer.decode_stream([*self._line, token])
        return text

    def write(self, words: Sequence[TokenOutput]) -> tuple[list[Piece], bool]:
        """Returns (the pieces that may go out, whether a stop text has come); after that there is nothing more."""
        for word in words:
            text = self._text_of(word.token)
            others = [
                (text if token == word.token else self._text_instead(token), logprob)
                for token, logprob in word.candidates
            ]
            self._go_on(word.token)
            self.count += 1
            self._held.append(Piece(text, word.logprob, others))
            if self._stops:
                held = "".join(piece.text for piece in self._held)
                found = [place for place in map(held.find, self._stops) if place >= 0]
                if found:
                    return self._release(min(found), cut=True), True
        held = "".join(piece.text for piece in self._held)
        return self._release(len(held) - _possible_beginning(held, self._stops)), False

    def rest(self) -> list[Piece]:
        """Returns what was held back, when nothing more will come."""
        released, self._held = self._held, []
        return released

    def _release(self, length: int, cut: bool = False) -> list[Piece]:
        """Returns the pieces within the first `length` characters; with `cut`, part of the next one too, if any."""
        released = []
        while self._held and len(self._held[0].text) <= length:
            released.append(self._held.pop(0))
            length -= len(released[-1].text)
        if cut and self._held and length:
            released.append(self._held[0]._replace(text=self._held[0].text[:length]))
        return released


def _possible_beginning(text: str, stops: Sequence[str]) -> int:
    """Returns the length of the longest end of `text` that a stop text begins with."""
    longest = max(map(len, stops), default=1) - 1
    ends = range(min(longest, len(text)), 0, -1)
    return next((size for size in ends if any(stop.startswith(text[-size:]) for stop in stops)), 0)


class Writing:
    """The texts of one API call. Iterate over `pieces`, and `cancel` in any case: slots come free by that."""

    def __init__(self, engine: Engine, requests: Sequence[Request], writers: Sequence[Writer]) -> None:
        """Raises ApiError where the engine takes no more."""
        self._engine = engine
        self._writers = writers
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, list[TokenOutput], Finish | None]] = asyncio.Queue()
        try:
            self._texts = engine.submit(requests, [self._deliver_to(index) for index in range(len(requests))])
        except QueueFullError:
            raise ApiError(429, "too many requests wait already; try again soon", code="queue_full") from None
        except ClosedError:
            raise ApiError(503, "the server is shutting down") from None

    def _deliver_to(self, index: int):
        def deliver(words: list[TokenOutput], finish: Finish | None) -> None:
            with contextlib.suppress(RuntimeError):  # the event loop is closed: there is nobody left to hear
                self._loop.call_soon_threadsafe(self._queue.put_nowait, (index, words, finish))

        return deliver

    @property
    def count(self) -> int:
        """How many tokens have been written in all."""
        return sum(writer.count for writer in self._writers)

    def cancel(self) -> None:
        """Lets go of all texts that are not done."""
        for text in self._texts:
            self._engine.cancel(text)

    async def pieces(self) -> AsyncIterator[tuple[int, list[Piece], str | None]]:
        """Yields (which text, what it has grown by, why it ended or None); raises ApiError where the engine ends it."""
        running = set(range(len(self._texts)))
        while running:
            index, words, finish = await self._queue.get()
            if index not in running:
                continue
            if finish in ("closed", "failed"):
                raise (
                    ApiError(503, "the server is shutting down")
                    if finish == "closed"
                    else ApiError(500, "the model could not be run; the server's output says why")
                )
            pieces, stopped = self._writers[index].write(words)
            if stopped:
                finish = "stop"
                self._engine.cancel(self._texts[index])
            elif finish:
                pieces += self._writers[index].rest()
            if finish:
                running.remove(index)
            if pieces or finish:
                yield index, pieces, finish
