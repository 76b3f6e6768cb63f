"""What a device can multiply at best: published where a vendor says it, else measured."""

import time

import jax
import jax.numpy as jnp

from jaxgpt.devices.chips import published

CHAIN = 4  # products in a row on a GPU or TPU, so that what starting them costs is small beside them


def peak_flops(dtype: jnp.dtype) -> tuple[float, str]:
    """Returns (the operations a second that a device multiplies at best, "published" or "measured")."""
    chip = published(jax.devices()[0].device_kind)
    if dtype == jnp.bfloat16 and chip is not None:
        return chip.flops, "published"
    # Large enough to be as quick as a product gets, small enough to take a tenth of a second.
    return product_flops(dtype, 2_048 if jax.default_backend() == "cpu" else 8_192), "measured"


def product_flops(dtype: jnp.dtype, size: int) -> float:
    """Returns the floating-point operations a second of the best of three chains of products of squares."""
    products = 1 if jax.default_backend() == "cpu" else CHAIN
    factor = jnp.ones((size, size), dtype) / size

    @jax.jit
    def chain(x: jax.Array) -> jax.Array:
        for _ in range(products):
            x = jnp.einsum("ij,kj->ik", x, factor, preferred_element_type=jnp.float32).astype(dtype)
        return x

    jax.block_until_ready(chain(factor))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(chain(factor))
        seconds.append(time.perf_counter() - began)
    return products * 2 * size**3 / min(seconds)
