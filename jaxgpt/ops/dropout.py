"""Dropout with bits that cost less than what they thin out."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxgpt.ops.sharding import rows_of_batch

COUNTERS = 2**32  # entries that a number of 32 bits tells apart


def dropout_reference(x: jax.Array, key: jax.Array, rate: float) -> jax.Array:
    """Returns x with each entry zeroed with probability `rate` and the others scaled up; other bits than `dropout`."""
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def dropout(x: jax.Array, key: jax.Array | None, rate: float) -> jax.Array:
    """Returns x with a share of its entries zeroed and the others scaled up, the same ones for the same key."""
    if key is None or rate == 0.0:
        return x
    keep = hashed_bits(key, x.shape) >= jnp.uint32(round(rate * 2**32))
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)


def hashed_bits(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Returns uint32 bits of this shape: a hash of each entry's number, begun and ended with words drawn from the key.

    Threefry's twenty rounds an entry cost as much as the attention they thin out. Three multiplications and shifts
    (Wellons' triple32, 2018) scatter the bits well enough to choose what to drop, and fuse with whatever uses them.
    """
    first, last = jax.random.bits(key, (2,), jnp.uint32)
    before, rows = rows_of_batch(shape[0])
    split = next(axis for axis in range(len(shape) + 1) if math.prod((rows, *shape[1:])[axis:]) <= COUNTERS)
    low = jnp.arange(math.prod(shape[split:]), dtype=jnp.uint32).reshape((1,) * split + tuple(shape[split:]))
    if not split:
        low = low + jnp.uint32(before) * jnp.uint32(math.prod(shape[1:]))
    x = jnp.broadcast_to(low, shape) + first
    for number, (shift, multiplier) in enumerate(((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB))):
        x = (x ^ (x >> shift)) * jnp.uint32(multiplier)
        if split and number == 0:  # what has the same number is told apart by the leading axes
            high = jnp.arange(math.prod(shape[:split]), dtype=jnp.uint32)
            high = (high + jnp.uint32(before) * jnp.uint32(math.prod(shape[1:split]))) * jnp.uint32(0x9E3779B9)
            x = x ^ high.reshape(tuple(shape[:split]) + (1,) * (len(shape) - split))
    return x ^ (x >> 14) ^ last
