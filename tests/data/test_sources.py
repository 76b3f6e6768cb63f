"""Batches are a pure function of (source, seed, step); every token is a target once an epoch."""

import chex
import numpy as np
import pytest

from jaxgpt.data import sources
from jaxgpt.data.sources import EMPTY, Packed, Windows, batch_at, in_order, num_steps, sample_indices

STREAM = np.arange(100, 203, dtype=np.int32)  # 103 tokens, all different
EOS = 1


def targets_counted(batches) -> list[int]:
    return [int(t) for b in batches for t, w in zip(b.targets.ravel(), b.weights.ravel(), strict=True) if w]


@pytest.mark.parametrize("seq_len", [4, 10, 103, 200])
def test_every_token_is_a_target_once_an_epoch(seq_len):
    source = Windows(STREAM, seq_len, EOS)
    steps = num_steps(source, 3, 2)
    batches = [batch_at(source, 5, step, 3, 2) for step in range(steps)]
    assert sorted(targets_counted(batches)) == sorted([*STREAM, *STREAM])
    for batch in batches:
        chex.assert_shape([batch.tokens, batch.targets, batch.weights], (3, seq_len))
        chex.assert_type([batch.tokens, batch.targets, batch.weights], [int, int, float])


def test_a_target_follows_its_token():
    source = Windows(STREAM, 10, EOS)
    batch = source.gather(np.array([0, 3, EMPTY]))
    assert batch.tokens[0].tolist() == [EOS, *range(100, 109)]
    assert batch.targets[0].tolist() == [*range(100, 110)]
    assert batch.tokens[1].tolist() == [*range(129, 139)]
    assert batch.targets[1].tolist() == [*range(130, 140)]
    assert not batch.weights[2].any()
    last = source.gather(np.array([10]))
    assert last.weights[0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]


def test_order_is_new_each_epoch_and_decided_by_the_seed():
    source = Windows(STREAM, 4, EOS)
    steps = num_steps(source, 2, 2)

    def order(seed):
        return [sample_indices(len(source), 2, seed, step, 2).tolist() for step in range(steps)]

    assert order(0) == order(0)
    assert order(0) != order(1)
    flat = [index for row in order(0) for index in row]
    first, second = flat[:26], [index - 26 for index in flat[26:]]
    assert sorted(first) == sorted(second) == list(range(26))
    assert first != second


def test_each_epoch_cuts_the_stream_at_other_places():
    source = Windows(STREAM, 8, EOS)
    epochs = [source.gather(np.arange(len(source)) + epoch * len(source)) for epoch in range(5)]
    before = dict(zip(STREAM.tolist(), [EOS, *STREAM[:-1].tolist()], strict=True))
    for batch in epochs:
        kept = batch.weights > 0
        assert sorted(batch.targets[kept]) == STREAM.tolist()
        assert [before[target] for target in batch.targets[kept].tolist()] == batch.tokens[kept].tolist()
    assert len({tuple(row) for batch in epochs for row in batch.targets[:-2]}) == 5 * (len(source) - 2)
    np.testing.assert_array_equal(epochs[0].targets.ravel()[: len(STREAM)], STREAM)


def test_only_the_very_last_batch_is_filled_up():
    rows = [sample_indices(5, 2, 0, step, 4).tolist() for step in range(3)]
    assert [EMPTY in row for row in rows] == [False, False, True]
    assert rows[2][2:] == [EMPTY, EMPTY]


def test_rows_do_not_depend_on_how_many_processes_share_them():
    """Any process can make its rows of the global batch alone: they are the rows of the whole."""
    source = Windows(STREAM, 4, EOS)
    whole = batch_at(source, 3, 1, 8, 1)
    for processes in (1, 2, 4, 8):
        size = 8 // processes
        for process in range(processes):
            rows = slice(process * size, (process + 1) * size)
            part = source.gather(sample_indices(len(source), 1, 3, 1, 8)[rows])
            np.testing.assert_array_equal(part.tokens, whole.tokens[rows])


def test_evaluation_scores_every_token_once_in_order():
    source = Windows(STREAM, 10, EOS)
    assert targets_counted(map(source.gather, in_order(source, 4))) == STREAM.tolist()


@pytest.mark.parametrize("stride", [1, 3, 7, 10])
def test_sliding_windows_score_once_with_enough_context(stride):
    source = Windows(STREAM, 10, EOS, stride)
    batches = list(map(source.gather, in_order(source, 4)))
    assert targets_counted(batches) == STREAM.tolist()
    for batch in batches:
        for row in range(4):
            scored = np.flatnonzero(batch.weights[row])
            if len(scored) and batch.targets[row, 0] != STREAM[0]:
                assert scored[0] >= 10 - stride


def test_packed_rows_and_the_pmap_view():
    rows = np.arange(6 * 5 * 4).reshape(6, 5, 4).astype(np.int32)
    batch = Packed(rows).gather(np.array([5, EMPTY, 0, 2]))
    np.testing.assert_array_equal(batch.tokens[0], rows[5, 0])
    np.testing.assert_array_equal(batch.positions[3], rows[2, 4])
    assert not batch.weights[1].any()
    assert not batch.segments[1].any()
    assert batch.weights.dtype == np.float32
    view = batch.per_device(2)
    chex.assert_shape(list(view[:5]), (2, 2, 4))
    assert all(x is None for x in view[5:])
    np.testing.assert_array_equal(view.tokens[1, 0], rows[0, 0])


@pytest.mark.parametrize("count", [5, 64, 65, 1_000, 4_097])
def test_the_order_of_many_samples_is_a_permutation_too(monkeypatch, count):
    monkeypatch.setattr(sources, "MOST_LISTED", 0)
    every = [sample_indices(count, 2, seed, 0, 2 * count) for seed in (0, 1)]
    for indices in every:
        assert sorted(indices.tolist()) == list(range(2 * count))
        assert set(indices[:count].tolist()) == set(range(count))
    assert not np.array_equal(every[0], every[1])
    assert not np.array_equal(every[0][:count], every[0][count:] - count)
    steps = np.concatenate([sample_indices(count, 2, 0, step, 7) for step in range(2 * count // 7)])
    assert np.array_equal(steps, every[0][: len(steps)])  # of any step at once, without those before


def test_the_order_of_many_samples_looks_random(monkeypatch):
    monkeypatch.setattr(sources, "MOST_LISTED", 0)
    order = sample_indices(100_000, 1, 0, 0, 100_000) / 100_000
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(order, np.arange(100_000))[0, 1]) < 0.02
    assert np.all(np.abs(np.histogram(order[:10_000], 10)[0] - 1_000) < 150)


def test_a_step_far_into_ten_billion_tokens_is_found_at_once():
    windows = 10**10 // 1_024
    indices = sample_indices(windows * 2, 1, 0, 1_000_000, 8)
    assert len(set(indices.tolist())) == 8
    assert all(0 <= index < windows * 2 for index in indices)


def test_masked_documents_are_segments_with_own_positions():
    stream = np.array([5, 6, EOS, 7, EOS, 8, 9, 10, EOS, 11])
    batch = Windows(stream, 6, EOS, eos=EOS).gather(np.array([0, 1, -1]))
    assert batch.tokens.tolist() == [[EOS, 5, 6, EOS, 7, EOS], [8, 9, 10, EOS, 0, 0], [0] * 6]
    assert batch.segments.tolist() == [[2, 2, 2, 3, 3, 4], [1, 1, 1, 2, 0, 0], [0] * 6]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 2, 0, 0, 0], [0] * 6]
    plain = Windows(stream, 6, EOS).gather(np.array([0, 1, -1]))
    for name in ("tokens", "targets", "weights"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(plain, name))
    assert plain.segments is None
