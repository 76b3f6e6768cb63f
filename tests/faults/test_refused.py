"""What cannot be done is refused with its reason, and costs nothing: a second trainer, a disk that takes no more."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from jaxgpt.run.integrity import committed_steps, damage
from jaxgpt.run.resume import best_so_far
from tests.faults.workplace import finish, outcome, start

pytestmark = pytest.mark.long


def test_of_two_starters_one_trains_and_the_other_is_told_which(place, left_alone):
    runs = [start(place, "pretrain", "raced") for _ in range(2)]
    printed = [run.communicate(timeout=120) for run in runs]
    codes = sorted(run.returncode for run in runs)
    # Where one had ended before the other looked, both are fine: the second finds a finished run.
    assert codes in ([0, 2], [0, 0]), printed
    if codes == [0, 2]:
        winner, (_, err) = next((run, printed[1 - i]) for i, run in enumerate(runs) if run.returncode == 0)
        assert f"runs/raced: process {winner.pid} on " in err
        assert "is training there" in err
    assert outcome(place / "runs/raced") == left_alone["pretrain"]


@pytest.mark.parametrize("saves", ["True", "False"])
def test_a_disk_that_takes_no_more_in_the_middle_of_a_save(place, left_alone, saves):
    """The first checkpoint fits; then files may not grow past 20 kB, and the second one fails half-way."""
    full = f"full-{saves}"
    finish(place, "pretrain", full, "--run.max-steps", "12")
    small_files = ("sh", "-c", 'ulimit -f 40; exec "$@"', "sh")  # 40 blocks of 512 bytes
    out, err = finish(place, "pretrain", full, "--run.async-saves", saves, expect=1, before=small_files)
    assert "resuming from step 12" in out
    assert "step 24 could not be saved" in err
    assert "What was saved before is whole" in err
    assert "Traceback" not in err
    assert damage(place / "runs" / full / "checkpoints/12") is None
    finish(place, "pretrain", full)
    assert outcome(place / "runs" / full) == left_alone["pretrain"]


def before_its_last_save(place: Path, name: str) -> Path:
    """Returns a copy of the run that was left alone, as it was at step 36, with four steps to go."""
    run = Path(shutil.copytree(place / "runs/pretrain", place / "runs" / name))
    shutil.rmtree(run / "checkpoints/40")
    best_so_far(run, committed_steps(run / "checkpoints"))
    return run


def test_a_small_file_system_that_is_full(place, left_alone, tmp_path):
    """A tmpfs in a namespace of its own: what comes next finds no room to be saved, then some, and nothing is lost."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to make a mount namespace with")
    able = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", tmp_path], capture_output=True, text=True)
    if able.returncode:
        pytest.skip(f"this process may not mount a tmpfs in a namespace of its own: {able.stderr.strip()}")
    before_its_last_save(place, "small")
    small, after = place / "small", place / "after"
    small.mkdir()
    after.mkdir()
    # The namespace ends with its command: one command mounts, trains twice, and carries out what was left each time.
    script = f"""
        mount -t tmpfs -o size=8m none '{small}' && cp -r runs/small '{small}' || exit 9
        free=$(df -k --output=avail '{small}' | tail -n 1)
        head -c $(((free - 700) * 1024)) /dev/zero > '{small}/other' || exit 9
        "$@" 2> '{after}/refused'; echo $? > '{after}/code'; cp -r '{small}/small' '{after}/full'
        rm '{small}/other'; "$@" && cp -r '{small}/small' '{after}/roomy'
    """
    finish(place, "pretrain", "small", "--run.folder", "small", before=("unshare", "-rm", "sh", "-c", script, "sh"))
    assert (after / "code").read_text() == "2\n"
    refused = (after / "refused").read_text()
    assert refused.startswith(f"error: {small}/small/checkpoints: the checkpoint of step 40 needs ")
    assert " MB left. Make room. What was saved before is whole" in refused
    assert refused.count("\n") == 1
    assert sorted(path.name for path in (after / "full/checkpoints").glob("[0-9]*")) == saved(place, "small")
    assert all(damage(after / "full/checkpoints" / step) is None for step in saved(place, "small"))
    assert outcome(after / "roomy") == left_alone["pretrain"]


def saved(place: Path, name: str) -> list[str]:
    return sorted(path.name for path in (place / "runs" / name / "checkpoints").glob("[0-9]*"))


def test_a_folder_that_may_not_be_written(place, left_alone):
    """Root may write anywhere, so it is run without that right."""
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("this is root, and there is no setpriv to give up its right to write anywhere")
        before = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
    run = before_its_last_save(place, "closed")
    steps = saved(place, "closed")
    (run / "checkpoints").chmod(0o555)
    _, err = finish(place, "pretrain", "closed", expect=1, before=before)
    assert err.startswith(f"error: {run}/checkpoints: step 40 could not be saved: ")
    assert "Permission denied" in err
    assert err.count("\n") == 1
    assert saved(place, "closed") == steps
    (run / "checkpoints").chmod(0o755)
    finish(place, "pretrain", "closed", before=before)
    assert outcome(run) == left_alone["pretrain"]


def test_the_lock_goes_with_the_process(place):
    """A killed trainer leaves its lock file; the next one is not refused."""
    run = start(place, "pretrain", "orphan")
    while not (place / "runs/.orphan.holder").exists():
        try:
            run.wait(timeout=0.01)
        except subprocess.TimeoutExpired:
            continue
    run.kill()
    run.communicate()
    assert (place / "runs/.orphan.lock").exists()
    finish(place, "pretrain", "orphan", "--run.max-steps", "2")
