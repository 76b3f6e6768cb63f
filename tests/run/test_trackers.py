"""Trackers: the default one's files, each step told once, and what is not installed said before anything is written."""

import dataclasses

import pytest

from jaxgpt.allowed import validate
from jaxgpt.config import Config, RunConfig
from jaxgpt.config_json import from_json, to_json
from jaxgpt.data.manifest import Manifest
from jaxgpt.errors import UserError
from jaxgpt.run import trackers
from jaxgpt.run.folder import Run
from jaxgpt.run.metrics import open_metrics
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer


@pytest.fixture
def run(tmp_path) -> Run:
    data = Manifest("text", "mine", "mine", "files", fingerprint="f", tokenizer="", splits={})
    return Run(tmp_path, Config(run=RunConfig(name="mine")), WordTokenizer((*SPECIAL, "a")), data)


def test_tensorboard_is_the_default(run):
    with trackers.open_trackers(run, 0) as opened, open_metrics(run.path, 0, opened) as metrics:
        metrics.write(1, {"loss": 2.0})
    (file,) = (run.path / "tensorboard").iterdir()
    assert b"loss" in file.read_bytes()


def test_trackers_are_told_what_is_finite(run):
    told = []
    with open_metrics(run.path, 0, [lambda step, values: told.append((step, values))]) as metrics:
        metrics.write(1, {"loss": float("nan"), "weight": 3.0})
    ((step, values),) = told
    assert (step, values.keys()) == (1, {"weight", "seconds"})


def test_steps_that_are_computed_anew_are_told_once(run, monkeypatch):
    """For trackers that cannot take back what they were told."""
    told = []

    def remember(run, start):
        return trackers.contextlib.nullcontext(trackers._once(run, lambda step, values: told.append((step, *values))))

    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", remember)
    for start, last in ((0, 3), (1, 4)):
        with trackers.open_trackers(run, start) as opened, open_metrics(run.path, start, opened) as metrics:
            for step in range(start + 1, last + 1):
                metrics.write(step, {"loss": 1.0})
                if step == 2:
                    metrics.write(step, {"valid_loss": 1.0})
    names = [(step, name) for step, name, _ in told]
    assert names == [(1, "loss"), (2, "loss"), (2, "valid_loss"), (3, "loss"), (4, "loss")]


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    trackers.require_installed(("tensorboard",))
    with pytest.raises(UserError, match=r'run\.track: wandb is not installed; pip install "jaxgpt\[wandb\]"'):
        trackers.require_installed(("tensorboard", "wandb"))


def test_several_are_a_setting_that_a_file_keeps():
    config = Config(run=RunConfig(name="mine", track=("wandb", "trackio")))
    assert from_json(to_json(config), "test") == config
    none = dataclasses.replace(config, run=RunConfig(name="mine", track=()))
    assert from_json(to_json(none), "test") == none
    with pytest.raises(UserError, match=r"run\.track: \('mlflow',\) was given; it must be a tuple, each item one of"):
        validate(Config(run=RunConfig(name="mine", track=("mlflow",))))  # type: ignore[arg-type]
