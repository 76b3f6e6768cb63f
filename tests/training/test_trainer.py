"""fit(): one trace of the step, its speed on record, a profile on request, and advice when memory runs out."""

import contextlib
import dataclasses
import signal

import jax
import numpy as np
import pytest

from jaxgpt.config import Config, DataConfig, ModelConfig, ObjectiveConfig, RunConfig
from jaxgpt.data.manifest import Manifest, TextCounts
from jaxgpt.data.sources import Windows
from jaxgpt.errors import RunError, UserError
from jaxgpt.run.folder import Run
from jaxgpt.run.metrics import read_records
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer
from jaxgpt.training import step, trainer
from jaxgpt.training.horizon import total_steps
from jaxgpt.training.objectives import Objective, next_token
from jaxgpt.training.summary import Result

WORDS = WordTokenizer((*SPECIAL, *(f"w{i}" for i in range(40))))
STREAM = (np.arange(8 * 10 * 16) * 7 % WORDS.vocab_size).astype(np.int32)
TRAIN = Windows(STREAM, 16, 0)
VALID = Windows(STREAM[: 8 * 16], 16, 0)
MANIFEST = Manifest("text", "mine", "mine", "here", fingerprint="f", tokenizer="", splits={"valid": TextCounts()})


@pytest.fixture
def run(tmp_path) -> Run:
    config = Config(
        model=ModelConfig(context_len=16, embed_dim=16, num_heads=2, num_layers=1),
        data=DataConfig(seq_len=16, batch_size=8),
        run=RunConfig(name="mine", folder=str(tmp_path), eval_every=4),
    )
    return Run(tmp_path / "mine", config, WORDS, MANIFEST)


def fit(run: Run, objective: Objective = next_token) -> Result:
    return trainer.fit(run, TRAIN, VALID, lambda params: "said", objective=objective)


def test_the_schedule_ends_with_the_tokens_asked_for(run):
    def asked(tokens: float) -> Config:
        return dataclasses.replace(run.config, run=dataclasses.replace(run.config.run, epochs=2, train_tokens=tokens))

    windows = range(40)  # of 16 tokens, 8 in a step: two epochs are 10 steps
    assert total_steps(asked(5 * 8 * 16 + 3), windows) == (5, 5)
    assert total_steps(asked(10 * 8 * 16), windows) == (10, 10)
    on_answers = ObjectiveConfig(name="grpo", group_size=2, updates=3)
    rewarded = dataclasses.replace(asked(5 * 8 * 16), objective=on_answers)
    assert total_steps(rewarded, windows) == (6, 6), "steps on the same answers are all made"
    with pytest.raises(
        UserError, match=r"^run\.train_tokens: 1,408 was given; 2 passes .* Give --run\.epochs 3, more text"
    ):
        total_steps(asked(11 * 8 * 16), windows)


def test_the_steps_are_traced_once_each_in_a_run(run):
    traced = []

    def counting(params, batch, config, key):
        traced.append("evaluation" if key is None else "training")
        return next_token(params, batch, config, key)

    assert fit(run, counting).step == 10
    assert sorted(traced) == ["evaluation", "training"]


def test_speed_and_utilisation_are_recorded_and_shown(run, capsys):
    fit(run)
    records = [record for record in read_records(run.path / "metrics.jsonl") if "loss" in record]
    timed = [record for record in records if "tokens_per_second" in record]
    assert len(timed) >= 3
    assert all(record["tokens_per_second"] > 0 for record in timed)
    step_tokens = run.config.data.batch_size * run.config.data.seq_len
    assert [record["tokens"] for record in records] == [step * step_tokens for step in range(1, 11)]
    seconds = [record["seconds"] for record in read_records(run.path / "metrics.jsonl")]
    assert seconds[0] > 0
    assert seconds == sorted(seconds)
    assert all(0 < record.get("mfu", 0.5) <= 1 for record in records)
    assert "% of peak" in capsys.readouterr().out


@pytest.mark.long
def test_a_profile_is_a_trace_that_tensorboard_finds(run):
    config = dataclasses.replace(run.config, run=dataclasses.replace(run.config.run, profile=True))
    fit(dataclasses.replace(run, config=config))
    (trace,) = run.path.glob("tensorboard/plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 1_000


def test_running_out_of_memory_ends_with_advice(run, monkeypatch):
    def too_much(*arguments):
        def fail(state, batch):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.")

        return step.compile_steps(*arguments)._replace(train_step=fail)

    monkeypatch.setattr(trainer, "compile_steps", too_much)
    with pytest.raises(
        RunError, match=r"out of memory with 8 x 16 tokens at a time .*--optimizer\.grad-accumulation-steps=2"
    ):
        fit(run)


@pytest.mark.long
def test_a_checkpoint_is_due_after_some_minutes_too(run):
    """With next to none between two of them every step is saved; two are kept, and the one that was evaluated."""
    settings = dataclasses.replace(run.config.run, eval_every=7, save_every_minutes=1e-9)
    fit(dataclasses.replace(run, config=dataclasses.replace(run.config, run=settings)))
    steps = {int(path.name) for path in run.checkpoints.glob("[0-9]*")}
    assert {9, 10} <= steps <= {7, 9, 10}


def logged(run: Run) -> int:
    return max((record["step"] for record in read_records(run.path / "metrics.jsonl")), default=0)


@pytest.mark.long
def test_samples_come_between_evaluations_and_after_a_stop(run, monkeypatch):
    """A run that was stopped where a sample was due has the samples of one that was not."""
    monkeypatch.setattr(trainer, "MOST_OFTEN", 3)
    config = dataclasses.replace(run.config, run=dataclasses.replace(run.config.run, eval_every=4))
    whole, stopped = (dataclasses.replace(run, path=run.path.with_name(name), config=config) for name in "ab")
    fit(whole)
    steps = [record["step"] for record in read_records(whole.path / "samples.jsonl")]
    assert steps == [3, 4, 6, 8, 9, 10]
    for last in (4, 6):  # where an evaluation is due, and where a sample alone is

        @contextlib.contextmanager
        def stop_on_signal(last=last):
            yield lambda: signal.SIGINT * (logged(stopped) >= last - 1)  # this step's comes after it was asked

        with monkeypatch.context() as patch:
            patch.setattr(trainer, "stop_on_signal", stop_on_signal)
            with pytest.raises(SystemExit):
                fit(stopped)
        assert logged(stopped) == last
    fit(stopped)
    assert (stopped.path / "samples.jsonl").read_text() == (whole.path / "samples.jsonl").read_text()


def test_a_run_that_saved_nothing_says_that_it_begins_again(run, monkeypatch, capsys):
    def killed(self):
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "loop", killed)
        with pytest.raises(SystemExit):
            fit(run)
    assert "begins again" not in capsys.readouterr().out
    fit(run)
    assert "no step of this run was saved yet: it begins again at step 0" in capsys.readouterr().out
