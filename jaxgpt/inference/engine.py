"""Serving's engine: many texts generated at once, each coming and going as it likes (continuous batching).

A fixed number of slots are the rows of one KV cache. A new text is read into a free slot; then all slots advance
together by a few tokens, each by its own settings, again and again. One thread does it all; it sleeps when there is
nothing to do. After Orca (Yu et al. 2022).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import ModelConfig
from jaxgpt.inference.generate import BUCKET, banned_tokens, in_full_precision
from jaxgpt.inference.rows import Layers, SlotState, advance, empty_slots, read
from jaxgpt.model.gpt import Params, padded_vocab_size
from jaxgpt.model.kv_cache import init_cache
from jaxgpt.text.tokenizer import Tokenizer

CHUNK = 8  # tokens that all slots advance by in one call, and so the grain of coming, going and streaming
TOGETHER = 4  # texts of about one length that are read in one call, where so many are to be read; else one
READ_SECONDS = 0.03  # new texts are read for so long between two chunks, so that those being written go on

NEVER = -1  # no token: a text with it as stop_id ends by its length alone

Finish = Literal["stop", "length", "closed", "failed"]


class Request(NamedTuple):
    """A text to go on with. The prompt is not empty; `stop_id` ends the text: <eos>, <end>, or NEVER."""

    prompt: Sequence[int]
    stop_id: int
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    candidates: int = 0  # how many of the likeliest words are told with each word; with 0, log-probabilities are 0


class TokenOutput(NamedTuple):
    """A token made, its log-probability, and the likeliest (token, log-probability) in its place."""

    token: int
    logprob: float
    candidates: list[tuple[int, float]]


# Called in the engine's thread with the words a text has grown by, and at its end with why it ended; it must not block.
Deliver = Callable[[list[TokenOutput], Finish | None], None]


class QueueFullError(Exception):
    """More texts wait already than the engine lets wait."""


class ClosedError(Exception):
    """The engine takes no more texts."""


@dataclass(eq=False)
class Text:
    """A text in the engine: its request, its tokens so far, and how many of them the cache holds."""

    request: Request
    deliver: Deliver
    tokens: list[int] = field(default_factory=list)
    made: int = 0
    cached: int = 0
    cancelled: bool = False


class Engine:
    """Generates texts on its own thread from construction until `close`. All methods may be called from any thread."""

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
        self._params = params
        self._config = config = in_full_precision(config)
        banned_V = banned_tokens(tokenizer, tokenizer.eos_id)  # a row's own stop token may come beside
        padding = padded_vocab_size(config) - len(banned_V)
        self._banned_V = jnp.asarray(np.pad(banned_V, (0, padding), constant_values=True))
        self._layers = self._empty_cache()
        self._widths = [slots]  # how many rows may advance: compiled for a few numbers, so that few texts are quick
        while self._widths[0] > 1:
            self._widths.insert(0, self._widths[0] // 4 or 1)
        self._texts: list[Text | None] = [None] * slots
        self._waiting: deque[Text] = deque()
        self._outbox: list[tuple[Text, list[TokenOutput], Finish | None]] = []
        self._changed = threading.Condition()
        self._ends_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, requests: Sequence[Request], delivers: Sequence[Deliver]) -> list[Text]:
        """Takes texts to generate, all or none; raises QueueFullError or ClosedError."""
        texts = [Text(request, deliver) for request, deliver in zip(requests, delivers, strict=True)]
        with self._changed:
            if self._ends_at is not None:
                raise ClosedError
            if len(self._waiting) + len(texts) > self.max_waiting:
                raise QueueFullError
            self._waiting.extend(texts)
            self._changed.notify()
        return texts

    def cancel(self, text: Text) -> None:
        """Lets a text go: nothing more of it is delivered, and its slot is free after the chunk in the making."""
        with self._changed:
            text.cancelled = True
            if text in self._waiting:
                self._waiting.remove(text)

    def load(self) -> tuple[int, int]:
        """Returns how many texts are being written and how many wait."""
        return sum(text is not None for text in self._texts), len(self._waiting)

    def stop_soon(self, seconds: float) -> None:
        """Takes no more texts, and ends those that are not done after so many seconds. Safe in a signal handler."""
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
        nothing, longest = NEVER, self._config.context_len - 1  # what has to be compiled must not end early
        sizes = {self._padded_size(length) for length in range(1, longest + 1)}
        for size in sorted(sizes):
            for count in {1, min(TOGETHER, self.slots)}:
                self._generate_silently([Request([0] * min(size, longest), nothing, 1)] * count)
        for width in self._widths:
            self._generate_silently([Request([0], nothing, 2)] * width)

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
            except Exception as error:  # of the device: those being written are lost, the next ones are not
                print(f"engine: {type(error).__name__}: {error}", flush=True)
                self._end_all("failed")
                self._layers = self._empty_cache()

    def _empty_cache(self) -> Layers:
        """Returns the cache's layers, on a device for good, as they come back from every call: nothing recompiles."""
        return jax.device_put(init_cache(self._config, self.slots).layers, jax.local_devices()[0])

    def _busy(self) -> bool:
        return bool(self._waiting or self._outbox) or any(text is not None for text in self._texts)

    def _turn(self) -> None:
        """Frees slots, reads what is new or has outgrown the context, and advances all by a chunk."""
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            self._end_all("closed")
            return
        outgrown = []
        for slot, text in enumerate(self._texts):
            if text is not None and text.cancelled:
                self._texts[slot] = None
            elif text is not None and text.cached == self._config.context_len:
                outgrown.append(slot)
        while outgrown:
            count = TOGETHER if len(outgrown) >= TOGETHER else 1
            self._read(outgrown[:count], keep=self._config.context_len // 2)
            del outgrown[:count]
        began = time.monotonic()
        while time.monotonic() - began < READ_SECONDS and (slots := self._admit()):
            self._read(slots, keep=self._config.context_len - 1)
        self._advance()

    def _admit(self) -> list[int]:
        """Moves those who have waited longest into free slots, as many as are read in one call; returns the slots."""
        with self._changed:
            free = [slot for slot, text in enumerate(self._texts) if text is None]
            if len(free) >= TOGETHER <= len(self._waiting):
                sizes = {self._padded_size(len(text.request.prompt)) for text in islice(self._waiting, TOGETHER)}
                slots = free[: TOGETHER if len(sizes) == 1 else 1]
            else:
                slots = free[: min(1, len(self._waiting))]
            for slot in slots:
                text = self._texts[slot] = self._waiting.popleft()
                text.tokens = list(text.request.prompt)
        return slots

    def _read(self, slots: Sequence[int], keep: int) -> None:
        """Reads the newest tokens of the texts in these slots, and draws the word that comes after each."""
        texts = [text for slot in slots if (text := self._texts[slot]) is not None]
        kept = [text.tokens[-keep:] for text in texts]
        tokens_BT = np.zeros((len(texts), self._padded_size(max(map(len, kept)))), np.int32)
        rows = empty_slots(len(texts))
        for row, (text, tokens) in enumerate(zip(texts, kept, strict=True)):
            tokens_BT[row, : len(tokens)] = tokens
            text.cached = len(tokens)
            _fill(rows, row, text)
        slots_B = np.asarray(slots, np.int32)
        drawn, self._layers = read(self._params, self._config, self._layers, slots_B, tokens_BT, rows, self._banned_V)
        self._deliver()
        arrays = [np.asarray(x)[None] for x in drawn]
        for row, (slot, text) in enumerate(zip(slots, texts, strict=True)):
            self._grow(slot, text, _words([x[:, row] for x in arrays], 1, text.request))

    def _padded_size(self, length: int) -> int:
        """Returns the size that a text of this length is padded to: a power of two, so that few are compiled."""
        return min(max(BUCKET, 1 << (length - 1).bit_length()), self._config.context_len)

    def _advance(self) -> None:
        texts = [(slot, text) for slot, text in enumerate(self._texts) if text is not None]
        if not texts:
            self._deliver()
            return
        rows = empty_slots(next(width for width in self._widths if width > texts[-1][0]))
        for slot, text in texts:
            _fill(rows, slot, text)
        drawn, self._layers = advance(self._params, self._config, self._layers, rows, CHUNK, self._banned_V)
        self._deliver()
        arrays = [np.asarray(x) for x in drawn]
        for slot, text in texts:
            count = min(CHUNK, self._config.context_len - text.cached)  # the words after these have no meaning
            text.cached += count
            self._grow(slot, text, _words([x[:, slot] for x in arrays], count, text.request))

    def _grow(self, slot: int, text: Text, words: list[TokenOutput]) -> None:
        """Adds words to a text, to be delivered soon; frees the slot where the text has come to its end."""
        finish: Finish | None = None
        for place, word in enumerate(words):
            if word.token == text.request.stop_id:
                words, finish = words[:place], "stop"
                break
            text.made += 1
            text.tokens.append(word.token)
            if text.made == text.request.max_tokens:
                words, finish = words[: place + 1], "length"
                break
        if finish:
            self._texts[slot] = None
        self._outbox.append((text, words, finish))

    def _deliver(self) -> None:
        """Delivers what texts have grown by; called while the device works, which would else wait for the hearers."""
        outbox, self._outbox = self._outbox, []
        for text, words, finish in outbox:
            if not text.cancelled:
                text.deliver(words, finish)

    def _end_all(self, finish: Finish) -> None:
        self._deliver()
        with self._changed:
            texts = [*(text for text in self._texts if text is not None), *self._waiting]
            self._texts = [None] * self.slots
            self._waiting.clear()
        for text in texts:
            if not text.cancelled:
                text.deliver([], finish)


def _fill(rows: SlotState, row: int, text: Text) -> None:
    """Writes a text's settings and place into a row."""
    request = text.request
    values = (
        *(text.tokens[-1], text.cached, text.made, request.seed % 2**32),
        *(request.temperature, request.top_p, request.stop_id, request.candidates > 0),
    )
    for array_B, value in zip(rows, values, strict=True):
        array_B[row] = value


def _words(drawn: Sequence[np.ndarray], count: int, request: Request) -> list[TokenOutput]:
    """Returns the first words of one row of what was drawn, with as many candidates as asked."""
    tokens, logprobs = (x[:count].tolist() for x in drawn[:2])
    if not (K := request.candidates):
        return [TokenOutput(token, logprob, []) for token, logprob in zip(tokens, logprobs, strict=True)]
    likeliest_CK = [
        [(id, logprob) for id, logprob in zip(ids, logprobs, strict=True) if logprob > -np.inf]
        for ids, logprobs in zip(drawn[2][:count, :K].tolist(), drawn[3][:count, :K].tolist(), strict=True)
    ]
    return list(map(TokenOutput, tokens, logprobs, likeliest_CK))
