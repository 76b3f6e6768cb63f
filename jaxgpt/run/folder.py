"""The run folder: runs/NAME/ explains itself, and its path alone is enough to resume, finetune, talk or evaluate.

config.json       every setting, as asked for; "auto" as this machine settled it
tokenizer.json    the vocabulary
data.json         what was read: corpus, source, fingerprint, counts
run.json          command, time, versions, machine and what it decided of this start, and of the earlier ones
checkpoints/      the latest two and the best (best.json says which), each with its digests
metrics.jsonl     a line a step, and a line an evaluation; tensorboard/ has the same
samples.jsonl     what the model said at each evaluation, and some times between
answers.jsonl     of a run that learns from a reward: its answers to held-out questions at each evaluation
evaluations.json  what it reached in tasks of lm-evaluation-harness
imported.json     of weights from elsewhere: their family, precision and settings
report.html       all of this to look at, and the model from inside; plots/ has its charts
"""

import contextlib
import dataclasses
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import filelock

from jaxgpt.buckets import entries, is_in_bucket, is_there, make_folder, move_folder, path_of
from jaxgpt.config import TOKENIZER_FIELDS, Config, differences
from jaxgpt.config_json import from_json, to_json
from jaxgpt.data.manifest import Manifest, manifest_from_dict
from jaxgpt.errors import UserError
from jaxgpt.files import cache_folder, parse_json, read_text, write_text
from jaxgpt.run.integrity import committed_steps
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.text.vocabulary import load_tokenizer, save_tokenizer

BASE = "base.json"  # which checkpoint adapters were trained beside, or preferences and rewards are compared with
OF_A_START = (BASE, "metrics.jsonl", "samples.jsonl", "answers.jsonl")  # what a run has before it has a checkpoint
# Settings that may differ when a run is resumed: they say how long and how often to look, not what is computed.
MAY_CHANGE = [
    "run.epochs",
    "run.train_tokens",
    "run.max_steps",
    "run.log_every",
    "run.eval_every",
    "run.save_every_minutes",
    "run.async_saves",
    "optimizer.max_consecutive_skips",
    "run.sample_prompt",
    "run.sample_tokens",
    "run.profile",
    "run.track",
    "run.deterministic",
    "run.restart",
    "run.name",
    "run.folder",
    "data.cache_dir",
    "data.fallback",
    "model.attention",
    "model.scan_layers",
    "mesh.data",
    "mesh.fsdp",
    "mesh.tensor",
]


@dataclass(frozen=True)
class Run:
    """A run folder's identity: where it is, how it was asked for, its words and its data."""

    path: Path
    config: Config
    tokenizer: Tokenizer
    data: Manifest
    settled: dict[str, str] = field(default_factory=dict)
    """What this start's machine decided of the config, and why, by field."""

    @cached_property
    def sized(self) -> Config:
        """The config with the vocabulary that the tokenizer really has: what the model is built from."""
        if self.config.model.embedding_rows is not None:
            return self.config  # imported weights say themselves what they predict
        model = dataclasses.replace(self.config.model, vocab_size=self.tokenizer.vocab_size)
        return dataclasses.replace(self.config, model=model)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def documents(self) -> dict[str, Any]:
        """What every checkpoint carries beside its arrays."""
        return {
            "config": json.loads(to_json(self.config)),
            "tokenizer": self.tokenizer.to_dict(),
            "data": self.data.to_dict(),
        }


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a run's lock; raises UserError, naming who holds it, while another process trains in the same folder.

    The lock lies beside the folder, which may be moved; the system lifts it when its holder dies, however it dies. In
    a bucket it cannot: there the lock is one of this machine.
    """
    beside = _stand_in(path) if is_in_bucket(path) else path
    beside.parent.mkdir(parents=True, exist_ok=True)
    lock, holder = beside.with_name(f".{beside.name}.lock"), beside.with_name(f".{beside.name}.holder")
    try:
        with filelock.FileLock(lock, timeout=0):
            me = f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
            write_text(holder, me + "\n")
            try:
                yield
            finally:
                holder.unlink(missing_ok=True)
    except filelock.Timeout:
        raise UserError(
            f"{path}: {_who_holds(holder)} is training there. Wait for it, stop it, or choose another --run.name"
        ) from None


def _stand_in(path: Path) -> Path:
    """Returns a path on this machine, of this user, that stands for one in a bucket."""
    return cache_folder("~/.cache/jaxgpt") / "locks" / quote(os.fspath(path), safe="")


def _who_holds(holder: Path, tries: int = 20) -> str:
    """Returns what a lock's holder wrote about itself; it may have taken the lock just now, and be about to write."""
    for _ in range(tries):
        with contextlib.suppress(OSError):
            return holder.read_text(encoding="utf-8").strip() + ","
        time.sleep(0.05)
    return "another process"


def latest_step(path: Path) -> int | None:
    """Returns the step of a run folder's latest finished checkpoint, or None where there is none."""
    return max(committed_steps(path / "checkpoints"), default=None)


def open_run(run: Run, num_steps: int) -> str | None:
    """Makes the run's folder, or checks that the run there is the same one and can go on to `num_steps`.

    With run.restart an older run is moved aside, and its new place is returned; otherwise None. Raises UserError, with
    nothing touched, when the folder holds something else, or a run with another config, tokenizer or data.
    """
    moved = None
    strange = [entry for entry in entries(run.path) if entry.name[0] != "."]
    if strange and not is_there(run.path / "config.json"):
        raise UserError(f"{run.path}: a folder that is not a run is there; choose another --run.name")
    if run.config.run.restart and is_there(run.path):
        moved = _move_aside(run.path)
    step = latest_step(run.path)
    if step is None:  # what a start that saved nothing left behind may be of other settings
        for name in OF_A_START:
            (run.path / name).unlink(missing_ok=True)
    else:
        _check_same(load_run(run.path), run)
        if step > num_steps:
            raise UserError(f"{run.path}: it has {step} steps already, more than the {num_steps} asked for")
    make_folder(run.path)
    write_text(run.path / "config.json", to_json(run.config))  # first: it makes the folder a run
    make_folder(run.checkpoints)
    save_tokenizer(run.tokenizer, run.path / "tokenizer.json")
    write_text(run.path / "data.json", json.dumps(run.data.to_dict(), indent=2, ensure_ascii=False) + "\n")
    return moved


def _move_aside(path: Path) -> str:
    number = 1
    while is_there(aside := path.with_name(f"{path.name}.old-{number}")):
        number += 1
    move_folder(path, aside)
    return str(aside)


def _check_same(there: Run, asked: Run) -> None:
    may_change = set(MAY_CHANGE)
    if asked.config.optimizer.schedule != "constant":
        may_change -= {"run.epochs", "run.train_tokens"}  # the schedule is laid out over them
    if asked.config.run.init_from is not None:
        may_change |= {f"data.{name}" for name in TOKENIZER_FIELDS}  # it is that run's, and its tokens are compared
    changed = [
        f"{name} is {new!r}, was {old!r}"
        for name, old, new in differences(there.config, asked.config)
        if name not in may_change
    ]
    if not changed and there.tokenizer.fingerprint != asked.tokenizer.fingerprint:
        changed = [f"the tokenizer built from {asked.data.corpus} has other tokens"]
    if not changed:
        read = [(there.data, asked.data)]
        if there.data.rehearsed is not None and asked.data.rehearsed is not None:
            read.append((there.data.rehearsed, asked.data.rehearsed))
        changed = [
            f"the corpus {now.name} has other contents than {before.name} had"
            for before, now in read
            if not before.is_of_same_data(now)
        ]
    if changed:
        raise UserError(
            f"{asked.path}: a run is there, and it differs: {'; '.join(changed)}. "
            "Go on with its settings, choose another --run.name, or start over with --run.restart"
        )


def load_run(path: str | Path) -> Run:
    """Returns the run of a folder; raises UserError when there is none, or it has no checkpoint."""
    run = read_run(path)
    if latest_step(run.path) is None:
        raise UserError(f"{path}: this run has no checkpoint yet; train it first")
    return run


def require_folder(path: Path) -> None:
    """Raises UserError where a run's folder is not there."""
    if not (is_there(path) if is_in_bucket(path) else path.is_dir()):
        raise UserError(f"{path}: no such run folder; {_there_are()}")


def _there_are() -> str:
    runs = sorted(str(folder.parent) for folder in Path("runs").glob("*/config.json"))
    return f"there are: {', '.join(runs) or 'none in runs/ yet'}"


def read_run(path: str | Path) -> Run:
    """Returns the run of a folder, with or without a checkpoint; raises UserError when there is none."""
    path = path_of(path)
    require_folder(path)
    for name in ("config.json", "tokenizer.json", "data.json"):
        if not (is_there(path / name) if is_in_bucket(path) else (path / name).is_file()):
            raise UserError(f"{path}: not a run folder: it has no {name}; {_there_are()}")
    config = from_json(read_text(path / "config.json"), str(path / "config.json"))
    try:
        data = manifest_from_dict(parse_json(read_text(path / "data.json")))
    except ValueError as error:
        raise UserError(f"{path / 'data.json'}: not a data manifest ({error})") from None
    return Run(path, config, load_tokenizer(path / "tokenizer.json"), data)
