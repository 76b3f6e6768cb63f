"""Files written whole or not at all: a reader sees the old one or the new one, never a half; and JSON read safely."""

import atexit
import contextlib
import functools
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jaxgpt.buckets import is_in_bucket, is_there
from jaxgpt.errors import UserError


def parse_json(text: str) -> Any:
    """Returns what JSON text holds. Whatever is wrong with it is a ValueError: brackets nested too deeply, too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None


def read_text(path: Path) -> str:
    """Returns the text of a UTF-8 file; raises UserError, naming it, where it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Writes a file beside its place with `fill`, and moves it there; two writers cannot mix."""
    if is_in_bucket(path):
        whole = io.BytesIO()
        fill(whole)
        path.write_bytes(whole.getvalue())
        return
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp makes files that only their owner can read
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@functools.cache
def cache_folder(path: str) -> Path:
    """Returns the folder that things are kept in so as not to be made again; it is made if it is not there.

    Below a home that cannot be written it is a temporary one, which is told once, and removed at the end.
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        if not path.startswith("~"):
            raise
        temporary = tempfile.mkdtemp(prefix="jaxgpt-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        print(
            f"NOTE: data.cache_dir: {path} cannot be written ({error.strerror}), so what is encoded and compiled is "
            "not kept for the next time. Name a folder of yours with --data.cache-dir",
            file=sys.stderr,
            flush=True,
        )
        return Path(temporary)


@contextlib.contextmanager
def folder_made_whole(path: Path) -> Iterator[Path]:
    """Yields a folder to fill beside its place, and moves it there; where filling fails, nothing is left."""
    building = path.with_name(f".{path.name}.part")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        yield building
        building.rename(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file whole; half of a surrogate pair, which UTF-8 has not, is written as JSON escapes it."""
    write_whole(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def append_text(path: Path, text: str) -> None:
    """Adds to the end of a UTF-8 text file, which is written anew in a bucket; surrogates as `write_text`."""
    added = text.encode("utf-8", "backslashreplace")
    if is_in_bucket(path):
        path.write_bytes((path.read_bytes() if is_there(path) else b"") + added)
    else:
        with path.open("ab") as file:
            file.write(added)
