"""Run folders in a bucket of Google Cloud Storage: what a bucket has not, by means of what it has.

A path in one, gs://BUCKET/..., is etils' epath.Path, which has what of pathlib's Path this program uses. There are no
folders in a bucket, only names with slashes; a file is there whole or not at all, is never added to, and never moved.
Whether something is there is asked here: epath answers no where a bucket cannot be reached.
"""

import contextlib
import functools
import importlib.util
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from jaxgpt.errors import UserError, first_line

SCHEME = "gs://"
SECONDS = 60  # between two times that a file which grows is written anew, while nothing else asks for it
os.environ.setdefault("EPATH_USE_TF", "false")  # or epath takes another way where TensorFlow happens to be installed


def path_of(name: str | os.PathLike[str]) -> Path:
    """Returns the path of a run or of a folder of runs, on a disk or in a bucket.

    Raises UserError for another kind of address, and for a bucket that cannot be reached or lacks its package.
    """
    text = os.fspath(name)
    if not (scheme := re.match(r"[a-z][a-z0-9+.-]*://", text)):
        return Path(name)
    if scheme.group() != SCHEME:
        raise UserError(
            f"{text}: runs are kept in a folder, or in a bucket of Google Cloud Storage as {SCHEME}BUCKET/NAME; "
            "other buckets must be mounted as a folder"
        )
    bucket, _, below = text.removeprefix(SCHEME).partition("/")
    if not bucket or not below.strip("/"):
        raise UserError(f"{text}: it names no run; give {SCHEME}BUCKET/NAME")
    _require_bucket(bucket)
    return _in_bucket(text)


def path_on_disk(name: str, field: str) -> Path:
    """Returns a path that must be one of a disk; raises UserError, naming the field, for another address."""
    if "://" in name:
        raise UserError(f"{field}: {name} was given; it must be on a disk, from where it can be copied to a bucket")
    return Path(name).expanduser()


def is_in_bucket(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is one in a bucket."""
    return os.fspath(path).startswith(SCHEME)


def _in_bucket(name: str) -> Path:
    from etils import epath

    return cast(Path, epath.Path(name))


@functools.cache
def _require_bucket(bucket: str) -> None:
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f'{SCHEME}{bucket}: buckets want a package more; pip install "jaxgpt[gcs]"')
    from google.cloud import storage  # pyright: ignore  # an extra

    _files()
    try:
        storage.Client().get_bucket(bucket)  # as Orbax does before it deletes
    except Exception as error:  # whatever its packages raise for credentials, rights and networks
        raise UserError(
            f"{SCHEME}{bucket}: it cannot be used ({first_line(error)}). Make it; log in with gcloud auth "
            "application-default login; name your project in GOOGLE_CLOUD_PROJECT"
        ) from error


@functools.cache
def _files() -> Any:
    """Returns fsspec's view of buckets, the one that epath uses, too."""
    import fsspec
    import fsspec.config

    # Orbax writes the arrays past this file system, whose lists would not have them.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    return fsspec.filesystem("gcs", finalize_on_close=True)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, where it is not there; in a bucket names with slashes need none."""
    if not is_in_bucket(path):
        path.mkdir(parents=True, exist_ok=True)


def is_there(path: Path) -> bool:
    """Returns whether there is a file or a folder; raises what a bucket raises that cannot be reached."""
    if not is_in_bucket(path):
        return path.exists()
    try:
        return bool(_files().info(os.fspath(path)))
    except FileNotFoundError:
        return False


def entries(folder: Path) -> list[Path]:
    """Returns what is in a folder, sorted; nothing where there is none. Raises as `is_there`."""
    if not is_in_bucket(folder):
        return sorted(folder.iterdir()) if folder.is_dir() else []
    names = {file.relative_to(folder).parts[0] for file in files_below(folder)}
    return [folder / name for name in sorted(names)]


def files_below(folder: Path) -> list[Path]:
    """Returns the files in a folder and its folders; links as they are, and not followed. Raises as `is_there`."""
    if is_in_bucket(folder):
        # Names that end in a slash are what other programs write for folders.
        return [_in_bucket(SCHEME + name) for name in sorted(_files().find(os.fspath(folder))) if name[-1] != "/"]
    found = []
    for entry in sorted(folder.iterdir()):
        found += files_below(entry) if entry.is_dir() and not entry.is_symlink() else [entry]
    return found


def remove_folder(path: Path) -> None:
    """Removes a folder with all that is in it.

    In a bucket file by file: first what says that a checkpoint is whole, last what says that the folder is a run.
    """
    if not is_in_bucket(path):
        shutil.rmtree(path)
        return
    for file in sorted(files_below(path), key=lambda file: (file.name == "config.json", file.name != "digests.json")):
        file.unlink()
    with contextlib.suppress(FileNotFoundError):
        _files().rm(os.fspath(path), recursive=True)  # what others have made of it as a folder


def move_folder(path: Path, place: Path) -> None:
    """Moves a folder; in a bucket its files are copied, and what is at the old place then goes."""
    if not is_in_bucket(path):
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
        return
    for file in sorted(files_below(path), key=lambda file: file.name == "digests.json"):  # last, as it says: all there
        _files().cp_file(os.fspath(file), os.fspath(place / file.relative_to(path)))
    remove_folder(path)


class Growing:
    """A text file in a bucket that grows: kept here, and written anew when it is `synced` or was not for a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts = [path.read_bytes().decode("utf-8", "replace")] if is_there(path) else []
        self._grown, self._synced = not self._parts, -math.inf

    def write(self, text: str) -> None:
        self._parts.append(text)
        self._grown = True

    def flush(self) -> None:
        if time.monotonic() - self._synced > SECONDS:
            self.sync()

    def sync(self) -> None:
        """Writes it, if it has grown."""
        if self._grown:
            self._path.write_bytes("".join(self._parts).encode())
        self._grown, self._synced = False, time.monotonic()


@contextlib.contextmanager
def written_at_the_end(write: Callable[[], None]) -> Iterator[None]:
    """Calls `write` at the end; where something has failed by then, that is told, and not that `write` failed, too."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, *failures()):
            write()
        raise
    write()


def copy_into(folder: Path, files: Iterable[Path]) -> None:
    """Copies files of a disk into a folder in a bucket."""
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())


def failures() -> tuple[type[Exception], ...]:
    """Returns what the packages of buckets raise beside OSError where one fails; nothing where none is in use."""
    if "gcsfs" not in sys.modules:
        return ()
    from aiohttp import ClientError  # pyright: ignore[reportMissingImports]  # of the extra, as all of these
    from gcsfs.retry import ChecksumError, HttpError, NonRetryableError  # pyright: ignore[reportMissingImports]
    from google.api_core.exceptions import GoogleAPIError  # pyright: ignore[reportMissingImports]
    from google.auth.exceptions import GoogleAuthError  # pyright: ignore[reportMissingImports]

    return HttpError, ChecksumError, NonRetryableError, ClientError, GoogleAPIError, GoogleAuthError
