"""What was made from a corpus, kept on disk: folders of arrays, named by their content, whole or not there."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from jaxgpt.files import cache_folder, parse_json, write_text

FORMAT = 3  # raise it when the meaning of what is kept changes
SMALL = 2**26  # bytes: smaller files are digested each time they are opened, larger ones when they are written
RECORD = "record.json"


@dataclass(frozen=True)
class Kept:
    """A folder of files that are whole, and the facts on record about them."""

    folder: Path
    facts: dict[str, Any]


def key_of(*parts: object) -> str:
    """Returns a name for what is made from these parts (fingerprints and settings)."""
    return hashlib.sha256(json.dumps([FORMAT, *map(str, parts)]).encode()).hexdigest()[:32]


def open_kept(cache_dir: str | Path, name: str) -> Kept | None:
    """Returns what is kept under a name, or None where it is missing or not whole."""
    folder = _place(cache_dir) / name
    try:
        record = parse_json((folder / RECORD).read_text(encoding="utf-8"))
        whole = all(_is_whole(folder / file, *expected) for file, expected in record["files"].items())
        return Kept(folder, record["facts"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def kept_for(cache_dir: str | Path, origin: str) -> Kept | None:
    """Returns what was made from an origin before: a corpus as it was found, a tokenizer, settings.

    Its facts are the origin's own: what was left out of it, say, where another one came to the same content.
    """
    own = _place(cache_dir) / f"{origin}.facts"
    try:
        name = (_place(cache_dir) / f"{origin}.name").read_text(encoding="utf-8").strip()
        facts = parse_json(own.read_text(encoding="utf-8")) if own.exists() else None  # older ones have none
    except (OSError, ValueError):
        return None
    kept = open_kept(cache_dir, name) if name.isalnum() else None
    return kept if kept is None or facts is None else Kept(kept.folder, facts)


def make_kept(cache_dir: str | Path, origin: str, make: Callable[[Path], tuple[str, dict[str, Any]]]) -> Kept:
    """Returns what is kept for an origin; where there is nothing, `make` fills a folder and says (its name, facts).

    Two processes that want the same wait for one another. A record is written last, then the folder gets its name: one
    that was interrupted has neither, and `make` finds in it what it had done. One that failed is removed.
    """
    place = _place(cache_dir)
    place.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(place / f".{origin}.lock"):
        if (kept := kept_for(cache_dir, origin)) is not None:
            return kept
        part = place / f".{origin}.part"
        part.mkdir(exist_ok=True)
        for unfinished in part.glob(".*"):  # a file that was being written when the process was killed
            unfinished.unlink()
        try:
            name, facts = make(part)
        except Exception:  # what was interrupted stays, for make to go on from
            shutil.rmtree(part)
            raise
        files = {file.name: [file.stat().st_size, digest_of(file)] for file in sorted(part.iterdir())}
        write_text(part / RECORD, json.dumps({"facts": facts, "files": files}) + "\n")
        with filelock.FileLock(place / f".{name}.content.lock"):  # another origin may have the same content
            if open_kept(cache_dir, name) is None:
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(place / name)
                part.rename(place / name)
            else:
                shutil.rmtree(part)
        write_text(place / f"{origin}.facts", json.dumps(facts) + "\n")
        write_text(place / f"{origin}.name", name + "\n")
        return Kept(place / name, facts)


def damaged_files(cache_dir: str | Path, name: str) -> Iterator[tuple[str, str | None]]:
    """Yields (file, what is wrong with it or None) for each file that is kept under a name; none where nothing is."""
    folder = _place(cache_dir) / name
    if not folder.exists():
        return
    try:
        files = parse_json((folder / RECORD).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield str(folder / RECORD), f"it cannot be read ({error}); delete {folder}, and it is made again"
        return
    for file, (size, digest) in files.items():
        path = folder / file
        if not path.exists():
            wrong = "it is missing"
        elif path.stat().st_size != size:
            wrong = f"it has {path.stat().st_size:,} bytes of {size:,}"
        else:
            wrong = None if digest_of(path) == digest else "its bytes are not those that were written"
        yield str(path), wrong and f"{wrong}; delete {folder}, and it is made again"


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(cache_dir: str | Path) -> Path:
    return cache_folder(str(cache_dir)) / "tokens"


def _is_whole(file: Path, size: int, digest: str) -> bool:
    return file.stat().st_size == size and (size > SMALL or digest_of(file) == digest)
