"""Where samples come from, and in which order: a batch is a pure function of (source, seed, step)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from jaxgpt.data.batch import Batch
from jaxgpt.data.shards import Tokens

EMPTY = -1  # index of a sample that is not there; its row has weight 0


class Source(Protocol):
    """A finite number of samples, each one row of a batch."""

    def __len__(self) -> int: ...

    def gather(self, indices: np.ndarray) -> Batch:
        """Returns the rows with these indices; EMPTY gives a row of zeros without weight."""
        ...


@dataclass(frozen=True)
class Windows:
    """Consecutive windows of one stream of tokens; every token of the stream is a target exactly once.

    The first token's context is `start` (the end of a line). With a `stride` below seq_len windows overlap, and only
    the last `stride` targets of a window count, each with at least seq_len - stride tokens before it (except in the
    first window, which counts whole): a sliding-window evaluation.
    """

    stream: np.ndarray | Tokens
    seq_len: int
    start: int
    stride: int | None = None

    def __len__(self) -> int:
        step = self.stride or self.seq_len
        return 1 + max(0, -(-(len(self.stream) - self.seq_len) // step))

    def gather(self, indices: np.ndarray) -> Batch:
        step, size = self.stride or self.seq_len, len(self.stream)
        target_BT = indices[:, None] * step + np.arange(self.seq_len)[None, :]
        inside_BT = (indices[:, None] != EMPTY) & (target_BT < size)
        fresh_BT = (indices[:, None] == 0) | (np.arange(self.seq_len)[None, :] >= self.seq_len - step)
        target_BT = np.where(inside_BT, target_BT, 0)
        tokens = np.where(target_BT > 0, self.stream[target_BT - 1], self.start)
        return Batch(
            tokens=np.where(inside_BT, tokens, 0).astype(np.int32),
            targets=np.where(inside_BT, self.stream[target_BT], 0).astype(np.int32),
            weights=(inside_BT & fresh_BT).astype(np.float32),
        )


@dataclass(frozen=True)
class Packed:
    """Rows made ready by packing: an int32 array [rows, 5, seq_len], in the order of Batch's fields."""

    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, indices: np.ndarray) -> Batch:
        rows = np.where((indices == EMPTY)[:, None, None], 0, self.rows[np.maximum(indices, 0)])
        tokens, targets, weights, segments, positions = np.moveaxis(rows.astype(np.int32), 1, 0)
        return Batch(tokens, targets, weights.astype(np.float32), segments, positions)


MOST_LISTED = 2**24  # samples whose order is kept as a list, 128 MB; that of more is computed as it is asked for


def _order(num_samples: int, seed: int, epoch: int, places: np.ndarray) -> np.ndarray:
    """Returns the samples at these places of an epoch's order: every sample has one place."""
    if num_samples <= MOST_LISTED:
        return _listed(num_samples, seed, epoch)[places]
    return _bijection(num_samples, seed, epoch, places)


@lru_cache(maxsize=2)
def _listed(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_samples)


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
    indices = np.full(batch_size, EMPTY, dtype=np.int64)
    for epoch in np.unique(places // num_samples):
        if epoch < epochs:
            here = places // num_samples == epoch
            indices[here] = _order(num_samples, seed, int(epoch), places[here] % num_samples)
    return indices


def num_steps(source: Source, batch_size: int, epochs: int) -> int:
    """Returns the steps it takes to see every sample `epochs` times."""
    return -(-len(source) * epochs // batch_size)


def batch_at(source: Source, seed: int, step: int, batch_size: int, epochs: int) -> Batch:
    """Returns the training batch of a step."""
    return source.gather(sample_indices(len(source), epochs, seed, step, batch_size))


def in_order(source: Source, batch_size: int) -> Iterator[Batch]:
    """Yields every sample once, in order, in batches of one shape: for evaluation."""
    for first in range(0, len(source), batch_size):
        indices = np.arange(first, first + batch_size)
        yield source.gather(np.where(indices < len(source), indices, EMPTY))
