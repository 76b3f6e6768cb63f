"""Tokens on disk: files of about one size, read as one memory-mapped stream."""

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SHARD = 100_000_000  # tokens in a file, 200 MB where two bytes hold an id


READ_AHEAD = 2**26  # bytes up to which the system may read a file ahead, and so all of it


def token_dtype(vocab_size: int) -> str:
    """Returns the smallest type that holds every id."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def shard_file(folder: Path, split: str, number: int) -> Path:
    """Returns the name of a shard."""
    return folder / f"{split}-{number:05}.bin"


class Tokens:
    """A stream of ids over the shards of a split: its length, and the ids at any places, as int32."""

    def __init__(self, shards: Sequence[np.ndarray]) -> None:
        self.shards = shards
        self.ends = np.cumsum([len(shard) for shard in shards])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        if len(self.shards) == 1:
            return self.shards[0][places].astype(np.int32)
        ids = np.empty(places.shape, np.int32)
        number = np.searchsorted(self.ends, places, side="right")
        for shard in np.unique(number):
            first = self.ends[shard] - len(self.shards[shard])
            ids[number == shard] = self.shards[shard][places[number == shard] - first]
        return ids

    def all(self) -> np.ndarray:
        """Returns every id, in memory."""
        return np.concatenate([np.zeros(0, np.int32), *(shard.astype(np.int32) for shard in self.shards)])


def read_shards(folder: Path, split: str, dtype: str) -> Tokens:
    """Returns the stream of a split; its files are mapped, not read."""
    files = sorted(folder.glob(f"{split}-*.bin"))
    return Tokens([map_shard(file, dtype) for file in files if file.stat().st_size])


def map_shard(file: Path, dtype: str) -> np.ndarray:
    """Returns the ids of a file, mapped. Of a large one windows are read here and there: nothing is read ahead."""
    with file.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    if len(mapped) > READ_AHEAD and hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(mapped, dtype)
