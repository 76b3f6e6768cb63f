"""A folder in which real commands train a miniature model, are disturbed, and are compared with those left alone."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxgpt.run.checkpoint import open_checkpoints
from tests.compiling import OPTIMIZED_FLAGS, QUICK_FLAGS

ROOT = Path(__file__).parents[2]
SPEED = ("tokens_per_second", "mfu", "seconds")

PRETRAIN = """from jaxgpt.config import *
config = Config(
    model=ModelConfig(vocab_size=60, context_len=32, embed_dim=32, num_heads=2, num_layers=2, dropout=0.1),
    data=DataConfig(corpus="text.txt", seq_len=32, batch_size=8, cache_dir="cache"),
    optimizer=OptimizerConfig(
        name="muon", learning_rate=1e-2, grad_accumulation_steps=2, schedule="cosine", warmup_steps=5
    ),
    run=RunConfig(eval_every=12, log_every=1, epochs=2, max_steps=40, sample_prompt="The ball", sample_tokens=8),
)
"""
FINETUNE = """from jaxgpt.config import *
config = Config(
    data=DataConfig(corpus="talk.jsonl", rehearse="text.txt:0.2", seq_len=32, batch_size=8, cache_dir="cache"),
    optimizer=OptimizerConfig(learning_rate=1e-3, grad_accumulation_steps=2),
    run=RunConfig(init_from="runs/pretrain", eval_every=12, log_every=1, epochs=4, max_steps=40,
                  sample_prompt="The box of Ann is .", sample_tokens=8),
)
"""
REWARD = """from jaxgpt.config import *
config = Config(
    data=DataConfig(corpus="talk.jsonl", rehearse="text.txt:0.2", seq_len=32, batch_size=16, cache_dir="cache"),
    objective=ObjectiveConfig(name="grpo", group_size=4, oversample=2, updates=2, beta=0.05, answer_tokens=12),
    optimizer=OptimizerConfig(learning_rate=1e-3),
    run=RunConfig(init_from="runs/finetune", eval_every=12, log_every=1, epochs=4, max_steps=40,
                  sample_prompt="The box of Ann is .", sample_tokens=8),
)
"""
SCRIPTS = {"pretrain": "train.py", "finetune": "finetune.py", "reward": "finetune.py"}


def furnish(folder: Path, cache_dir: Path) -> None:
    """Writes corpora and configs."""
    words = [
        f"The {thing} of {name} is {colour}."
        for name in ("Ann", "Bob")
        for thing in ("ball", "box", "cup", "hat")
        for colour in ("red", "green", "blue")
    ]
    (folder / "text.txt").write_text("\n".join(words * 40) + "\n")
    talks = []
    for index in range(400):
        text = words[index % len(words)]
        question, answer = f"The {text.split()[1]} of {text.split()[3]} is .", text
        talks.append([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
    (folder / "talk.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    (folder / "pretrain.py").write_text(PRETRAIN)
    (folder / "finetune.py").write_text(FINETUNE)
    (folder / "reward.py").write_text(REWARD)
    (folder / "cache").symlink_to(cache_dir)


def start(
    folder: Path, stage: str, name: str, *arguments: str, before: Sequence[str] = (), **variables: str
) -> subprocess.Popen[str]:
    """Starts a stage as a user does; `before` is what the command line begins with, `variables` the environment has.

    It compiles as it does for a user: what a run comes to after a fault is to be what it comes to without, bit for bit.
    """
    command = [
        *before,
        sys.executable,
        str(ROOT / SCRIPTS[stage]),
        "--config",
        f"{stage}.py",
        "--run.name",
        name,
        *arguments,
    ]
    environment = {key: value for key, value in os.environ.items() if key != "JAXGPT_DATA"}
    environment |= {"XLA_FLAGS": OPTIMIZED_FLAGS} | variables
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)


def finish(
    folder: Path, stage: str, name: str, *arguments: str, expect: int = 0, before: Sequence[str] = ()
) -> tuple[str, str]:
    """Runs a stage to its end; returns what it printed on stdout and stderr."""
    run = start(folder, stage, name, *arguments, before=before)
    out, err = run.communicate(timeout=300)
    assert run.returncode == expect, out + err
    return out, err


def start_job(folder: Path, stage: str, name: str, *each: Sequence[str]) -> list[subprocess.Popen[str]]:
    """Starts a stage as a job of several processes, as many as there are lists of arguments: each has its own.

    All but the first compile at every start, as JAX keeps no programs of theirs; so they compile quickly.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return [
        start(
            *(folder, stage, name, *own),
            JAX_NUM_PROCESSES=str(len(each)),
            JAX_PROCESS_ID=str(number),
            JAX_COORDINATOR_ADDRESS=address,
            XLA_FLAGS=QUICK_FLAGS,
        )
        for number, own in enumerate(each)
    ]


def end_job(job: Sequence[subprocess.Popen[str]], expect: int) -> list[str]:
    """Waits for all processes to end with the same code; returns what each printed on stderr."""
    printed = [process.communicate(timeout=300) for process in job]
    assert [process.returncode for process in job] == [expect] * len(job), printed
    return [err for _, err in printed]


def stop_when(
    run: subprocess.Popen[str], happened: Callable[[], bool], number: int, chance: random.Random | None = None
) -> bool:
    """Sends a signal when something happened, or a few random milliseconds later; False if the process ended before."""
    while not happened():
        if ended(run, 0.001):
            return False
    if chance is not None and ended(run, chance.uniform(0, 0.03)):
        return False
    run.send_signal(number)
    return True


def ended(run: subprocess.Popen[str], seconds: float) -> bool:
    """Waits at most so long for a process to end, and tells whether it has."""
    try:
        run.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def moment(run: Path, chance: random.Random) -> Callable[[], bool]:
    """Returns a test for a random moment of a run: a step on record, or the middle of a save or an evaluation."""
    records = chance.randrange(44)
    checkpoints = run / "checkpoints"
    moments: list[Callable[[], bool]] = [
        lambda: _lines(run / "metrics.jsonl") >= records,
        lambda: any(checkpoints.glob("*tmp*")),
        lambda: any(path.parent.name.isdigit() for path in checkpoints.glob("*/params")),
        lambda: len(list(checkpoints.glob("*/digests.json"))) > 1,
        lambda: _lines(run / "samples.jsonl") > 1,
    ]
    return moments[0] if chance.random() < 0.5 else chance.choice(moments)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_and_finish(folder: Path, stage: str, name: str, *arguments: str, kills: int, seed: int) -> int:
    """Starts a run again and again, killing it at random moments, then lets it end; returns how often it was killed."""
    chance, killed = random.Random(seed), 0
    for _ in range(kills):
        run = start(folder, stage, name, *arguments)
        killed += stop_when(run, moment(folder / "runs" / name, chance), signal.SIGKILL, chance)
        run.communicate()
    finish(folder, stage, name, *arguments)
    return killed


def outcome(run: Path) -> dict[str, Any]:
    """Returns all that a run leaves behind but its speed: last state, metrics, samples, answers, the best step."""
    with open_checkpoints(run / "checkpoints") as checkpoints:
        step = checkpoints.latest_step()
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # other processes may have written
        arrays = {name: ocp.args.StandardRestore(fallback_sharding=here) for name in ("params", "optimizer")}
        state = checkpoints.restore(step, args=ocp.args.Composite(**arrays))
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "state": [(np.asarray(x).dtype, np.asarray(x).tobytes()) for x in jax.tree.leaves(dict(state.items()))],
        "metrics": [{key: value for key, value in record.items() if key not in SPEED} for record in records],
        "samples": (run / "samples.jsonl").read_text(),
        "answers": (run / "answers.jsonl").read_text() if (run / "answers.jsonl").exists() else "",
        "best": json.loads((run / "checkpoints/best.json").read_text()),
    }
