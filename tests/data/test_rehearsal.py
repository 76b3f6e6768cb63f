"""Text beside conversations: of these each once an epoch; of the text its share, all before any comes again."""

from collections import Counter

import numpy as np
import pytest

from jaxgpt.allowed import validate
from jaxgpt.config import Config, DataConfig
from jaxgpt.data.manifest import Manifest, manifest_from_dict
from jaxgpt.data.packing import packed_rows
from jaxgpt.data.rehearsal import Rehearsal, WithRehearsal, with_text_rows
from jaxgpt.data.sources import EMPTY, Packed, Windows, batch_at, num_steps
from jaxgpt.errors import UserError

T, TALKS, WINDOWS = 8, 30, 7
TEXT = np.arange(1_000, 1_000 + WINDOWS * T)
TALK_ROWS = Packed(packed_rows([([0, *range(10 * n, 10 * n + T)], [0] + [1] * T) for n in range(TALKS)], T))
MANIFEST = Manifest("text", "stories", "stories", "embedded", "a", "b")


def rehearsal(share: float, seq_len: int = T) -> Rehearsal:
    windows = Windows(TEXT, T, start=1)
    return Rehearsal(share, MANIFEST, windows, windows, T, seq_len)


def epoch_of(source: WithRehearsal, epochs: int, batch_size: int = 4) -> list:
    return [batch_at(source, 3, step, batch_size, epochs) for step in range(num_steps(source, batch_size, epochs))]


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_an_epoch_has_each_conversation_once_and_text_in_its_share(share):
    source = WithRehearsal(TALK_ROWS, rehearsal(share))
    assert source.text_rows == round(TALKS * share / (1 - share))
    batches = epoch_of(source, epochs=2)
    talks, texts = [], []
    for batch in batches:
        assert batch.rehearsed is not None
        assert not (batch.weights * batch.rehearsed).any()  # a target counts in one of the two losses
        talks += batch.targets[batch.weights > 0].tolist()
        texts += [row.tolist() for row in batch.targets[batch.rehearsed.any(axis=1)]]
    assert sorted(talks) == sorted(2 * [token for n in range(TALKS) for token in range(10 * n, 10 * n + T)])
    assert len(texts) == 2 * source.text_rows
    times = Counter(token for row in texts for token in row)
    passes = len(texts) // WINDOWS
    assert {times[token] for token in TEXT.tolist()} <= {passes, passes + 1}  # none again before all have come


def test_the_next_pass_over_the_text_has_another_order():
    text = rehearsal(0.5)
    passes = text.rows(np.arange(2 * WINDOWS)).targets.reshape(2, -1)
    assert sorted(passes[0]) == sorted(passes[1]) == TEXT.tolist()
    assert (passes[0] != passes[1]).any()


def test_rows_of_text_are_the_same_however_they_are_divided():
    text = rehearsal(0.5)
    whole = text.rows(np.arange(10))
    for place in (0, 6, 9):
        (alone,) = text.rows(np.array([place])).targets
        np.testing.assert_array_equal(alone, whole.targets[place])


def test_windows_shorter_than_a_row_stand_side_by_side_without_seeing_each_other():
    seq_len = 2 * T + 3
    batch = rehearsal(0.5, seq_len).rows(np.arange(4))
    assert batch.rehearsed is not None
    assert batch.positions is not None
    assert batch.segments is not None
    np.testing.assert_array_equal(batch.positions, [[*range(T), *range(T), 0, 0, 0]] * 4)
    np.testing.assert_array_equal(batch.segments[:, 2 * T :], 0)
    assert all(len(set(row[:T])) == len(set(row[T : 2 * T])) == 1 for row in batch.segments.tolist())
    assert (batch.segments[:, 0] != batch.segments[:, T]).all()
    np.testing.assert_array_equal(batch.rehearsed, [[1] * (2 * T) + [0] * 3] * 4)
    assert not batch.weights.any()


def test_whole_lines_keep_their_segments():
    lines = Packed(packed_rows([([1, 2, 3, 4], [1] * 4), ([1, 5, 6], [1] * 3)], T))
    batch = Rehearsal(0.5, MANIFEST, lines, lines, T, 2 * T).rows(np.arange(1))
    assert batch.segments is not None
    (row,) = batch.segments.tolist()
    assert row[:T] == [1, 1, 1, 2, 2, 0, 0, 0]
    assert row[T:] == [1 + T, 1 + T, 1 + T, 2 + T, 2 + T, 0, 0, 0]


def test_places_that_are_empty_stay_empty():
    source = WithRehearsal(TALK_ROWS, rehearsal(0.5))
    batch = source.gather(np.array([EMPTY, len(source) - 1, EMPTY, 0]))
    assert batch.rehearsed is not None
    np.testing.assert_array_equal(batch.weights.sum(axis=1), [0, 0, 0, T])
    np.testing.assert_array_equal(batch.rehearsed.sum(axis=1), [0, T, 0, 0])


def test_rows_of_text_take_the_places_they_are_given():
    batch = with_text_rows(TALK_ROWS.gather(np.arange(4)), np.array([1, 3]), rehearsal(0.5).rows(np.arange(2)))
    assert batch.rehearsed is not None
    np.testing.assert_array_equal(batch.rehearsed.any(axis=1), [False, True, False, True])
    np.testing.assert_array_equal(batch.weights.any(axis=1), [True, False, True, False])


@pytest.mark.parametrize("given", ["tinyworld", "tinyworld:", ":0.1", "tinyworld:0", "tinyworld:1", "tinyworld:much"])
def test_what_is_no_share_of_a_corpus_is_told(given):
    with pytest.raises(UserError, match=r"data\.rehearse: .* was given; it must be NAME:SHARE"):
        validate(Config(data=DataConfig(rehearse=given)))


def test_a_manifest_knows_what_was_rehearsed():
    chat = Manifest("chat", "talks", "talks", "files", "c", "b", rehearsed=MANIFEST)
    again = manifest_from_dict(chat.to_dict())
    assert again == chat
    assert [corpus.name for corpus in again.corpora] == ["talks", "stories"]
    assert "rehearsed" not in Manifest("chat", "talks", "talks", "files", "c", "b").to_dict()
