"""JAX started as this program wants it, and what this machine is fast at."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxgpt.devices.allocator import keep_freed_memory

TRIAL_SIZE = 1_024  # of the products that decide the dtype: large enough to tell, some ten milliseconds each
WORTH_CASTING = 1.2  # how much faster bfloat16 products must be to pay for the casts around them


def start_jax(cache_dir: str, *, run_ahead: bool = True) -> None:
    """Keeps freed memory, and compiled programs on disk: what follows is faster. Call it before the first array.

    Where the program may `run_ahead` of a CPU it hands over work before the last has ended, each with memory of its
    own. Training may not: a step is long, and its half gigabyte would be held two or three times.
    """
    keep_freed_memory()
    jax.config.update("jax_cpu_enable_async_dispatch", run_ahead)
    jax.config.update("jax_compilation_cache_dir", str(Path(cache_dir).expanduser().absolute() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def fast_dtype() -> tuple[str, str]:
    """Returns (dtype, why): on a CPU by measuring, as some have instructions for bfloat16 that are no faster."""
    kind = jax.default_backend()
    if kind != "cpu":
        return "bfloat16", f"on a {kind.upper()}"
    float32, bfloat16 = (product_flops(jnp.dtype(name), TRIAL_SIZE) for name in ("float32", "bfloat16"))
    why = f"this CPU multiplies {bfloat16 / 1e9:,.0f} GFLOP/s in bfloat16, {float32 / 1e9:,.0f} in float32"
    return "mixed" if bfloat16 > WORTH_CASTING * float32 else "float32", why


def product_flops(dtype: jnp.dtype, size: int) -> float:
    """Returns the floating-point operations a second of the best of three products of squares on one device."""
    factor = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: jnp.einsum("ij,kj->ik", a, a, preferred_element_type=jnp.float32))
    jax.block_until_ready(product(factor))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(product(factor))
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)
