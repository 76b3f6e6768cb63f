"""Rows brought to length: what layer norm and RMS norm have in common, with its gradient."""

from functools import partial

import jax
import jax.numpy as jnp


def normalize_reference(x: jax.Array, center: bool, epsilon: float) -> jax.Array:
    """Returns each row of x, less its mean if `center`, over its root mean square."""
    x = x - jnp.mean(x, axis=-1, keepdims=True) if center else x
    return x / jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)


def row_sum(x: jax.Array) -> jax.Array:
    """Returns the sum over the last axis, which stays with length 1. It has no gradient; what uses it has its own.

    On CPU by a product with ones: XLA's own sum takes a tenth of a microsecond a row there, however short the row.
    """

    def by_product(x: jax.Array) -> jax.Array:
        sums = x.reshape(-1, x.shape[-1]) @ jnp.ones((x.shape[-1], 1), x.dtype)
        return sums.reshape(*x.shape[:-1], 1)

    return jax.lax.platform_dependent(x, cpu=by_product, default=partial(jnp.sum, axis=-1, keepdims=True))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def normalize(x: jax.Array, center: bool, epsilon: float) -> jax.Array:
    """Returns each row of x over its root mean square, after its mean is taken off if `center`."""
    return _normalize_forward(x, center, epsilon)[0]


def _normalize_forward(x, center, epsilon):
    if center:
        x = x - row_sum(x) / x.shape[-1]
    inverse = jax.lax.rsqrt(row_sum(jnp.square(x)) / x.shape[-1] + epsilon)
    y = x * inverse
    return y, (y, inverse)


def _normalize_backward(center, epsilon, kept, dy):
    y, inverse = kept
    dx = dy - y * row_sum(dy * y) / y.shape[-1]
    if center:
        dx = dx - row_sum(dy) / y.shape[-1]
    return (dx * inverse,)


normalize.defvjp(_normalize_forward, _normalize_backward)
