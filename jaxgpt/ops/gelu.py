"""The GELU (Hendrycks and Gimpel 2016), whose backward pass keeps nothing but its input."""

from functools import partial
from typing import Any

import jax
from flax import linen as nn


def gelu_reference(x: jax.Array, approximate: bool) -> jax.Array:
    """Returns x times the share of a normal distribution below x; `approximate`: by its tanh, as GPT-2 has it."""
    return nn.gelu(x, approximate=approximate)


def gelu(x: jax.Array, approximate: bool) -> jax.Array:
    """Returns what `gelu_reference` does; a backward pass computes the rest from x again."""
    y: Any = _gelu(x, approximate)
    return y


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gelu(x, approximate):
    return gelu_reference(x, approximate)


def _forward(x, approximate):
    return gelu_reference(x, approximate), x


def _backward(approximate, x, dy):
    def again(x: jax.Array, dy: jax.Array) -> jax.Array:
        _, vjp = jax.vjp(lambda x: gelu_reference(x, approximate), x)
        return vjp(dy)[0]

    def apart(x: jax.Array, dy: jax.Array) -> jax.Array:
        return again(*jax.lax.optimization_barrier((x, dy)))

    # Other compilers would keep what the forward pass computed; a TPU's computes both within the products beside them.
    return (jax.lax.platform_dependent(x, dy, tpu=again, default=apart),)


_gelu.defvjp(_forward, _backward)
