"""Several processes train one run: as one would, and as one where they are stopped, go on, and fail."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jaxgpt.run.verify import verify_run
from tests.faults.workplace import ROOT, end_job, finish, moment, outcome, start_job, stop_when

pytestmark = pytest.mark.long

# In float32, over 40 steps. What no loss depends on, like the keys' bias, has a gradient of nothing but rounding, which
# Adam scales up to its learning rate: finetuning's is 1e-3 here, as at 1e-2 two runs that are the same differ by 2e-5.
ROUNDING = 2e-6


def measured(run: Path) -> dict[tuple[int, str], float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = ("loss", "valid_loss", "weight", "grad_norm")
    values = [((record["step"], name), record[name]) for record in records for name in names if name in record]
    assert len(values) == len(dict(values))  # each once
    return dict(values)


def assert_equal_to_rounding(run: Path, alone: Path) -> None:
    assert measured(run) == pytest.approx(measured(alone), rel=ROUNDING, abs=ROUNDING)
    assert (run / "samples.jsonl").read_text().count("\n") == (alone / "samples.jsonl").read_text().count("\n")
    assert not [wrong for _, wrong in verify_run(run) if wrong]


def test_a_signal_to_one_stops_two_and_one_goes_on(place, left_alone):
    """SIGTERM to the second process alone: both save the same step and leave with the same code."""
    run = place / "runs/two-then-one"
    job = start_job(place, "finetune", run.name, (), ())
    metrics = run / "metrics.jsonl"
    assert stop_when(job[1], lambda: metrics.exists() and b'"loss"' in metrics.read_bytes(), signal.SIGTERM)
    end_job(job, 143)
    assert len(list(run.glob("checkpoints/*/digests.json"))) == 1
    out, _ = finish(place, "finetune", run.name)
    assert "resuming from step" in out
    assert "note: processes: 1 now, 2 before" in out
    assert_equal_to_rounding(run, place / "runs/finetune")


def test_two_go_on_where_one_was_killed(place, left_alone):
    run = Path(shutil.copytree(place / "runs/pretrain", place / "runs/one-then-two"))
    shutil.rmtree(run / "checkpoints/40")
    (run / "report.html").unlink()
    end_job(start_job(place, "pretrain", run.name, (), ()), 0)
    record = json.loads((run / "run.json").read_text())
    assert (record["processes"], record["from_step"]) == (2, 36)
    assert [start["processes"] for start in record["earlier"]] == [1]
    assert_equal_to_rounding(run, place / "runs/pretrain")
    assert (run / "report.html").exists()


def started(run: Path) -> int:
    """Returns how often a run was started; every process has joined it by then."""
    record = run / "run.json"
    return 1 + len(json.loads(record.read_text())["earlier"]) if record.exists() else 0


@pytest.mark.parametrize(("processes", "behind"), [(2, True), (3, False), (4, True)])
def test_where_one_was_killed_all_end_as_if_undisturbed(place, processes, behind):
    """They save by the clock, too, and behind training or not. One is killed, the others end, all are started again."""
    chance = random.Random(processes)
    own = {"data.batch-size": 24, "run.epochs": 5, "run.max-steps": 24, "run.save-every-minutes": 0.001}
    own["run.async-saves"] = behind
    each = [[f"--{name}={value}" for name, value in own.items()]] * processes
    name = f"all-{processes}"
    end_job(start_job(place, "pretrain", name, *each), 0)
    run = place / "runs" / f"killed-{processes}"
    killed = 0
    for _ in range(2):
        job, before = start_job(place, "pretrain", run.name, *each), started(run)
        # Not before they have met: the others would wait five minutes for one that was killed on its way.
        stop_when(job[0], lambda before=before: started(run) > before, 0)  # signal 0 is none
        killed += stop_when(chance.choice(job), moment(run, chance), signal.SIGKILL, chance)
        for process in job:
            process.communicate(timeout=300)
    end_job(start_job(place, "pretrain", run.name, *each), 0)
    assert killed
    assert outcome(run) == outcome(place / "runs" / name)
    assert not [wrong for _, wrong in verify_run(run) if wrong]


def test_two_learn_from_a_reward_as_one_does(place, left_alone):
    """Both draw the same answers. Later ones are drawn by parameters that differ in their rounding."""
    finish(place, "reward", "reward-one", "--run.max-steps", "12")
    for out in end_job(start_job(place, "reward", "reward-two", *[("--run.max-steps", "12")] * 2), 0):
        assert "Traceback" not in out
    one, two = (measured(place / "runs" / name) for name in ("reward-one", "reward-two"))
    assert one.keys() == two.keys()
    for step in (0, 1):
        assert [two[key] for key in two if key[0] == step] == pytest.approx(
            [one[key] for key in one if key[0] == step], rel=ROUNDING, abs=ROUNDING
        )
    assert not [wrong for _, wrong in verify_run(place / "runs/reward-two") if wrong]


def test_processes_that_were_told_different_things_are_refused(place):
    for err in end_job(start_job(place, "pretrain", "at-odds", (), ("--run.seed", "1")), 2):
        assert "error: processes: number 1 has other settings or other data than number 0" in err
        assert "Traceback" not in err
    assert not (place / "runs/at-odds").exists()


@pytest.mark.parametrize("number", ["0", "1"])
def test_a_process_that_the_others_do_not_come_to_gives_up_in_words(number):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    job = {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": number, "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}"}
    join = "from jaxgpt.devices import distributed; distributed.MOST_LATE = 2; distributed.join_processes()"
    lonely = subprocess.run(
        [sys.executable, "-c", join], cwd=ROOT, env=os.environ | job, capture_output=True, text=True
    )
    assert lonely.returncode == 1, lonely.stderr
    told = lonely.stderr.splitlines()
    assert told[0] == f"process {number} of 2: waiting for the others at 127.0.0.1:{port}"
    assert told[1:] == [
        "error: processes: 2 were to train this run, and not all have come within 2 seconds; see what the others "
        "printed, and whether they can reach the first"
    ]
