"""A file or folder of one's own: which file is which split, what is held out, what a conversation must be."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Generic

from jaxgpt.errors import UserError, shown
from jaxgpt.text.conversation import ROLES
from jaxgpt.text.corpora.documents import Conversation, Document, Piece, Splits, identity_of, pieces
from jaxgpt.text.corpora.files import is_compressed, read_json_lines, read_lines, read_parquet
from jaxgpt.text.corpora.held_out import Entries, Entry, hold_out_conversations, hold_out_lines

JSON_LINES = (".jsonl", ".json")

# Words that make a file of a folder a split: train.txt, wiki.valid.tokens, test-00000-of-00001.parquet.
SPLIT_WORDS = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
}


@dataclass(frozen=True)
class _Kind(Generic[Entry]):
    """What differs between text and conversations."""

    noun: str
    files: str
    """The files it is read from, for messages."""
    accepts: Callable[[Path], bool]
    refusal: str
    """Why it accepts no other."""
    read: Callable[[Path], Iterator[Entry]]
    hold_out: Callable[[Entries[Entry], int], list[Entries[Entry]]]
    """(entries, parts) -> train and that many held-out parts of 5 % each; no such part if there is too little."""
    held_out_how: str


def find_text(path: Path) -> tuple[int, str, Callable[[], Splits[Piece]]]:
    """Returns (size in bytes, identity, reader) of a text or parquet file, or of a folder of them.

    A single file is cut into contiguous blocks, 90 % train, 5 % valid, 5 % test. Raises UserError for what cannot be
    text; so does the reader, for what cannot be read.
    """
    if path.suffix.lower() in JSON_LINES:
        raise UserError(f"{path}: {path.suffix} files hold conversations, which finetune.py reads; give train.py text")
    return _find(path, _LINES, pieces)


def find_conversations(path: Path) -> tuple[int, str, Callable[[], Splits[Conversation]]]:
    """Returns (size in bytes, identity, reader) of a JSON lines or parquet file, or of a folder of them.

    Of a single file 5 % are held out as valid and 5 % as test, chosen by a hash of their content, so that neither the
    file's order nor a repeated conversation matters. Raises UserError as find_text does.
    """
    if path.is_file() and not _CONVERSATIONS.accepts(path):
        raise UserError(
            f"{path}: finetune.py reads conversations from {_CONVERSATIONS.files} files; text is for train.py"
        )
    return _find(path, _CONVERSATIONS, iter)


def _find(
    path: Path, kind: _Kind[Entry], documents: Callable[[Iterator[Entry]], Iterator[Document]]
) -> tuple[int, str, Callable[[], Splits[Document]]]:
    files, notes = _split_files(path, kind) if path.is_dir() else ({"": [path]}, [])

    def entries(split: str) -> Iterator[Entry]:
        return chain.from_iterable(map(kind.read, files[split]))

    def read() -> Splits[Document]:
        splits, more = _held_out({split: partial(entries, split) for split in files}, kind)

        def documents_of(split: str) -> Iterator[Document]:
            return documents(splits[split]())

        return Splits({split: partial(documents_of, split) for split in splits}, [*notes, *more])

    return *identity_of(file for part in files.values() for file in part if file.exists()), read


def _held_out(splits: dict[str, Entries], kind: _Kind) -> tuple[dict[str, Entries], list[str]]:
    """Returns the splits with what is held out of train where files do not give it, and notes on that."""
    if "" in splits:  # one file
        train, *parts = kind.hold_out(splits[""], 2)
        if not parts:
            return {"train": train}, [f"one file with too few {kind.noun} to hold any out: all of it is train"]
        how = f"one file: 90 % train, 5 % valid, 5 % test, {kind.held_out_how}"
        return {"train": train, "valid": parts[0], "test": parts[1]}, [how]
    if "valid" in splits:
        return splits, []
    train, *parts = kind.hold_out(splits["train"], 1)
    if not parts:
        return splits, [f"no file for valid, and too few {kind.noun} in train to hold any out"]
    how = f"no file for valid: 5 % of train is held out as valid, {kind.held_out_how}"
    return {**splits, "train": train, "valid": parts[0]}, [how]


def _split_files(folder: Path, kind: _Kind[Any]) -> tuple[dict[str, list[Path]], list[str]]:
    """Returns the files of each split, or the only file as that of split "", and notes on what is not read and why."""
    passed_over: dict[str, list[str]] = {}
    files = []
    for entry in sorted(folder.iterdir()):
        if why := _why_not(entry, kind):
            passed_over.setdefault(why, []).append(entry.name)
        else:
            files.append(entry)
    if not files:
        notes = "; ".join(_passed_over(passed_over))
        raise UserError(
            f"{folder}: no file in it to read {kind.noun} from ({kind.files}); put train.*, valid.* there"
            + (f". {notes[0].upper()}{notes[1:]}" if notes else "")
        )
    if len(files) == 1:
        return {"": files}, _passed_over(passed_over)
    splits: dict[str, list[Path]] = {split: [] for split in ("train", "valid", "test")}
    for file in files:
        words = [SPLIT_WORDS[word] for word in re.split(r"[._-]", file.name.lower()) if word in SPLIT_WORDS]
        if words:
            splits[words[0]].append(file)
        else:
            passed_over.setdefault("their names say no split", []).append(file.name)
    if not splits["train"]:
        some = ", ".join(file.name for file in files[:5]) + (", ..." if len(files) > 5 else "")
        raise UserError(f"{folder}: no train.* among its files ({some}); name them train.*, valid.* and test.*")
    return {split: part for split, part in splits.items() if part}, _passed_over(passed_over)


def _why_not(entry: Path, kind: _Kind[Any]) -> str | None:
    """Returns why an entry of a folder is not read, or None where it is."""
    if entry.name.startswith("."):
        return "they are hidden"
    if not entry.is_file():
        return "they are no files"
    if is_compressed(entry):
        return "they are compressed (unpack them first)"
    return None if kind.accepts(entry) else kind.refusal


def _passed_over(names: dict[str, list[str]]) -> list[str]:
    """Returns a note for each reason, with at most a few of the names."""
    return [
        f"not read, as {why}: {', '.join(found[:8])}{f' and {len(found) - 8} more' if len(found) > 8 else ''}"
        for why, found in names.items()
    ]


def _read_lines(path: Path) -> Iterator[str]:
    if path.suffix.lower() != ".parquet":
        yield from read_lines(path)
        return
    for place, text in read_parquet(path, "text"):
        if not isinstance(text, str):
            raise UserError(f"{place}: text is {type(text).__name__}; it must be a string")
        yield from text.removesuffix("\n").split("\n")


def _read_conversations(path: Path) -> Iterator[Conversation]:
    if path.suffix.lower() == ".parquet":
        for place, value in read_parquet(path, "messages"):
            yield _conversation(value, place)
        return
    for place, value in read_json_lines(path):
        if "messages" not in value:
            keys = ", ".join(map(shown, list(value)[:10])) or "nothing"
            raise UserError(
                f'{place}: no "messages"; it has {keys}, and must be '
                '{"messages": [{"role": ..., "content": ...}, ...]}'
            )
        yield _conversation(value["messages"], place)


def _conversation(value: Any, place: str) -> Conversation:
    """Returns the messages with role and content alone; raises UserError, with the place, otherwise."""
    if not isinstance(value, list):
        raise UserError(f'{place}: "messages" is {type(value).__name__}; it must be a list of messages')
    messages = []
    for number, message in enumerate(value, start=1):
        given = message if isinstance(message, dict) else {}
        missing = [key for key in ("role", "content") if not isinstance(given.get(key), str)]
        if missing:
            raise UserError(
                f"{place}: message {number} has no {' and no '.join(missing)}; "
                'it must be {"role": ..., "content": ...}, both strings'
            )
        if given["role"] not in ROLES:
            raise UserError(
                f"{place}: message {number} has unknown role {shown(given['role'])}; allowed: {', '.join(ROLES)}"
            )
        messages.append({"role": given["role"], "content": given["content"]})
    if not any(message["role"] == "assistant" for message in messages):
        raise UserError(f"{place}: no message of the assistant in the conversation; there is nothing to learn from")
    return messages


_LINES = _Kind(
    noun="lines",
    files="any text, .parquet",
    accepts=lambda file: file.suffix.lower() not in JSON_LINES,
    refusal="they hold conversations, which finetune.py reads",
    read=_read_lines,
    hold_out=hold_out_lines,
    held_out_how="blocks of lines in the file's order",
)
_CONVERSATIONS = _Kind(
    noun="conversations",
    files=".jsonl, .json, .parquet",
    accepts=lambda file: file.suffix.lower() in (*JSON_LINES, ".parquet"),
    refusal="they hold no conversations (.jsonl, .json, .parquet)",
    read=_read_conversations,
    hold_out=hold_out_conversations,
    held_out_how="chosen by a hash of their content",
)
