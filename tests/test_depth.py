"""The dial of a model's size: the preset at its own depth, its rules at others, and what is given beside it."""

import dataclasses
import math

import pytest

from jaxgpt.allowed import validate
from jaxgpt.command_line import parse_train
from jaxgpt.config import differences
from jaxgpt.config_file import load_config_file
from jaxgpt.depth import at_depth, matrices
from jaxgpt.errors import UserError

GPT2 = load_config_file("gpt2")


def test_a_preset_at_its_own_depth_is_itself_but_for_its_length():
    changed = {name for name, *_ in differences(GPT2, at_depth(GPT2, 12))}
    assert changed == {"model.depth", "run.train_tokens", "optimizer.warmup_steps"}


@pytest.mark.parametrize("depth", [1, 4, 12, 20, 48])
def test_what_follows_from_a_depth(depth):
    config = validate(at_depth(GPT2, depth))
    model, data, optimizer, run = config.model, config.data, config.optimizer, config.run
    assert (model.num_layers, model.embed_dim, model.num_heads, model.head_size) == (depth, 64 * depth, depth, 64)
    step_tokens = data.batch_size * data.seq_len
    assert run.train_tokens == pytest.approx(20 * matrices(depth, 64 * depth), abs=step_tokens)
    ideal = GPT2.data.batch_size * (depth / 12) ** (3 * 0.383)
    assert abs(math.log2(data.batch_size / ideal)) <= 0.5
    assert data.batch_size // optimizer.grad_accumulation_steps <= 16, "a GPU's batch is no larger than it was"
    rate = 6e-4 * math.sqrt(data.batch_size / 512) * 12 / depth
    assert optimizer.learning_rate == pytest.approx(rate, rel=0.01)
    assert optimizer.warmup_steps <= 1 + run.train_tokens / step_tokens / 10


def test_muon_keeps_its_rate_when_the_width_changes():
    muon = dataclasses.replace(GPT2, optimizer=dataclasses.replace(GPT2.optimizer, name="muon"))
    optimizer = at_depth(muon, 3).optimizer
    smaller = math.sqrt(at_depth(muon, 3).data.batch_size / 512)
    assert optimizer.muon_learning_rate == pytest.approx(0.02 * smaller, rel=0.01)
    assert optimizer.learning_rate == pytest.approx(6e-4 * smaller * 2, rel=0.01)


def test_what_is_given_beside_it_wins():
    words = ["--model.depth", "4", "--model.num-heads", "8", "--run.train-tokens", "1000000"]
    config = parse_train("gpt2", "", words).settings
    assert (config.model.depth, config.model.embed_dim, config.model.num_heads) == (4, 256, 8)
    assert config.run.train_tokens == 1_000_000
    assert parse_train("gpt2", "", ["--model.depth=4"]).settings == at_depth(GPT2, 4)
    assert parse_train("gpt2", "", ["--model.depth", "None"]).settings == GPT2


@pytest.mark.parametrize("typed", ["0", "-3", "1000", "deep", "4.5", ""])
def test_what_is_no_depth_is_refused(typed):
    with pytest.raises(UserError, match=r"depth"):
        parse_train("gpt2", "", ["--model.depth", typed])
