"""The tiled loss is the plain loss, in value and gradients."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgpt.devices.hlo import read_program
from jaxgpt.devices.mesh import RULES
from jaxgpt.ops.cross_entropy import (
    _on_devices,
    _tile_tokens,
    _tiles,
    cross_entropy,
    logsumexp_off_mean,
    logsumexp_reference,
    token_losses,
)

B, T, D = 4, 10, 16


@functools.cache
def inputs(vocab: int, padded: int):
    keys = jax.random.split(jax.random.key(0), 4)
    hidden = jax.random.normal(keys[0], (B, T, D))
    head = jax.random.normal(keys[1], (padded, D))
    targets = jax.random.randint(keys[2], (B, T), 0, vocab)
    weights = jax.random.uniform(keys[3], (B, T)) * (jax.random.uniform(keys[3], (B, T)) > 0.3)
    return hidden, head, targets, weights


@functools.partial(jax.jit, static_argnums=4)
def plain(hidden, head, targets, weights, vocab):
    log_p = jax.nn.log_softmax(jnp.einsum("BTD,VD->BTV", hidden, head[:vocab]))
    return -jnp.sum(weights * jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0])


plain_with_gradients = jax.jit(jax.value_and_grad(plain, (0, 1)), static_argnums=4)


@pytest.mark.parametrize("tile_tokens", [4, 12, 20, 512])  # 1, 3, 5 and all 10 columns: 3 does not divide 10
@pytest.mark.parametrize(("vocab", "padded"), [(128, 128), (101, 128), (37, 37)])
def test_tiled_equals_plain(vocab, padded, tile_tokens):
    hidden, head, targets, weights = inputs(vocab, padded)

    def tiled(hidden, head):
        return cross_entropy(hidden, head, targets, weights, vocab, tile_tokens=tile_tokens)

    (loss, losses), gradients = jax.jit(jax.value_and_grad(tiled, (0, 1), has_aux=True))(hidden, head)
    expected, expected_gradients = plain_with_gradients(hidden, head, targets, weights, vocab)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    each = token_losses(hidden, head, targets, vocab)
    np.testing.assert_allclose(losses, each, atol=1e-5)
    for got, want in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)
    np.testing.assert_allclose(
        jax.jit(tiled)(hidden, head)[0], expected, rtol=1e-5
    )  # the forward pass without a gradient


@pytest.mark.parametrize("tile_tokens", [12, 512])
@pytest.mark.parametrize(("vocab", "padded"), [(101, 128), (37, 37)])
def test_the_way_of_gpus_equals_plain(vocab, padded, tile_tokens):
    hidden, head, targets, weights = inputs(vocab, padded)
    on_devices = jax.jit(partial(_on_devices, vocab, jnp.dtype("float32"), tile_tokens))
    (loss, losses), gradients = on_devices(hidden, head, targets, weights)
    np.testing.assert_allclose(losses, token_losses(hidden, head, targets, vocab), atol=1e-5)
    expected, expected_gradients = plain_with_gradients(hidden, head, targets, weights, vocab)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for got, want in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.parametrize(("offset", "spread"), [(0, 1), (-110, 3), (500, 3), (0, 60)])
def test_totals_off_the_mean_are_those_off_the_largest(offset, spread):
    """Also where all logits are far from 0, as those of GPT-2 are, and where one lies too far above the others."""
    logits = offset + spread * jax.random.normal(jax.random.key(0), (B, T, 128)).at[1, 2, 3].set(spread / 2)
    means = logits[..., :101].mean(-1, keepdims=True)
    known = jnp.where(jnp.arange(128) < 101, logits, -jnp.inf)
    assert bool(jnp.any(known - means > 90)) == (spread == 60)
    np.testing.assert_allclose(logsumexp_off_mean(known, means), logsumexp_reference(known), rtol=1e-6, atol=1e-6)


def test_the_way_of_gpus_sends_the_gradient_of_the_head_once():
    hidden, head, targets, weights = inputs(101, 128)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2, 1), ("data", "fsdp", "tensor"))
    rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ([("data", "fsdp")], []))
    on_devices = jax.jit(
        partial(_on_devices, 101, jnp.dtype("float32"), 2), in_shardings=(rows, whole, rows, rows), out_shardings=whole
    )
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        program = on_devices.lower(hidden, head, targets, weights).compile()
        (loss, _), gradients = on_devices(hidden, head, targets, weights)
    _, size = read_program(program.as_text() or "").sent["all-reduce"]
    assert size < 2.1 * head.nbytes  # an all-reduce sends twice what it reduces; tiles are five
    expected, expected_gradients = plain_with_gradients(hidden, head, targets, weights, 101)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for got, want in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)


def test_a_tile_has_as_many_tokens_on_each_of_any_devices():
    x_BT = jax.ShapeDtypeStruct((16, 1024), jnp.float32)
    mesh = jax.sharding.AbstractMesh((4, 2, 1), ("data", "fsdp", "tensor"))
    with jax.sharding.use_abstract_mesh(mesh), nn.logical_axis_rules((("batch", ("data", "fsdp")),)):
        tiles = jax.eval_shape(partial(_tiles, tile_tokens=64), x_BT)
    assert tiles.shape == (1024 // 32, 16, 32)  # 2 rows of 32 on each of 8
    assert jax.eval_shape(partial(_tiles, tile_tokens=64), x_BT).shape == (256, 16, 4)


def test_gradient_scales_with_what_follows():
    hidden, head, targets, weights = inputs(101, 128)

    def scaled(hidden):
        return 3.0 * jnp.square(cross_entropy(hidden, head, targets, weights, 101)[0])

    def expected(hidden):
        return 3.0 * jnp.square(plain(hidden, head, targets, weights, 101))

    np.testing.assert_allclose(jax.grad(scaled)(hidden), jax.grad(expected)(hidden), rtol=2e-4, atol=1e-2)


def test_padding_is_never_predicted():
    hidden, head, targets, weights = inputs(101, 128)
    huge = head.at[101:].set(100.0)  # padding that would win every softmax
    got = cross_entropy(hidden, huge, targets, weights, 101)
    np.testing.assert_allclose(got[0], cross_entropy(hidden, head, targets, weights, 101)[0], rtol=1e-6)
    gradient = jax.grad(lambda head: cross_entropy(hidden, head, targets, weights, 101)[0])(huge)
    assert not np.any(gradient[101:])


def test_no_array_of_all_logits_exists():
    """In the compiled gradient no array holds a logit for every token and word."""
    vocab, length = 1024, 64
    hidden, head = jnp.ones((8, length, D)), jnp.ones((vocab, D))
    targets, weights = jnp.zeros((8, length), jnp.int32), jnp.ones((8, length))

    def loss(hidden, head):
        return cross_entropy(hidden, head, targets, weights, vocab, tile_tokens=32)[0]

    text = jax.jit(jax.grad(loss, (0, 1))).lower(hidden, head).compile().as_text()
    assert f"f32[32,{vocab}]" in text  # a tile
    assert f"[8,{length},{vocab}]" not in text
    assert f"[{8 * length},{vocab}]" not in text


def test_token_losses_add_up_and_bfloat16_is_near():
    hidden, head, targets, weights = inputs(101, 128)
    losses = token_losses(hidden, head, targets, 101, tile_tokens=12)
    assert losses.shape == (B, T)
    total = cross_entropy(hidden, head, targets, weights, 101)[0]
    np.testing.assert_allclose(jnp.sum(losses * weights), total, rtol=1e-5)
    rough = cross_entropy(hidden, head, targets, weights, 101, dtype=jnp.dtype("bfloat16"))[0]
    np.testing.assert_allclose(rough, total, rtol=1e-2)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_bfloat16_gradients_of_a_batch_that_fits_one_tile(length):
    """XLA once folded the transposed factor back into the product, and had no code for what came of it."""
    hidden, head, targets, weights = inputs(101, 128)
    cut = hidden[:, :length], targets[:, :length], weights[:, :length]

    def gradients(dtype):
        def loss(hidden, head):
            return cross_entropy(hidden, head, cut[1], cut[2], 101, dtype=jnp.dtype(dtype))[0]

        return jax.jit(jax.grad(loss, (0, 1)))(cut[0], head)

    for rough, exact in zip(gradients("bfloat16"), gradients("float32"), strict=True):
        np.testing.assert_allclose(rough, exact, atol=2e-2 * float(jnp.max(jnp.abs(exact))))


def test_a_batch_without_weight_is_zero():
    hidden, head, targets, _ = inputs(101, 128)
    loss, losses = cross_entropy(hidden, head, targets, jnp.zeros((B, T)), 101)
    assert float(loss) == 0.0
    assert float(losses.min()) > 0.0


def test_a_tile_holds_fewer_tokens_the_more_words_there_are():
    def tile_tokens(dtype: str) -> list[int]:
        heads = [jnp.zeros((words, 1)) for words in (65, 1_024, 15_104, 30_080, 60_032, 250_112)]
        return [_tile_tokens(head_VD, jnp.dtype(dtype)) for head_VD in heads]

    assert tile_tokens("bfloat16") == [1024, 1024, 512, 256, 128, 128]
    assert tile_tokens("float32") == [1024, 1024, 256, 128, 128, 128]


@pytest.mark.parametrize("length", [0.1, 1.0, 8.0, 300.0])  # bounds on a logit of 4, 40, 300, 10,000
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_of_any_size(length, dtype):
    """Small logits are taken as they are, large ones after the largest: exp would overflow at 89."""
    hidden, head, targets, weights = inputs(101, 128)

    def tiled(hidden, head):
        return cross_entropy(hidden, head, targets, weights, 101, jnp.dtype(dtype))[0]

    rounded = [x.astype(dtype).astype(jnp.float32) for x in (length * hidden, head)]
    got, gradients = jax.jit(jax.value_and_grad(tiled, (0, 1)))(*rounded)
    want, wanted = plain_with_gradients(*rounded, targets, weights, 101)
    np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == "float32" else 2e-3)
    for gradient, expected in zip(gradients, wanted, strict=True):
        scale = jnp.abs(expected).max()
        np.testing.assert_allclose(gradient / scale, expected / scale, atol=1e-5 if dtype == "float32" else 1e-2)
