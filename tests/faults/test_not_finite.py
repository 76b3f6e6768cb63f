"""NaN and Inf in loss, gradient or data: the step changes nothing, and nothing poisoned is ever saved."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig
from jaxgpt.data.manifest import Manifest, TextCounts
from jaxgpt.data.sources import Windows
from jaxgpt.errors import RunError
from jaxgpt.run.checkpoint import Best, read_best, write_best
from jaxgpt.run.folder import Run
from jaxgpt.run.load import load_trained
from jaxgpt.run.metrics import read_records
from jaxgpt.run.resume import best_so_far
from jaxgpt.run.verify import verify_run
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer
from jaxgpt.training import objectives, step, trainer
from jaxgpt.training.evaluate import Score
from jaxgpt.training.optimizer import learning_rate_schedule, make_optimizer
from jaxgpt.training.summary import Result

WORDS = WordTokenizer((*SPECIAL, *(f"w{i}" for i in range(40))))
STREAM = (np.arange(8 * 10 * 16) * 7 % WORDS.vocab_size).astype(np.int32)
TRAIN, VALID = Windows(STREAM, 16, 0), Windows(STREAM[: 8 * 16], 16, 0)
MANIFEST = Manifest("text", "mine", "mine", "here", fingerprint="f", tokenizer="", splits={"valid": TextCounts()})


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    """A run of ten steps; its share of the machine's peak is of no interest here, and to measure that takes longer."""
    monkeypatch.setattr(trainer, "peak_tokens_per_second", lambda model, seq_len, frozen: 1e12)
    config = Config(
        model=ModelConfig(context_len=16, embed_dim=16, num_heads=2, num_layers=1, dropout=0.1),
        data=DataConfig(seq_len=16, batch_size=8),
        optimizer=OptimizerConfig(max_consecutive_skips=3),
        run=RunConfig(name="mine", folder=str(tmp_path), eval_every=4),
    )
    return Run(tmp_path / "mine", config, WORDS, MANIFEST)


def fit(run: Run) -> Result:
    return trainer.fit(run, TRAIN, VALID, lambda params: "said", objective=objectives.next_token)


def poison(monkeypatch, where: str, value: float, steps: set[int]) -> None:
    """Puts a value that is not finite into these steps, counted from 1: into the data's weights, loss, or gradient.

    A marked weight tells the compiled step which batches are meant, and the value too: one program does for all.
    """
    marks = {math.nan: 2.0, math.inf: 3.0}
    original_batch, original_loss = trainer.Trainer._batch, objectives.next_token

    def marked(self, index):
        batch = original_batch(self, index)
        if index + 1 in steps:
            weights = np.array(batch.weights)
            weights[0, 0] = value if where == "data" else marks[value]
            batch = batch._replace(weights=jax.device_put(weights, batch.weights.sharding))
        return batch

    def poisoned(params, batch, config, key):
        loss, weight, measures = original_loss(params, batch, config, key)
        mark = batch.weights[0, 0]
        bad = jnp.where(mark == marks[math.nan], math.nan, jnp.where(mark == marks[math.inf], math.inf, 0.0))
        if where == "loss":
            loss = jnp.where(bad == 0.0, loss, bad)
        elif where == "gradient":
            zero = jnp.sum(params["token_embedding"]) * 0.0
            loss = loss + zero_with_gradient(zero, bad)
        return loss, weight, measures

    monkeypatch.setattr(trainer.Trainer, "_batch", marked)
    monkeypatch.setattr(objectives, "next_token", poisoned)


@jax.custom_jvp
def zero_with_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns 0, with this gradient in x."""
    return jnp.zeros_like(x)


@zero_with_gradient.defjvp
def _(primals, tangents):
    return jnp.zeros_like(primals[0]), primals[1] * tangents[0]


@pytest.mark.parametrize("value", [math.nan, pytest.param(math.inf, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "where", ["loss", *(pytest.param(name, marks=pytest.mark.long) for name in ("data", "gradient"))]
)
def test_one_such_step_changes_nothing_and_is_counted(run, monkeypatch, capsys, where, value):
    poison(monkeypatch, where, value, {6})
    assert fit(run).step == 10
    records = read_records(run.path / "metrics.jsonl")
    assert [(record["step"], record["skipped"]) for record in records if "skipped" in record] == [(6, 1.0)]
    assert [record["step"] for record in records if "valid_loss" not in record] == list(range(1, 11))
    assert all(math.isfinite(x) for record in records for x in record.values())
    assert "Skipped: it changes nothing (1 in a row)" in capsys.readouterr().out
    assert not [wrong for _, wrong in verify_run(run.path) if wrong]


@pytest.mark.parametrize(
    "where", ["loss", *(pytest.param(name, marks=pytest.mark.long) for name in ("data", "gradient"))]
)
def test_many_in_a_row_stop_and_the_last_checkpoint_stands(run, monkeypatch, where):
    poison(monkeypatch, where, math.nan, set(range(5, 11)))
    with pytest.raises(RunError, match=r"step 7: the loss is .* number 3 of such steps in a row, on windows \d+, "):
        fit(run)
    assert [path.name for path in (run.path / "checkpoints").glob("[0-9]*")] == ["4"]
    assert not [wrong for _, wrong in verify_run(run.path) if wrong]


@pytest.mark.long
def test_the_count_in_a_row_survives_a_restart(run, monkeypatch):
    config = dataclasses.replace(run.config, run=dataclasses.replace(run.config.run, max_steps=8))
    poison(monkeypatch, "loss", math.nan, {7, 8, 9})
    fit(dataclasses.replace(run, config=config))
    with pytest.raises(RunError, match=r"step 9: .* number 3 of such steps in a row"):
        fit(run)


def test_parameters_that_are_not_finite_are_not_saved(run, monkeypatch):
    """An update that overflows from a finite gradient: the step cannot know, the save does."""
    config = dataclasses.replace(run.config, optimizer=OptimizerConfig(learning_rate=3e38, weight_decay=1e5))
    with pytest.raises(RunError, match=r"not finite|such steps in a row"):
        fit(dataclasses.replace(run, config=config))
    assert not list((run.path / "checkpoints").glob("[0-9]*"))


def scores(monkeypatch, *losses: float) -> None:
    """Lets the evaluations of a run give these losses, one after the other."""
    coming = iter(losses)
    monkeypatch.setattr(trainer, "evaluate", lambda *_: Score(next(coming), 1))


def strictly(path) -> list[dict]:
    """Returns the records of a file that must be JSON as the standard has it, without NaN."""

    def refuse(name: str) -> None:
        raise ValueError(f"{path}: {name} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


@pytest.mark.long
@pytest.mark.parametrize("first", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_never_best(run, monkeypatch, capsys, first):
    scores(monkeypatch, first, 2.0, 3.0)
    assert fit(run).best == Best(8, 2.0)
    assert strictly(run.path / "checkpoints/best.json") == [{"step": 8, "valid_loss": 2.0}]
    losses = [record["valid_loss"] for record in strictly(run.path / "metrics.jsonl") if "valid_loss" in record]
    assert losses == [None, 2.0, 3.0]
    assert load_trained(run.path).step == 8
    out = capsys.readouterr().out
    assert "not finite, so this checkpoint is not the best" in out
    assert max(map(len, out.splitlines())) < 200


@pytest.mark.long
def test_no_finite_loss_at_all_ends_with_advice(run, monkeypatch):
    scores(monkeypatch, math.nan, math.inf, math.nan)
    with pytest.raises(RunError, match=r"no evaluation gave a finite loss.*--run\.restart"):
        fit(run)
    assert read_best(run.checkpoints) is None
    assert load_trained(run.path).step == 10


@pytest.mark.long
def test_a_best_that_is_no_number_on_disk_is_none(run, monkeypatch):
    scores(monkeypatch, 3.0, 2.0, 2.5)
    fit(run)
    write_best(run.checkpoints, Best(10, math.nan))
    assert read_best(run.checkpoints) is None
    assert [name for name, wrong in verify_run(run.path) if wrong] == ["checkpoints/best.json"]
    assert best_so_far(run.path, [8, 10]) == Best(8, 2.0)


@pytest.mark.long
def test_what_to_do_after_many_skips_is_what_can_be_done(run, monkeypatch):
    """The same command would meet the same batches, and a run that goes on may not change its learning rate."""
    poison(monkeypatch, "loss", math.nan, set(range(1, 11)))
    with pytest.raises(RunError, match=r"--run\.restart and a lower --optimizer\.learning-rate"):
        fit(run)
    go_on = dataclasses.replace(run.config.optimizer, max_consecutive_skips=99)
    fit(dataclasses.replace(run, config=dataclasses.replace(run.config, optimizer=go_on)))


@pytest.mark.long
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_skipped_step_counts_for_the_learning_rate(run, name):
    """Five steps with a weight that is no number, then five that move the parameters by the rate that is logged."""
    options = OptimizerConfig(name=name, schedule="cosine", final_lr_fraction=0.0, weight_decay=0.0, learning_rate=1e-3)
    config = dataclasses.replace(run.config, optimizer=options)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=WORDS.vocab_size))
    optimizer = make_optimizer(options, 10)
    train_step = jax.jit(step.make_train_step(config, optimizer))
    schedule = learning_rate_schedule(options, 10, options.learning_rate)
    state = step.init_state(config, optimizer)
    for number in range(10):
        batch = TRAIN.gather(np.arange(8) + 8 * number)
        if number < 5:
            batch = batch._replace(weights=np.full_like(batch.weights, np.nan))
        before = state.params["final_norm"]["scale"]
        state, _ = train_step(state, batch)
        moved = float(jnp.max(jnp.abs(state.params["final_norm"]["scale"] - before)))
        if number == 5:  # Adam's first update is as long as the rate
            assert moved == pytest.approx(float(schedule(5)), rel=1e-3)
        elif number > 5:
            assert moved <= 1.5 * float(schedule(number)) + 1e-9
    assert moved == float(schedule(9)) == 0.0
