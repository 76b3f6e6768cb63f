"""Causal self-attention: every token asks the tokens before it, and takes what they answer."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgpt.config import ModelConfig
from jaxgpt.model.layers import Linear, apply_rope, norm_of
from jaxgpt.ops.attention import (
    attention_mask,
    attention_weights,
    causal_attention,
    dot_product_attention,
    heads_first,
    heads_last,
)
from jaxgpt.ops.matmul import Precision, precision


def _write(cached_BKSH: jax.Array, new_BKTH: jax.Array, first_B: jax.Array) -> jax.Array:
    """Returns the cache with each row's new entries from its own slot on."""
    if cached_BKSH.shape[0] == 1:  # what vmap makes of one row, XLA copies the cache for
        return jax.lax.dynamic_update_slice_in_dim(cached_BKSH, new_BKTH, first_B[0], axis=2)
    return jax.vmap(partial(jax.lax.dynamic_update_slice_in_dim, axis=1))(cached_BKSH, new_BKTH, first_B)


def _over_cache(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    positions_BT: jax.Array,
    cache: tuple[jax.Array, jax.Array],
    activations: jnp.dtype,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Returns (the attended y_BTNH, the cache with the new keys and values in the slots that positions count)."""
    compute_dtype = cache[0].dtype  # as it lies there: casting all of it would cost more than any product
    q_BKGTH, k_BKTH, v_BKTH = heads_first(q_BTNH, k_BTKH, v_BTKH)
    k_BKSH = _write(cache[0], k_BKTH.astype(compute_dtype), positions_BT[:, 0])
    v_BKSH = _write(cache[1], v_BKTH.astype(compute_dtype), positions_BT[:, 0])
    mask_BTS = positions_BT[:, :, None] >= jnp.arange(k_BKSH.shape[2])
    used = Precision(compute_dtype, activations)
    y_BKGTH = dot_product_attention(q_BKGTH, k_BKSH, v_BKSH, mask_BTS, used, causal=False)
    return heads_last(y_BKGTH), (k_BKSH, v_BKSH)


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017), optionally with grouped-query heads (Ainslie et al. 2023).

    Called with x_BTD, segments_BT (or None), positions_BT and, when generating, the layer's cached (k_BKSH, v_BKSH),
    where the new ones go to the slots that positions_BT counts. Returns the attended y_BTD and the updated cache (or
    None).
    """

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        segments_BT: jax.Array | None,
        positions_BT: jax.Array,
        cache: tuple[jax.Array, jax.Array] | None = None,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
        config = self.config
        compute_dtype, activations = precision(config.dtype)
        D, N, K, H = (
            config.embed_dim,
            config.num_heads,
            config.kv_heads,
            config.head_size,
        )  # N / K query heads share a key and value head
        B, T, _ = x_BTD.shape
        init = nn.initializers.normal(0.02)

        def project(name: str, heads: int, axis: str) -> jax.Array:
            axes, shape, bias = ("embed", axis, "head_dim"), (D, heads, H), config.bias != "none"
            return Linear("BTD,DNH->BTNH", shape, axes, init, 2, bias, config.dtype, name=name)(x_BTD)

        q_BTNH = project("query", N, "heads")
        k_BTKH, v_BTKH = project("key", K, "kv_heads"), project("value", K, "kv_heads")
        if config.qk_norm:
            q_BTNH = norm_of(config, "query_norm", "head_dim")(q_BTNH)
            k_BTKH = norm_of(config, "key_norm", "head_dim")(k_BTKH)
        if config.positions == "rotary":
            q_BTNH, k_BTKH = (apply_rope(x, positions_BT, config) for x in (q_BTNH, k_BTKH))

        used = Precision(compute_dtype, activations)
        if cache is None:
            key = self.make_rng("dropout") if self.has_rng("dropout") else None
            y_BTNH = causal_attention(
                q_BTNH,
                k_BTKH,
                v_BTKH,
                segments_BT,
                config.attention,
                used,
                key=key,
                dropout_rate=config.dropout,
            )
            if self.is_mutable_collection("intermediates"):
                q_BKGTH, k_BKTH, _ = heads_first(q_BTNH, k_BTKH, v_BTKH)
                mask_BTS = attention_mask(jnp.ones((B, T), jnp.int32) if segments_BT is None else segments_BT)
                self.sow("intermediates", "weights_BKGTS", attention_weights(q_BKGTH, k_BKTH, mask_BTS, compute_dtype))
        else:
            y_BTNH, cache = _over_cache(q_BTNH, k_BTKH, v_BTKH, positions_BT, cache, activations)

        out_init = nn.initializers.normal(0.02 / math.sqrt(2 * config.num_layers))
        axes, bias = ("heads", "head_dim", "embed"), config.bias == "all"
        y_BTD = Linear("BTNH,NHD->BTD", (N, H, D), axes, out_init, 1, bias, config.dtype, name="out")(y_BTNH)
        return y_BTD, cache
