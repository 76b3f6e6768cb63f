"""Text of a dataset on the Hugging Face hub, hub:OWNER/NAME[:CONFIG]: streamed once into JSON lines, read from there.

A dataset's own files are taken one after the other, and what was read of one is kept in parts. So a start that was
interrupted continues from the last whole part, and reads again at most what it had of one file. (The position that
`datasets` keeps is not used: in versions 5.0 and 5.1 it stands still after it was loaded, and the second interrupted
start would begin again without a word.)
"""

import gzip
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from jaxgpt.errors import RunError, UserError, kind_in_json
from jaxgpt.files import parse_json, write_text
from jaxgpt.text.corpora.files import one_line
from jaxgpt.text.corpora.hub import PROBE_SECONDS, offline_variable, probe

PREFIX = "hub:"
PART_BYTES = 100_000_000  # of text in a part
SPLITS = {"train": "train", "valid": "validation", "test": "test"}
HELD_OUT_SHARE = 0.05  # of most_bytes, that validation and test are read up to
OWN_FILES = "give files of your own"
RETRIES, RETRY_SECONDS = 3, 1  # of a read that fails: `datasets` itself would try for 100 seconds


class Download(NamedTuple):
    """Where text of the hub is kept, and how much of it."""

    folder: Path = Path("~/.cache/jaxgpt")
    most_bytes: int = 10**10


@dataclass
class _Progress:
    """How far a dataset was read; where the next start continues."""

    revision: str
    done: dict[str, str]
    """Split -> how it ended."""
    split: str = ""
    file: int = 0
    """Of the dataset's files of this split, the one that is being read."""
    documents: int = 0
    """Of that file, those that are kept."""
    parts: int = 0
    bytes: int = 0
    complete: bool = False


def find_streamed(name: str, field: str, download: Download) -> tuple[Path, str, list[str]]:
    """Returns (the folder with the text of a dataset, where it came from, notes), after reading it if need be.

    Raises UserError for a name, configuration or field that the hub does not have, RunError where it cannot be reached.
    """
    repository, config, revision = _parse(name)
    key = "--".join([repository, config or "default", revision or "latest", field, str(download.most_bytes)])
    place = Path(download.folder).expanduser() / "hub" / re.sub(r"[^\w.-]", "_", key)
    place.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{place}.lock"):
        record = place.with_name(f"{place.name}.json")
        progress = _read(record)
        if progress is None or not progress.complete:
            progress = _fetch(name, (repository, config, revision), field, place, record, download, progress)
    notes = [f"{split}: {how}" for split, how in progress.done.items()]
    return place, f"Hugging Face hub, revision {progress.revision[:12]}, kept in {place}", notes


def _parse(name: str) -> tuple[str, str | None, str | None]:
    """Returns (repository, configuration, revision) of hub:OWNER/NAME[@REVISION][:CONFIG]."""
    found = re.fullmatch(r"hub:([\w.-]+/[\w.-]+|[\w.-]+)(?:@([\w./-]+))?(?::(.+))?", name)
    if found is None:
        raise UserError(
            f"data.corpus: {name!r} names no dataset; it must be hub:OWNER/NAME, hub:OWNER/NAME:CONFIG or "
            "hub:OWNER/NAME@REVISION:CONFIG"
        )
    return found[1], found[3], found[2]


def _read(record: Path) -> _Progress | None:
    try:
        return _Progress(**parse_json(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _fetch(
    name: str,
    address: tuple[str, str | None, str | None],
    field: str,
    place: Path,
    record: Path,
    download: Download,
    progress: _Progress | None,
) -> _Progress:
    """Reads every split of a dataset to its end, or to the most that is read, from where `progress` says."""
    known = progress.revision if progress else None
    revision, splits = _open(name, address, known)
    there = {ours: theirs for ours, theirs in SPLITS.items() if theirs in splits}
    if "train" not in there:
        raise UserError(f"data.corpus: {name} has no split train, but {', '.join(splits)}")
    progress = progress or _Progress(revision, {})
    for split, theirs in there.items():
        if split in progress.done:
            continue
        if progress.split != split:
            progress = _Progress(progress.revision, progress.done, split)
        most = download.most_bytes if split == "train" else int(download.most_bytes * HELD_OUT_SHARE)
        try:
            progress.done[split] = _stream(name, splits[theirs], field, place, record, most, progress)
        except (UserError, RunError):
            raise
        except Exception as error:  # a connection can be lost in any way
            raise RunError(
                f"data.corpus: {name}: reading stopped after {progress.bytes / 1e6:,.0f} MB of {theirs} "
                f"({one_line(error)}); what was read is kept, and the same command continues"
            ) from None
    progress = _Progress(progress.revision, progress.done, complete=True)
    write_text(record, json.dumps(asdict(progress)))
    return progress


def _open(name: str, address: tuple[str, str | None, str | None], known: str | None) -> tuple[str, dict[str, Any]]:
    """Returns (the revision, the splits to be streamed) of a dataset on the hub."""
    repository, config, revision = address
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if (variable := offline_variable()) is not None:
        raise RunError(f"data.corpus: {name}: the hub was not asked, as {variable} is set; unset it, or {OWN_FILES}")
    silence = probe(f"{endpoint}/api/datasets/{repository}", PROBE_SECONDS)
    if silence == "HTTP 404":
        raise UserError(f"data.corpus: {name}: the hub ({endpoint}) has no dataset {repository}")
    if silence is not None:
        raise RunError(
            f"data.corpus: {name}: the hub ({endpoint}) cannot be reached ({silence}); connect to the network, or "
            f"{OWN_FILES}"
        )
    import datasets
    import datasets.config as settings

    settings.STREAMING_READ_MAX_RETRIES, settings.STREAMING_READ_RETRY_INTERVAL = RETRIES, RETRY_SECONDS
    try:
        commit = known or _commit(repository, revision)
        splits = datasets.load_dataset(repository, config, revision=commit, streaming=True)
    except (ConnectionError, TimeoutError) as error:
        raise RunError(f"data.corpus: {name}: the connection was lost ({one_line(error)}); try again") from None
    except Exception as error:  # no such dataset or configuration, a login that is missing, a dataset that is a program
        raise UserError(
            f"data.corpus: {name} cannot be opened ({one_line(error)}); see {endpoint}/datasets/{repository} for its "
            "configurations (hub:OWNER/NAME:CONFIG), and set HF_TOKEN where it asks for a login"
        ) from None
    return commit, {str(split): rows for split, rows in splits.items()}


def _commit(repository: str, revision: str | None) -> str:
    """Returns the commit of a dataset: a start that continues reads the same one."""
    import huggingface_hub

    commit = huggingface_hub.HfApi().dataset_info(repository, revision=revision).sha
    assert commit is not None, "the hub names the commit of what it has"
    return commit


def _stream(name: str, split: Any, field: str, place: Path, record: Path, most: int, progress: _Progress) -> str:
    """Keeps the documents of a split in parts; returns how it ended, for people to read."""
    files = split.num_shards
    began = said = time.monotonic()
    fresh = progress.bytes
    for file in range(progress.file, files):
        if progress.bytes >= most:
            break
        progress.file = file
        for documents in _parts(split.shard(files, file).skip(progress.documents), name, field, most - progress.bytes):
            _write(place / f"{progress.split}-{progress.parts:05}.jsonl.gz", documents)
            progress.parts += 1
            progress.documents += len(documents)
            progress.bytes += sum(map(_size, documents))
            write_text(record, json.dumps(asdict(progress)))
            if time.monotonic() - said > 5:
                said = time.monotonic()
                speed = (progress.bytes - fresh) / (said - began)
                print(f"{name}: {progress.bytes / 1e6:,.0f} MB of {progress.split}, {speed / 1e6:.1f} MB/s", flush=True)
        progress.documents = progress.documents if progress.bytes >= most else 0
    if progress.bytes >= most:
        return f"the first {progress.bytes / 1e6:,.1f} MB (--data.hub-gb reads more)"
    return f"all of it, {progress.bytes / 1e6:,.1f} MB"


def _size(text: str | None) -> int:
    return len((text or "").encode("utf-8", "surrogatepass"))


def _parts(rows: Any, name: str, field: str, most: int) -> Iterator[list[str | None]]:
    """Yields the documents of one file in lists of about PART_BYTES, until they are `most` bytes; None has no text."""
    part: list[str | None] = []
    size = 0
    for row in rows:
        if field not in row:
            raise UserError(f"data.text_field: {name} has no field {field}; it has {', '.join(islice(row, 20))}")
        text = row[field]
        if not isinstance(text, str | None):
            raise UserError(f"data.text_field: {field} of {name} is {kind_in_json(text)}, not a text; name another")
        part.append(text)
        size += _size(text)
        if size >= min(PART_BYTES, most):
            yield part
            most, part, size = most - size, [], 0
            if most <= 0:
                return
    if part:
        yield part


def _write(file: Path, documents: list[str | None]) -> None:
    """Writes a part; it is there whole, or not."""
    unfinished = file.with_name(f".{file.name}")
    with gzip.open(unfinished, "wt", compresslevel=1, encoding="utf-8") as out:
        for text in documents:
            out.write(json.dumps({"text": text}) + "\n")
    unfinished.replace(file)
