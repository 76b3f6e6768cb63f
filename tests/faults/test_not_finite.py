"""NaN and Inf in loss, gradient or data: the step changes nothing, and nothing poisoned is ever saved."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig
from jaxgpt.data.sources import Windows
from jaxgpt.errors import RunError
from jaxgpt.text.tokenizer import SPECIAL, Tokenizer
from jaxgpt.training import loop, step
from jaxgpt.training.check import check_run
from jaxgpt.training.metrics import read_records
from jaxgpt.training.run import Run

WORDS = Tokenizer((*SPECIAL, *(f"w{i}" for i in range(40))))
STREAM = (np.arange(8 * 10 * 16) * 7 % WORDS.vocab_size).astype(np.int32)
TRAIN, VALID = Windows(STREAM, 16, 0), Windows(STREAM[: 8 * 16], 16, 0)
MANIFEST = {
    **{"kind": "text", "name": "mine", "corpus": "mine", "fingerprint": "f", "splits": {"valid": {}}},
    **{"fallback_for": None, "notes": [], "source": "here"},
}


@pytest.fixture
def run(tmp_path) -> Run:
    config = Config(
        model=ModelConfig(context_len=16, embed_dim=16, num_heads=2, num_layers=1, dropout=0.1),
        data=DataConfig(seq_len=16, batch_size=8),
        optimizer=OptimizerConfig(max_skipped=3),
        run=RunConfig(name="mine", folder=str(tmp_path), eval_every=4),
    )
    return Run(tmp_path / "mine", config, WORDS, MANIFEST)


def fit(run: Run) -> loop.Result:
    return loop.fit(run, TRAIN, VALID, lambda params: "said")


def poison(monkeypatch, where: str, value: float, steps: set[int]) -> None:
    """Puts a value that is not finite into these steps, counted from 1: into the data's weights, loss, or gradient.

    A marked weight tells the compiled step which batches are meant.
    """
    original_batch, original_loss = loop.batch_at, step.loss_sums

    def batch_at(source, seed, index, *rest):
        batch = original_batch(source, seed, index, *rest)
        if index + 1 in steps:
            weights = batch.weights.copy()
            weights[0, 0] = value if where == "data" else 2.0
            batch = batch._replace(weights=weights)
        return batch

    def loss_sums(params, batch, config, key):
        loss, weight = original_loss(params, batch, config, key)
        marked = batch.weights[0, 0] == 2.0
        if where == "loss":
            loss = jnp.where(marked, value, loss)
        elif where == "gradient":
            zero = jnp.sum(params["token_embedding"]) * 0.0
            loss = loss + zero_with_gradient(zero, jnp.where(marked, value, 0.0))
        return loss, weight

    monkeypatch.setattr(loop, "batch_at", batch_at)
    monkeypatch.setattr(step, "loss_sums", loss_sums)


@jax.custom_jvp
def zero_with_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns 0, with this gradient in x."""
    return jnp.zeros_like(x)


@zero_with_gradient.defjvp
def _(primals, tangents):
    return jnp.zeros_like(primals[0]), primals[1] * tangents[0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["data", "loss", "gradient"])
def test_one_such_step_changes_nothing_and_is_counted(run, monkeypatch, capsys, where, value):
    poison(monkeypatch, where, value, {6})
    assert fit(run).step == 10
    records = read_records(run.path / "metrics.jsonl")
    assert [record for record in records if "skipped" in record] == [{"step": 6, "skipped": 1.0}]
    assert [record["step"] for record in records if "valid_loss" not in record] == list(range(1, 11))
    assert all(math.isfinite(x) for record in records for x in record.values())
    assert "Skipped: it changes nothing (1 in a row)" in capsys.readouterr().out
    assert not [wrong for _, wrong in check_run(run.path) if wrong]


@pytest.mark.parametrize("where", ["data", "loss", "gradient"])
def test_many_in_a_row_stop_the_run_and_the_last_checkpoint_stands(run, monkeypatch, where):
    poison(monkeypatch, where, math.nan, set(range(5, 11)))
    with pytest.raises(RunError, match=r"step 7: the loss is .* number 3 of such steps in a row, on windows \d+, "):
        fit(run)
    assert [path.name for path in (run.path / "checkpoints").glob("[0-9]*")] == ["4"]
    assert not [wrong for _, wrong in check_run(run.path) if wrong]


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
