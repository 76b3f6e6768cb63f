"""What the network's parameters are. Optimizer, cost, reports and inference ask here, and know no parameter by name."""

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgpt.config import ModelConfig
from jaxgpt.model.gpt import GPT, Params
from jaxgpt.model.layers import norm_of
from jaxgpt.ops.int8 import Int8, dequantize, quantize

STACK = "blocks"  # what model.scan_layers calls the blocks that share arrays
PARTS = ("token_embedding", "position_embedding", "attention", "mlp", "norm", "final_norm", "head")
"""What `parameter_part` tells apart, in the order of the data; attention, mlp and norm are those of the blocks."""


@lru_cache(maxsize=8)
def abstract_params(config: ModelConfig, boxed: bool = False) -> Params:
    """Returns shapes and types of a model's parameters, without computing any; traced once for each model.

    `boxed` keeps the names of their logical axes on them.
    """
    if not boxed:
        return nn.unbox(abstract_params(config, boxed=True))
    tokens_BT = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    anywhere = dataclasses.replace(config, attention="xla")  # another kernel may not be here, or not take two tokens
    return jax.eval_shape(GPT(anywhere).init, jax.random.key(0), tokens_BT)["params"]


def parameter_kind(path: tuple[Any, ...]) -> Literal["embedding", "matrix", "vector"]:
    """Returns what the parameter at this path of the tree is: looked up by token or position, multiplied, or added.

    The head is an embedding whether it is tied or not. Biases and norm scales are vectors, whatever their rank, and
    adapters are matrices.
    """
    names = _names(path)
    if names[0] in ("token_embedding", "position_embedding", "head"):
        return "embedding"
    return "matrix" if {"kernel", "lora_a", "lora_b"}.intersection(names) else "vector"


def parameter_part(path: tuple[Any, ...]) -> str:
    """Returns which of PARTS the parameter at this path belongs to."""
    names = _names(path)
    if names[0] in PARTS:
        return names[0]
    return names[1] if names[1] in PARTS else "norm"


def as_matrices(path: tuple[Any, ...], kernel: jax.Array) -> jax.Array:
    """Returns the kernels at this path as [kernels, inputs, outputs], heads and head_dim taken together."""
    names = _names(path)
    count = kernel.shape[0] if names[0] == STACK else 1
    own = kernel.shape[1:] if names[0] == STACK else kernel.shape
    inputs = math.prod(own[:-1]) if "out" in names else own[0]
    return kernel.reshape(count, inputs, -1)


def unstacked(tree: Any, take: Callable[[Any, int], Any] = lambda x, i: x[i]) -> Any:
    """Returns a tree of parameters, or of what an optimizer keeps of them, with every block's apart.

    So they are everywhere but in a training with model.scan_layers. `take` gives what block i has of a shared array.
    """
    stacks = [x[STACK] for x in jax.tree.leaves(tree, is_leaf=_has(STACK)) if _has(STACK)(x)]
    count = max((x.shape[0] for x in jax.tree.leaves(stacks)), default=0)  # an optimizer may keep nothing of some

    def apart(x: Any) -> Any:
        if not _has(STACK)(x):
            return x
        blocks = {f"block_{i}": jax.tree.map(lambda array, i=i: take(array, i), x[STACK]) for i in range(count)}
        return {name: value for name, value in x.items() if name != STACK} | blocks

    return jax.tree.map(apart, tree, is_leaf=_has(STACK))


def each_block_apart(tree: Any) -> Any:
    """Returns arrays `unstacked` by one program, where they are not so already: slices one by one compile for long."""
    return jax.jit(unstacked)(tree) if is_stacked(tree) else tree


def stacked(tree: Any) -> Any:
    """Returns the tree that `unstacked` takes apart."""

    def together(x: Any) -> Any:
        if not _has("block_0")(x):
            return x
        names = [f"block_{i}" for i in range(sum(name.startswith("block_") for name in x))]
        blocks = jax.tree.map(lambda *arrays: jnp.stack(arrays), *(x[name] for name in names))
        return {name: value for name, value in x.items() if name not in names} | {STACK: blocks}

    return jax.tree.map(together, tree, is_leaf=_has("block_0"))


def is_stacked(tree: Any) -> bool:
    """Returns whether the blocks of a tree of parameters share arrays."""
    return any(map(_has(STACK), jax.tree.leaves(tree, is_leaf=_has(STACK))))


def in_int8(params: Params) -> Params:
    """Returns the parameters with matrices and embeddings in eight bits, to be used only; every block must be apart."""

    def made(path: tuple[Any, ...], x: jax.Array) -> jax.Array | Int8:
        match parameter_kind(path):
            case "embedding":
                return quantize(x, summed=[1])
            case "matrix":
                return quantize(x, summed=[0, 1] if "out" in _names(path) else [0])
            case "vector":
                return x

    return jax.tree_util.tree_map_with_path(made, params)


def in_floats(params: Params) -> Params:
    """Returns the parameters without any of eight bits: what these stand for."""
    return jax.tree.map(dequantize, params, is_leaf=lambda x: isinstance(x, Int8))


def _has(name: str) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, dict) and name in x


def embedding(params: Params) -> jax.Array:
    """Returns the [V, D] vectors of tokens, padded as `padded_vocab_size` says."""
    return dequantize(params["token_embedding"])


def position_embedding(params: Params) -> jax.Array | None:
    """Returns the [context_len, D] vectors of positions, or None where they are not learned."""
    return dequantize(params["position_embedding"]) if "position_embedding" in params else None


def final_norm(params: Params, config: ModelConfig, x_xD: jax.Array) -> jax.Array:
    """Returns vectors of the residual stream as the unembedding takes them."""
    normed: Any = norm_of(config).apply({"params": params["final_norm"]}, x_xD)
    return normed


def _names(path: tuple[Any, ...]) -> list[str]:
    return jax.tree_util.keystr(path, simple=True, separator=".").split(".")
