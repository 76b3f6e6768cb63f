"""Next-token cross entropy from hidden states, in tiles: the array of all logits never exists.

With 30,000 words the logits of a batch are half a gigabyte, and writing them costs more than computing them. So the
tokens pass in tiles, of a few hundred on a CPU and some thousands elsewhere; the gradient of a tile is taken while its
probabilities are still at hand.
"""

import math
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgpt.ops.lookup import gathered, summed_over_shards
from jaxgpt.ops.norm import row_sum
from jaxgpt.ops.sharding import batch_shards

FLOAT32 = jnp.dtype("float32")
TILE_BYTES = 48 * 2**20  # of logits and exponentials: with 30,000 words 256 tokens in bfloat16, 128 in float32
LEAST_TOKENS, MOST_TOKENS = 128, 1024  # of a tile: products of fewer are slower on CPU; at most 1 kB a word of the head
DEVICE_TOKENS = 8_192  # of a tile on a GPU or TPU: each tile reads and writes the head's gradient once
LARGEST_TOTAL = 1e37  # of a row's exponentials, one step below float32's largest number
SMALL_LOGIT = 64.0  # e^64 times a million words is far below float32's largest number, e^-64 far above its smallest


def cross_entropy_reference(
    hidden_BTD: jax.Array, head_VD: jax.Array, targets_BT: jax.Array, weights_BT: jax.Array, vocab_size: int
) -> tuple[jax.Array, jax.Array]:
    """Returns (sum of weight times -log p(target), losses_BT of every token), all logits of the batch at once."""
    logits_BTV = jnp.einsum("BTD,VD->BTV", hidden_BTD, head_VD)[..., :vocab_size]
    log_p_BTV = jax.nn.log_softmax(logits_BTV.astype(jnp.float32))
    losses_BT = -jnp.take_along_axis(log_p_BTV, targets_BT[..., None], axis=-1)[..., 0]
    return jnp.sum(weights_BT * losses_BT), losses_BT


def cross_entropy(
    hidden_BTD: jax.Array,
    head_VD: jax.Array,
    targets_BT: jax.Array,
    weights_BT: jax.Array,
    vocab_size: int,
    dtype: jnp.dtype = FLOAT32,
    tile_tokens: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns (sum of weight times -log p(target), losses_BT of every token), in nats and float32.

    Rows of head_VD from vocab_size on are padding and get no probability. `dtype` is that of the products; sums,
    softmax and the head's gradient are float32. A tile has `tile_tokens` tokens on each device; None: as many as suit
    the platform. The sum is differentiable in hidden_BTD and head_VD; losses_BT, to be told from, are not.
    """
    chex.assert_rank([hidden_BTD, head_VD], [3, 2])
    chex.assert_shape([targets_BT, weights_BT], hidden_BTD.shape[:2])
    weights_BT = jax.lax.stop_gradient(weights_BT)
    sums: Any = _loss_sum(hidden_BTD, head_VD, targets_BT, weights_BT, vocab_size, dtype, tile_tokens)
    loss, losses_BT = sums
    return loss, jax.lax.stop_gradient(losses_BT)


def token_losses(
    hidden_BTD: jax.Array,
    head_VD: jax.Array,
    targets_BT: jax.Array,
    vocab_size: int,
    dtype: jnp.dtype = FLOAT32,
    tile_tokens: int | None = None,
) -> jax.Array:
    """Returns -log p(target) of every token, losses_BT in nats; in the same tiles.

    Differentiable: a backward pass computes each tile's logits a second time.
    """

    def losses(most: int, *inputs: jax.Array) -> jax.Array:
        hidden_BTD, head_VD, targets_BT = inputs
        head_VD = gathered(head_VD, FLOAT32)  # cast in each tile, so that their gradients are summed in float32

        @jax.checkpoint
        def tile(_: None, inputs: tuple[jax.Array, jax.Array]) -> tuple[None, jax.Array]:
            h_BtD, targets_Bt = inputs
            log_p_BtV = jax.nn.log_softmax(_tile_logits(h_BtD, head_VD.astype(dtype), vocab_size))
            return None, -jnp.take_along_axis(log_p_BtV, targets_Bt[..., None], axis=-1)[..., 0]

        _, tiles = jax.lax.scan(tile, None, _tiles((hidden_BTD, targets_BT), most))
        return _untile(tiles, targets_BT.shape[1])

    cpu, other = (partial(losses, most) for most in _widths(tile_tokens, head_VD, dtype))
    return jax.lax.platform_dependent(hidden_BTD, head_VD, targets_BT, cpu=cpu, default=other)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _loss_sum(hidden_BTD, head_VD, targets_BT, weights_BT, vocab_size, dtype, tile_tokens):
    losses_BT = token_losses(hidden_BTD, head_VD, targets_BT, vocab_size, dtype, tile_tokens)
    return jnp.sum(weights_BT * losses_BT), losses_BT


def _forward(hidden_BTD, head_VD, targets_BT, weights_BT, vocab_size, dtype, tile_tokens):
    """The loss is one number, so its gradient is known up to a factor before the backward pass: take it now."""
    cpu, other = _widths(tile_tokens, head_VD, dtype)
    return jax.lax.platform_dependent(
        hidden_BTD,
        head_VD,
        targets_BT,
        weights_BT,
        cpu=partial(_on_cpu, vocab_size, dtype, cpu),
        default=partial(_on_devices, vocab_size, dtype, other),
    )


def _on_devices(vocab_size, dtype, tile_tokens, hidden_BTD, head_VD, targets_BT, weights_BT):
    """d loss / d logits = weight * (p - onehot(target)), which is fused with the softmax and written once, in dtype.

    Each of the S shards of a batch adds up its own gradient of the head: they meet once, after the last tile, and
    together with that of an embedding that is the same table.
    """
    S, V = batch_shards(), head_VD.shape[0]
    head = gathered(head_VD, dtype)
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)
    mean_D = product("V,VD->D", (jnp.arange(V) < vocab_size).astype(dtype), head) / vocab_size

    def by_shard(x: jax.Array) -> jax.Array:
        return x.reshape(S, -1, *x.shape[1:])

    def tile(carry, inputs):
        loss, dhead_SVD = carry
        h_BtD, targets_Bt, weights_Bt = inputs
        h_BtD = h_BtD.astype(dtype)
        logits_BtV = _tile_logits(h_BtD, head, vocab_size)
        total_Bt1 = jax.lax.platform_dependent(  # log p, all of it, would be written out
            logits_BtV,
            product("BtD,D->Bt", h_BtD, mean_D)[..., None],
            tpu=logsumexp_off_mean,
            default=lambda logits_BtV, _: logsumexp_reference(logits_BtV),
        )
        is_target_BtV = jnp.arange(V) == targets_Bt[..., None]
        losses_Bt = total_Bt1[..., 0] - jnp.sum(jnp.where(is_target_BtV, logits_BtV, 0.0), axis=-1)
        dlogits_BtV = (weights_Bt[..., None] * (jnp.exp(logits_BtV - total_Bt1) - is_target_BtV)).astype(dtype)
        dhead_SVD = dhead_SVD + product("SbtV,SbtD->SVD", by_shard(dlogits_BtV), by_shard(h_BtD))
        dhead_SVD = nn.with_logical_constraint(dhead_SVD, ("batch", "vocab", "act_embed"))
        dh_BtD = product("BtV,VD->BtD", dlogits_BtV, head)
        return (loss + jnp.sum(weights_Bt * losses_Bt), dhead_SVD), (dh_BtD, losses_Bt)

    start = jnp.zeros((), jnp.float32), jnp.zeros((S, *head_VD.shape), jnp.float32)
    tiles = _tiles((hidden_BTD, targets_BT, weights_BT), tile_tokens)
    (loss, dhead_SVD), by_tile = jax.lax.scan(tile, start, tiles)
    dh_BTD, losses_BT = (_untile(x, targets_BT.shape[1]) for x in by_tile)
    dhead_VD = jnp.sum(dhead_SVD, axis=0)
    return (loss, losses_BT), (dh_BTD.astype(hidden_BTD.dtype), dhead_VD.astype(head_VD.dtype))


def _on_cpu(vocab_size, dtype, tile_tokens, hidden_BTD, head_VD, targets_BT, weights_BT):
    """Here the array of [tile, vocab] is written twice only, as its passes through memory are what costs.

    d loss / d logits = weight * (p - onehot(target)): the p part in tiles, the sparse part after them. With
    p = exp(logits - peak) / total, whatever peak keeps that in range, the division and the weight are left to the small
    factors of each product: so it is written as logits, and as exponentials in the products' own precision.
    """
    V = head_VD.shape[0]
    unknown_V = jnp.where(jnp.arange(V) < vocab_size, 0.0, -jnp.inf)
    head_VD = gathered(head_VD, FLOAT32)
    head = head_VD.astype(dtype)
    small = _longest(hidden_BTD) * _longest(head) < SMALL_LOGIT  # no logit is beyond it (Cauchy and Schwarz)
    product = partial(jnp.einsum, preferred_element_type=jnp.float32)

    def tile(carry, inputs):
        loss, dhead_DV = carry
        h_ND, h_DN, targets_N, weights_N = inputs
        logits_NV = product("ND,VD->NV", h_ND.astype(dtype), head)
        peak_N1 = _peaks(logits_NV, unknown_V, small)
        exp_NV = _rounded(jnp.exp(logits_NV - peak_N1 + unknown_V), dtype)
        total_N1 = jnp.sum(exp_NV.astype(jnp.float32), axis=-1, keepdims=True)
        target_N = jnp.take_along_axis(logits_NV, targets_N[..., None], axis=-1)[..., 0]
        losses_N = (peak_N1 + jnp.log(total_N1))[..., 0] - target_N
        scale_N1 = weights_N[..., None] / total_N1
        # With the embedding in front both factors are read along their rows: twice the speed on CPU.
        dhead_DV = dhead_DV + product("DN,NV->DV", (h_DN * scale_N1[..., 0]).astype(dtype), exp_NV)
        dh_ND = product("NV,VD->ND", exp_NV, head) * scale_N1
        return (loss + jnp.sum(weights_N * losses_N), dhead_DV), (dh_ND, losses_N)

    start = jnp.zeros((), jnp.float32), jnp.zeros(head_VD.shape[::-1], jnp.float32)
    h_tiles, targets, weights = _tiles((hidden_BTD.astype(jnp.float32), targets_BT, weights_BT), tile_tokens)
    tiles = h_tiles, targets, weights
    h_tiles, targets, weights = (x.reshape(x.shape[0], -1, *x.shape[3:]) for x in tiles)
    by_row = h_tiles, jnp.swapaxes(h_tiles, 1, 2), targets, weights
    (loss, dhead_DV), (dh, losses) = jax.lax.scan(tile, start, by_row)
    dh, losses_BT = dh.reshape(tiles[0].shape), _untile(losses.reshape(tiles[1].shape), targets_BT.shape[1])
    weighted_BTD = weights_BT[..., None] * hidden_BTD.astype(jnp.float32)
    dhead_VD = dhead_DV.T.at[targets_BT].add(-weighted_BTD)
    dh_BTD = _untile(dh, targets_BT.shape[1]) - weights_BT[..., None] * head_VD[targets_BT]
    return (loss, losses_BT), (dh_BTD.astype(hidden_BTD.dtype), dhead_VD.astype(head_VD.dtype))


def _backward(vocab_size, dtype, tile_tokens, residuals, dsums):
    (dh_BTD, dhead_VD), (dloss, _) = residuals, dsums
    dhead_VD = summed_over_shards((dloss * dhead_VD).astype(dhead_VD.dtype))
    return (dloss * dh_BTD).astype(dh_BTD.dtype), dhead_VD, None, None


_loss_sum.defvjp(_forward, _backward)


def _tile_logits(h_BtD: jax.Array, head_VD: jax.Array, vocab_size: int) -> jax.Array:
    logits_BtV = jnp.einsum("BtD,VD->BtV", h_BtD.astype(head_VD.dtype), head_VD, preferred_element_type=jnp.float32)
    if vocab_size < head_VD.shape[0]:
        logits_BtV = jnp.where(jnp.arange(head_VD.shape[0]) < vocab_size, logits_BtV, -jnp.inf)
    return logits_BtV


def logsumexp_reference(logits_BtV: jax.Array) -> jax.Array:
    """Returns the log of the sum of each row's exponentials, as [B, t, 1]."""
    return jax.nn.logsumexp(logits_BtV, axis=-1, keepdims=True)


def logsumexp_off_mean(logits_BtV: jax.Array, means_Bt1: jax.Array) -> jax.Array:
    """Returns what `logsumexp_reference` does in one pass; `means` are, about, those of each row's logits.

    A TPU's compiler takes such a sum within the product that makes the logits, as it need not wait for the largest of
    them. With the mean taken off instead a sum is never too small: it is one at least for each word (Jensen's
    inequality). It is too large where a logit lies 80 above the mean; a tile with such a row takes the second pass.
    """
    totals_Bt1 = jnp.sum(jnp.exp(logits_BtV - means_Bt1), axis=-1, keepdims=True)
    return jax.lax.cond(
        jnp.all(totals_Bt1 < LARGEST_TOTAL),
        lambda: means_Bt1 + jnp.log(totals_Bt1),
        lambda: logsumexp_reference(logits_BtV),
    )


def _tile_tokens(head_VD: jax.Array, dtype: jnp.dtype) -> int:
    """Returns the tokens of a tile: a power of two, about as many as have TILE_BYTES of logits and exponentials."""
    token_bytes = head_VD.shape[0] * (FLOAT32.itemsize + jnp.dtype(dtype).itemsize)
    fitting = 2 ** int(math.log2(max(1, TILE_BYTES // token_bytes)))
    return min(max(fitting, LEAST_TOKENS), MOST_TOKENS)


def _widths(tile_tokens: int | None, head_VD: jax.Array, dtype: jnp.dtype) -> tuple[int, int]:
    """Returns the tokens of a tile on (a CPU, another device)."""
    return tile_tokens or _tile_tokens(head_VD, dtype), tile_tokens or DEVICE_TOKENS


def _longest(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.max(row_sum(jnp.square(x.astype(jnp.float32)))))


def _peaks(logits_NV: jax.Array, unknown_V: jax.Array, small: jax.Array) -> jax.Array:
    """Returns what is taken off each row before its exponentials: its largest logit, or nothing if all are `small`.

    The largest costs a CPU a pass over memory; elsewhere it is fused with the product, and a condition would not be.
    """

    def largest(logits_NV: jax.Array) -> jax.Array:
        return jnp.max(logits_NV + unknown_V, axis=-1, keepdims=True)

    def unless_small(logits_NV: jax.Array) -> jax.Array:
        return jax.lax.cond(small, lambda x: jnp.zeros((x.shape[0], 1), x.dtype), largest, logits_NV)

    return jax.lax.platform_dependent(logits_NV, cpu=unless_small, default=largest)


def _rounded(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Returns float32 numbers in the given dtype. To bfloat16 by hand: XLA's own cast keeps an exp from vectorizing."""
    if dtype != jnp.bfloat16:
        return x.astype(dtype)
    upper = (jax.lax.bitcast_convert_type(x, jnp.uint32) + 0x8000) >> 16  # to the nearest, halves away from zero
    return jax.lax.bitcast_convert_type(upper.astype(jnp.uint16), jnp.bfloat16)


def _tiles(arrays: Any, tile_tokens: int) -> Any:
    """Returns each [B, T, ...] array as [T/t, B, t, ...], T padded with zeros to a multiple of t.

    Tiles run along T, not B: the batch stays where the mesh put it, each device with its rows of `tile_tokens` tokens.
    There are two at least: XLA unrolls a loop of one, folds the transposed factor back into its bfloat16 product, and
    then has no CPU code for it.
    """
    batch, length = jax.tree.leaves(arrays)[0].shape[:2]
    width = min(-(-length // 2), max(1, tile_tokens * batch_shards() // batch))
    count = max(2, -(-length // width))

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, [(0, 0), (0, count * width - length)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(x.reshape(batch, count, width, *x.shape[2:]), 1, 0)

    return jax.tree.map(cut, arrays)


def _untile(tiles: jax.Array, length: int) -> jax.Array:
    joined = jnp.moveaxis(tiles, 0, 1)
    return joined.reshape(joined.shape[0], -1, *joined.shape[3:])[:, :length]
