"""What evaluations came to, in the run: a record a task and step, the newest of each."""

import math

import pytest

from jaxgpt.errors import UserError
from jaxgpt.run.evaluations import Evaluation, add_evaluations, read_evaluations


def evaluation(task="endings", step=3, **metrics) -> Evaluation:
    return Evaluation(task, step, metrics, 125, 0, 1.0, "lm-evaluation-harness 0.4.13")


def test_evaluations_are_kept_and_replaced_by_newer_ones(tmp_path):
    assert read_evaluations(tmp_path) == []
    add_evaluations(tmp_path, [evaluation(acc=0.25, acc_stderr=0.1), evaluation("last", perplexity=math.inf)])
    add_evaluations(tmp_path, [evaluation(acc=0.5), evaluation(step=4, acc=0.75)])
    found = read_evaluations(tmp_path)
    assert [(e.task, e.step, e.metrics) for e in found] == [
        ("last", 3, {"perplexity": None}),
        ("endings", 3, {"acc": 0.5}),
        ("endings", 4, {"acc": 0.75}),
    ]


def test_an_evaluation_in_words():
    told = evaluation(acc=0.25, acc_stderr=0.125).lines()
    assert told == [
        "  endings, version 1.0, by lm-evaluation-harness 0.4.13: 125 examples, 0-shot",
        "    acc              0.2500 ± 0.1250",
    ]


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "evaluations.json").write_text('[{"task": 1}]')
    with pytest.raises(UserError, match=r"evaluations\.json: it is damaged"):
        read_evaluations(tmp_path)
