"""Runs whose folder is in a bucket: bit for bit those of a disk, also after kills, damage and several processes."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxgpt import buckets
from jaxgpt.buckets import entries, files_below, is_there, move_folder, path_of, remove_folder
from jaxgpt.run.checkpoint import read_best
from jaxgpt.run.integrity import committed_steps, damage, newest_whole
from tests.faults.workplace import SPEED, end_job, finish, outcome, start, start_job, stop_when

# Of the packages themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


STEPS = [24, 36, 40]  # the best, and the latest two


@pytest.fixture(scope="module")
def verb(place) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a verb where the runs' cache is."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jaxgpt", *arguments]
        return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture(scope="module")
def pretrained(place, bucket) -> str:
    finish(place, "pretrain", "plain", "--run.folder", f"{bucket}/runs")
    return f"{bucket}/runs/plain"


def test_what_is_there_is_what_a_disk_has(pretrained, left_alone, brought):
    here = brought(pretrained)
    assert outcome(here) == left_alone["pretrain"]
    assert {"config.json", "tokenizer.json", "data.json", "run.json", "report.html"} <= {x.name for x in here.iterdir()}
    assert list((here / "tensorboard").iterdir())
    assert list((here / "plots").glob("*.svg"))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sample", ("--prompt", "The ball")),
        ("evaluate", ()),
        ("check", ()),
        ("report", ()),
        ("explain", ("The", "ball")),
        ("export", ("{}/exported",)),
    ],
)
def test_commands_take_its_address(verb, pretrained, tmp_path, name, arguments):
    done = verb(name, pretrained, *(argument.format(tmp_path) for argument in arguments))
    assert done.returncode == 0, done.stderr


def test_so_do_commands_that_take_more(verb, place, pretrained):
    done = verb("compare", pretrained, str(place / "runs/pretrain"))
    assert done.returncode == 0, done.stderr
    assert f"comparison: {pretrained.rpartition('/')[0]}/compare-" in done.stdout
    done = verb("tokenize", "The ball", "--with", pretrained)
    assert done.stdout.startswith("The│ball"), done.stdout + done.stderr


def test_what_is_written_for_others_goes_to_a_disk(verb, pretrained, bucket):
    for arguments in (("export", pretrained, f"{bucket}/out"), ("pairs", pretrained, f"{bucket}/out")):
        done = verb(*arguments)
        assert (done.returncode, "it must be on a disk" in done.stderr) == (2, True), done.stderr


def test_names_that_stand_for_folders_are_nothing(verb, pretrained):
    """Mounts and Google's console leave them."""
    from google.cloud import storage

    there = storage.Client().bucket("bucket")
    for name in ("runs/plain/", "runs/plain/checkpoints/", "runs/plain/checkpoints/40/"):
        there.blob(name).upload_from_string(b"")
    assert committed_steps(path_of(f"{pretrained}/checkpoints")) == STEPS
    assert damage(path_of(f"{pretrained}/checkpoints/40")) is None
    move_folder(path_of(f"{pretrained}/checkpoints/36"), path_of(f"{pretrained}/checkpoints/damaged/36"))
    assert committed_steps(path_of(f"{pretrained}/checkpoints")) == [24, 40]
    move_folder(path_of(f"{pretrained}/checkpoints/damaged/36"), path_of(f"{pretrained}/checkpoints/36"))
    assert verb("check", pretrained).returncode == 0


@pytest.mark.parametrize("look", [committed_steps, newest_whole, read_best, entries, is_there])
def test_a_bucket_out_of_reach_is_not_an_empty_one(pretrained, monkeypatch, look):
    """Or a run would begin again, and set aside what it has."""

    async def refuse(*_, **__):
        raise PermissionError("403")

    monkeypatch.setattr(buckets._files(), "_call", refuse)  # every request
    with pytest.raises(PermissionError):
        look(path_of(f"{pretrained}/checkpoints"))


@pytest.mark.parametrize("after", [0, 1, 2, 5, 50])
def test_half_a_folder_is_never_whole(bucket, pretrained, monkeypatch, after):
    """A copy that breaks off has no checkpoint yet, and what is removed half is no checkpoint any more, but a run."""
    there, copy = path_of(pretrained), path_of(f"{bucket}/half/{after}")
    done, whole = 0, buckets._files().cp_file

    def cp_file(*names, **how):
        nonlocal done
        if done == after:
            raise KeyboardInterrupt
        done += 1
        whole(*names, **how)

    monkeypatch.setattr(buckets._files(), "cp_file", cp_file)
    with pytest.raises(KeyboardInterrupt):
        move_folder(there, copy)
    monkeypatch.undo()
    assert committed_steps(copy / "checkpoints") == []
    assert committed_steps(there / "checkpoints") == STEPS
    for file in files_below(there):
        (copy / file.relative_to(there)).write_bytes(file.read_bytes())
    done, unlink = 0, type(copy).unlink

    def removed(file, **how):
        nonlocal done
        if done == after:
            raise KeyboardInterrupt
        done += 1
        unlink(file, **how)

    monkeypatch.setattr(type(copy), "unlink", removed)
    with pytest.raises(KeyboardInterrupt):
        remove_folder(copy)
    monkeypatch.undo()
    steps = committed_steps(copy / "checkpoints")
    assert [damage(copy / "checkpoints" / str(step)) for step in steps] == [None] * len(steps)
    assert is_there(copy / "config.json")


def test_finetuning_starts_from_it_and_stays_there(verb, place, pretrained, bucket, left_alone, brought):
    finish(place, "finetune", "talks", "--run.folder", f"{bucket}/runs", "--run.init-from", pretrained)
    assert outcome(brought(f"{bucket}/runs/talks")) == left_alone["finetune"]
    said = verb("chat", f"{bucket}/runs/talks", "--prompt", "The box of Ann is .")
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("seed", range(3))
def test_killed_and_resumed_equals_left_alone(place, bucket, left_alone, brought, seed):
    name, chance = f"killed-{seed}", random.Random(seed)
    folder = path_of(f"{bucket}/runs/{name}")
    killed = 0
    for _ in range(3):
        more = len(files_below(folder)) + chance.randrange(3, 50)  # a checkpoint has about forty
        run = start(place, "pretrain", name, "--run.folder", f"{bucket}/runs")
        killed += stop_when(run, lambda more=more: len(files_below(folder)) >= more, signal.SIGKILL, chance)
        run.communicate()
    assert killed >= 2
    finish(place, "pretrain", name, "--run.folder", f"{bucket}/runs")
    assert outcome(brought(f"{bucket}/runs/{name}")) == left_alone["pretrain"]


def test_two_processes_write_one_run(verb, place, bucket, brought):
    """As on a pod: each writes its part, and there is no disk that both see."""
    end_job(start_job(place, "pretrain", "together", (), ()), expect=0)
    end_job(start_job(place, "pretrain", "two", *[("--run.folder", f"{bucket}/runs")] * 2), expect=0)
    assert recorded(brought(f"{bucket}/runs/two")) == recorded(place / "runs/together")
    checked = verb("check", f"{bucket}/runs/two")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def recorded(run: Path) -> tuple[list[dict], str]:
    """Returns the metrics without their times, and the samples."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in record.items() if key not in SPEED} for record in records]
    return metrics, (run / "samples.jsonl").read_text()


def test_a_damaged_checkpoint_is_moved_aside(verb, place, bucket, left_alone, brought):
    into = ("--run.folder", f"{bucket}/runs")
    finish(place, "pretrain", "damaged", *into)
    newest = path_of(f"{bucket}/runs/damaged/checkpoints/40")
    (file,) = (file for file in files_below(newest) if file.as_posix().endswith("params/_METADATA"))
    file.write_bytes(file.read_bytes()[:-1] + b" ")
    checked = verb("check", f"{bucket}/runs/damaged")
    assert checked.returncode == 1
    assert "WRONG  checkpoints/40: params/_METADATA has changed since it was saved" in checked.stdout
    _, err = finish(place, "pretrain", "damaged", *into)
    assert "params/_METADATA has changed since it was saved. Resuming from the one before, of step 36" in err
    here = brought(f"{bucket}/runs/damaged")
    assert outcome(here) == left_alone["pretrain"]
    assert (here / "checkpoints/damaged/40/digests.json").exists()


def test_starting_over_moves_the_old_run(place, bucket, left_alone, brought):
    into = ("--run.folder", f"{bucket}/runs")
    finish(place, "pretrain", "again", *into)
    out, _ = finish(place, "pretrain", "again", *into, "--run.restart")
    assert f"the run that was there is now {bucket}/runs/again.old-1" in out
    for name in ("again", "again.old-1"):
        assert outcome(brought(f"{bucket}/runs/{name}")) == left_alone["pretrain"]
    starts = json.loads((brought(f"{bucket}/runs/again") / "run.json").read_text())
    assert starts["from_step"] == 0


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("gs://nobody-has-this/runs", "gs://nobody-has-this: it cannot be used (404 "),
        ("s3://bucket/runs", "runs are kept in a folder, or in a bucket of Google Cloud Storage"),
    ],
)
def test_what_is_no_bucket_is_one_line(verb, place, bucket, folder, says):
    _, err = finish(place, "pretrain", "wrong", "--run.folder", folder, expect=2)
    assert says in err
    assert err.count("\n") == 1
    missing = verb("sample", f"{bucket}/runs/none")
    assert missing.returncode == 2
    assert "no such run folder" in missing.stderr
