"""The KV cache: keys and values of the tokens already seen, so that a new token costs one step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgpt.config import ModelConfig
from jaxgpt.model.layers import precision

EMPTY = -1  # the segment of a slot that holds nothing; equal to no token's segment


class KVCache(NamedTuple):
    """Cached keys and values; slots are filled left to right, the same slot for every row.

    Rows of different lengths are padded on the left with segment 0, so all rows end at the same slot.
    """

    layers: tuple[tuple[jax.Array, jax.Array], ...]  # (k_BKSH, v_BKSH) of each; apart, so that each grows in place
    segments_BS: jax.Array
    length: jax.Array  # slots in use, a scalar


def init_cache(config: ModelConfig, batch_size: int, num_slots: int | None = None) -> KVCache:
    """Returns an empty cache with room for `num_slots` tokens (the whole context by default)."""
    num_slots = num_slots or config.context_len
    num_kv_heads = config.num_kv_heads or config.num_heads
    shape = (batch_size, num_kv_heads, num_slots, config.embed_dim // config.num_heads)

    def empty() -> jax.Array:
        return jnp.zeros(shape, precision(config.dtype).activations)

    return KVCache(
        layers=tuple((empty(), empty()) for _ in range(config.num_layers)),
        segments_BS=jnp.full((batch_size, num_slots), EMPTY, jnp.int32),
        length=jnp.zeros((), jnp.int32),
    )
