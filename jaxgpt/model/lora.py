"""Low-rank adaptation (Hu et al. 2021): a kernel W stays as it is, and the product A B of two thin ones is learned.

What a linear map gives is x W + (alpha / rank) x A B. A is drawn and B is zero, so training starts where W stands.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgpt.config import LoraConfig, Projections
from jaxgpt.model.gpt import LORA, Params
from jaxgpt.model.parameters import STACK

ATTENTION, MLP = frozenset({"query", "key", "value", "out"}), frozenset({"up", "gate", "down"})
PROJECTIONS: dict[Projections, frozenset[str]] = {
    "query-value": frozenset({"query", "value"}),
    "attention": ATTENTION,
    "mlp": MLP,
    "all": ATTENTION | MLP,
}
"""lora.projections -> the linear maps of a block that get adapters."""

Adapters = Any  # a tree like that of the parameters, with lora_a and lora_b at each adapted linear map


def init_adapters(params: Params, lora: LoraConfig, key: jax.Array) -> Adapters:
    """Returns adapters for parameters, or for their shapes; with their axes' names where these carry theirs."""
    assert lora.rank is not None
    rank = lora.rank

    def drawn(number: int, name: str, kernel: Any) -> dict[str, Any]:
        boxed = isinstance(kernel, nn.LogicallyPartitioned)
        shape = kernel.value.shape if boxed else kernel.shape
        axes: tuple[Any, ...] = kernel.names if boxed else (None,) * len(shape)
        stack, inputs = _split(len(shape), name)
        own = math.prod(shape[stack : stack + inputs])
        a_shape, b_shape = (*shape[: stack + inputs], rank), (*shape[:stack], rank, *shape[stack + inputs :])
        a = jax.random.normal(jax.random.fold_in(key, number), a_shape) / math.sqrt(own)
        b = jnp.zeros(b_shape, jnp.float32)
        if not boxed:
            return {"lora_a": a, "lora_b": b}
        a_axes, b_axes = (*axes[: stack + inputs], None), (*axes[:stack], None, *axes[stack + inputs :])
        return {"lora_a": nn.LogicallyPartitioned(a, a_axes), "lora_b": nn.LogicallyPartitioned(b, b_axes)}

    return _at_kernels(params, lora, drawn)


def adapted(params: Params, adapters: Adapters, lora: LoraConfig) -> Params:
    """Returns parameters whose linear maps add what the adapters say: what training runs, `model.gpt.variables`."""
    assert lora.rank is not None
    scale = lora.alpha / lora.rank

    def scaled(path: tuple[Any, ...], x: jax.Array) -> jax.Array:
        return x * scale if path[-1].key == "lora_b" else x

    return params | {LORA: jax.tree_util.tree_map_with_path(scaled, adapters)}


def merged(params: Params, adapters: Adapters, lora: LoraConfig) -> Params:
    """Returns parameters of the same network without adapters: W + (alpha / rank) A B in each kernel's place."""
    assert lora.rank is not None
    scale = lora.alpha / lora.rank
    flat, tree = jax.tree_util.tree_flatten_with_path(params)

    def with_its_own(path: tuple[Any, ...], kernel: jax.Array) -> jax.Array:
        here: Any = adapters
        for part in path[:-1]:
            here = here.get(part.key) if isinstance(here, dict) else None
        if here is None or path[-1].key != "kernel":
            return kernel
        stack, _ = _split(kernel.ndim, path[-2].key)
        a, b, lead = here["lora_a"], here["lora_b"], kernel.shape[:stack]
        product = a.reshape(*lead, -1, lora.rank) @ b.reshape(*lead, lora.rank, -1)
        return kernel + (scale * product).reshape(kernel.shape).astype(kernel.dtype)

    return jax.tree_util.tree_unflatten(tree, [with_its_own(path, kernel) for path, kernel in flat])


def _split(ndim: int, name: str) -> tuple[int, int]:
    """Returns how many axes of a kernel count blocks that share its array, and how many are inputs."""
    inputs = 2 if name == "out" else 1
    own = 2 if name in MLP else 3  # heads and head_dim are two
    return ndim - own, inputs


def _at_kernels(params: Params, lora: LoraConfig, make: Callable[[int, str, Any], dict[str, Any]]) -> Adapters:
    """Returns the tree of make(number, name of the linear map, its kernel) at each one that gets adapters."""
    wanted, tree, count = PROJECTIONS[lora.projections], {}, 0
    for block in sorted(params):
        if block != STACK and not block.startswith("block_"):
            continue
        for part in ("attention", "mlp"):
            for name in sorted(wanted & params[block][part].keys()):
                made = make(count, name, params[block][part][name]["kernel"])
                tree.setdefault(block, {}).setdefault(part, {})[name] = made
                count += 1
    return tree
