"""What a device can multiply at best: published where a vendor says it, else measured."""

import time

import jax
import jax.numpy as jnp

BFLOAT16_PEAKS = {
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L4": 121e12,
    "TPU v3": 61.5e12,  # of a core, which is a device to JAX
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,  # v5p
    "TPU v6 lite": 918e12,
}
"""Beginning of a device's kind -> dense bfloat16 operations a second, as its vendor states them."""
CHAIN = 4  # products in a row on a GPU or TPU, so that what starting them costs is small beside them


def peak_flops(dtype: jnp.dtype) -> tuple[float, str]:
    """Returns (the operations a second that a device multiplies at best, "published" or "measured")."""
    kind = jax.devices()[0].device_kind
    known = [name for name in BFLOAT16_PEAKS if kind.startswith(name)]
    if dtype == jnp.bfloat16 and known:
        return BFLOAT16_PEAKS[max(known, key=len)], "published"
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
