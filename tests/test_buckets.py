"""Addresses of runs: a folder, or a name in a bucket; and folders moved, removed and walked through on a disk."""

import importlib.util
from pathlib import Path

import pytest

from jaxgpt import buckets
from jaxgpt.buckets import files_below, is_in_bucket, move_folder, path_of, remove_folder
from jaxgpt.config import Config, RunConfig, run_dir
from jaxgpt.errors import UserError


def test_a_folder_is_a_path_as_ever():
    for name in ("runs/one", Path("runs/one"), "a:b//c", "~/runs"):
        assert path_of(name) == Path(name)
        assert not is_in_bucket(path_of(name))
    assert run_dir(Config(run=RunConfig(folder="some/runs", name="one"))) == Path("some/runs/one")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://some/runs", "s3://some/runs: runs are kept in a folder, or in a bucket of Google Cloud Storage"),
        ("https://some/runs", "other buckets must be mounted as a folder"),
        ("gs://some", "gs://some: it names no run; give gs://BUCKET/NAME"),
        ("gs:///runs", "it names no run"),
    ],
)
def test_what_is_no_address_of_a_run(address, says):
    with pytest.raises(UserError, match=says):
        path_of(address)


def test_a_bucket_wants_its_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    buckets._require_bucket.cache_clear()
    with pytest.raises(UserError, match=r'gs://some: buckets want a package more; pip install "jaxgpt\[gcs\]"'):
        path_of("gs://some/runs")


def test_folders_on_a_disk(tmp_path):
    (tmp_path / "one/deep").mkdir(parents=True)
    (tmp_path / "one/a").write_text("a")
    (tmp_path / "one/deep/b").write_text("b")
    (tmp_path / "one/link").symlink_to(tmp_path / "one/deep")
    (tmp_path / "one/lost").symlink_to(tmp_path / "nowhere")
    names = ["a", "deep/b", "link", "lost"]
    assert [file.relative_to(tmp_path / "one").as_posix() for file in files_below(tmp_path / "one")] == names
    move_folder(tmp_path / "one", tmp_path / "new/two")
    assert [file.relative_to(tmp_path / "new/two").as_posix() for file in files_below(tmp_path / "new/two")] == names
    remove_folder(tmp_path / "new/two")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]
