"""What blocks are made of: norms, rotary positions, dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.config import ModelConfig
from jaxgpt.model.layers import Dropout, Norm, apply_rope
from jaxgpt.ops.dropout import hashed_bits


def test_norms():
    x = jax.random.normal(jax.random.key(0), (3, 4, 32)) * 5 + 2
    layernorm = Norm("layernorm").init_with_output(jax.random.key(0), x)[0]
    np.testing.assert_allclose(layernorm.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(layernorm.std(-1), 1, atol=1e-4)
    rmsnorm = Norm("rmsnorm").init_with_output(jax.random.key(0), x)[0]
    np.testing.assert_allclose(jnp.square(rmsnorm).mean(-1), 1, atol=1e-4)
    np.testing.assert_allclose(rmsnorm / x, (rmsnorm / x)[..., :1].repeat(32, -1), rtol=1e-5)


def test_rotation_depends_on_distance_only():
    config = ModelConfig(embed_dim=8, num_heads=1)
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))

    def score(query_position, key_position):
        return jnp.sum(
            apply_rope(q, jnp.array([[query_position]]), config) * apply_rope(k, jnp.array([[key_position]]), config)
        )

    np.testing.assert_allclose(score(3, 1), score(103, 101), rtol=1e-4)
    assert abs(score(3, 1) - score(3, 2)) > 1e-3


@pytest.mark.parametrize("width", [64, 7])
def test_dropout_drops_its_share_and_keeps_the_mean(width):
    x = jnp.ones((4096, width))
    y = Dropout(0.1).apply({}, x, rngs={"dropout": jax.random.key(0)})
    assert jnp.mean(y == 0) == pytest.approx(0.1, abs=0.01)
    assert y.mean() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_array_equal(Dropout(0.1).apply({}, x), x)


def test_hashed_bits_look_like_coin_tosses():
    keys = [*jax.random.split(jax.random.key(0), 4), *(jax.random.fold_in(jax.random.key(1), i) for i in range(4))]
    draws = np.stack([np.asarray(hashed_bits(key, (256, 256))).ravel() for key in keys])
    assert draws.dtype == np.uint32
    bits = (draws[:, :, None] >> np.arange(32, dtype=np.uint32) & 1).astype(np.float32) * 2 - 1  # [draw, entry, bit]
    entries = draws.shape[1]
    five_sigma = 5 / entries**0.5
    assert abs(bits.mean(axis=1)).max() < five_sigma  # every bit is as often 1 as 0
    for lag in (1, 2, 7, 128, 256, 4096):  # neighbours in a row, in a column, and further off
        agreement = (bits[:, lag:] * bits[:, :-lag]).mean(axis=1)
        assert abs(agreement).max() < 1.1 * five_sigma, lag
    for i in range(len(draws)):
        for j in range(i):
            assert abs((bits[i] * bits[j]).mean(axis=0)).max() < five_sigma, (i, j)
