import dataclasses
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig
from jaxgpt.data.batch import Batch
from jaxgpt.devices.mesh import make_mesh
from jaxgpt.model.gpt import GPT, unembedding
from jaxgpt.training.flops import cost, flops_per_token, out_of_memory
from jaxgpt.training.objectives import next_token
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import compile_steps

MODEL = ModelConfig(vocab_size=256, context_len=32, embed_dim=64, num_heads=4, num_layers=2, dropout=0.0)
CONFIG = Config(model=MODEL, data=DataConfig(seq_len=32, batch_size=8))


def test_flops_are_those_the_compiler_counts():
    """A forward pass is a third of a step; XLA counts its products too, and a little elementwise work."""
    tokens_BT = jnp.zeros((4, 32), jnp.int32)
    params = nn.unbox(GPT(MODEL).init(jax.random.key(0), tokens_BT)["params"])

    def forward(params):
        hidden_BTD, _ = GPT(MODEL).apply({"params": params}, tokens_BT)
        return jnp.einsum("BTD,VD->BTV", hidden_BTD, unembedding(params))

    counted = jax.jit(forward).lower(params).compile().cost_analysis()["flops"]
    assert flops_per_token(MODEL, 32) / 3 * tokens_BT.size == pytest.approx(counted, rel=0.15)


def test_flops_by_hand():
    blocks = 2 * (4 * 64 * 64 + 2 * 64 * 256)
    assert flops_per_token(MODEL, 32) == 6 * (blocks + 256 * 64) + 12 * 2 * 64 * 32
    untied = dataclasses.replace(MODEL, tie_embeddings=False)
    assert flops_per_token(untied, 32) == flops_per_token(MODEL, 32)


def test_cost_tells_memory_arithmetic_and_time():
    optimizer = make_optimizer(CONFIG.optimizer, 10)
    compiled = compile_steps(CONFIG, optimizer, make_mesh(CONFIG))
    zeros = np.zeros((8, 32), np.int32)
    batch = compiled.put(Batch(zeros, zeros, np.ones((8, 32), np.float32)))
    text = "\n".join(cost(CONFIG, compiled, batch, 1_000))
    assert re.search(r"parameters +\d+ MB\n  optimizer state +\d+ MB\n  gradients and activations +\d+ MB", text)
    assert re.search(r"MFLOP a token .* GFLOP a step", text)
    assert re.search(r"ms a step(, \d+% of the measured peak of .* GFLOP/s)?; about .* for 1,000 steps", text)
    shares = [int(share) for share in re.findall(r"(\d+)% of the measured peak", text)]
    assert all(share <= 100 for share in shares)


def test_a_dry_run_claims_no_more_than_the_peak(monkeypatch):
    """Its one product was timed while the machine was busy."""
    monkeypatch.setattr("jaxgpt.training.flops.peak_flops", lambda dtype: (1.0, "measured"))
    compiled = compile_steps(CONFIG, make_optimizer(CONFIG.optimizer, 10), make_mesh(CONFIG))
    zeros = np.zeros((8, 32), np.int32)
    batch = compiled.put(Batch(zeros, zeros, np.ones((8, 32), np.float32)))
    assert "of the measured peak" not in "\n".join(cost(CONFIG, compiled, batch, 1_000))


@pytest.mark.long
def test_remat_computes_the_blocks_again_and_gives_the_same_step():
    def step(remat: str):
        config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, remat=remat))
        compiled = compile_steps(config, make_optimizer(config.optimizer, 10), make_mesh(config))
        tokens = np.arange(8 * 32, dtype=np.int32).reshape(8, 32)
        batch = compiled.put(Batch(tokens, tokens, np.ones((8, 32), np.float32)))
        loss = jax.grad(lambda params: next_token(params, batch, config, None)[0])
        program = str(jax.make_jaxpr(loss)(compiled.init().params))
        return len(re.findall(r"remat|checkpoint", program)), compiled.train_step(compiled.init(), batch)

    (within, plain), (blocks, full), (_, dots) = step("none"), step("full"), step("dots")
    assert blocks >= within + MODEL.num_layers  # GELU alone is always computed again
    for again in (full, dots):
        chex.assert_trees_all_close(again, plain, atol=2e-6)


def test_advice_keeps_the_global_batch():
    error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.\nmore")
    text = out_of_memory(CONFIG, error)
    assert "8 x 32 tokens at a time (RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.)" in text
    assert "--optimizer.grad-accumulation-steps=2 works on 4 of the 8 windows" in text
    assert "--model.remat" in text
    assert "--model.dtype=bfloat16" in text
    used_up = dataclasses.replace(
        CONFIG,
        model=dataclasses.replace(MODEL, remat="full", dtype="bfloat16"),
        optimizer=OptimizerConfig(grad_accumulation_steps=8),
    )
    assert "a smaller model" in out_of_memory(used_up, error)
