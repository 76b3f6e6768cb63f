"""Dot-product attention: each query's mean of the values, weighted by how well their keys match it.

A kernel (ModelConfig.attention) is `xla`, our own, for every platform; or a fused one of fused_attention.py.

Our own: a causal query sees on average half of the keys. So queries are taken in a few pieces, each over the keys up to
its last query: four pieces are five eighths of the work. The backward pass needs the weights only, and one copy of them
is kept, in compute_dtype.
"""

import math
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxgpt.data.batch import BRANCHES
from jaxgpt.ops.dropout import dropout
from jaxgpt.ops.fused_attention import FUSED, cudnn, splash
from jaxgpt.ops.matmul import Precision, matmul, matmul_over_rows
from jaxgpt.ops.norm import row_sum

FLOAT32 = jnp.dtype("float32")
MOST_PIECES = 4
LEAST_QUERIES = 64  # in a piece: smaller products cost a CPU more to start than they save


def attention_reference(q_BKGTH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, mask_BTS: jax.Array) -> jax.Array:
    """Returns y_BKGTH = softmax(q k / sqrt(H)) v (Vaswani et al. 2017), G query heads sharing each of K key heads."""
    scores_BKGTS = jnp.einsum("BKGTH,BKSH->BKGTS", q_BKGTH, k_BKSH) / math.sqrt(q_BKGTH.shape[-1])
    weights_BKGTS = jax.nn.softmax(jnp.where(mask_BTS[:, None, None], scores_BKGTS, -jnp.inf), axis=-1)
    return jnp.einsum("BKGTS,BKSH->BKGTH", weights_BKGTS, v_BKSH)


def attention_mask(segments_BT: jax.Array) -> jax.Array:
    """Returns mask_BTS, true where query t may look at key s: not later, and in its segment or what that goes on from.

    Two conversations packed in one row, segments [1, 1, 2, 2], and two answers to one question, segments
    [n, n, n + 1, n + 2] with n a multiple of BRANCHES:

        [[1, 0, 0, 0],      [[1, 0, 0, 0],
         [1, 1, 0, 0],       [1, 1, 0, 0],
         [0, 0, 1, 0],       [1, 1, 1, 0],
         [0, 0, 1, 1]]       [1, 1, 0, 1]]
    """
    T = segments_BT.shape[1]
    trunk_BT = segments_BT - segments_BT % BRANCHES  # 0, which is no text, where a segment goes on from none
    same_BTS = segments_BT[:, :, None] == segments_BT[:, None, :]
    goes_on_BTS = (trunk_BT[:, :, None] == segments_BT[:, None, :]) & (segments_BT > 0)[:, None, :]
    return jnp.tril(jnp.ones((T, T), bool)) & (same_BTS | goes_on_BTS)


def causal_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array | None,
    kernel: str,
    precision: Precision,
    *,
    key: jax.Array | None = None,
    dropout_rate: float = 0.0,
) -> jax.Array:
    """Returns y_BTNH: each token's mean of the values up to its own, by the kernel of that name.

    Differentiable in q, k and v.

    Args:
        q_BTNH: queries.
        k_BTKH: keys; each is shared by N / K query heads.
        v_BTKH: values.
        segments_BT: the texts that share a row, which do not see each other; None: each row is one. splash knows of
            no BRANCHES.
        kernel: xla, cudnn or splash.
        precision: of the products' factors, and of the result.
        key: drops a share `dropout_rate` of the weights, which needs the kernel xla; None drops nothing.
        dropout_rate: that share.
    """
    B, T, _, H = q_BTNH.shape
    K = k_BTKH.shape[2]
    chex.assert_shape([k_BTKH, v_BTKH], (B, T, K, H))
    if kernel in FUSED.values():
        assert key is None or dropout_rate == 0, f"{kernel} drops no weights"
        if kernel == "splash":
            return splash(q_BTNH, k_BTKH, v_BTKH, segments_BT, precision)
        mask_BTT = None if segments_BT is None else attention_mask(segments_BT)
        return cudnn(q_BTNH, k_BTKH, v_BTKH, mask_BTT, precision)
    segments_BT = jnp.ones((B, T), jnp.int32) if segments_BT is None else segments_BT
    y_BKGTH = dot_product_attention(
        *heads_first(q_BTNH, k_BTKH, v_BTKH),
        attention_mask(segments_BT),
        precision,
        causal=True,
        key=key,
        dropout_rate=dropout_rate,
    )
    return heads_last(y_BKGTH)


def heads_first(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns q_BKGTH, k_BKTH, v_BKTH: every product is then a plain batch of matrices, which CPUs like."""
    B, T, N, H = q_BTNH.shape
    K = k_BTKH.shape[2]
    q_BKGTH = jnp.transpose(q_BTNH.reshape(B, T, K, N // K, H), (0, 2, 3, 1, 4))
    return q_BKGTH, jnp.swapaxes(k_BTKH, 1, 2), jnp.swapaxes(v_BTKH, 1, 2)


def heads_last(y_BKGTH: jax.Array) -> jax.Array:
    """Returns y_BTNH, the layout of projections."""
    B, K, G, T, H = y_BKGTH.shape
    return jnp.transpose(y_BKGTH, (0, 3, 1, 2, 4)).reshape(B, T, K * G, H)


def attention_weights(
    q_BKGTH: jax.Array, k_BKSH: jax.Array, mask_BTS: jax.Array, compute_dtype: jnp.dtype
) -> jax.Array:
    """Returns weights_BKGTS, the softmax over the keys that each query sees: float32, of factors in compute_dtype."""
    scores_BKGTS = matmul("BKGTH,BKSH->BKGTS", q_BKGTH, k_BKSH, compute_dtype, FLOAT32)
    scores_BKGTS = jnp.where(mask_BTS[:, None, None], scores_BKGTS / math.sqrt(q_BKGTH.shape[-1]), -jnp.inf)
    return jax.nn.softmax(scores_BKGTS, axis=-1)


def dot_product_attention(
    q_BKGTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    mask_BTS: jax.Array,
    precision: Precision,
    *,
    causal: bool,
    key: jax.Array | None = None,
    dropout_rate: float = 0.0,
) -> jax.Array:
    """Returns y_BKGTH: each query's mean of the values, weighted by attention_weights.

    `causal` says that queries and keys are of the same positions and that the mask hides every later key. A share
    `dropout_rate` of the weights is dropped if a key is given. Differentiable in q, k and v.
    """
    B, K, _, T, H = q_BKGTH.shape
    S = k_BKSH.shape[2]
    chex.assert_shape([k_BKSH, v_BKSH], (B, K, S, H))
    chex.assert_shape(mask_BTS, (B, T, S))
    width = max(LEAST_QUERIES, math.ceil(T / MOST_PIECES)) if causal else T
    ends = [min(start + width, T) for start in range(0, T, width)]
    pieces = tuple((start, end, end if causal else S) for start, end in zip([0, *ends], ends, strict=False))
    y: Any = _attend(q_BKGTH, k_BKSH, v_BKSH, mask_BTS, key, dropout_rate, precision, pieces)
    return y


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def _attend(q_BKGTH, k_BKSH, v_BKSH, mask_BTS, key, dropout_rate, precision, pieces):
    return _forward(q_BKGTH, k_BKSH, v_BKSH, mask_BTS, key, dropout_rate, precision, pieces)[0]


def _forward(q_BKGTH, k_BKSH, v_BKSH, mask_BTS, key, dropout_rate, precision, pieces):
    compute_dtype, activations = precision
    answers, weights = [], []
    for start, end, seen in pieces:
        mask_BtS = mask_BTS[:, start:end, :seen]
        weights_BKGtS = attention_weights(q_BKGTH[..., start:end, :], k_BKSH[:, :, :seen], mask_BtS, compute_dtype)
        dropped_BKGtS = dropout(weights_BKGtS, _piece_key(key, start), dropout_rate)
        answers.append(matmul("BKGtS,BKSH->BKGtH", dropped_BKGtS, v_BKSH[:, :, :seen], compute_dtype, activations))
        weights.append(weights_BKGtS.astype(compute_dtype))
    y_BKGTH = jnp.concatenate(answers, axis=3)
    return y_BKGTH, (q_BKGTH, k_BKSH, v_BKSH, key, weights)


def _backward(dropout_rate, precision, pieces, kept, dy_BKGTH):
    q_BKGTH, k_BKSH, v_BKSH, key, weights = kept
    compute_dtype, activations = precision
    # In bfloat16 XLA's own transposed copy of the scores is faster.
    over_rows = matmul_over_rows if compute_dtype == FLOAT32 else matmul
    dq, dk_BKSH, dv_BKSH = [], jnp.zeros(k_BKSH.shape, FLOAT32), jnp.zeros(v_BKSH.shape, FLOAT32)
    for (start, end, seen), weights_BKGtS in zip(pieces, weights, strict=True):
        q_BKGtH, dy_BKGtH = q_BKGTH[..., start:end, :], dy_BKGTH[..., start:end, :]
        weights_BKGtS, piece_key = weights_BKGtS.astype(FLOAT32), _piece_key(key, start)
        dropped_BKGtS = dropout(weights_BKGtS, piece_key, dropout_rate)
        dv_BKsH = over_rows("BKGtS,BKGtH->BKSH", dropped_BKGtS, dy_BKGtH, compute_dtype, FLOAT32)
        dweights_BKGtS = matmul("BKGtH,BKSH->BKGtS", dy_BKGtH, v_BKSH[:, :, :seen], compute_dtype, FLOAT32)
        dweights_BKGtS = dropout(dweights_BKGtS, piece_key, dropout_rate)
        dscores_BKGtS = weights_BKGtS * (dweights_BKGtS - row_sum(weights_BKGtS * dweights_BKGtS))
        dscores_BKGtS = dscores_BKGtS / math.sqrt(q_BKGTH.shape[-1])
        dq.append(matmul("BKGtS,BKSH->BKGtH", dscores_BKGtS, k_BKSH[:, :, :seen], compute_dtype, activations))
        dk_BKsH = over_rows("BKGtS,BKGtH->BKSH", dscores_BKGtS, q_BKGtH, compute_dtype, FLOAT32)
        dk_BKSH, dv_BKSH = dk_BKSH.at[:, :, :seen].add(dk_BKsH), dv_BKSH.at[:, :, :seen].add(dv_BKsH)
    return jnp.concatenate(dq, axis=3), dk_BKSH.astype(k_BKSH.dtype), dv_BKSH.astype(v_BKSH.dtype), None, None


_attend.defvjp(_forward, _backward)


def _piece_key(key: jax.Array | None, start: int) -> jax.Array | None:
    return None if key is None else jax.random.fold_in(key, start)
