"""What a run would take elsewhere: figures that can be worked out by hand, and questions that cannot be answered."""

import dataclasses
import math

import jax
import pytest

from jaxgpt.config import Config, DataConfig, MeshConfig, ModelConfig
from jaxgpt.devices.chips import CHIPS, chips_elsewhere, published
from jaxgpt.errors import UserError
from jaxgpt.model.parameters import abstract_params
from jaxgpt.training import estimate as estimates
from jaxgpt.training.estimate import describe, estimate, settle_elsewhere, splash_flops

MODEL = ModelConfig(vocab_size=256, context_len=128, embed_dim=32, num_heads=2, num_layers=2, dropout=0.0)
CONFIG = Config(model=MODEL, data=DataConfig(seq_len=128, batch_size=8), mesh=MeshConfig(fsdp=8))


@pytest.fixture
def _here(monkeypatch):
    """The devices of this machine, taken for GPUs of another."""
    monkeypatch.setattr(estimates, "chips_elsewhere", lambda on: (CHIPS["h100"], jax.devices()))


@pytest.mark.usefixtures("_here")
def test_memory_is_divided_and_time_adds_up():
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, attention="xla", dtype="bfloat16"))
    found = estimate(config, "h100:8")
    sizes = [x.size for x in jax.tree.leaves(abstract_params(config.model))]
    assert 4 * sum(sizes) / 8 <= found.parameters < 4 * sum(sizes) / 4  # what has no embed_dim is whole everywhere
    assert found.optimizer == pytest.approx(2 * found.parameters, rel=1e-3)
    assert found.link_seconds == pytest.approx(sum(size for _, size in found.program.sent.values()) / 450e9)
    assert found.seconds > found.compute_seconds > found.program.kernels * estimates.KERNEL_SECONDS
    assert found.mfu(found.flops / (8 * 989e12)) == pytest.approx(1)


@pytest.mark.usefixtures("_here")
def test_it_is_told_whether_it_fits_and_how_long_it_takes():
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, attention="xla"))
    found = estimate(config, "h100:8")
    text = "\n".join(describe(found, "h100:8", 1e9))
    assert "it fits" in text
    assert f"the run: {math.ceil(1e9 / 1024):,} steps" in text
    small = dataclasses.replace(found, chip=dataclasses.replace(found.chip, memory=1e3))
    assert "IT DOES NOT FIT" in "\n".join(describe(small, "h100:8", None))
    assert "a billion tokens" in "\n".join(describe(small, "h100:8", None))


def test_what_is_left_to_the_machine_is_decided_as_there():
    auto = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, dtype="auto"))
    assert settle_elsewhere(auto, CHIPS["v5e"]).model.attention == "splash"
    assert settle_elsewhere(auto, CHIPS["h100"]).model.attention == "cudnn"
    dropped = dataclasses.replace(auto, model=dataclasses.replace(auto.model, dropout=0.1))
    assert settle_elsewhere(dropped, CHIPS["v5e"]).model.attention == "xla"
    assert settle_elsewhere(CONFIG, CHIPS["v5e"]).model.dtype == "float32"


@pytest.mark.parametrize(
    ("chip", "asked", "why"),
    [
        ("v5e", {"attention": "cudnn", "dtype": "float32"}, "TPU v5 lite has splash"),
        ("h100", {"attention": "splash"}, "NVIDIA H100 80GB HBM3 has cudnn"),
        ("v5e", {"attention": "splash", "dropout": 0.1}, "drops no weights"),
    ],
)
def test_a_kernel_that_cannot_be_had_there_is_refused(chip, asked, why):
    model = dataclasses.replace(MODEL, **{"dtype": "bfloat16"} | asked)
    with pytest.raises(UserError, match=f"^model.attention: .*{why}"):
        settle_elsewhere(dataclasses.replace(CONFIG, model=model), CHIPS[chip])


def test_the_arithmetic_of_attention_is_that_of_its_products():
    # 8 rows, 2 layers, 7 products of [128, 32] with [32, 128] over all heads: one block, masked in it or not.
    assert splash_flops(CONFIG) == 8 * 2 * 7 * (2 * 128 * 128 * 32)

    wide = dataclasses.replace(MODEL, head_dim=64)
    assert splash_flops(dataclasses.replace(CONFIG, model=wide)) == 4 * splash_flops(CONFIG)

    def of_length(length: int) -> float:
        return splash_flops(dataclasses.replace(CONFIG, data=DataConfig(seq_len=length, batch_size=8)))

    assert of_length(4_096) == 8 * 2 * 9 * (2 * 4_096 * 4_096 * 32) * 10 / 16  # of 4 x 4 blocks 6 lie after the query


@pytest.mark.usefixtures("_here")
def test_float32_is_priced_as_float32_and_a_run_ends_where_it_is_told():
    short = dataclasses.replace(CONFIG.run, train_tokens=1e9, max_steps=10)
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, attention="xla"), run=short)
    found = estimate(config, "h100:8")
    assert found.mfu(found.flops / (8 * 67e12)) == pytest.approx(1)
    assert "the run: 10 steps" in "\n".join(describe(found, "h100:8", None))


@pytest.mark.parametrize("on", ["v9:1", "h100:many", "a100:0", "l4:1", ""])
def test_chips_that_nobody_knows_are_refused(on):
    with pytest.raises(UserError, match=r"^on: "):
        chips_elsewhere(on)


def test_kinds_are_told_apart_by_their_longest_name():
    assert published("TPU v5 lite") == CHIPS["v5e"]
    assert published("TPU v5") == CHIPS["v5p"]
    assert published("NVIDIA A100-SXM4-80GB") == CHIPS["a100"]
    assert published("cpu") is None
