"""Comparing: figures in columns, what differs and only that, and a warning where losses do not compare."""

import json
import re
import shutil

import pytest

from jaxgpt.config_json import from_json, to_json
from jaxgpt.errors import UserError
from jaxgpt.report.compare import read_runs, sweep, write_comparison


@pytest.fixture
def other(copy):
    other = copy.with_name("other")
    shutil.copytree(copy, other)
    path = other / "config.json"
    config = json.loads(path.read_text())
    config["optimizer"]["learning_rate"] = 0.5
    path.write_text(to_json(from_json(json.dumps(config), "test")))
    return other


def test_runs_stand_side_by_side(copy, other):
    file, lines = write_comparison([str(copy), str(other)])
    assert file == copy.parent / "compare-mini-other.html"
    assert re.fullmatch(r" +mini +other", lines[0])
    assert re.fullmatch(r"optimizer.learning_rate +0.01 +0.5", lines[1])
    assert re.fullmatch(r"Best valid loss +(\d\.\d{4}) +\1", lines[4])
    html = file.read_text(encoding="utf-8")
    assert "their losses compare" in html
    assert "optimizer.learning_rate" in html
    assert "optimizer.weight_decay" not in html
    assert "<script>alert" not in html


def test_losses_of_different_objectives_do_not_compare(copy, other):
    path = other / "config.json"
    config = json.loads(path.read_text())
    config["objective"]["name"] = "grpo"
    config["run"]["init_from"] = "a run"
    path.write_text(json.dumps(config))
    worsen(other, -5)  # a reward's negative is below every loss
    assert list(read_runs([str(copy), str(other)])) == ["mini", "other"]  # as they were given
    _, lines = write_comparison([str(copy), str(other)])
    assert (
        lines[-1]
        == "These runs learned from different objectives, or objectives set otherwise: their losses do not compare."
    )


def test_losses_that_are_weighed_otherwise_do_not_compare(copy, other):
    for path, beta in ((copy, 0.1), (other, 0.5)):
        config = json.loads((path / "config.json").read_text())
        config["objective"] |= {"name": "dpo", "beta": beta}
        config["run"]["init_from"] = "a run"
        (path / "config.json").write_text(json.dumps(config))
    _, lines = write_comparison([str(copy), str(other)])
    assert lines[-1].endswith("their losses do not compare.")


def worsen(run, by):
    """Makes a run one whose validation losses are larger."""
    path = run / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records = [r | ({"valid_loss": r["valid_loss"] + by} if "valid_loss" in r else {}) for r in records]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_the_best_run_comes_first(copy, other):
    worsen(copy, 0.5)
    file, lines = write_comparison([str(copy), str(other)])
    assert file == copy.parent / "compare-mini-other.html"
    assert re.fullmatch(r" +other +mini", lines[0])
    assert re.fullmatch(r"optimizer.learning_rate +0.5 +0.01", lines[1])
    assert "The best: other" in file.read_text(encoding="utf-8")


def test_a_sweep_is_one_curve(copy, other):
    third = shutil.copytree(copy, copy.with_name("third"))
    config = json.loads((third / "config.json").read_text())
    config["optimizer"]["learning_rate"], config["run"]["seed"] = 0.1, 7
    (third / "config.json").write_text(json.dumps(config))
    worsen(third, 1.0)
    runs = [str(copy), str(other), str(third)]
    found = sweep(read_runs(runs))
    assert found is not None
    assert (found.field, found.values) == ("optimizer.learning_rate", [0.01, 0.1, 0.5])
    assert found.losses[1] == pytest.approx(found.losses[0] + 1)
    file, lines = write_comparison(runs)
    assert "best validation loss by optimizer.learning_rate" in lines
    assert "The sweep" in file.read_text(encoding="utf-8")
    config["optimizer"]["beta1"] = 0.5
    (third / "config.json").write_text(json.dumps(config))
    assert sweep(read_runs(runs)) is None


def test_losses_on_different_text_are_not_compared(copy, other, change_data):
    change_data(other, fingerprint="of another text")
    _, lines = write_comparison([str(copy), str(other)])
    assert lines[-1].startswith("These runs are measured on different text")


def test_losses_on_other_conversations_of_one_corpus_are_not_compared(copy, other, change_data):
    """Of a corpus those are scored that fit in data.seq_len."""
    for run, kept in ((copy, 60), (other, 50)):
        change_data(run, kind="chat", splits={"train": {}, "valid": {"conversations": 60, "kept": kept}})
    _, lines = write_comparison([str(copy), str(other)])
    assert lines[-1].startswith("These runs are measured on different text")


@pytest.mark.long
def test_runs_of_different_tokens_are_compared_by_bytes(copy, pieces, change_data):
    change_data(fingerprint=json.loads((pieces / "data.json").read_text())["fingerprint"])
    file, lines = write_comparison([str(copy), str(pieces)])
    assert any(re.match(r"Bits per byte +\d", line) for line in lines)
    assert lines[-1].startswith("These runs have different vocabularies")
    html = file.read_text(encoding="utf-8")
    assert "Validation loss, bits per byte" in html
    assert "Training loss, bits per byte" in html


def test_runs_of_one_name_are_told_apart(copy, mini):
    _, lines = write_comparison([str(copy), str(mini)])
    assert str(mini) in lines[0]
    assert str(copy) in lines[0]


def test_one_run_is_no_comparison(copy):
    with pytest.raises(UserError, match="1 run was given"):
        write_comparison([str(copy)])
    with pytest.raises(UserError, match="no run was given"):
        write_comparison([])
    with pytest.raises(UserError, match="a run was given twice"):
        write_comparison([str(copy), str(copy)])
