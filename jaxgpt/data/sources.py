"""Where samples come from, and in which order: a batch is a pure function of (source, seed, step)."""

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from jaxgpt.data.batch import Batch
from jaxgpt.data.shards import Tokens

EMPTY = -1  # index of a sample that is not there; its row has weight 0
GOLDEN = (5**0.5 - 1) / 2  # its multiples, less their whole parts, lie evenly between 0 and 1 however many there are


class Source(Protocol):
    """A finite number of samples, each one row of a batch; numbers beyond them mean the same samples epochs later."""

    def __len__(self) -> int: ...

    def gather(self, indices: np.ndarray) -> Batch:
        """Returns the rows with these indices; EMPTY gives a row of zeros without weight."""
        ...


@dataclass(frozen=True)
class Windows:
    """Consecutive windows of one stream of tokens; every token of the stream is a target exactly once.

    Each epoch but the first cuts the stream at other places, so no window comes again. The first token's context is
    `start` (the end of a line). With a `stride` below seq_len windows overlap, and only the last `stride` targets of a
    window count, each with at least seq_len - stride tokens before it (except in the first window, which counts whole):
    a sliding-window evaluation. With an `eos` attention stays inside documents, which end with that token: each is a
    segment, whose positions count from its first token in the window.
    """

    stream: np.ndarray | Tokens
    seq_len: int
    start: int
    stride: int | None = None
    eos: int | None = None

    def __len__(self) -> int:
        step = self.stride or self.seq_len
        return 1 + max(0, -(-(len(self.stream) - self.seq_len) // step))

    def gather(self, indices: np.ndarray) -> Batch:
        step, size = self.stride or self.seq_len, len(self.stream)
        epochs, own = np.divmod(indices, len(self))
        place_BT = own[:, None] * step + np.arange(self.seq_len)[None, :]
        inside_BT = (indices[:, None] != EMPTY) & (place_BT < size)
        fresh_BT = (own[:, None] == 0) | (np.arange(self.seq_len)[None, :] >= self.seq_len - step)
        moved_B = (epochs * GOLDEN % 1 * self.seq_len).astype(np.int64)
        target_BT = np.where(inside_BT, (place_BT + moved_B[:, None]) % size, 0)
        tokens_BT = np.where(target_BT > 0, self.stream[target_BT - 1], self.start)
        batch = Batch(
            tokens=np.where(inside_BT, tokens_BT, 0).astype(np.int32),
            targets=np.where(inside_BT, self.stream[target_BT], 0).astype(np.int32),
            weights=(inside_BT & fresh_BT).astype(np.float32),
        )
        if self.eos is None:
            return batch
        begins_BT = tokens_BT == self.eos  # the end of a document is what the next one's first token follows
        segments_BT = np.where(inside_BT, 1 + np.cumsum(begins_BT, axis=1), 0)
        place_T = np.arange(self.seq_len)
        first_BT = np.maximum.accumulate(np.where(begins_BT, place_T, 0), axis=1)
        positions_BT = np.where(inside_BT, place_T - first_BT, 0)
        return batch._replace(segments=segments_BT.astype(np.int32), positions=positions_BT.astype(np.int32))


@dataclass(frozen=True)
class Packed:
    """Rows made ready by packing: an int32 array [rows, 5, seq_len], in the order of Batch's fields."""

    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, indices: np.ndarray) -> Batch:
        rows = np.where((indices == EMPTY)[:, None, None], 0, self.rows[indices % len(self)])
        tokens, targets, weights, segments, positions = np.moveaxis(rows.astype(np.int32), 1, 0)
        return Batch(tokens, targets, weights.astype(np.float32), segments, positions)


@dataclass(frozen=True)
class Pairs:
    """Packed pairs of answers, and the log-probabilities of their targets in the model that training starts from."""

    packed: Packed
    reference: np.ndarray
    """[rows, seq_len] float32, in nats."""

    def __len__(self) -> int:
        return len(self.packed)

    def gather(self, indices: np.ndarray) -> Batch:
        is_there = (indices != EMPTY)[:, None]
        reference_BT = np.where(is_there, self.reference[indices % len(self)], 0).astype(np.float32)
        return self.packed.gather(indices)._replace(reference=reference_BT)


@dataclass(frozen=True)
class Mixture:
    """Sources of which each gives its share of the windows; `gather` numbers the samples of all one after the other."""

    sources: dict[str, Source]
    shares: tuple[float, ...]
    """Of the sources, in their order; they add up to 1."""

    def __len__(self) -> int:
        return sum(map(len, self.sources.values()))

    def gather(self, indices: np.ndarray) -> Batch:
        ends = np.cumsum([len(source) for source in self.sources.values()])
        epochs, places = np.divmod(indices, len(self))
        number = np.where(indices == EMPTY, 0, np.searchsorted(ends, places, side="right"))
        rows: Batch | None = None
        for i, source in enumerate(self.sources.values()):
            here = np.flatnonzero(number == i)
            own = places[here] - ends[i] + len(source) + epochs[here] * len(source)
            mine = source.gather(np.where(indices[here] == EMPTY, EMPTY, own))
            if rows is None:
                rows = Batch(*(x if x is None else np.zeros((len(indices), *x.shape[1:]), x.dtype) for x in mine))
            for x, of_mine in zip(rows, mine, strict=True):
                if x is not None:
                    x[here] = of_mine
        assert rows is not None, "a mixture has sources"
        return rows

    def indices(self, places: np.ndarray, seed: int) -> np.ndarray:
        """Returns the samples at these places of training: which source each is of, and which of its samples.

        Every BLOCK places are shuffled, so that the sources do not alternate; then each source takes its share of any
        number of places, to within one, and gives its samples in an order of its own, epoch after epoch.
        """
        block, within = np.divmod(places, BLOCK)
        shuffled = places.copy()
        for number in np.unique(block):
            here = block == number
            shuffled[here] = number * BLOCK + _shuffle_of_block(seed, int(number))[within[here]]
        indices, rest, left = np.empty_like(places), shuffled, np.ones(places.shape, bool)
        first, share_left = 0, 1.0
        for i, (source, share) in enumerate(zip(self.sources.values(), self.shares, strict=True)):
            taken, after = _taken(rest, share / share_left), _taken(rest + 1, share / share_left)
            mine = left & ((after > taken) | (i == len(self.shares) - 1))
            count = np.where(i == len(self.shares) - 1, rest, taken)  # how many of its samples came before
            for epoch in np.unique(count[mine] // len(source)):
                here = mine & (count // len(source) == epoch)
                own = _order(len(source), seed + (i << 32), int(epoch), count[here] % len(source))
                indices[here] = epoch * len(self) + first + own
            left, rest = left & ~mine, rest - taken
            first, share_left = first + len(source), share_left - share
        return indices


BLOCK = 256  # places within which the shares of a mixture hold
RESOLUTION = 20  # bits of a share


def _taken(places: np.ndarray, share: float) -> np.ndarray:
    """Returns how many of the first so many places a source of this share takes: their number times it, rounded."""
    parts = min(round(share * 2**RESOLUTION), 2**RESOLUTION)
    high, low = places >> RESOLUTION, places & (2**RESOLUTION - 1)  # or the product would pass 2**63
    return high * parts + ((low * parts + 2 ** (RESOLUTION - 1)) >> RESOLUTION)


@lru_cache(maxsize=8)
def _shuffle_of_block(seed: int, block: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, 2**63 + block])).permutation(BLOCK)


MOST_LISTED = 2**23  # samples whose order is kept as a list, 32 MB; that of more is computed as it is asked for


def _order(num_samples: int, seed: int, epoch: int, places: np.ndarray) -> np.ndarray:
    """Returns the samples at these places of an epoch's order: every sample has one place."""
    if num_samples <= MOST_LISTED:
        return _listed(num_samples, seed, epoch)[places]
    return _bijection(num_samples, seed, epoch, places)


@lru_cache(maxsize=16)  # the sources of a mixture, each in an epoch or at the border of two
def _listed(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_samples).astype(np.int32)


def _bijection(num_samples: int, seed: int, epoch: int, places: np.ndarray) -> np.ndarray:
    """Returns places mixed by a Feistel network (Luby and Rackoff 1988) of a power of four of places.

    What falls beyond the samples is mixed again, until it does not: so each sample has one place, whatever their count.
    """
    half = np.uint64(-(-int(num_samples - 1).bit_length() // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys = np.random.Generator(np.random.Philox(key=[seed, epoch])).integers(0, 2**64, 8, np.uint64)
    mixed = np.asarray(places).astype(np.uint64)
    beyond = np.ones(mixed.shape, bool)
    while beyond.any():
        left, right = mixed[beyond] >> half, mixed[beyond] & mask
        for key in keys:
            x = (right + key) * np.uint64(0x9E3779B97F4A7C15)  # the mixing of splitmix64 (Steele et al. 2014)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            left, right = right, left ^ ((x ^ (x >> np.uint64(31))) & mask)
        mixed[beyond] = (left << half) | right
        beyond = mixed >= num_samples
    return mixed.astype(np.int64)


def sample_indices(num_samples: int, epochs: int, seed: int, step: int, batch_size: int) -> np.ndarray:
    """Returns the samples of a step's global batch: a new shuffle each epoch, EMPTY after the last epoch's end.

    Batches run on over the end of an epoch, so each sample is seen exactly `epochs` times.
    """
    places = step * batch_size + np.arange(batch_size)
    return np.where(places < num_samples * epochs, samples_at(places, num_samples, seed), EMPTY)


def samples_at(places: np.ndarray, num_samples: int, seed: int) -> np.ndarray:
    """Returns the samples at these places of training without an end: a new shuffle each epoch.

    Those of later epochs have numbers of their own: epoch * num_samples + sample.
    """
    indices = np.empty(places.shape, np.int64)
    for epoch in np.unique(places // num_samples):
        here = places // num_samples == epoch
        indices[here] = epoch * num_samples + _order(num_samples, seed, int(epoch), places[here] % num_samples)
    return indices


def num_steps(source: Sized, batch_size: int, epochs: int) -> int:
    """Returns the steps it takes to see every sample `epochs` times."""
    return -(-len(source) * epochs // batch_size)


def indices_at(source: Sized, seed: int, step: int, batch_size: int, epochs: int) -> np.ndarray:
    """Returns the samples of a step's global batch; of a mixture an epoch is as many as all its sources have."""
    if not isinstance(source, Mixture):
        return sample_indices(len(source), epochs, seed, step, batch_size)
    places = step * batch_size + np.arange(batch_size)
    return np.where(places < len(source) * epochs, source.indices(places, seed), EMPTY)


def batch_at(source: Source, seed: int, step: int, batch_size: int, epochs: int) -> Batch:
    """Returns the training batch of a step."""
    return source.gather(indices_at(source, seed, step, batch_size, epochs))


def in_order(source: Source, batch_size: int) -> Iterator[np.ndarray]:
    """Yields every sample's index once, in order, in batches of one size: for evaluation."""
    for first in range(0, len(source), batch_size):
        indices = np.arange(first, first + batch_size)
        yield np.where(indices < len(source), indices, EMPTY)
