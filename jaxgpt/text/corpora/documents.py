"""What a corpus is made of: documents by split, read one after the other, as often as one asks."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from jaxgpt.text.conversation import Message

Conversation = list[Message]

PIECE = 2**18  # characters that a piece of a document of many lines has at least


class Piece(NamedTuple):
    """A document of text, or some lines of it, without the newline that follows them."""

    text: str
    ends: bool = True
    """Whether the document ends with it; otherwise a newline and another piece follow."""


class Pair(NamedTuple):
    """Two answers to the same messages."""

    prompt: Conversation
    """It ends with a message of the user."""
    chosen: str
    """The better answer."""
    rejected: str


Document = TypeVar("Document", Piece, Conversation, Pair)
Reader = Callable[[], Iterator[Document]]
"""Reads documents from the beginning, each time it is called."""


class Reading(NamedTuple):
    """How files of text are read."""

    field: str = "text"
    """The field, or column, that holds the text of a document."""
    paragraphs: bool = False
    """Whether blank lines end documents in plain text; otherwise a file is a document."""
    skip_bad: bool = False
    """Whether what cannot be read is left out, and counted."""


@dataclass(frozen=True)
class Splits(Generic[Document]):
    """What a corpus holds."""

    documents: dict[str, Reader[Document]]
    """"train", "valid", "test", those there are -> their documents."""
    notes: list[str]
    """What a person should know: what was held out, left out, and why."""
    floor: dict[str, float] | None = None
    """Split -> nats below which no model gets on the whole of it, where its true distribution is known."""
    exact: dict[str, list[bool]] | None = None
    """Split -> for each conversation whether only one last answer is right, where that is known."""
    kinds: dict[str, list[str]] | None = None
    """Split -> for each conversation what its last question is about, where that is known."""
    skipped: dict[str, None] = field(default_factory=dict)
    """What was left out as it could not be read, each with its place: known when documents have been read."""
    lines_are_documents: bool = False
    """Text: whether each line is a text of its own; otherwise lines go on from one to the next."""


@dataclass(frozen=True)
class Corpus(Generic[Document]):
    """A corpus that was found and is not read yet."""

    name: str
    source: str
    """Where it was found, for people to read."""
    size: int
    """Bytes of its files, or about as many characters; 0 where that is not known."""
    identity: str
    """Differs where what would be read may differ: for files their places, sizes and times."""
    read: Callable[[], Splits[Document]]
    """Raises UserError for what cannot be read, here or while documents are read."""
    notes: list[str]
    """What a person should know about where it was found."""
    fallback_for: str | None = None
    """The corpus that was asked for, when this one stands in for it."""


TextCorpus = Corpus[Piece]
"""Text to pretrain on."""
ChatCorpus = Corpus[Conversation]
"""Conversations to finetune on."""
PairCorpus = Corpus[Pair]
"""Pairs of answers to learn what is better from."""


class Line(NamedTuple):
    """A line of text, without its newline."""

    text: str
    ends: bool
    """Whether its document ends with it."""


def pieces(lines: Iterable[str]) -> Iterator[Piece]:
    """Yields a document of many lines in pieces of about PIECE characters, so that none holds all of a large file."""
    return pieces_of(Line(line, ends=False) for line in lines)


def pieces_of(lines: Iterable[Line]) -> Iterator[Piece]:
    """Yields the documents of lines in such pieces; the last line ends a document in any case."""
    part: list[str] = []
    size, ended = 0, False
    for line in lines:
        if part and (ended or size >= PIECE):
            yield Piece("\n".join(part), ends=ended)
            part, size = [], 0
        part.append(line.text)
        size, ended = size + len(line.text) + 1, line.ends
    if part:
        yield Piece("\n".join(part))


def lines_of(pieces: Iterable[Piece]) -> Iterator[Line]:
    """Yields the lines of documents."""
    for piece in pieces:
        *lines, last = piece.text.split("\n")
        yield from (Line(line, ends=False) for line in lines)
        yield Line(last, piece.ends)


def paragraphs(lines: Iterable[str]) -> Iterator[Piece]:
    """Yields the documents of lines in which blank lines end one."""
    for is_text, part in groupby(lines, key=lambda line: bool(line.strip())):
        if is_text:
            yield from pieces(part)


def in_memory(documents: Sequence[Document]) -> Reader[Document]:
    """Returns a reader of documents that are there already."""
    return lambda: iter(documents)


def identity_of(paths: Iterable[Path]) -> tuple[int, str]:
    """Returns (the size of files in bytes, what tells whether they were changed), without reading them."""
    stats = [(str(path.resolve()), path.stat()) for path in paths]
    identity = json.dumps([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
    return sum(stat.st_size for _, stat in stats), identity


def digest_after(digest: str, document: Piece | Conversation | Pair) -> str:
    """Returns the digest of all documents up to this one, from that of those before it ("" for none)."""
    if isinstance(document, Piece):
        content = document.text.encode("utf-8", "surrogatepass") + (b"\x00" if document.ends else b"\n")
    else:
        content = json.dumps(document, sort_keys=True).encode()
    return hashlib.sha256(digest.encode() + content).hexdigest()


def fingerprint(digests: dict[str, str]) -> str:
    """Returns the SHA-256, in hex, of what the splits hold, from their digests; name and source do not matter."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
