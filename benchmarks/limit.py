"""The machine's limits, measured: the best matrix product in a precision, and the rate of a copy."""

import json
import sys
import time
from collections.abc import Callable

from benchmarks.entrant import serve

# (rows, contracted, columns): large squares, and the shapes GPTs of these sizes are made of
PRODUCTS = ((2_048, 2_048, 2_048), (4_096, 512, 2_048), (4_096, 128, 512), (1_024, 30_080, 128), (1_024, 128, 30_080))
ON_DEVICES = ((8_192, 8_192, 8_192),)  # which need more to be busy
COPY_MB = 256
TRIES = 5


def main() -> None:
    arguments = json.loads(sys.argv[1])

    from jaxgpt.devices.setup import start_jax

    start_jax(arguments["cache_dir"])

    import jax
    import jax.numpy as jnp

    def rate(amount: float, function: Callable, *inputs: jax.Array) -> float:
        """Returns amount per second, the best of a few tries: a limit is what could be reached."""
        jax.block_until_ready(function(*inputs))
        seconds = []
        for _ in range(TRIES):
            began = time.perf_counter()
            jax.block_until_ready(function(*inputs))
            seconds.append(time.perf_counter() - began)
        return amount / min(seconds)

    @jax.jit
    def product(a, b):
        return jnp.einsum("mk,nk->mn", a, b, preferred_element_type=jnp.float32)

    here = {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "platform": jax.default_backend(),
    }

    def work(_: int) -> dict:
        flops = {}
        for dtype in ("float32", "bfloat16"):
            rates = []
            for rows, inner, columns in PRODUCTS if jax.default_backend() == "cpu" else PRODUCTS + ON_DEVICES:
                a, b = jnp.ones((rows, inner), dtype), jnp.ones((columns, inner), dtype)
                rates.append(rate(2.0 * rows * inner * columns, product, a, b))
            flops[dtype] = max(rates)
        x = jnp.ones(COPY_MB * 2**18, jnp.float32)
        copy = rate(2.0 * x.nbytes, jax.jit(lambda x: x + 1.0), x)
        return {"flops_per_second": flops, "bytes_per_second": copy, **here}

    serve(work)


def best_of(measurements: list[dict]) -> dict:
    """Returns the highest of several measurements of the limit."""
    return {
        "flops_per_second": {
            dtype: max(m["flops_per_second"][dtype] for m in measurements)
            for dtype in measurements[0]["flops_per_second"]
        },
        "bytes_per_second": max(m["bytes_per_second"] for m in measurements),
        "device": measurements[0]["device"],
    }


if __name__ == "__main__":
    main()
