"""Serving's engine: many sequences generated at once, each starting and ending at its own time (continuous batching).

A new sequence is read into a free slot of the decoder; then all slots grow together by a few tokens, again and again.
One thread does it all; it sleeps when there is nothing to do. After Orca (Yu et al. 2022).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple

import jax
import numpy as np

from jaxgpt.config import ModelConfig
from jaxgpt.inference.generate import banned_tokens, in_full_precision
from jaxgpt.inference.slots import NO_PENALTIES, TOGETHER, Penalties, SequenceState, Slots, TokenOutput, padded_size
from jaxgpt.model.gpt import Params
from jaxgpt.text.tokenizer import Tokenizer

CHUNK = 8  # tokens that all slots grow by in one call, and so the grain of starting, ending and streaming
READ_SECONDS = 0.03  # new prompts are read for so long between two chunks, so that running sequences go on growing
NEVER = -1  # no token: a sequence with it as stop_id ends by its length alone

Finish = Literal["stop", "length", "closed", "failed"]


class Request(NamedTuple):
    """A prompt to continue, not empty. `stop_id` ends the sequence: <eos>, <end>, or NEVER."""

    prompt: Sequence[int]
    stop_id: int
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    candidates: int = 0  # how many of the likeliest tokens are given with each; with 0, log-probabilities are 0
    with_stop: bool = False  # the token that ends the sequence is delivered too
    top_k: int = 0
    min_p: float = 0.0
    penalties: Penalties = NO_PENALTIES
    given: int = 0  # tokens at the end of the prompt that the text begins with, and so counts as its own


# Called in the engine's thread with new tokens of a sequence, and at its end with why it ended; it must not block.
Deliver = Callable[[list[TokenOutput], Finish | None], None]


class QueueFullError(Exception):
    """More sequences wait already than the engine lets wait."""


class ClosedError(Exception):
    """The engine takes no more sequences."""


@dataclass(eq=False)
class Generation:
    """A request in the engine, waiting or in a slot."""

    request: Request
    deliver: Deliver
    cancelled: bool = False
    sequence: SequenceState = field(init=False)

    def __post_init__(self) -> None:
        self.sequence = state_of(self.request)


def state_of(asked: Request) -> SequenceState:
    """Returns what the decoder makes of a request, before it has read the prompt."""
    key = np.asarray(jax.random.key_data(jax.random.key(np.uint32(asked.seed % 2**32))))
    settings = asked.temperature, asked.top_k, asked.top_p, asked.min_p, asked.candidates, asked.penalties
    return SequenceState(list(asked.prompt), key, asked.stop_id, *settings, asked.given)


class Engine:
    """Generates on its own thread from construction until `close`. All methods may be called from any thread."""

    def __init__(
        self,
        params: Params,
        config: ModelConfig,
        tokenizer: Tokenizer,
        slots: int = 20,
        max_waiting: int = 128,
    ) -> None:
        self.slots = slots
        self.max_waiting = max_waiting
        widths = [slots]  # how many rows may grow: compiled for a few numbers, so that few sequences are quick
        while widths[0] > 1:
            widths.insert(0, widths[0] // 4 or 1)
        banned_V = banned_tokens(tokenizer, None)  # a sequence's own stop token may come beside
        self._decoder = Slots(params, in_full_precision(config), banned_V, widths)
        self._decoder.clear()
        self._running: list[Generation | None] = [None] * slots
        self._waiting: deque[Generation] = deque()
        self._outbox: list[tuple[Generation, list[TokenOutput], Finish | None]] = []
        self._changed = threading.Condition()
        self._ends_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, requests: Sequence[Request], delivers: Sequence[Deliver]) -> list[Generation]:
        """Takes requests, all or none; raises QueueFullError or ClosedError."""
        generations = [Generation(request, deliver) for request, deliver in zip(requests, delivers, strict=True)]
        with self._changed:
            if self._ends_at is not None:
                raise ClosedError
            if len(self._waiting) + len(generations) > self.max_waiting:
                raise QueueFullError
            self._waiting.extend(generations)
            self._changed.notify()
        return generations

    def cancel(self, generation: Generation) -> None:
        """Drops a generation: nothing more of it is delivered, and its slot is free after the current chunk."""
        with self._changed:
            generation.cancelled = True
            if generation in self._waiting:
                self._waiting.remove(generation)

    def load(self) -> tuple[int, int]:
        """Returns how many sequences are running and how many wait."""
        return sum(generation is not None for generation in self._running), len(self._waiting)

    def stop_soon(self, seconds: float) -> None:
        """Takes no more requests, and ends what is not done after so many seconds. Safe in a signal handler."""
        if self._ends_at is None:
            self._ends_at = time.monotonic() + seconds

    def close(self, seconds: float = 0.0) -> None:
        """Stops within so many seconds, and waits for it."""
        self.stop_soon(seconds)
        with self._changed:
            self._changed.notify()
        self._thread.join()

    def compile(self) -> None:
        """Compiles all that requests can need, before the first of them; call it while nothing else is asked."""
        longest = self._decoder.config.context_len - 1
        sizes = {padded_size(length, longest + 1) for length in range(1, longest + 1)}
        for size in sorted(sizes):
            for count in {1, min(TOGETHER, self.slots)}:
                self._generate_silently([Request([0] * min(size, longest), NEVER, 1)] * count)
        for width in self._decoder.widths:
            self._generate_silently([Request([0], NEVER, 2)] * width)

    def _generate_silently(self, requests: Sequence[Request]) -> None:
        left = threading.Semaphore(0)

        def deliver(_: list[TokenOutput], finish: Finish | None) -> None:
            if finish:
                left.release()

        self.submit(requests, [deliver] * len(requests))
        for _ in requests:
            left.acquire()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._busy() and self._ends_at is None:
                    self._changed.wait()
            if not self._busy():
                return
            try:
                self._turn()
            except Exception as error:  # of the device: the running sequences are lost, the next ones are not
                print(f"engine: {type(error).__name__}: {error}", flush=True)
                self._end_all("failed")
                self._decoder.clear()

    def _busy(self) -> bool:
        return bool(self._waiting or self._outbox) or any(generation is not None for generation in self._running)

    def _turn(self) -> None:
        """Frees slots, reads what is new or has outgrown the context, and lets all grow by a chunk."""
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            self._end_all("closed")
            return
        for slot, generation in enumerate(self._running):
            if generation is not None and generation.cancelled:
                self._free(slot)
        outgrown = self._decoder.outgrown()
        while outgrown:
            count = TOGETHER if len(outgrown) >= TOGETHER else 1
            self._collect(self._decoder.read(outgrown[:count], is_new=False, meanwhile=self._deliver))
            del outgrown[:count]
        began = time.monotonic()
        while time.monotonic() - began < READ_SECONDS and (slots := self._admit()):
            self._collect(self._decoder.read(slots, is_new=True, meanwhile=self._deliver))
        if any(generation is not None for generation in self._running):
            self._collect(self._decoder.grow(CHUNK, meanwhile=self._deliver))
        else:
            self._deliver()

    def _admit(self) -> list[int]:
        """Moves those who have waited longest into free slots, as many as are read in one call; returns the slots."""
        with self._changed:
            free = [slot for slot, generation in enumerate(self._running) if generation is None]
            if len(free) >= TOGETHER <= len(self._waiting):
                lengths = (len(waiting.request.prompt) for waiting in islice(self._waiting, TOGETHER))
                sizes = {padded_size(length, self._decoder.config.context_len) for length in lengths}
                slots = free[: TOGETHER if len(sizes) == 1 else 1]
            else:
                slots = free[: min(1, len(self._waiting))]
            for slot in slots:
                generation = self._running[slot] = self._waiting.popleft()
                self._decoder.sequences[slot] = generation.sequence
        return slots

    def _collect(self, grown: list[tuple[int, list[TokenOutput]]]) -> None:
        """Puts new tokens in the outbox, and frees the slots of sequences that have come to their end."""
        for slot, outputs in grown:
            generation = self._running[slot]
            assert generation is not None
            left = generation.request.max_tokens - (generation.sequence.made - len(outputs))
            finish: Finish | None = None
            if outputs[-1].token == generation.request.stop_id and len(outputs) <= left:
                outputs, finish = outputs if generation.request.with_stop else outputs[:-1], "stop"
            elif len(outputs) >= left:
                outputs, finish = outputs[:left], "length"
            if finish:
                self._free(slot)
            self._outbox.append((generation, outputs, finish))

    def _free(self, slot: int) -> None:
        self._running[slot] = self._decoder.sequences[slot] = None

    def _deliver(self) -> None:
        """Delivers new tokens; called while the device works, which would otherwise wait for the clients."""
        outbox, self._outbox = self._outbox, []
        for generation, outputs, finish in outbox:
            if not generation.cancelled:
                generation.deliver(outputs, finish)

    def _end_all(self, finish: Finish) -> None:
        self._deliver()
        with self._changed:
            ended = [*(generation for generation in self._running if generation is not None), *self._waiting]
            for slot in range(self.slots):
                self._free(slot)
            self._waiting.clear()
        for generation in ended:
            if not generation.cancelled:
                generation.deliver([], finish)
