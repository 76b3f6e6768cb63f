"""The rows of the decoder's cache: which text each has, how its next tokens are drawn, when it is read or moved.

Texts grow side by side, each at its own pace and by its own settings.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from jaxgpt.config import ModelConfig
from jaxgpt.devices.mesh import whole_beside
from jaxgpt.errors import RunError
from jaxgpt.inference.decode import (
    NO_TOKEN,
    Drawn,
    Layers,
    SlotState,
    decode,
    empty_layers,
    moved,
    padded,
    prefill,
    read_texts,
    spread,
)
from jaxgpt.model.gpt import Params
from jaxgpt.ops.sampling import Shaping

BUCKET = 32  # prompts are padded to this or a power of two above it, so that few lengths are compiled
AT_ONCE = 32  # of many new texts so many are read in one call, those of about one length
TOGETHER = 4  # sequences of about one length that are read in one call, where so many are to be read; else one


class TokenOutput(NamedTuple):
    """A token, its log-probability, and the likeliest (token, log-probability) in its place."""

    token: int
    logprob: float | None
    """None where nothing comes before it."""
    candidates: list[tuple[int, float]]


class Penalties(NamedTuple):
    """How a text's own tokens change the next one's scores, as `ops.sampling.Shaping` has it; and a bias by token."""

    repetition: float = 1.0
    frequency: float = 0.0
    presence: float = 0.0
    bias: Mapping[int, float] = MappingProxyType({})


NO_PENALTIES = Penalties()


@dataclass(eq=False)
class SequenceState:
    """A text being generated: its tokens so far, how the next ones are drawn, how many tokens the cache holds."""

    tokens: list[int]
    key: np.ndarray
    """The data of the key that decides its draws, each token's number folded in."""
    stop_id: int
    """The token that ends it, and so may come though it is special; -1 for none."""
    temperature: float
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    candidates: int = 0
    """How many of the likeliest tokens are given with each; with 0, log-probabilities are 0."""
    penalties: Penalties = NO_PENALTIES
    given: int = 0
    """Tokens at the end of the prompt that count as written."""
    made: int = field(default=0, init=False)
    cached: int = field(default=0, init=False)


def padded_size(length: int, context_len: int) -> int:
    """Returns the length that a prompt is padded to: a power of two, so that few are compiled."""
    return min(max(BUCKET, 1 << (length - 1).bit_length()), context_len)


def finely_padded_size(length: int, context_len: int) -> int:
    """Returns the same with eighths of the context between: less padding, and more programs."""
    eighth = max(BUCKET // 2, context_len // 8)
    return min(padded_size(length, context_len), math.ceil(length / eighth) * eighth)


class Slots:
    """A fixed number of rows, each free (None) or with a sequence. `clear` or `begin` comes first: they make the cache.

    `widths`, rising, are the numbers of rows that may grow, each a program of its own; the last is that of all rows.
    """

    def __init__(self, params: Params, config: ModelConfig, banned_V: np.ndarray, widths: Sequence[int]) -> None:
        self.params, self.config = params, config
        self.banned_V = padded(banned_V, config)
        self.sequences: list[SequenceState | None] = [None] * widths[-1]
        self.widths = widths
        self.layers: Layers

    def clear(self) -> None:
        """Empties the cache. It is on a device for good, as it comes back from every call: nothing recompiles."""
        self.layers = jax.device_put(empty_layers(self.config, len(self.sequences)), whole_beside(self.params))

    def outgrown(self) -> list[int]:
        """Returns the slots whose sequence fills the context: they must be read again, from their newer half."""
        full = self.config.context_len
        return [
            slot for slot, sequence in enumerate(self.sequences) if sequence is not None and sequence.cached >= full
        ]

    def pack(self) -> list[int]:
        """Moves the sequences to the first slots, where that halves the rows that grow; elsewhere nothing happens.

        Returns the slot that each of them had, in the order of those they have now; nothing where none was moved.
        """
        taken = [slot for slot, sequence in enumerate(self.sequences) if sequence is not None]
        width = next(width for width in self.widths if width >= len(taken))
        if 2 * width > next(width for width in self.widths if width > taken[-1]):
            return []
        self.layers = moved(self.layers, np.asarray(taken + taken[:1] * (width - len(taken)), np.int32))
        kept = [self.sequences[slot] for slot in taken]
        self.sequences = [*kept, *[None] * (len(self.sequences) - len(kept))]
        return taken

    def begin(self, copies: int) -> list[tuple[int, list[TokenOutput]]]:
        """Reads the sequences of all slots, all new, and returns for each (slot, [the token that comes after it]).

        Of so many `copies` that follow one another only the first is read; of many, those of about one length together.
        """
        lengths_B = np.array([0 if sequence is None else len(sequence.tokens) for sequence in self.sequences])
        firsts_P = np.argsort(lengths_B[::copies], kind="stable") * copies
        size, parts = padded_size, [firsts_P]
        if len(firsts_P) >= 2 * AT_ONCE:  # a program more then costs less than padding does
            size, parts = finely_padded_size, np.split(firsts_P, range(AT_ONCE, len(firsts_P), AT_ONCE))
        caches: list[Layers] = []
        grown: list[tuple[int, list[TokenOutput]]] = []
        for part_P in parts:
            slots = (part_P[:, None] + np.arange(copies)).ravel().tolist()
            tokens_PT = self._tokens(slots, self.config.context_len - 1, size)[::copies]
            drawn, cache = read_texts(self.params, self.config, tokens_PT, self._state(slots), self.banned_V)
            caches.append(cache)
            grown += self._first(slots, drawn)
        self.layers = spread(caches, np.repeat(np.argsort(firsts_P), copies))
        return grown

    def read(
        self, slots: Sequence[int], is_new: bool, meanwhile: Callable[[], None] = lambda: None
    ) -> list[tuple[int, list[TokenOutput]]]:
        """Reads the sequences of these slots, and returns for each (slot, [the token that comes after it]).

        Of a new sequence it reads as much as leaves room for a token, of one that has outgrown the context the newer
        half. `meanwhile` is called while the device works.
        """
        keep = self.config.context_len - 1 if is_new else self.config.context_len // 2
        tokens_BT, state = self._tokens(slots, keep, padded_size), self._state(slots)
        slots_B = np.asarray(slots, np.int32)
        drawn, self.layers = prefill(self.params, self.config, self.layers, slots_B, tokens_BT, state, self.banned_V)
        meanwhile()
        return self._first(slots, drawn)

    def _tokens(self, slots: Sequence[int], keep: int, size: Callable[[int, int], int]) -> np.ndarray:
        """Returns the last `keep` tokens of each of these slots, padded to one size."""
        texts = [sequence.tokens[-keep:] for sequence in self._taken(slots)]
        tokens_BT = np.zeros((len(texts), size(max(map(len, texts)), self.config.context_len)), np.int32)
        for sequence, row_T, tokens in zip(self._taken(slots), tokens_BT, texts, strict=True):
            row_T[: len(tokens)] = tokens
            sequence.cached = len(tokens)
        return tokens_BT

    def _state(self, slots: Sequence[int]) -> SlotState:
        return slot_state(self._taken(slots), len(self.banned_V))

    def _taken(self, slots: Sequence[int]) -> list[SequenceState]:
        return [sequence for slot in slots if (sequence := self.sequences[slot]) is not None]

    def _first(self, slots: Sequence[int], drawn: Drawn) -> list[tuple[int, list[TokenOutput]]]:
        """Adds the token after what was read to the sequences of these slots; returns it for each slot."""
        arrays = [x[None] for x in _fetched(drawn, self._taken(slots))]
        return [(slot, self._grow(slot, [x[:, row] for x in arrays], 1)) for row, slot in enumerate(slots)]

    def grow(self, count: int, meanwhile: Callable[[], None] = lambda: None) -> list[tuple[int, list[TokenOutput]]]:
        """Lets all sequences grow by `count` tokens, fewer where the context ends; returns (slot, tokens) of each."""
        taken = [slot for slot, sequence in enumerate(self.sequences) if sequence is not None]
        width = next(width for width in self.widths if width > taken[-1])
        state = slot_state(self.sequences[:width], len(self.banned_V))
        drawn, self.layers = decode(self.params, self.config, self.layers, state, count, self.banned_V)
        meanwhile()
        arrays, grown = _fetched(drawn, self.sequences), []
        for slot in taken:
            sequence = self.sequences[slot]
            assert sequence is not None
            room = min(count, self.config.context_len - sequence.cached)  # the tokens after these have no meaning
            sequence.cached += room
            grown.append((slot, self._grow(slot, [x[:, slot] for x in arrays], room)))
        return grown

    def _grow(self, slot: int, drawn: Sequence[np.ndarray], count: int) -> list[TokenOutput]:
        """Adds the first `count` tokens of one row of what was drawn to its sequence, up to its stop token."""
        sequence = self.sequences[slot]
        assert sequence is not None
        outputs = outputs_of(drawn, count, sequence.candidates)
        if any(output.token == NO_TOKEN for output in outputs):
            raise RunError("the model's scores are no finite numbers; train it again, at a lower rate")
        stops = [place for place, output in enumerate(outputs, start=1) if output.token == sequence.stop_id]
        outputs = outputs[: stops[0] if stops else None]
        sequence.tokens += [output.token for output in outputs]
        sequence.made += len(outputs)
        return outputs


def slot_state(sequences: Sequence[SequenceState | None], vocab_rows: int) -> SlotState:
    """Returns what decides the next tokens of these sequences, a row each."""
    B, shaping = len(sequences), _shaping_of(sequences, vocab_rows)
    state = SlotState(np.zeros((B, 2), np.uint32), np.zeros((6, B), np.int32), np.zeros((3, B), np.float32), shaping)
    for row, sequence in enumerate(sequences):
        if (x := sequence) is not None:
            state.keys_B2[row] = x.key
            state.whole_6B[:, row] = x.tokens[-1], x.cached, x.made, x.top_k, x.stop_id, x.candidates > 0
            state.real_3B[:, row] = x.temperature, x.top_p, x.min_p
    return state


def _shaping_of(sequences: Sequence[SequenceState | None], vocab_rows: int) -> Shaping | None:
    """Returns the shaping of these sequences' scores, or None where none has penalties."""
    if all(sequence is None or sequence.penalties == NO_PENALTIES for sequence in sequences):
        return None
    B, V = len(sequences), vocab_rows
    one_B, zero_B, zero_BV = np.ones(B, np.float32), np.zeros(B, np.float32), np.zeros((B, V), np.float32)
    shaping = Shaping(one_B, zero_B, zero_B.copy(), zero_BV, np.zeros((B, V), bool), np.zeros((B, V), np.int32))
    for row, sequence in enumerate(sequences):
        if sequence is None or sequence.penalties == NO_PENALTIES:
            continue
        penalties, own = sequence.penalties, sequence.made + sequence.given
        written = sequence.tokens[len(sequence.tokens) - own :]
        shaping.repetition_B[row], shaping.frequency_B[row], shaping.presence_B[row] = penalties[:3]
        shaping.bias_BV[row, list(penalties.bias)] = list(penalties.bias.values())
        shaping.seen_BV[row, sequence.tokens[1:]] = True  # the first is bos, which may be the line break or the end
        shaping.seen_BV[row, [id for id in (sequence.stop_id,) if id >= 0]] = False
        shaping.written_BV[row] = np.bincount(written, minlength=V)
    return shaping


def _fetched(drawn: Drawn, sequences: Sequence[SequenceState | None]) -> list[np.ndarray]:
    """Returns what was drawn on the host, log-probabilities only where one of the sequences wants them."""
    wanted = any(sequence is not None and sequence.candidates for sequence in sequences)
    return [np.asarray(x) for x in (drawn if wanted else drawn[:1])]


def outputs_of(drawn: Sequence[np.ndarray], count: int, candidates: int) -> list[TokenOutput]:
    """Returns the first tokens of one row of what was drawn, with as many candidates as wanted."""
    tokens = drawn[0][:count].tolist()
    if not candidates:
        return [TokenOutput(token, 0.0, []) for token in tokens]
    logprobs = drawn[1][:count].tolist()
    ids_CK, logprobs_CK = (x[:count, :candidates].tolist() for x in drawn[2:])
    likeliest_CK = [
        [(id, logprob) for id, logprob in zip(ids_K, logprobs_K, strict=True) if logprob > -np.inf]
        for ids_K, logprobs_K in zip(ids_CK, logprobs_CK, strict=True)
    ]
    return list(map(TokenOutput, tokens, logprobs, likeliest_CK))
