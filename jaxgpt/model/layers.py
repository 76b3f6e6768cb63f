"""The parts a block is made of: a linear map, a norm, dropout, rotation, each with named logical axes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Initializer = Callable[..., jax.Array]


class Linear(nn.Module):
    """An einsum with a kernel of exactly the shape given, and an optional bias over its trailing axes.

    `spec` reads like "BTD,DNH->BTNH": input, kernel, output. `axes` names the kernel's axes for the mesh.
    """

    spec: str
    shape: Sequence[int]
    axes: Sequence[str]
    initializer: Initializer
    bias_axes: int = 1
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel: Any = self.param(
            "kernel", nn.with_logical_partitioning(self.initializer, tuple(self.axes)), tuple(self.shape)
        )
        y = jnp.einsum(self.spec, x.astype(self.dtype), kernel.astype(self.dtype))
        if not self.use_bias:
            return y
        shape, axes = tuple(self.shape)[-self.bias_axes :], tuple(self.axes)[-self.bias_axes :]
        bias: Any = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, axes), shape)
        return y + bias.astype(self.dtype)


class Norm(nn.Module):
    """Layer norm (Ba et al. 2016) or RMS norm (Zhang and Sennrich 2019) over the last axis, in float32."""

    kind: str
    axis: str = "embed"
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def vector(name: str, init: Initializer) -> Any:
            return self.param(name, nn.with_logical_partitioning(init, (self.axis,)), (x.shape[-1],))

        y = x.astype(jnp.float32)
        if self.kind == "layernorm":
            y = y - jnp.mean(y, axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.epsilon)
        y = y * vector("scale", nn.initializers.ones)
        if self.kind == "layernorm":
            y = y + vector("bias", nn.initializers.zeros)
        return y.astype(x.dtype)


class Dropout(nn.Module):
    """Zeroes a share of the entries and scales the others up, when a "dropout" key is given (Srivastava et al. 2014).

    Each random word decides two entries, to 1/65536 of probability: random bits are what dropout costs.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.rate == 0.0 or not self.has_rng("dropout"):
            return x
        *leading, width = x.shape
        words = jax.random.bits(self.make_rng("dropout"), (*leading, math.ceil(width / 2)), jnp.uint32)
        halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*leading, -1)[..., :width]
        keep = halves >= round(self.rate * 65536)
        return jnp.where(keep, x / (1.0 - self.rate), 0.0).astype(x.dtype)


def rotate(x_BTNH: jax.Array, positions_BT: jax.Array, base: float = 10_000.0) -> jax.Array:
    """Returns x with each pair of dimensions turned by an angle that grows with the position (Su et al. 2021)."""
    half = x_BTNH.shape[-1] // 2
    frequency_H = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle_BT1H = positions_BT[:, :, None, None].astype(jnp.float32) * frequency_H
    sin, cos = jnp.sin(angle_BT1H), jnp.cos(angle_BT1H)
    a, b = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x_BTNH.dtype)
