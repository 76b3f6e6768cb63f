"""The core of attention: the same as attention written out, its gradient too, without looking at what is hidden."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgpt.ops import fused_attention
from jaxgpt.ops.attention import (
    LEAST_QUERIES,
    attention_mask,
    attention_reference,
    attention_weights,
    dot_product_attention,
    heads_first,
    heads_last,
)
from jaxgpt.ops.fused_attention import splash, splash_blocks
from jaxgpt.ops.matmul import precision

FLOAT32 = precision("float32")
B, K, G, H = 2, 2, 3, 8


def inputs(T: int, S: int | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
    shapes = (B, K, G, T, H), (B, K, S or T, H), (B, K, S or T, H)
    rng = np.random.default_rng(0)  # jax.random would be compiled for each shape
    q, k, v = (jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes)
    return q, k, v


def packed_mask(T: int) -> jax.Array:
    """Two texts in each row, divided at different places."""
    return attention_mask((jnp.arange(T) >= jnp.array([[T // 3], [T // 2]])).astype(jnp.int32))


@jax.jit
def written_out(q, k, v, mask):
    scores = jnp.einsum("BKGTH,BKSH->BKGTS", q, k) / math.sqrt(H)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, -jnp.inf), axis=-1)
    return jnp.einsum("BKGTS,BKSH->BKGTH", weights, v)


def with_gradients(function, q, k, v):
    weigh = jnp.cos(jnp.arange(q.size, dtype=jnp.float32)).reshape(q.shape)
    return jax.jit(jax.value_and_grad(lambda *qkv: jnp.sum(weigh * function(*qkv)), argnums=(0, 1, 2)))(q, k, v)


@pytest.mark.parametrize("T", [1, 5, LEAST_QUERIES, LEAST_QUERIES + 1, 4 * LEAST_QUERIES + 30])
def test_attention_and_its_gradient_are_as_written_out(T):
    mask = packed_mask(T)
    ours = with_gradients(lambda *qkv: dot_product_attention(*qkv, mask, FLOAT32, causal=True), *inputs(T))
    chex.assert_trees_all_close(
        ours, with_gradients(lambda *qkv: written_out(*qkv, mask), *inputs(T)), rtol=2e-5, atol=2e-5
    )


def test_queries_may_lie_anywhere_in_a_cache():
    mask = (jnp.arange(20) <= 7 + jnp.arange(4)[:, None])[None].repeat(B, 0)
    q, k, v = inputs(4, 20)
    y = dot_product_attention(q, k, v, mask, FLOAT32, causal=False)
    chex.assert_trees_all_close(y, written_out(q, k, v, mask), rtol=1e-5, atol=1e-5)


def test_a_piece_of_queries_does_not_touch_the_keys_after_it():
    T = 2 * LEAST_QUERIES
    q, k, v = inputs(T)
    v = v.at[:, :, LEAST_QUERIES:].set(jnp.nan)  # times a weight of nothing it is still not a number
    y = dot_product_attention(q, k, v, packed_mask(T), FLOAT32, causal=True)
    assert jnp.isfinite(y[..., :LEAST_QUERIES, :]).all()
    assert not jnp.isfinite(y[..., LEAST_QUERIES:, :]).any()


def test_the_gradient_with_dropout_is_that_of_kept_weights():
    T = LEAST_QUERIES + 3
    q, k, v = inputs(T)
    mask = packed_mask(T)

    @jax.jit
    def dropped(q, k, v):
        return dot_product_attention(q, k, v, mask, FLOAT32, causal=True, key=jax.random.key(5), dropout_rate=0.3)

    check_grads(dropped, (q, k, v), order=1, modes=["rev"], rtol=2e-2, atol=2e-2)
    # With values that name their keys, the answers are the weights themselves.
    names = jnp.broadcast_to(jnp.eye(T), (B, K, T, T))
    wide = jnp.zeros((B, K, G, T, T)).at[..., :H].set(q), jnp.zeros((B, K, T, T)).at[..., :H].set(k)
    kept = dot_product_attention(*wide, names, mask, FLOAT32, causal=True)
    left = dot_product_attention(*wide, names, mask, FLOAT32, causal=True, key=jax.random.key(5), dropout_rate=0.3)
    share = jnp.mean((left == 0)[kept > 0])
    assert 0.28 < share < 0.32
    chex.assert_trees_all_close(left, jnp.where(left == 0, 0.0, kept / 0.7), rtol=1e-5)


def test_bfloat16_keeps_the_gradient_within_its_precision():
    T = 2 * LEAST_QUERIES
    mask = packed_mask(T)
    exact = with_gradients(lambda *qkv: dot_product_attention(*qkv, mask, FLOAT32, causal=True), *inputs(T))[1]
    mixed = with_gradients(lambda *qkv: dot_product_attention(*qkv, mask, precision("mixed"), causal=True), *inputs(T))[
        1
    ]
    for given, wanted in zip(mixed, exact, strict=True):
        assert given.dtype == jnp.float32
        assert jnp.max(jnp.abs(given - wanted)) < 0.03 * jnp.max(jnp.abs(wanted))


def test_weights_are_shares_of_what_a_query_may_see():
    mask = packed_mask(9)
    q, k, _ = inputs(9)
    weights = attention_weights(q, k, mask, jnp.dtype("float32"))
    chex.assert_trees_all_close(jnp.sum(weights, axis=-1), jnp.ones((B, K, G, 9)), rtol=1e-6)
    assert (weights[jnp.broadcast_to(~mask[:, None, None], weights.shape)] == 0).all()


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "length", "packed", "dtype", "blocks", "most"),
    [
        (4, 2, 32, 256, True, "float32", 1, 1e-5),
        (2, 2, 64, 256, False, "mixed", 1, 2e-2),
        (3, 1, 24, 384, True, "mixed", 3, 2e-2),
    ],
)
def test_the_kernel_of_tpus_is_the_reference(
    monkeypatch, heads, kv_heads, head_dim, length, packed, dtype, blocks, most
):
    monkeypatch.setattr(fused_attention, "WIDEST_BLOCK", length // blocks)
    assert splash_blocks(length) == (length // blocks, blocks == 1)
    rng = np.random.default_rng(0)
    q, k, v, dy = (
        jnp.asarray(rng.standard_normal((B, length, n, head_dim), np.float32))
        for n in (heads, kv_heads, kv_heads, heads)
    )
    cuts = jnp.array([[length // 3], [length // 2]])
    segments = (jnp.arange(length) >= cuts).astype(jnp.int32)

    def fused(q, k, v):
        y = splash(q, k, v, segments if packed else None, precision(dtype), interpret=True)
        return jnp.sum(y * dy), y

    def reference(q, k, v):
        mask = attention_mask(segments if packed else jnp.ones_like(segments))
        y = heads_last(attention_reference(*heads_first(q, k, v), mask))
        return jnp.sum(y * dy), y

    kernels = str(jax.make_jaxpr(jax.grad(fused, (0, 1, 2), has_aux=True))(q, k, v)).count("pallas_call[")
    assert kernels == (2 if blocks == 1 else 3)  # one forward; backward one, or two
    (dqkv, y), (dqkv_reference, y_reference) = (
        jax.jit(jax.grad(function, (0, 1, 2), has_aux=True))(q, k, v) for function in (fused, reference)
    )
    for found, wanted in zip((y, *dqkv), (y_reference, *dqkv_reference), strict=True):
        assert float(jnp.max(jnp.abs(found - wanted)) / jnp.max(jnp.abs(wanted))) < most
