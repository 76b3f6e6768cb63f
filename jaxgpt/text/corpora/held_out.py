"""What is held out for validation and test where files do not say it: the end of a text, conversations by a hash."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

from jaxgpt.text.corpora.documents import Conversation

MOST_HELD_OUT = 1_000_000  # words that are held out as valid, and as test

Entry = TypeVar("Entry", str, Conversation)
Entries = Callable[[], Iterator[Entry]]
"""Reads lines, or conversations, from the beginning, each time it is called."""


def hold_out_lines(lines: Entries[str], parts: int) -> list[Entries[str]]:
    """Returns train and, from the end of the lines, `parts` held-out blocks of 5 % of the words each.

    Blocks are of whole lines, at least one; a line so long that it would make a block twice as large is cut. They are
    held in memory, the rest is not: a block has at most MOST_HELD_OUT words.
    """
    words = count = 0
    tail: deque[tuple[str, int]] = deque()  # the last lines, with as many words as blocks may need
    in_tail = 0
    for line in lines():
        tail.append((line, _num_words(line)))
        in_tail += tail[-1][1]
        words, count = words + tail[-1][1], count + 1
        while len(tail) > parts + 1 and in_tail - tail[0][1] > 4 * parts * MOST_HELD_OUT:
            in_tail -= tail.popleft()[1]
    before = count - len(tail)
    left, blocks = _blocks([line for line, _ in tail], min(words // 20, MOST_HELD_OUT), parts)
    if not blocks[0]:
        return [lines]

    def train() -> Iterator[str]:
        yield from islice(lines(), before)
        yield from left

    return [train, *(partial(iter, block) for block in blocks)]


def _blocks(lines: list[str], size: int, parts: int) -> tuple[list[str], list[list[str]]]:
    """Returns (the lines that are left, blocks of about `size` words from their end)."""
    left = list(lines)
    if size == 0 and len(lines) <= parts:
        return left, [[] for _ in range(parts)]
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
    size = max(1, len(ranked) // 20)
    part_of = {digest: 1 + rank // size for rank, digest in enumerate(ranked[: parts * size])}

    def part(number: int) -> Iterator[Conversation]:
        return (messages for messages in conversations() if part_of.get(_digest(messages), 0) == number)

    return [partial(part, number) for number in range(1 + parts)]


def _digest(messages: Conversation) -> bytes:
    return hashlib.sha256(json.dumps(messages).encode()).digest()
