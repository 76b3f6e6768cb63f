"""Weights of eight bits: whole numbers from -127 to 127, and for each output a scale."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

LARGEST = 127


class Int8(NamedTuple):
    """Stands for values * scale. The scale has the axes of the values, of size 1 where a product sums over them."""

    values: jax.Array
    scale: jax.Array


def quantize(x: jax.Array, summed: Sequence[int]) -> Int8:
    """Returns the nearest whole numbers, each output's largest weight at 127 or -127 (Jacob et al. 2018, symmetric).

    `summed` are the axes that a product with x sums over.
    """
    scale = jnp.max(jnp.abs(x), axis=tuple(summed), keepdims=True) / LARGEST
    scale = jnp.where(scale == 0, 1.0, scale)
    return Int8(jnp.round(x / scale).astype(jnp.int8), scale)


def dequantize(x: jax.Array | Int8) -> jax.Array:
    """Returns the weights as floats, whichever they are."""
    return x.values * x.scale if isinstance(x, Int8) else x
