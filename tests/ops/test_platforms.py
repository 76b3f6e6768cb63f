"""What is computed in a way of its own on one kind of device comes out as on the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgpt.config import Config, ModelConfig
from jaxgpt.data.batch import Batch
from jaxgpt.model.gpt import GPT
from jaxgpt.training.objectives import next_token


def loss_and_gradients(monkeypatch, platform: str):
    """Returns those of a small model, each operation as `platform` has it, computed here."""

    def chosen(*args, default=None, **ways):
        return ways.get(platform, default)(*args)

    model = ModelConfig(vocab_size=101, context_len=16, embed_dim=32, num_heads=4, num_layers=2, dropout=0.0)
    config = Config(model=model)
    tokens = np.random.default_rng(0).integers(0, 101, (4, 17)).astype(np.int32)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], np.ones((4, 16), np.float32))
    params = nn.unbox(GPT(config.model).init(jax.random.key(0), batch.tokens))["params"]
    with monkeypatch.context() as patched:
        patched.setattr(jax.lax, "platform_dependent", chosen)
        return jax.jit(jax.value_and_grad(lambda params: next_token(params, batch, config, None)[0]))(params)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_all_platforms_agree(monkeypatch, platform):
    expected = loss_and_gradients(monkeypatch, "cpu")
    found = loss_and_gradients(monkeypatch, platform)
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected[1]))
    for got, want in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6 * largest)
