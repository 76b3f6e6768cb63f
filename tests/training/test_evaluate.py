"""Evaluation: every token once, or a fixed number of them evenly spread, so that it does not grow with the corpus."""

import dataclasses
import math

import numpy as np
import pytest

from jaxgpt.data.sources import EMPTY, Windows
from jaxgpt.run.metrics import read_records
from jaxgpt.training import evaluate, trainer, validation
from jaxgpt.training.evaluate import Score, num_batches, some_of
from tests.training.test_trainer import TRAIN, VALID, fit, run  # noqa: F401 (run is a fixture)

LONG = Windows(np.arange(16_000, dtype=np.int32) % 40, 16, 0)


def test_a_small_split_is_scored_whole():
    assert some_of(VALID, 16) is VALID
    assert some_of(LONG, 16, 16_000) is LONG


def test_of_a_large_split_a_fixed_number_is_spread_evenly():
    for length in (2_000, 16_000):
        windows = Windows(LONG.stream[:length], 16, 0)
        some = some_of(windows, 16, 160)
        assert len(some) == 10
        assert num_batches(some, 4) == 3
        rows = np.array([0, 9, EMPTY])
        whole = windows.gather(np.array([0, len(windows) - 1, EMPTY]))
        for one, other in zip(some.gather(rows)[:3], whole[:3], strict=True):
            np.testing.assert_array_equal(one, other)


def test_during_training_a_part_at_the_end_the_whole(run, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(evaluate, "MOST_TOKENS", 160)
    monkeypatch.setattr(validation, "some_of", lambda source, seq_len: some_of(source, seq_len, 160))
    result = trainer.fit(run, TRAIN, Windows(LONG.stream[:1_600], 16, 0), lambda params: "said")
    records = [record for record in read_records(run.path / "metrics.jsonl") if "valid_loss" in record]
    assert [record["step"] for record in records] == [4, 8, 10]
    assert ["whole_valid_loss" in record for record in records] == [False, False, True]
    assert result.best.valid_loss == min(record["valid_loss"] for record in records)
    out = capsys.readouterr().out
    assert out.count("part of valid loss") == 3
    assert "over 160 tokens of mine" in out
    assert "step 10: all of valid loss" in out
    assert "over 1,600 tokens of mine" in out


@pytest.mark.parametrize("loss", [800.0, math.inf])
def test_a_perplexity_is_written_short_however_large(loss):
    assert len(Score(loss, 1).perplexity_in_words) < 12
    assert len(Score(100.0, 1).perplexity_in_words) < 12


def test_the_same_run_scored_whole_has_one_loss(run):  # noqa: F811
    fit(dataclasses.replace(run))
    assert not any("whole_valid_loss" in record for record in read_records(run.path / "metrics.jsonl"))
