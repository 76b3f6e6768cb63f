"""A file or folder of one's own: which file is which split, what is held out, what a conversation must be."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Generic, NamedTuple

from jaxgpt.errors import UserError, kind_in_json, shown
from jaxgpt.text.corpora.documents import (
    Conversation,
    Document,
    Pair,
    Piece,
    Reading,
    Splits,
    identity_of,
    lines_of,
    paragraphs,
    pieces,
    pieces_of,
)
from jaxgpt.text.corpora.files import (
    JSON_LINES,
    TABLES,
    UNPACKED,
    OnBad,
    content_suffix,
    is_packed,
    read_json_lines,
    read_lines,
    read_table,
)
from jaxgpt.text.corpora.held_out import (
    Entries,
    hold_out_conversations,
    hold_out_documents,
    hold_out_lines,
    hold_out_pairs,
)
from jaxgpt.text.corpora.messages import checked_messages
from jaxgpt.text.corpora.pairs import read_pairs

# Words that make a file of a folder a split: train.txt, wiki.valid.tokens, test-00000-of-00001.parquet.
SPLIT_WORDS = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
}


PACKED = 4  # times as large is a packed text when it is unpacked, about
FEW_FILES = 20  # plain text files up to which the end of all of them together is held out, not whole ones


@dataclass(frozen=True)
class _Kind(Generic[Document]):
    """What differs between text and conversations."""

    noun: str
    files: str
    """The files it is read from, for messages."""
    accepts: Callable[[Path], bool]
    refusal: str
    """Why it accepts no other."""
    read: Callable[[Path], Iterator[Document]]
    hold_out: Callable[[Entries[Document], int, list[Path]], tuple[list[Entries[Document]], str]]
    """(documents, parts, their files) -> (train and that many held-out parts of 5 % each, how they were chosen); no
    such part if there is too little."""


def find_text(path: Path, reading: Reading = Reading()) -> tuple[int, str, Callable[[], Splits[Piece]]]:  # noqa: B008
    """Returns (size in bytes, identity, reader) of a file of text or of documents, or of a folder of them.

    Of plain text 5 % of the words are held out as valid and 5 % as test, from its end; of documents (JSON lines, rows
    of tables, many files) as many, by a hash. The reader raises UserError for what cannot be read.
    """
    bad: dict[str, None] = {}
    on_bad = (lambda error: bad.setdefault(str(error))) if reading.skip_bad else partial(_refuse, path)

    def hold_out(documents: Entries[Piece], parts: int, files: list[Path]) -> tuple[list[Entries[Piece]], str]:
        of_documents = any(content_suffix(file) in (*JSON_LINES, *TABLES) for file in files)
        if of_documents or reading.paragraphs or len(files) > FEW_FILES:
            size = sum(file.stat().st_size * (PACKED if file.suffix.lower() in UNPACKED else 1) for file in files)
            how = "counted in whole documents, chosen by a hash of how they begin"
            return hold_out_documents(documents, parts, size), how

        held_out = hold_out_lines(lambda: lines_of(documents()), parts)
        return [lambda part=part: pieces_of(part()) for part in held_out], "blocks of lines in the file's order"

    beside = path.is_dir() and any(
        file.is_file() and not file.name.startswith(".") and content_suffix(file) not in JSON_LINES
        for file in path.rglob("*")
    )
    kind = _Kind(
        noun="lines",
        files="any text, .jsonl, .parquet, .arrow, and .gz or .zst of text",
        accepts=lambda file: not (beside and content_suffix(file) in JSON_LINES),
        refusal="there is text beside them and they may hold conversations",
        read=lambda file: read_text(file, reading, on_bad),
        hold_out=hold_out,
    )
    size, identity, read = _find(path, kind)
    return size, f"{identity} {reading}", lambda: replace(read(), skipped=bad)


def _refuse(path: Path, error: UserError) -> None:
    """Raises the error, with the way past it where there is more to read beside."""
    more = path.is_dir() or content_suffix(path) in JSON_LINES
    raise UserError(f"{error}{'; --data.skip-bad leaves out what cannot be read' if more else ''}") from None


def find_conversations(path: Path) -> tuple[int, str, Callable[[], Splits[Conversation]]]:
    """Returns (size in bytes, identity, reader) of a JSON lines or parquet file, or of a folder of them.

    Of a single file 5 % are held out as valid and 5 % as test, chosen by a hash of their content, so that neither the
    file's order nor a repeated conversation matters. Raises UserError as find_text does.
    """
    if path.is_file() and not _CONVERSATIONS.accepts(path):
        raise UserError(
            f"{path}: finetune.py reads conversations from {_CONVERSATIONS.files} files; text is for train.py"
        )
    return _find(path, _CONVERSATIONS)


def find_pairs(path: Path) -> tuple[int, str, Callable[[], Splits[Pair]]]:
    """Returns (size in bytes, identity, reader) of a JSON lines file of pairs, or of a folder of them.

    Of a single file 5 % are held out as valid and 5 % as test, all pairs of a prompt together. Raises UserError as
    find_text does.
    """
    if path.is_file() and not _PAIRS.accepts(path):
        raise UserError(f"{path}: pairs are read from {_PAIRS.files} files")
    return _find(path, _PAIRS)


def _find(path: Path, kind: _Kind[Document]) -> tuple[int, str, Callable[[], Splits[Document]]]:
    files, notes = _split_files(path, kind) if path.is_dir() else ({"": [path]}, [])

    def documents(split: str) -> Iterator[Document]:
        return chain.from_iterable(map(kind.read, files[split]))

    def read() -> Splits[Document]:
        splits, more = _held_out({split: partial(documents, split) for split in files}, kind, files)
        return Splits(splits, [*notes, *more])

    size, identity = identity_of(file for part in files.values() for file in part if file.exists())
    if "" not in files or notes:  # which file is of which split, and what is not read, depends on the folder given
        identity += json.dumps([{split: [str(file) for file in part] for split, part in files.items()}, notes])
    return size, identity, read


def _held_out(
    splits: dict[str, Entries], kind: _Kind, files: dict[str, list[Path]]
) -> tuple[dict[str, Entries], list[str]]:
    """Returns the splits with what is held out of train where files do not give it, and notes on that."""
    if "" in splits:  # no file says a split
        (train, *parts), how = kind.hold_out(splits[""], 2, files[""])
        of = "one file" if len(files[""]) == 1 else f"{len(files['']):,} files"
        if not parts:
            return {"train": train}, [f"{of} with too few {kind.noun} to hold any out: all of it is train"]
        return {"train": train, "valid": parts[0], "test": parts[1]}, [f"{of}: 90 % train, 5 % valid, 5 % test, {how}"]
    if "valid" in splits:
        return splits, []
    (train, *parts), how = kind.hold_out(splits["train"], 1, files["train"])
    if not parts:
        return splits, [f"no file for valid, and too few {kind.noun} in train to hold any out"]
    how = f"no file for valid: 5 % of train is held out as valid, {how}"
    return {**splits, "train": train, "valid": parts[0]}, [how]


def _split_files(folder: Path, kind: _Kind[Any]) -> tuple[dict[str, list[Path]], list[str]]:
    """Returns the files of each split, or all as those of split "", and notes on what is not read and why."""
    passed_over: dict[str, list[str]] = {}
    files = []
    for entry in sorted(entry for entry in folder.rglob("*") if entry.is_file()):
        if why := _why_not(entry.relative_to(folder), entry, kind):
            passed_over.setdefault(why, []).append(str(entry.relative_to(folder)))
        else:
            files.append(entry)
    if not files:
        notes = "; ".join(_passed_over(passed_over))
        raise UserError(
            f"{folder}: no file in it to read {kind.noun} from ({kind.files}); put train.*, valid.* there"
            + (f". {notes[0].upper()}{notes[1:]}" if notes else "")
        )
    splits: dict[str, list[Path]] = {split: [] for split in ("train", "valid", "test")}
    others = []
    for file in files:
        parts = re.split(r"[/\\._-]", str(file.relative_to(folder)).lower())
        words = [SPLIT_WORDS[word] for word in parts if word in SPLIT_WORDS]
        (splits[words[-1]] if words else others).append(file)
    if len(files) == 1 or len(others) == len(files):
        return {"": files}, _passed_over(passed_over)
    if not splits["train"]:
        some = ", ".join(file.name for file in files[:5]) + (", ..." if len(files) > 5 else "")
        raise UserError(f"{folder}: no train.* among its files ({some}); name them train.*, valid.* and test.*")
    if others:
        passed_over["their names say no split"] = [str(file.relative_to(folder)) for file in others]
    return {split: part for split, part in splits.items() if part}, _passed_over(passed_over)


def _why_not(name: Path, entry: Path, kind: _Kind[Any]) -> str | None:
    """Returns why a file of a folder is not read, or None where it is."""
    if any(part.startswith(".") for part in name.parts):
        return "they are hidden"
    if is_packed(entry):
        return "they are compressed (unpack them first)"
    return None if kind.accepts(entry) else kind.refusal


def _passed_over(names: dict[str, list[str]]) -> list[str]:
    """Returns a note for each reason, with at most a few of the names."""
    return [
        f"not read, as {why}: {', '.join(found[:8])}{f' and {len(found) - 8} more' if len(found) > 8 else ''}"
        for why, found in names.items()
    ]


def read_text(path: Path, reading: Reading, on_bad: OnBad) -> Iterator[Piece]:
    """Yields the documents of a file: of JSON lines and tables each row, of plain text the file or its paragraphs."""
    suffix = content_suffix(path)
    if suffix not in (*JSON_LINES, *TABLES):
        lines = read_lines(path, on_bad)
        yield from paragraphs(lines) if reading.paragraphs else pieces(lines)
        return
    rows = (
        ((place, value.get(reading.field, _Missing(value))) for place, value in read_json_lines(path, on_bad))
        if suffix in JSON_LINES
        else read_table(path, reading.field, on_bad)
    )
    for place, text in rows:
        if isinstance(text, str) and _is_whole(text):
            yield Piece(text.removesuffix("\n"))
        elif isinstance(text, _Missing):
            hint = "; conversations are for finetune.py" if "messages" in text.value else ""
            keys = ", ".join(map(shown, list(text.value)[:10])) or "nothing"
            on_bad(UserError(f"{place}: no {shown(reading.field)}; it has {keys}; name it with data.text_field{hint}"))
        else:
            what = "has half of a surrogate pair" if isinstance(text, str) else f"is {kind_in_json(text)}"
            on_bad(UserError(f"{place}: {reading.field} {what}; it must be a string of text"))


def _is_whole(text: str) -> bool:
    """Returns whether UTF-8 can hold a text: it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Missing(NamedTuple):
    value: dict[str, Any]


def _read_conversations(path: Path) -> Iterator[Conversation]:
    if path.suffix.lower() == ".parquet":
        for place, value in read_table(path, "messages"):
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
    messages = checked_messages(value, "messages", place)
    if not any(message["role"] == "assistant" for message in messages):
        raise UserError(f"{place}: no message of the assistant in the conversation; there is nothing to learn from")
    return messages


_CONVERSATIONS = _Kind(
    noun="conversations",
    files=".jsonl, .json, .parquet, and .gz or .zst of JSON lines",
    accepts=lambda file: content_suffix(file) in JSON_LINES or file.suffix.lower() == ".parquet",
    refusal="they hold no conversations (.jsonl, .json, .parquet)",
    read=_read_conversations,
    hold_out=lambda talks, parts, _: (hold_out_conversations(talks, parts), "chosen by a hash of their content"),
)

_PAIRS = _Kind(
    noun="pairs",
    files=".jsonl, .json, and .gz or .zst of them",
    accepts=lambda file: content_suffix(file) in JSON_LINES,
    refusal="they hold no pairs (.jsonl, .json)",
    read=read_pairs,
    hold_out=lambda pairs, parts, _: (hold_out_pairs(pairs, parts), "chosen by a hash of their prompts"),
)
