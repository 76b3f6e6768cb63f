"""Arrays encoded once and kept on disk: named by what they were made from, whole or not there."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxgpt.files import write_text, write_whole

FORMAT = 1  # raise it when the meaning of a cached array changes


def cache_key(*parts: object) -> str:
    """Returns a name for what is made from these parts (fingerprints and settings)."""
    return hashlib.sha256(json.dumps([FORMAT, *map(str, parts)]).encode()).hexdigest()[:32]


def cached_array(cache_dir: str | Path, key: str, build: Callable[[], np.ndarray]) -> np.ndarray:
    """Returns the array of this key, memory-mapped; builds and keeps it when it is missing or not whole.

    The key names the content of what it was built from, so a changed file has another key. A record written last holds
    the array's digest: an interrupted write has none, and a damaged file does not match it.
    """
    data, record = _files(cache_dir, key)
    if not _is_whole(data, record):
        data.parent.mkdir(parents=True, exist_ok=True)
        array = np.ascontiguousarray(build())
        write_whole(data, lambda file: np.save(file, array, allow_pickle=False))
        write_text(record, json.dumps({"sha256": _digest(data), "bytes": data.stat().st_size}) + "\n")
    return np.load(data, mmap_mode="r", allow_pickle=False)


def kept_array(cache_dir: str | Path, key: str) -> np.ndarray | None:
    """Returns the array of this key, memory-mapped, or None where it is missing or not whole."""
    data, record = _files(cache_dir, key)
    return np.load(data, mmap_mode="r", allow_pickle=False) if _is_whole(data, record) else None


def _files(cache_dir: str | Path, key: str) -> tuple[Path, Path]:
    folder = Path(cache_dir).expanduser()
    return folder / f"{key}.npy", folder / f"{key}.json"


def _is_whole(data: Path, record: Path) -> bool:
    try:
        expected = json.loads(record.read_text(encoding="utf-8"))
        return data.stat().st_size == expected["bytes"] and _digest(data) == expected["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
