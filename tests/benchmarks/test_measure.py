"""Cases of chips, measured where they are: which ones fit, and rows that say what was measured and promised."""

import dataclasses

import pytest

from benchmarks import measure
from benchmarks.devices import CASES
from benchmarks.measure import COLUMNS, count_of, fitting, shape_of, table
from jaxgpt.config import Config, DataConfig, ModelConfig
from jaxgpt.training.flops import flops_per_token

TINY = Config(
    model=ModelConfig(vocab_size=100, context_len=16, embed_dim=32, num_heads=2, num_layers=2, dropout=0.0),
    data=DataConfig(seq_len=16, batch_size=4),
)


def test_cases_are_for_as_many_chips_of_the_same_platform():
    assert [count_of(on) for on in ("v5e", "v5e:1", "v5e:4x4", "v5p:4x4x4", "h100:8")] == [1, 1, 16, 64, 8]
    assert {on for on, _ in fitting(CASES, "gpu", 1).values()} == {"h100:1"}
    assert {on for on, _ in fitting(CASES, "gpu", 8).values()} == {"h100:8"}
    assert {on for on, _ in fitting(CASES, "tpu", 16).values()} == {"v5e:4x4"}
    assert fitting(CASES, "cpu", 1) == fitting(CASES, "gpu", 3) == {}


def test_a_peer_has_the_cases_arithmetic():
    for _, config in CASES.values():
        ours = flops_per_token(config.model, config.data.seq_len)
        assert shape_of(config).flops_per_token == pytest.approx(ours, rel=0.03)


@pytest.mark.long
def test_a_row_says_what_was_measured_and_promised(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "ROUNDS", 3)
    monkeypatch.setattr(measure, "SECONDS_A_ROUND", 0.01)
    config = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, cache_dir=str(tmp_path)))
    with (tmp_path / "log").open("w") as log:
        (row,) = measure.measure("tiny", config, None, {"computing_ms": 1.5, "on": "h100:1"}, log)
    assert tuple(row) == COLUMNS
    assert row["ms a step"]["min"] <= row["ms a step"]["median"] <= row["ms a step"]["max"]
    assert row["tokens/s"] == pytest.approx(64e3 / row["ms a step"]["median"], rel=0.05)
    assert row["MFU"] is None  # no vendor states a CPU's
    assert (row["promised ms"], row["promised for"]) == (1.5, "h100:1")
    lines = table([row]).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("| tiny | jaxgpt | ")
