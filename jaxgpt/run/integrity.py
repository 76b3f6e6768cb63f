"""What makes a checkpoint whole: a digest of each of its files, written last; and finding the newest that is."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax

from jaxgpt.buckets import entries, files_below, is_in_bucket, is_there, move_folder, remove_folder
from jaxgpt.devices.distributed import is_primary, wait_for_all
from jaxgpt.errors import clipped, shown
from jaxgpt.files import parse_json, write_text

FORMAT = 1  # raise it when older programs could no longer read what is saved
DIGESTS = "digests.json"
AT_ONCE = 8  # files that are read at a time: a disk may give more than one core can digest


Record = dict[str, int | str]
"""{"bytes": size of a file, "sha256": its digest}"""


def records(folder: Path, names: Sequence[str]) -> dict[str, Record]:
    """Returns the records of these files of a checkpoint, several read at a time."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return dict(zip(names, threads.map(lambda name: _record(folder / name), names), strict=True))


def commit(folder: Path, files: dict[str, Record] | None = None) -> None:
    """Writes the records of a checkpoint's files beside them. A checkpoint without them was never finished.

    `files` are the records, where several processes have made them; None: they are made here.
    """
    files = records(folder, files_of(folder)) if files is None else files
    write_text(folder / DIGESTS, json.dumps({"format": FORMAT, "files": files}, indent=1) + "\n")


def seal(folder: Path) -> None:
    """Commits a checkpoint that all processes have written: each reads a part of its files again, the first one signs.

    No device is used for it, so that it can be done in a thread.
    """
    if jax.process_count() == 1:
        commit(folder)
        return
    me, count = jax.process_index(), jax.process_count()
    parts = [folder / f"digests.{number}.json" for number in range(count)]
    names = files_of(folder)
    wait_for_all(f"step {folder.name}: all look at the same files")
    write_text(parts[me], json.dumps(records(folder, names[me::count])))
    wait_for_all(f"step {folder.name}: all have read their part")
    if is_primary():
        files = {name: record for part in parts for name, record in parse_json(part.read_text("utf-8")).items()}
        for part in parts:
            part.unlink()
        unseen = [name for name in names if name not in files]  # by who looked at a folder that lags behind
        commit(folder, files | records(folder, unseen))


def damage(folder: Path) -> str | None:
    """Returns what is wrong with a checkpoint, naming the file; None when every file is as it was sealed.

    Nothing but the checkpoint's own folder is read: names that lead out of it are damage, and so are links.
    """
    try:
        sealed = parse_json((folder / DIGESTS).read_text(encoding="utf-8"))
        version, files = sealed["format"], sealed["files"]
        if not isinstance(files, dict):
            raise TypeError
    except FileNotFoundError:
        return f"it has no {DIGESTS}, so it was not finished"
    except (OSError, ValueError, KeyError, TypeError) as error:
        if is_in_bucket(folder) and isinstance(error, OSError):
            raise  # it cannot be reached, and what is there may be whole
        return f"{DIGESTS} cannot be read"
    if version != FORMAT:
        return f"{DIGESTS} is of format {shown(version)}, and this program knows {FORMAT}"
    try:
        present = set(files_of(folder))
    except PermissionError as error:
        if is_in_bucket(folder):
            raise
        return f"{Path(error.filename).relative_to(folder)} cannot be read ({error.strerror})"
    for name in sorted(present | files.keys()):
        if name not in present:
            return f"{clipped(name)} is missing"
        if name not in files:
            return f"{name} does not belong to it"
        if not is_in_bucket(folder) and (folder / name).is_symlink():
            return f"{name} is a link"
        try:
            same = _record(folder / name) == files[name]
        except OSError as error:
            if is_in_bucket(folder):
                raise
            return f"{name} cannot be read ({error.strerror})"
        if not same:
            return f"{name} has changed since it was saved"
    return None


def committed_steps(folder: Path) -> list[int]:
    """Returns the steps of a folder's finished checkpoints, oldest first."""
    found = ((step_of(entry), entry) for entry in entries(folder))
    return sorted(step for step, entry in found if step is not None and _is_committed(entry))


def step_of(entry: Path) -> int | None:
    """Returns the step that a folder of checkpoints has an entry for, or None where its name is no step."""
    name = entry.name
    return int(name) if name.isascii() and name.isdecimal() and len(name) < 20 else None


def newest_whole(folder: Path) -> tuple[int | None, list[str]]:
    """Returns (the newest step that is whole or None, what is wrong with each newer one)."""
    wrong = []
    for step in reversed(committed_steps(folder)):
        found = damage(folder / str(step))
        if found is None:
            return step, wrong
        wrong.append(f"{folder / str(step)} is damaged: {found}")
    return None, wrong


def set_aside(folder: Path, newest: int | None) -> list[str]:
    """Makes room for a run that resumes from `newest`: later or unfinished checkpoints move to damaged/.

    Returns where they went. What Orbax had begun to write when it was interrupted is deleted.
    """
    moved = []
    for entry in entries(folder):
        step = step_of(entry)
        if step is not None and not (newest is not None and step <= newest and _is_committed(entry)):
            place = _free_place(folder / "damaged" / entry.name)
            move_folder(entry, place)
            moved.append(str(place))
        elif ".orbax-checkpoint-tmp" in entry.name:
            remove_folder(entry)
    return moved


def _is_committed(folder: Path) -> bool:
    return is_there(folder / DIGESTS)


def _free_place(path: Path) -> Path:
    place, number = path, 1
    while is_there(place):
        number += 1
        place = path.with_name(f"{path.name}-{number}")
    return place


def files_of(folder: Path) -> list[str]:
    """Returns the names of a checkpoint's files, those that are links and where they lead to not looked at."""
    names = (path.relative_to(folder).as_posix() for path in files_below(folder))
    return [name for name in names if name != DIGESTS]


def _record(path: Path) -> Record:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}
