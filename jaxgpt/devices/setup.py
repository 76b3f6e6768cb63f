"""JAX started as this program wants it, and what this machine is fast at."""

import os

import jax
import jax.numpy as jnp

from jaxgpt.config import ModelConfig
from jaxgpt.devices.allocator import keep_freed_memory
from jaxgpt.devices.peak import product_flops
from jaxgpt.errors import clipped
from jaxgpt.files import cache_folder
from jaxgpt.ops.attention import causal_attention
from jaxgpt.ops.fused_attention import FUSED, LANES
from jaxgpt.ops.matmul import precision

TRIAL_SIZE = 1_024  # of the products that decide the dtype: large enough to tell, some ten milliseconds each
FIRST_BFLOAT16 = 8.0  # compute capability from which on a GPU multiplies bfloat16 (Ampere)
ONE_ORDER = "--xla_gpu_deterministic_ops=true"
TOLERANCE = 2e-2  # by which a kernel in bfloat16 may differ from another, in shares of the largest number
WORTH_CASTING = 1.2  # how much faster bfloat16 products must be to pay for the casts around them


def start_jax(cache_dir: str, *, run_ahead: bool = True, deterministic: bool = False) -> None:
    """Keeps freed memory, and compiled programs on disk: what follows is faster. Call it before the first array.

    Where the program may `run_ahead` of a CPU it hands over work before the last has ended, each with memory of its
    own. Training may not: a step is long, and its half gigabyte would be held two or three times.

    A product of float32 is one of float32: left to itself a GPU rounds its factors to 10 bits (TF32), a TPU to 7.

    Left to itself a GPU also adds in any order, where many threads add to one place, and takes whichever kernel was
    faster when it tried; `deterministic` asks for one order and one kernel. CPUs and TPUs have no other.
    """
    if deterministic:  # read when the first array is made
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_ORDER}".strip()
    keep_freed_memory()
    jax.config.update("jax_cpu_enable_async_dispatch", run_ahead)
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_compilation_cache_dir", str(cache_folder(cache_dir).absolute() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def fast_dtype() -> tuple[str, str]:
    """Returns (dtype, why): on a CPU by measuring, as some have instructions for bfloat16 that are no faster."""
    kind = jax.default_backend()
    if kind == "gpu" and float(getattr(jax.devices()[0], "compute_capability", 0)) < FIRST_BFLOAT16:
        return "float32", f"{jax.devices()[0].device_kind} has no fast bfloat16"
    if kind != "cpu":
        return "bfloat16", f"on a {kind.upper()}"
    float32, bfloat16 = (product_flops(jnp.dtype(name), TRIAL_SIZE) for name in ("float32", "bfloat16"))
    why = f"this CPU multiplies {bfloat16 / 1e9:,.0f} GFLOP/s in bfloat16, {float32 / 1e9:,.0f} in float32"
    return "mixed" if bfloat16 > WORTH_CASTING * float32 else "float32", why


def fused_attention(model: ModelConfig, seq_len: int) -> tuple[str, str]:
    """Returns (kernel of attention, why): a fused one where the platform has it and a first trial agrees."""
    platform = jax.default_backend()
    if platform not in FUSED:
        return "xla", f"on a {platform.upper()}"
    kernel = FUSED[platform]
    if why := why_not_fused(kernel, model, seq_len):
        return "xla", why
    if failure := try_kernel(kernel, model, seq_len):
        return "xla", f"NOT {kernel}, which failed on a first trial: {failure}"
    return kernel, "fused; a first trial agreed with xla"


def why_not_fused(kernel: str, model: ModelConfig, seq_len: int) -> str | None:
    """Returns what of a model a fused kernel cannot do; None: nothing."""
    if model.dropout:
        return f"{kernel} drops no weights, and model.dropout is {model.dropout}"
    if precision(model.dtype).compute_dtype != jnp.bfloat16:
        return f"{kernel} multiplies in bfloat16, and model.dtype is {model.dtype}"
    if kernel == "splash" and seq_len % LANES:
        return f"splash works on multiples of {LANES} tokens, and data.seq_len is {seq_len}"
    return None


def try_kernel(kernel: str, model: ModelConfig, seq_len: int) -> str | None:
    """Returns what is wrong with a kernel of attention here, after values and gradients of one row; None: nothing."""
    N, H = model.num_heads, model.head_size
    heads = (N, model.num_kv_heads or N, model.num_kv_heads or N, N)
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, dy = (jax.random.normal(key, (1, seq_len, n, H)) for key, n in zip(keys, heads, strict=True))

    def values_and_gradients(name: str) -> list[jax.Array]:
        def weighed(q, k, v):
            y = causal_attention(q, k, v, None, name, precision("mixed"))
            return jnp.sum(y * dy), y

        gradients, y = jax.jit(jax.grad(weighed, argnums=(0, 1, 2), has_aux=True))(q, k, v)
        return [y, *gradients]

    try:
        found = values_and_gradients(kernel)
    except Exception as error:  # whatever the library says: it is not used then
        return clipped(str(error).strip().splitlines()[0])
    for name, x, wanted in zip(("y", "dq", "dk", "dv"), found, values_and_gradients("xla"), strict=True):
        off = float(jnp.max(jnp.abs(x - wanted)) / jnp.max(jnp.abs(wanted)))
        if not off < TOLERANCE:  # not a number is not below anything
            return f"{name} is off by {off:.3g} of its scale"
    return None
