"""Several conversations in one row, none seeing another: attention stays inside a segment."""

from collections.abc import Sequence

import numpy as np

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
    return packed_groups([[conversation] for conversation in conversations], seq_len)


def packed_groups(groups: Sequence[Sequence[Rendered]], seq_len: int) -> np.ndarray:
    """Returns the same for groups of conversations, each of which stays in one row, its segments side by side."""
    plan = pack([sum(len(ids) - 1 for ids, _ in group) for group in groups], seq_len)
    rows_R5T = np.zeros((len(plan), 5, seq_len), np.int32)
    for row_5T, items in zip(rows_R5T, plan, strict=True):
        at = 0
        for segment, (ids, mask) in enumerate((each for item in items for each in groups[item]), start=1):
            end = at + len(ids) - 1
            row_5T[:, at:end] = [ids[:-1], ids[1:], mask[1:], [segment] * (end - at), range(end - at)]
            at = end
    return rows_R5T


def packed_lines(stream: np.ndarray, eos_id: int, seq_len: int) -> np.ndarray:
    """Returns rows_R5T in which the lines of a stream stand whole, each after an end of line, every token a target.

    Raises UserError for a line longer than the window.
    """
    ends = np.flatnonzero(stream == eos_id) + 1
    lines = [np.concatenate([[eos_id], line]) for line in np.split(stream, ends[:-1])]
    longest = max(map(len, lines)) - 1
    if longest > seq_len:
        raise UserError(
            f"data.pack_lines: a line of {longest} tokens does not fit in a window of {seq_len}; "
            "give a longer --data.seq-len, or --data.no-pack-lines, which lets windows cut lines"
        )
    return packed_rows([(line.tolist(), [1] * len(line)) for line in lines], seq_len)
