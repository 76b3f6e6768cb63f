"""The KV cache: keys and values of the tokens already seen, so that a new token costs one step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgpt.config import ModelConfig
from jaxgpt.ops.matmul import precision


class KVCache(NamedTuple):
    """Cached keys and values. A token's slot is its position, in each row: rows of any lengths lie side by side.

    Slots from lengths_B on hold nothing of meaning. No query sees them, and the next tokens overwrite them, so a prompt
    padded on the right needs its true length put here, and nothing else.
    """

    layers: tuple[tuple[jax.Array, jax.Array], ...]  # (k_BKSH, v_BKSH) of each; apart, so that each grows in place
    lengths_B: jax.Array


def init_cache(config: ModelConfig, batch_size: int) -> KVCache:
    """Returns an empty cache with room for the whole context."""
    shape = (batch_size, config.kv_heads, config.context_len, config.head_size)

    def empty() -> jax.Array:
        return jnp.zeros(shape, precision(config.dtype).activations)

    return KVCache(
        layers=tuple((empty(), empty()) for _ in range(config.num_layers)),
        lengths_B=jnp.zeros(batch_size, jnp.int32),
    )
