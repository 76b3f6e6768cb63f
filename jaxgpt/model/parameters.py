"""What the network's parameters are. Optimizer, cost, reports and inference ask here, and know no parameter by name."""

from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgpt.config import ModelConfig
from jaxgpt.model.gpt import GPT, Params
from jaxgpt.model.layers import Norm

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
    return jax.eval_shape(GPT(config).init, jax.random.key(0), tokens_BT)["params"]


def parameter_kind(path: tuple[Any, ...]) -> Literal["embedding", "matrix", "vector"]:
    """Returns what the parameter at this path of the tree is: looked up by token or position, multiplied, or added.

    The head is an embedding whether it is tied or not. Biases and norm scales are vectors, whatever their rank.
    """
    names = _names(path)
    if names[0] in ("token_embedding", "position_embedding", "head"):
        return "embedding"
    return "matrix" if "kernel" in names else "vector"


def parameter_part(path: tuple[Any, ...]) -> str:
    """Returns which of PARTS the parameter at this path belongs to."""
    names = _names(path)
    if names[0] in PARTS:
        return names[0]
    return names[1] if names[1] in PARTS else "norm"


def num_input_axes(path: tuple[Any, ...], kernel: Any) -> int:
    """Returns how many of a kernel's leading axes are summed over; the others are those of its output."""
    return kernel.ndim - 1 if "out" in _names(path) else 1


def embedding(params: Params) -> jax.Array:
    """Returns the [V, D] vectors of tokens, padded as `padded_vocab_size` says."""
    return params["token_embedding"]


def position_embedding(params: Params) -> jax.Array | None:
    """Returns the [context_len, D] vectors of positions, or None where they are not learned."""
    return params.get("position_embedding")


def final_norm(params: Params, config: ModelConfig, x_xD: jax.Array) -> jax.Array:
    """Returns vectors of the residual stream as the unembedding takes them."""
    normed: Any = Norm(config.norm).apply({"params": params["final_norm"]}, x_xD)
    return normed


def _names(path: tuple[Any, ...]) -> list[str]:
    return jax.tree_util.keystr(path, simple=True, separator=".").split(".")
