"""The parts a block is made of: a linear map, a norm, dropout, rotary positions, each with named logical axes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgpt.config import ModelConfig
from jaxgpt.ops.dropout import dropout
from jaxgpt.ops.matmul import add_bias, matmul, precision
from jaxgpt.ops.norm import normalize

Initializer = Callable[..., jax.Array]


class Linear(nn.Module):
    """An einsum with a kernel of exactly the shape given, and an optional bias over its trailing axes.

    Where it is given adapters (`model.lora`), it adds their product, which is of low rank.

    `spec` reads like "BTD,DNH->BTNH": input, kernel, output. `axes` names the kernel's axes for the mesh, `dtype` is
    ModelConfig's.
    """

    spec: str
    shape: Sequence[int]
    axes: Sequence[str]
    initializer: Initializer
    bias_axes: int = 1
    use_bias: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel: Any = self.param(
            "kernel", nn.with_logical_partitioning(self.initializer, tuple(self.axes)), tuple(self.shape)
        )
        compute_dtype, activations = precision(self.dtype)
        y = matmul(self.spec, x, kernel, compute_dtype, activations)
        if self.has_variable("lora", "lora_a"):
            x_axes, kernel_axes, y_axes = self.spec.replace("->", ",").split(",")
            summed = "".join(axis for axis in kernel_axes if axis in x_axes)
            rows, own = x_axes.removesuffix(summed), kernel_axes.removeprefix(summed)
            a, b = (self.get_variable("lora", name) for name in ("lora_a", "lora_b"))
            thin = matmul(f"{x_axes},{summed}R->{rows}R", x, a, compute_dtype, activations)
            y = y + matmul(f"{rows}R,R{own}->{y_axes}", thin, b, compute_dtype, activations)
        if not self.use_bias:
            return y
        shape, axes = tuple(self.shape)[-self.bias_axes :], tuple(self.axes)[-self.bias_axes :]
        bias: Any = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, axes), shape)
        return add_bias(y, bias)


class Norm(nn.Module):
    """Layer norm (Ba et al. 2016), with a bias unless told not, or RMS norm (Zhang and Sennrich 2019); in float32."""

    kind: str
    axis: str = "embed"
    epsilon: float = 1e-5
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def vector(name: str, init: Initializer) -> Any:
            return self.param(name, nn.with_logical_partitioning(init, (self.axis,)), (x.shape[-1],))

        if self.kind not in ("layernorm", "rmsnorm"):
            raise ValueError(f"no norm {self.kind!r}")
        y: Any = normalize(x.astype(jnp.float32), self.kind == "layernorm", self.epsilon)
        y = y * vector("scale", nn.initializers.ones)
        if self.kind == "layernorm" and self.use_bias:
            y = y + vector("bias", nn.initializers.zeros)
        return y.astype(x.dtype)


class Dropout(nn.Module):
    """Zeroes a share of the entries and scales the others up, if a "dropout" key is given (Srivastava et al. 2014)."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return dropout(x, self.make_rng("dropout") if self.has_rng("dropout") else None, self.rate)


def norm_of(config: ModelConfig, name: str | None = None, axis: str = "embed") -> Norm:
    """Returns a norm as the model has them; `axis` names what it runs over."""
    return Norm(config.norm, axis, config.norm_epsilon, config.bias == "all", name=name)


def rope_frequencies(config: ModelConfig) -> jax.Array:
    """Returns by how much each pair of a head's dimensions turns from one position to the next, float32 [H / 2].

    With rope_factor, slow ones turn more slowly by it, as in Llama 3.1.
    """
    half = config.head_size // 2
    frequency_H = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if config.rope_factor == 1:
        return frequency_H
    turns_H = config.rope_original_context * frequency_H / (2 * jnp.pi)
    low, high = config.rope_low_freq, config.rope_high_freq
    left_H = jnp.clip((turns_H - low) / (high - low), 0, 1)  # how much of the frequency is as it was
    return frequency_H * (left_H + (1 - left_H) / config.rope_factor)


def apply_rope(x_BTNH: jax.Array, positions_BT: jax.Array, config: ModelConfig) -> jax.Array:
    """Returns x with each pair of dimensions turned by an angle that grows with the position (Su et al. 2021).

    Sines are taken once for every position there is, and looked up: in each batch anew they cost more than the turning.
    """
    angle_SH = jnp.arange(config.context_len, dtype=jnp.float32)[:, None] * rope_frequencies(config)
    sin, cos = (table_SH[positions_BT][:, :, None] for table_SH in (jnp.sin(angle_SH), jnp.cos(angle_SH)))
    a, b = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x_BTNH.dtype)
