"""A file or folder of one's own: which file is which split, what is held out, what a conversation must be."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from jaxgpt.errors import UserError, shown
from jaxgpt.text.corpora.files import is_compressed, read_json_lines, read_lines, read_parquet

ROLES = ("system", "user", "assistant")
JSON_LINES = (".jsonl", ".json")

# Words that make a file of a folder a split: train.txt, wiki.valid.tokens, test-00000-of-00001.parquet.
SPLIT_WORDS = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
}

Message = dict[str, str]
"""{"role": one of ROLES, "content": text}"""
Conversation = list[Message]
Entry = TypeVar("Entry")
Splits = dict[str, list[Entry]]


@dataclass(frozen=True)
class _Kind(Generic[Entry]):
    """What differs between text and conversations."""

    noun: str
    files: str
    """The files it is read from, for messages."""
    accepts: Callable[[Path], bool]
    refusal: str
    """Why it accepts no other."""
    read: Callable[[Path], list[Entry]]
    hold_out: Callable[[list[Entry], int], list[list[Entry]]]
    """(entries, parts) -> train and that many held-out parts of 5 % each, empty if there is too little."""
    held_out_how: str


def load_lines(path: Path) -> tuple[Splits[str], list[str]]:
    """Returns the lines of a text or parquet file, or of a folder of them, by split, and notes on cuts.

    A single file is cut into contiguous blocks, 90 % train, 5 % valid, 5 % test. Raises UserError for what
    cannot be read.
    """
    if path.suffix.lower() in JSON_LINES:
        raise UserError(f"{path}: {path.suffix} files hold conversations, which finetune.py reads; give train.py text")
    return _load(path, _LINES)


def load_conversations(path: Path) -> tuple[Splits[Conversation], list[str]]:
    """Returns the conversations of a JSON lines or parquet file, or of a folder of them, by split, and notes.

    Of a single file 5 % are held out as valid and 5 % as test, chosen by a hash of their content, so that
    neither the file's order nor a repeated conversation matters. Raises UserError for what cannot be read.
    """
    if path.is_file() and not _CONVERSATIONS.accepts(path):
        raise UserError(
            f"{path}: finetune.py reads conversations from {_CONVERSATIONS.files} files; text is for train.py"
        )
    return _load(path, _CONVERSATIONS)


def _load(path: Path, kind: _Kind[Entry]) -> tuple[Splits[Entry], list[str]]:
    files, notes = _split_files(path, kind) if path.is_dir() else ([path], [])
    if isinstance(files, list):
        train, valid, test = kind.hold_out([entry for file in files for entry in kind.read(file)], 2)
        if not valid:
            return {"train": train}, [
                *notes,
                f"one file with too few {kind.noun} to hold any out: all of it is train",
            ]
        how = f"one file: 90 % train, 5 % valid, 5 % test, {kind.held_out_how}"
        return {"train": train, "valid": valid, "test": test}, [*notes, how]

    splits = {split: [entry for file in part for entry in kind.read(file)] for split, part in files.items()}
    if "valid" not in splits:
        train, valid = kind.hold_out(splits["train"], 1)
        if not valid:
            return splits, [*notes, f"no file for valid, and too few {kind.noun} in train to hold any out"]
        splits = {**splits, "train": train, "valid": valid}
        notes = [*notes, f"no file for valid: 5 % of train is held out as valid, {kind.held_out_how}"]
    return splits, notes


def _split_files(folder: Path, kind: _Kind[Any]) -> tuple[list[Path] | dict[str, list[Path]], list[str]]:
    """Returns the only file, or the files of each split, and notes on what is passed over and why."""
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
        return files, _passed_over(passed_over)
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


def _read_lines(path: Path) -> list[str]:
    if path.suffix.lower() != ".parquet":
        return read_lines(path)
    lines = []
    for place, text in read_parquet(path, "text"):
        if not isinstance(text, str):
            raise UserError(f"{place}: text is {type(text).__name__}; it must be a string")
        lines += text.removesuffix("\n").split("\n")
    return lines


def _hold_out_lines(lines: list[str], parts: int) -> list[list[str]]:
    """Returns train and, from the end of the lines, `parts` held-out blocks of 5 % of the words each.

    Blocks are of whole lines, at least one; a line so long that it would make a block twice as large is cut.
    """
    left = list(lines)
    size = (sum(_num_words(line) for line in lines)) // 20
    if size == 0 and len(lines) <= parts:
        return [left] + [[] for _ in range(parts)]
    blocks = []
    for _ in range(parts):
        block: list[str] = []
        held = 0
        while left and (not block or held < size):
            words = _num_words(left[-1])
            if block and held + words - size > size - held:
                break  # nearer to 5 % without it
            if size and words > 2 * size:
                head, tail = _cut(left.pop(), size - held)
                left.append(head)
                block.append(tail)
                break
            held += words
            block.append(left.pop())
        blocks.append(block[::-1])
    return [left, *blocks[::-1]]


def _num_words(line: str) -> int:
    """Returns about how many tokens a line has, its end included."""
    return len(line.split()) + 1


def _cut(line: str, words: int) -> tuple[str, str]:
    """Returns a line without its last words, and these."""
    head = line.rsplit(None, words)[0]
    return head, line[len(head) :].strip()


def _read_conversations(path: Path) -> list[Conversation]:
    if path.suffix.lower() == ".parquet":
        return [_conversation(value, place) for place, value in read_parquet(path, "messages")]
    conversations = []
    for place, value in read_json_lines(path):
        if "messages" not in value:
            keys = ", ".join(map(shown, list(value)[:10])) or "nothing"
            raise UserError(
                f'{place}: no "messages"; it has {keys}, and must be '
                '{"messages": [{"role": ..., "content": ...}, ...]}'
            )
        conversations.append(_conversation(value["messages"], place))
    return conversations


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


def _hold_out_conversations(conversations: list[Conversation], parts: int) -> list[list[Conversation]]:
    """Returns train and `parts` held-out parts of 5 % each, by rank of the digest: equals stay together."""
    digests = [hashlib.sha256(json.dumps(messages).encode()).digest() for messages in conversations]
    ranked = sorted(set(digests))
    size = max(1, len(ranked) // 20) if len(ranked) > parts else 0
    held_out = {digest: 1 + rank // size for rank, digest in enumerate(ranked[: parts * size])}
    cut: list[list[Conversation]] = [[] for _ in range(1 + parts)]
    for digest, messages in zip(digests, conversations, strict=True):
        cut[held_out.get(digest, 0)].append(messages)
    return cut


_LINES = _Kind(
    noun="lines",
    files="any text, .parquet",
    accepts=lambda file: file.suffix.lower() not in JSON_LINES,
    refusal="they hold conversations, which finetune.py reads",
    read=_read_lines,
    hold_out=_hold_out_lines,
    held_out_how="blocks of lines in the file's order",
)
_CONVERSATIONS = _Kind(
    noun="conversations",
    files=".jsonl, .json, .parquet",
    accepts=lambda file: file.suffix.lower() in (*JSON_LINES, ".parquet"),
    refusal="they hold no conversations (.jsonl, .json, .parquet)",
    read=_read_conversations,
    hold_out=_hold_out_conversations,
    held_out_how="chosen by a hash of their content",
)
