"""Several conversations in one row, none seeing another; or a question once, and answers that go on from it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxgpt.data.batch import BRANCHES
from jaxgpt.errors import UserError

Rendered = tuple[Sequence[int], Sequence[int]]  # (ids, mask) of a conversation


def pack(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Returns rows of item indices whose sizes add up to at most `capacity`: best fit, largest first.

    Raises ValueError for an item that fits in no row.
    """
    if sizes and max(sizes) > capacity:
        raise ValueError(f"an item of {max(sizes)} does not fit in {capacity}")
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # rows by the room they have left
    for item in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        room = next((r for r in range(sizes[item], capacity + 1) if with_room[r]), capacity)
        row = with_room[room].pop() if with_room[room] else len(rows)
        if row == len(rows):
            rows.append([])
        rows[row].append(item)
        with_room[room - sizes[item]].append(row)
    return rows


def packed_rows(conversations: Sequence[Rendered], seq_len: int) -> np.ndarray:
    """Returns int32 rows_R5T for `Packed`: tokens, targets, weights, segments, positions.

    Each conversation of n ids gives n - 1 pairs (token, next token); the weight is the mask of the next token. Segments
    count from 1 in each row, positions from 0 in each conversation; what is left of a row is segment 0, weight 0.
    """
    plan = pack([len(ids) - 1 for ids, _ in conversations], seq_len)
    rows_R5T = np.zeros((len(plan), 5, seq_len), np.int32)
    for row_5T, items in zip(rows_R5T, plan, strict=True):
        at = 0
        for segment, item in enumerate(items, start=1):
            ids, mask = conversations[item]
            end = at + len(ids) - 1
            row_5T[:, at:end] = [ids[:-1], ids[1:], mask[1:], [segment] * (end - at), range(end - at)]
            at = end
    return rows_R5T


class Answered(NamedTuple):
    """A question, up to where the assistant speaks, and answers that go on from it: (ids, how often it counts) each."""

    question: Sequence[int]
    answers: Sequence[tuple[Sequence[int], int]]

    @property
    def size(self) -> int:
        """The tokens of a row that it takes: all but each answer's last, as the question's last stands before each."""
        return len(self.question) - 1 + sum(len(ids) for ids, _ in self.answers)


def answered_rows(plan: Sequence[Sequence[Answered]], shape: tuple[int, int]) -> np.ndarray:
    """Returns rows_R5T as `packed_rows` does, of `shape` (R, T), in which a question stands once, before its answers.

    The n-th question of a row is segment n * BRANCHES, and its answers, which alone count, those after that. The
    question's last token stands before each of them.
    """
    R, T = shape
    assert len(plan) <= R, f"{len(plan)} rows do not fit in {R}"
    rows_R5T = np.zeros((R, 5, T), np.int32)
    for row_5T, items in zip(rows_R5T, plan, strict=False):
        at = 0
        for number, (question, answers) in enumerate(items, start=1):
            *trunk, last = question
            start, segment = len(trunk), number * BRANCHES
            parts = [(question, 0, segment, 0)]
            parts += [([last, *ids], times, segment + n, start) for n, (ids, times) in enumerate(answers, start=1)]
            for ids, times, segment, first in parts:
                count = len(ids) - 1
                own = ids[:-1], ids[1:], [times] * count, [segment] * count, range(first, first + count)
                row_5T[:, at : at + count] = own
                at += count
    return rows_R5T


def packed_lines(stream: np.ndarray, eos_id: int, seq_len: int, *, cut: bool = False) -> np.ndarray:
    """Returns rows_R5T in which the lines of a stream stand whole, each after an end of line, every token a target.

    Of a line longer than the window `cut` makes pieces, each after the token before it; else it raises UserError.
    """
    ends = np.flatnonzero(stream == eos_id) + 1
    lines = [np.concatenate([[eos_id], line]) for line in np.split(stream, ends[:-1])]
    if cut:
        lines = [line[at : at + seq_len + 1] for line in lines for at in range(0, len(line) - 1, seq_len)]
    longest = max(map(len, lines)) - 1
    if longest > seq_len:
        raise UserError(
            f"data.pack_lines: a line of {longest} tokens does not fit in a window of {seq_len}; "
            "give a longer --data.seq-len, or --data.no-pack-lines, which lets windows cut lines"
        )
    return packed_rows([(line.tolist(), [1] * len(line)) for line in lines], seq_len)
