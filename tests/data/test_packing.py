"""Packing: nothing lost, nothing mixed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgpt.data.packing import Answered, answered_rows, pack, packed_lines, packed_rows
from jaxgpt.errors import UserError


@given(st.lists(st.integers(1, 20), max_size=60))
def test_every_item_once_and_no_row_too_full(sizes):
    rows = pack(sizes, 20)
    assert sorted(item for row in rows for item in row) == list(range(len(sizes)))
    assert all(sum(sizes[item] for item in row) <= 20 for row in rows)
    # Two rows that would fit in one are never both left half empty.
    fills = sorted(sum(sizes[item] for item in row) for row in rows)
    assert len(fills) < 2 or fills[0] + fills[1] > 20


def test_an_item_too_long_is_refused():
    with pytest.raises(ValueError, match="21 does not fit in 20"):
        pack([3, 21], 20)


def test_rows_literally():
    first = ([4, 10, 6, 5, 11, 6], [0, 0, 0, 0, 1, 1])
    second = ([4, 12, 6], [0, 0, 1])
    (row,) = packed_rows([first, second], 8)
    assert row.tolist() == [
        [4, 10, 6, 5, 11, 4, 12, 0],
        [10, 6, 5, 11, 6, 12, 6, 0],
        [0, 0, 0, 1, 1, 0, 1, 0],
        [1, 1, 1, 1, 1, 2, 2, 0],
        [0, 1, 2, 3, 4, 0, 1, 0],
    ]


def test_lines_stand_whole_and_every_token_is_a_target():
    stream = np.array([5, 6, 1, 1, 7, 8, 9, 1], np.int32)  # three lines, the second one blank
    (row,) = packed_lines(stream, 1, 8)
    assert row.tolist() == [
        [1, 7, 8, 9, 1, 5, 6, 1],
        [7, 8, 9, 1, 5, 6, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 2, 2, 2, 3],
        [0, 1, 2, 3, 0, 1, 2, 0],
    ]
    with pytest.raises(UserError, match=r"a line of 4 tokens does not fit in a window of 3; .* --data\.no-pack-lines"):
        packed_lines(stream, 1, 3)


def test_every_supervised_token_is_a_target_once():
    rng = np.random.default_rng(0)
    conversations = []
    for _ in range(50):
        size = int(rng.integers(2, 17))
        conversations.append((rng.integers(0, 1000, size).tolist(), rng.integers(0, 2, size).tolist()))
    rows = packed_rows(conversations, 16)
    learned = sorted(rows[:, 1][rows[:, 2] == 1].tolist())
    expected = sorted(id for ids, mask in conversations for id, flag in zip(ids[1:], mask[1:], strict=True) if flag)
    assert learned == expected


def test_rows_that_do_not_fit_are_never_left_out():
    with pytest.raises(AssertionError, match="2 rows do not fit in 1"):
        answered_rows([[Answered([0, 1], [([2], 1)])]] * 2, (1, 4))
