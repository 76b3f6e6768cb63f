"""The yardstick that counts: its probabilities by hand, and where a report shows it."""

import dataclasses
import json

import numpy as np
import pytest

from jaxgpt.report.curves import curves
from jaxgpt.report.ngram import components, fit, ngram_loss, yardstick
from jaxgpt.report.run_data import read_record


def test_probabilities_by_hand():
    """Counted in 0 0 | 1 2 1 3, where 0 stands before the beginning; asked for 1, 2, 3."""
    p_NK, group_N = components(np.array([1, 2, 1, 3]), np.array([1, 2, 3]), vocab_size=4, start=0)
    np.testing.assert_allclose(
        p_NK,
        [
            [1 / 4, 2 / 4, 1, 1],  # 1 began the text
            [1 / 4, 1 / 4, 1 / 2, 1],  # after 1 came 2 and 3; after 0 1 only 2
            [1 / 4, 1 / 4, 0, 0],  # after 2 came 1 only
        ],
    )
    assert group_N.tolist() == [1, 1, 1]  # each two words before were seen once


def test_an_unseen_context_gives_what_the_shorter_one_gives():
    p_NK, group_N = components(np.array([1, 2, 1, 3]), np.array([3, 1]), vocab_size=4, start=0)
    np.testing.assert_allclose(p_NK[1], [1 / 4, 2 / 4, 2 / 4, 2 / 4])  # nothing was seen after 3
    assert group_N[1] == 0


def test_each_count_adds_up_to_one_over_all_words():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 7, 60)
    for context in ([1, 2], [5, 5], [6, 0]):
        last = [components(train, np.array([*context, word]), 7, 0)[0][-1] for word in range(7)]
        np.testing.assert_allclose(np.sum(last, axis=0), 1)


def test_the_weights_are_those_that_make_the_text_likeliest():
    """In one group the last count is always right, in another the first of them is as good as any."""
    sure = np.tile([0.25, 0.25, 0.5, 1.0], (500, 1))
    weights_GK = fit(sure, np.full(500, 3))
    np.testing.assert_allclose(weights_GK.sum(axis=1), 1)
    assert weights_GK[3, 3] > 0.95
    np.testing.assert_allclose(weights_GK[0], 1 / 4)  # no token, nothing learned


def test_what_follows_from_two_words_costs_little():
    pattern = np.array([1, 1, 2, 1, 3] * 400)  # one word does not tell what follows, two do
    assert ngram_loss(pattern, pattern[:100], vocab_size=8, start=0) < 0.05
    chance = np.random.default_rng(0).integers(0, 8, 4_000)
    assert ngram_loss(chance[:3_000], chance[3_000:], 8, 0) == pytest.approx(np.log(8), abs=0.05)


def test_the_curves_show_it_where_the_text_is_at_hand(mini, tmp_path):
    record = read_record(mini)
    loss = yardstick(record.run)
    assert loss is not None
    assert 0 < loss < np.log(record.run.tokenizer.vocab_size)
    assert f"counting (3-gram) {loss:.4f}" in curves(record).plots["loss"]

    elsewhere = dataclasses.replace(record.run.config.data, cache_dir=str(tmp_path))
    config = dataclasses.replace(record.run.config, data=elsewhere)
    without = dataclasses.replace(record, run=dataclasses.replace(record.run, config=config))
    assert yardstick(without.run) is None
    assert "counting" not in json.dumps(curves(without).plots)
    talks = dataclasses.replace(record.run, data=dataclasses.replace(record.run.data, kind="chat"))
    assert yardstick(talks) is None
