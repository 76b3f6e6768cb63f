"""What is held out for validation and test where files do not say it: the end of a text, documents by a hash."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

from jaxgpt.text.corpora.documents import Conversation, Line, Pair, Piece

SHARE = 0.05  # of a corpus, as valid and as test
MOST_HELD_OUT = 1_000_000  # words that are held out as valid, and as test
MOST_BYTES = 4_000_000  # that documents held out as valid, and as test, have about
MOST_IN_MEMORY = 4 * MOST_BYTES  # characters of held-out documents: where they are more, they are read again
SMALL = 2**26  # bytes of a corpus up to which it is made sure that something is held out

Entry = TypeVar("Entry", Line, Piece, Conversation, Pair)
Entries = Callable[[], Iterator[Entry]]
"""Reads lines, documents or conversations from the beginning, each time it is called."""


def hold_out_lines(lines: Entries[Line], parts: int) -> list[Entries[Line]]:
    """Returns train and, from the end of the lines, `parts` held-out blocks of 5 % of the words each.

    Blocks are of whole lines, at least one; a line so long that it would make a block twice as large is cut. They are
    held in memory, the rest is not: a block has at most MOST_HELD_OUT words.
    """
    words = count = 0
    tail: deque[tuple[Line, int]] = deque()  # the last lines, with as many words as blocks may need
    in_tail = 0
    for line in lines():
        tail.append((line, _num_words(line.text)))
        in_tail += tail[-1][1]
        words, count = words + tail[-1][1], count + 1
        while len(tail) > parts + 1 and in_tail - tail[0][1] > 4 * parts * MOST_HELD_OUT:
            in_tail -= tail.popleft()[1]
    before = count - len(tail)
    left, blocks = _blocks([line for line, _ in tail], min(words // 20, MOST_HELD_OUT), parts)
    if not blocks[0]:
        return [lines]

    def train() -> Iterator[Line]:
        yield from islice(lines(), before)
        yield from left

    return [train, *(partial(iter, block) for block in blocks)]


def _blocks(lines: list[Line], size: int, parts: int) -> tuple[list[Line], list[list[Line]]]:
    """Returns (the lines that are left, blocks of about `size` words from their end)."""
    left = list(lines)
    if size == 0 and len(lines) <= parts:
        return left, [[] for _ in range(parts)]
    blocks = []
    for _ in range(parts):
        block: list[Line] = []
        held = 0
        while left and (not block or held < size):
            words = _num_words(left[-1].text)
            if block and held + words - size > size - held:
                break  # nearer to 5 % without it
            if size and words > 2 * size:
                text, ends = left.pop()
                head, tail = _cut(text, size - held)
                left.append(Line(head, True))
                block.append(Line(tail, ends))
                break
            held += words
            block.append(left.pop())
        blocks.append(block[::-1])
    return left, blocks[::-1]


def _num_words(line: str) -> int:
    """Returns about how many tokens a line has, its end included."""
    return len(line.split()) + 1


def _cut(line: str, words: int) -> tuple[str, str]:
    """Returns a line without its last words, and these."""
    head = line.rsplit(None, words)[0]
    return head, line[len(head) :].strip()


def hold_out_conversations(conversations: Entries[Conversation], parts: int) -> list[Entries[Conversation]]:
    """Returns train and `parts` held-out parts of 5 % each, by rank of the digest: equals stay together."""
    ranked = sorted({_digest(messages) for messages in conversations()})
    if len(ranked) <= parts:
        return [conversations]
    part_of = _by_rank(ranked, parts)

    def part(number: int) -> Iterator[Conversation]:
        return (messages for messages in conversations() if part_of.get(_digest(messages), 0) == number)

    return [partial(part, number) for number in range(1 + parts)]


def hold_out_pairs(pairs: Entries[Pair], parts: int) -> list[Entries[Pair]]:
    """Returns train and `parts` held-out parts of 5 % of the prompts each: all pairs of a prompt stay together."""
    ranked = sorted({_digest(pair.prompt) for pair in pairs()})
    if len(ranked) <= parts:
        return [pairs]
    part_of = _by_rank(ranked, parts)

    def part(number: int) -> Iterator[Pair]:
        return (pair for pair in pairs() if part_of.get(_digest(pair.prompt), 0) == number)

    return [partial(part, number) for number in range(1 + parts)]


def hold_out_documents(documents: Entries[Piece], parts: int, size: int) -> list[Entries[Piece]]:
    """Returns train and `parts` held-out parts of 5 % of the documents each, or of less where that is much text.

    A document is held out by a hash of its beginning: it stays where it is when others are added, and equals stay
    together. In a large text, `size` bytes, the share is halved until a part has about MOST_BYTES; what leaves a part
    then goes to train. In a small one, of which a part would be empty, the lowest hashes are held out.
    """
    share = SHARE
    while share * size > MOST_BYTES:
        share /= 2

    def of_digest(digest: bytes) -> int:
        number, rest = divmod(int.from_bytes(digest[:8]) / 2**64, SHARE)
        return int(number) + 1 if number < parts and rest < share else 0

    part_of: Callable[[Piece], int] = lambda piece: of_digest(_digest(piece))  # noqa: E731
    if size < SMALL:
        ranked = sorted({_digest(piece) for piece in _beginnings(documents())})
        if len(ranked) <= parts:
            return [documents]
        if {of_digest(digest) for digest in ranked} != set(range(parts + 1)):
            of_rank = _by_rank(ranked, parts)
            part_of = lambda piece: of_rank.get(_digest(piece), 0)  # noqa: E731

    held_out: list[list[Piece]] = []  # once train was read to its end, so that all is read once

    def train() -> Iterator[Piece]:
        beside: list[list[Piece]] = [[] for _ in range(parts)]
        size = 0
        for piece, number in _numbered(documents(), part_of):
            if not number:
                yield piece
            elif (size := size + len(piece.text)) <= MOST_IN_MEMORY:
                beside[number - 1].append(piece)
        if size <= MOST_IN_MEMORY:
            held_out[:] = beside

    def part(number: int) -> Iterator[Piece]:
        if held_out:
            return iter(held_out[number - 1])
        return (piece for piece, found in _numbered(documents(), part_of) if found == number)

    return [train, *(partial(part, number) for number in range(1, 1 + parts))]


def _numbered(pieces: Iterator[Piece], part_of: Callable[[Piece], int]) -> Iterator[tuple[Piece, int]]:
    """Yields pieces with the part that their document is in: how it begins tells."""
    begins, number = True, 0
    for piece in pieces:
        number = part_of(piece) if begins else number
        begins = piece.ends
        yield piece, number


def _beginnings(pieces: Iterator[Piece]) -> Iterator[Piece]:
    begins = True
    for piece in pieces:
        if begins:
            yield piece
        begins = piece.ends


def _by_rank(ranked: list[bytes], parts: int) -> dict[bytes, int]:
    size = max(1, int(len(ranked) * SHARE))
    return {digest: 1 + rank // size for rank, digest in enumerate(ranked[: parts * size])}


def _digest(document: Conversation | Piece) -> bytes:
    content = document.text if isinstance(document, Piece) else json.dumps(document)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()
