"""What cannot be done is refused with its reason, and costs nothing: a second trainer, a disk that takes no more."""

import subprocess

from jaxgpt.training.integrity import damage
from tests.faults.workplace import finish, outcome, start


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


def test_a_disk_that_takes_no_more_in_the_middle_of_a_save(place, left_alone):
    """The first checkpoint fits; then files may not grow past 20 kB, and the second one fails half-way."""
    finish(place, "pretrain", "full", "--run.max-steps", "12")
    small_files = ("sh", "-c", 'ulimit -f 40; exec "$@"', "sh")  # 40 blocks of 512 bytes
    out, err = finish(place, "pretrain", "full", expect=1, before=small_files)
    assert "going on from step 12" in out
    assert "step 24 could not be saved" in err
    assert "What was saved before is whole" in err
    assert "Traceback" not in err
    assert damage(place / "runs/full/checkpoints/12") is None
    finish(place, "pretrain", "full")
    assert outcome(place / "runs/full") == left_alone["pretrain"]


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
