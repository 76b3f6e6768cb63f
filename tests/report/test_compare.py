"""Comparing: figures in columns, what differs and only that, and a warning where losses do not compare."""

import json
import re
import shutil

import pytest

from jaxgpt.config import from_json, to_json
from jaxgpt.errors import UserError
from jaxgpt.report.compare import write_comparison


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
    assert re.fullmatch(r"Best valid loss +(\d\.\d{4}) +\1", lines[3])
    html = file.read_text(encoding="utf-8")
    assert "their losses compare" in html
    assert "optimizer.learning_rate" in html
    assert "optimizer.weight_decay" not in html
    assert "<script" not in html


def test_losses_on_different_text_are_not_compared(copy, other, change_data):
    change_data(other, fingerprint="of another text")
    _, lines = write_comparison([str(copy), str(other)])
    assert lines[-1].startswith("These runs are measured on different text")


def test_runs_of_different_tokens_are_compared_by_bytes(copy, pieces, change_data):
    change_data(fingerprint=json.loads((pieces / "data.json").read_text())["fingerprint"])
    file, lines = write_comparison([str(copy), str(pieces)])
    assert re.match(r"Bits per byte +\d", lines[3])
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
        write_comparison([str(copy), str(copy)])
