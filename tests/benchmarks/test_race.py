"""The bench's own rules: the same tokens for all, children that wait, tables that say what was measured."""

import sys

import numpy as np
import pytest

from benchmarks import report
from benchmarks.entrant import Entrant
from benchmarks.race import Mode, quickest, run_rounds, spread
from benchmarks.shapes import SHAPES, as_dict, text
from jaxgpt.config import ModelConfig
from jaxgpt.training.flops import flops_per_token

CHILD = """
import json, sys, types
from benchmarks import entrant
slow = json.loads(sys.argv[1])["slow"]
if slow is None:
    raise SystemExit(3)
total = 0
entrant.time = types.SimpleNamespace(perf_counter=lambda: total * slow)  # a clock that only work moves
def work(amount):
    global total
    total += amount
    return {"losses": [float(total)]}
entrant.serve(work)
"""


@pytest.fixture
def child_module(tmp_path, monkeypatch) -> str:
    (tmp_path / "bench_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{'.'}:{':'.join(sys.path)}")
    return "bench_child"


def mode(module: str, label: str, slow: float | None) -> Mode:
    return Mode("somebody", label, module, {"slow": slow})


def test_a_child_works_when_told_and_remembers(child_module):
    child = Entrant("somebody", child_module, {"slow": 0.0}, None)
    assert child.first["losses"] == [1.0]
    assert child.run(4)["losses"] == [5.0]
    assert child.run(1)["peak_mb"] > 1
    child.close()


def test_the_quickest_mode_is_taken_and_a_failing_one_is_named(child_module, tmp_path):
    said: list[str] = []
    modes = [mode(child_module, "slow", 0.05), mode(child_module, "quick", 0.001), mode(child_module, "broken", None)]
    with (tmp_path / "log").open("w") as log:
        best, trials = quickest(modes, log, said.append)
    assert best == modes[1]
    assert trials == {"slow": pytest.approx(0.05), "quick": pytest.approx(0.001), "broken": None}
    assert any("broken: failed" in line and "exit code 3" in line for line in said)


def test_children_take_turns_over_the_same_work(child_module):
    children = [Entrant(name, child_module, {"slow": 0.0}, None) for name in "ab"]
    answers = run_rounds(children, rounds=3, amount=2)
    for child in children:
        child.close()
    assert [[answer["losses"] for answer in mine] for mine in answers] == [[[5.0], [7.0], [9.0]]] * 2
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_everybody_reads_the_same_tokens_and_they_can_be_learned():
    shape = SHAPES["tiny"]
    tokens, targets = text(shape, 3)
    np.testing.assert_array_equal(tokens, text(shape, 3)[0])
    assert (tokens != text(shape, 4)[0]).any()
    np.testing.assert_array_equal(tokens[:, 1:], targets[:, :-1])
    followed = (tokens.astype(int) * 31 + 17) % shape.vocab_size == targets
    assert 0.45 < followed.mean() < 0.65


@pytest.mark.parametrize("name", ["base", "tiny"])
def test_the_arithmetic_is_the_programs_own(name):
    shape = SHAPES[name]
    padded = ModelConfig(vocab_size=-(-shape.vocab_size // 128) * 128, dtype="float32")
    assert shape.flops_per_token == pytest.approx(flops_per_token(padded, shape.seq_len), rel=0.03)


def test_the_table_says_what_was_measured():
    row = {
        "entrant": "jaxgpt",
        "mode": "mixed",
        "tokens_per_second": spread([10.0, 30.0, 20.0]),
        "jaxgpt_is_quicker_by": spread([1.0]),
        "share_of_limit": 0.5,
        "peak_mb": 700.0,
        "first_step_seconds": 4.2,
        "loss": [7.0, 6.0],
    }
    peer = row | {"entrant": "torch", "jaxgpt_is_quicker_by": spread([1.5, 2.5, 2.0])}
    limit = {"flops_per_second": {"float32": 2e11}, "bytes_per_second": 2e10, "device": "cpu"}
    result = {"rows": [row, peer], "limit": limit, "shape": as_dict(SHAPES["tiny"])}
    table = report.markdown(result)
    assert "| jaxgpt | mixed | 20 (10 to 30) |  | 50% | 700 MB | 4.2 s | 7.000 to 6.000 |" in table
    assert "| 2.00 (1.50 to 2.50) |" in table
    assert "200 GFLOP/s in float32" in table
