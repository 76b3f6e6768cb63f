"""Asked to stop: SIGTERM saves and exits with a code that schedulers requeue on, wherever the run is."""

import random
import signal

import pytest

from tests.faults.workplace import ended, finish, outcome, start, stop_when

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("name", "when"),
    [
        ("compiling", lambda run: (run / "metrics.jsonl").exists()),
        ("first-step", lambda run: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size > 0),
        ("saving", lambda run: any(run.glob("checkpoints/*tmp*"))),
        ("evaluating", lambda run: any(run.glob("checkpoints/*/digests.json"))),
    ],
)
def test_sigterm_saves_and_the_same_command_goes_on(place, left_alone, name, when):
    nothing_compiled = ("--data.cache-dir", "empty") if name == "compiling" else ()
    run = start(place, "pretrain", name, *nothing_compiled)
    assert stop_when(run, lambda: when(place / "runs" / name), signal.SIGTERM, random.Random(name))
    out, err = run.communicate(timeout=60)
    assert run.returncode == 143, out + err
    assert "and saved; the same command continues from there" in out
    assert "Traceback" not in err
    finish(place, "pretrain", name)
    assert outcome(place / "runs" / name) == left_alone["pretrain"]


@pytest.mark.parametrize("saves", ["False", "True"])
def test_a_second_ctrl_c_leaves_at_once(place, saves):
    name = f"hasty-{saves}"
    long = ("--run.max-steps", "100000", "--run.epochs", "10000", "--run.async-saves", saves)
    run = start(place, "pretrain", name, *long)
    metrics = place / f"runs/{name}/metrics.jsonl"
    assert stop_when(run, metrics.exists, signal.SIGINT, random.Random(0))
    run.send_signal(signal.SIGINT)
    assert ended(run, 60)
    out, err = run.communicate()
    assert run.returncode == 130, out + err
    assert "Traceback" not in err
