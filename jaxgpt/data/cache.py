"""Arrays encoded once and kept on disk: named by what they were made from, whole or not there."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxgpt.files import parse_json, write_text, write_whole

FORMAT = 1  # raise it when the meaning of a cached array changes


def cache_key(*parts: object) -> str:
    """Returns a name for what is made from these parts (fingerprints and settings)."""
    return hashlib.sha256(json.dumps([FORMAT, *map(str, parts)]).encode()).hexdigest()[:32]


def cached_array(cache_dir: str | Path, key: str, build: Callable[[], np.ndarray]) -> np.ndarray:
    """Returns the array of this key, memory-mapped; builds and keeps it when it is missing or not whole."""
    return cached_with_facts(cache_dir, key, lambda: (build(), {}))[0]


def cached_with_facts(
    cache_dir: str | Path, key: str, build: Callable[[], tuple[np.ndarray, dict[str, int]]]
) -> tuple[np.ndarray, dict[str, int]]:
    """Returns (the array of this key, memory-mapped, with facts about it); builds them when not there and whole.

    The key names the content of what it was built from, so a changed file has another key. A record written last holds
    the facts and the array's digest: an interrupted write has none, and a damaged file does not match it.
    """
    data, record = _files(cache_dir, key)
    facts = _facts(data, record)
    if facts is None:
        data.parent.mkdir(parents=True, exist_ok=True)
        array, facts = build()
        write_whole(data, lambda file: np.save(file, np.ascontiguousarray(array), allow_pickle=False))
        content = {"sha256": _digest(data), "bytes": data.stat().st_size, "facts": facts}
        write_text(record, json.dumps(content) + "\n")
    return np.load(data, mmap_mode="r", allow_pickle=False), facts


def kept_array(cache_dir: str | Path, key: str) -> np.ndarray | None:
    """Returns the array of this key, memory-mapped, or None where it is missing or not whole."""
    data, record = _files(cache_dir, key)
    return np.load(data, mmap_mode="r", allow_pickle=False) if _facts(data, record) is not None else None


def _files(cache_dir: str | Path, key: str) -> tuple[Path, Path]:
    folder = Path(cache_dir).expanduser()
    return folder / f"{key}.npy", folder / f"{key}.json"


def _facts(data: Path, record: Path) -> dict[str, int] | None:
    """Returns the facts on record about an array, or None where it is missing or not whole."""
    try:
        expected = parse_json(record.read_text(encoding="utf-8"))
        whole = data.stat().st_size == expected["bytes"] and _digest(data) == expected["sha256"]
        return expected.get("facts", {}) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
