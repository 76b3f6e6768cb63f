"""Trackers that are extras, without a network: all that a run tells is in their files, once, over its starts."""

import importlib
import json
import sqlite3
from pathlib import Path

import pytest

from jaxgpt.config import Config, RunConfig
from jaxgpt.data.manifest import Manifest
from jaxgpt.run.folder import Run
from jaxgpt.run.metrics import open_metrics
from jaxgpt.run.trackers import open_trackers
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

# Of the packages themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def two_starts(path: Path, tracker: str) -> Run:
    """Runs to step 3, and from step 2 on once more, to step 5."""
    path.mkdir()
    data = Manifest("text", "mine", "mine", "files", fingerprint="f", tokenizer="", splits={})
    config = Config(run=RunConfig(name=path.name, track=(tracker,)))  # type: ignore[arg-type]
    run = Run(path, config, WordTokenizer((*SPECIAL, "a")), data)
    for start, last in ((0, 3), (2, 5)):
        with open_trackers(run, start) as trackers, open_metrics(run.path, start, trackers) as metrics:
            for step in range(start + 1, last + 1):
                metrics.write(step, {"loss": 1 / step})
            metrics.write(last, {"valid_loss": 2.0, "odd": float("nan")})
    return run


def test_wandb_keeps_one_run_in_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = two_starts(tmp_path / "one", "wandb")
    importlib.import_module("wandb").teardown()  # its service has written all when it has ended
    files = sorted(run.path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    assert {file.name for file in files} == {f"run-{(run.path / 'tracker-id').read_text()}.wandb"}
    assert all(b"valid_loss" in file.read_bytes() for file in files)


def test_trackio_has_every_step_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for module in ("trackio.utils", "trackio.sqlite_storage"):  # which read that when they are imported
        monkeypatch.setattr(f"{module}.TRACKIO_DIR", tmp_path / "trackio", raising=False)
    run = two_starts(tmp_path / "one", "trackio")
    (file,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
    database.close()
    assert {name for name, _, _ in rows} == {f"one-{(run.path / 'tracker-id').read_text()}"}
    values = [(step, json.loads(text)) for _, step, text in rows]
    assert [(step, found["loss"]) for step, found in values if "loss" in found] == [(n, 1 / n) for n in range(1, 6)]
    assert [(step, found["valid_loss"]) for step, found in values if "valid_loss" in found] == [(3, 2.0), (5, 2.0)]
    assert not [found for _, found in values if "odd" in found]
