"""Finds a corpus of the Hugging Face hub: the data folder, then the cache, then the hub itself."""

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from jaxgpt.errors import UserError
from jaxgpt.text.corpora.documents import Reader, identity_of
from jaxgpt.text.corpora.files import one_line

PROBE_SECONDS = 3.0

Row = dict[str, Any]


@dataclass(frozen=True)
class HubCorpus:
    """A corpus the hub has: what it is called in each place, and how its files and rows are read."""

    name: str
    repository: str
    config: str
    columns: tuple[str, ...]
    hub_splits: dict[str, str]
    """Our split -> the hub's name for it."""
    files: dict[str, str]
    """Our split -> its file in $JAXGPT_DATA/NAME/."""
    read_file: Callable[[Path], Iterator[Any]]
    read_rows: Callable[[Iterable[Row]], Iterator[Any]]


@dataclass(frozen=True)
class Found:
    """The splits of a corpus, to be read as its functions read them, and where they were."""

    source: str
    size: int
    identity: str
    splits: dict[str, Reader]
    notes: list[str]


class UnavailableError(Exception):
    """The corpus is in none of the places; says why for each, and which files in $JAXGPT_DATA would do."""

    def __init__(self, name: str, files: Sequence[str], reasons: list[str]):
        super().__init__(f"{name} was not found: {'; '.join(reasons)}")
        self.files = f"{name}/{files[0]}" if len(files) == 1 else f"{name}/{{{','.join(files)}}}"


def find(corpus: HubCorpus) -> Found:
    """Returns the corpus from the first place that has it.

    Raises UnavailableError when none has, and UserError when $JAXGPT_DATA/NAME is there but incomplete.
    """
    reasons: list[str] = []
    for look in (_in_data_folder, _in_cache, _on_hub):
        found = look(corpus)
        if isinstance(found, Found):
            # Whoever set JAXGPT_DATA meant it to be used: say why it was not.
            return replace(found, notes=reasons if os.environ.get("JAXGPT_DATA") else [])
        reasons.append(found)
    raise UnavailableError(corpus.name, list(corpus.files.values()), reasons)


def _in_data_folder(corpus: HubCorpus) -> Found | str:
    data = os.environ.get("JAXGPT_DATA")
    if not data:
        return "JAXGPT_DATA is not set"
    folder = Path(data).expanduser() / corpus.name
    if not folder.exists():
        return f"JAXGPT_DATA is set to {data}, which has no folder {corpus.name}"
    missing = [file for file in corpus.files.values() if not (folder / file).is_file()]
    if missing:
        needed = ", ".join(corpus.files.values())
        raise UserError(f"{folder}: {', '.join(missing)} missing; $JAXGPT_DATA/{corpus.name} must have {needed}")
    splits: dict[str, Reader] = {
        split: partial(corpus.read_file, folder / file) for split, file in corpus.files.items()
    }
    size, identity = identity_of(folder / file for file in corpus.files.values())
    return Found(f"$JAXGPT_DATA/{corpus.name}", size, identity, splits, [])


def _in_cache(corpus: HubCorpus) -> Found | str:
    """Reads the arrow files that load_dataset once left; needs no network and asks for none."""
    root = cache_folder()
    builds = root / corpus.repository.replace("/", "___") / corpus.config
    complete = [info.parent for info in builds.glob("*/*/dataset_info.json") if info.parent.suffix != ".incomplete"]
    if not complete:
        return f"{corpus.repository} is not in the Hugging Face cache ({root})"
    newest = max(complete, key=lambda build: build.stat().st_mtime)
    import datasets

    try:
        splits: dict[str, Reader] = {}
        files: list[Path] = []
        for split, hub_split in corpus.hub_splits.items():
            shards = sorted(newest.glob(f"*-{hub_split}*.arrow"))
            if not shards:
                return f"the copy in the Hugging Face cache ({newest}) has no {hub_split} split"
            tables = [datasets.Dataset.from_file(str(shard)) for shard in shards]  # memory-mapped
            rows = datasets.concatenate_datasets(tables).select_columns(list(corpus.columns))
            splits[split] = partial(_read_table, corpus, rows)
            files += shards
    except Exception as error:  # a damaged cache raises whatever it likes; the hub may have a good copy
        return f"the copy in the Hugging Face cache ({newest}) cannot be read ({one_line(error)})"
    return Found("Hugging Face cache", *identity_of(files), splits, [])


def _read_table(corpus: HubCorpus, rows: Any) -> Iterator[Any]:
    return corpus.read_rows(iter(rows))


def cache_folder() -> Path:
    """Returns the folder in which `datasets` keeps what it loaded, found as it does, without importing it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    home = Path(os.environ.get("HF_HOME", cache / "huggingface"))
    return Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets")).expanduser()


def _on_hub(corpus: HubCorpus) -> Found | str:
    if (variable := offline_variable()) is not None:
        return f"the hub was not asked, as {variable} is set"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    # load_dataset alone would retry for half a minute before it admits that there is no network.
    silence = probe(f"{endpoint}/api/datasets/{corpus.repository}", PROBE_SECONDS)
    if silence is not None:
        return f"the hub ({endpoint}) cannot be reached ({silence})"
    try:
        tables = _load_dataset(corpus)
        splits: dict[str, Reader] = {
            split: partial(_read_table, corpus, tables[there]) for split, there in corpus.hub_splits.items()
        }
        size, identity = identity_of(Path(file["filename"]) for table in tables.values() for file in table.cache_files)
    except Exception as error:  # a download can die of anything, and is then as good as no network
        return f"the download from the hub ({endpoint}) failed ({one_line(error)})"
    return Found("Hugging Face hub", size, identity, splits, [])


def offline_variable() -> str | None:
    """Returns the variable that forbids asking the hub, if one does."""
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            return variable
    return None


def probe(url: str, seconds: float) -> str | None:
    """Returns None if a server answers at `url` within `seconds`, otherwise why it counts as unreachable."""
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                outcome.append(None)
        except urllib.error.HTTPError as error:
            # A mirror may want a token, which `datasets` knows how to send; all else is a refusal.
            outcome.append(None if error.code == 401 else f"HTTP {error.code}")
            error.close()
        except urllib.error.URLError as error:
            outcome.append(str(getattr(error.reason, "strerror", None) or error.reason))
        except (OSError, HTTPException, ValueError) as error:
            outcome.append(one_line(error))

    # urlopen's time-out covers neither the name lookup nor several addresses tried in turn; a thread's does.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else f"no answer within {seconds:g} s"


def _load_dataset(corpus: HubCorpus) -> dict[str, Any]:
    """Returns the hub's splits, downloaded into the cache with the progress bars of `datasets`."""
    import datasets

    loaded = datasets.load_dataset(corpus.repository, corpus.config)
    columns = list(corpus.columns)
    return {split: loaded[split].select_columns(columns) for split in corpus.hub_splits.values()}
