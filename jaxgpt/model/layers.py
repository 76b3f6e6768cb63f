"""The parts a block is made of: a linear map, a norm, dropout, rotation, each with named logical axes."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

Initializer = Callable[..., jax.Array]


class Precision(NamedTuple):
    """Of the matrix products' factors, and of the activations between them."""

    products: jnp.dtype
    activations: jnp.dtype


def precision(dtype: str) -> Precision:
    """Returns what model.dtype stands for; "auto" stands for nothing until a machine has decided it."""
    names = {
        "float32": ("float32", "float32"),
        "mixed": ("bfloat16", "float32"),
        "bfloat16": ("bfloat16", "bfloat16"),
    }[dtype]
    return Precision(*map(jnp.dtype, names))


def product(spec: str, x: jax.Array, y: jax.Array, dtype: jnp.dtype, result: jnp.dtype) -> jax.Array:
    """Returns einsum(spec, x, y), its factors cast to `dtype`, its sum in `result`; so do both of its gradients.

    Left to itself, the gradient meets a float32 factor with a bfloat16 one: the product is then of float32, several
    times as slow, and what it gives is rounded to bfloat16.
    """
    z: Any = _product(spec, x, y, dtype, result)
    return z


@partial(jax.custom_vjp, nondiff_argnums=(0, 3, 4))
def _product(spec: str, x: jax.Array, y: jax.Array, dtype: jnp.dtype, result: jnp.dtype) -> jax.Array:
    return jnp.einsum(spec, x.astype(dtype), y.astype(dtype), preferred_element_type=result)


def _product_forward(spec, x, y, dtype, result):
    return _product(spec, x, y, dtype, result), (x, y)


def _product_backward(spec, dtype, result, factors, dz):
    (x, y), (x_axes, y_axes, z_axes) = factors, spec.replace("->", ",").split(",")
    dx = product(f"{z_axes},{y_axes}->{x_axes}", dz, y, dtype, x.dtype)
    dy = product_over_rows(f"{x_axes},{z_axes}->{y_axes}", x, dz, dtype, y.dtype)
    return dx, dy


_product.defvjp(_product_forward, _product_backward)


def product_over_rows(spec: str, x: jax.Array, y: jax.Array, dtype: jnp.dtype, result: jnp.dtype) -> jax.Array:
    """Returns product(spec, x, y) where axes are summed over that lead in both, like "BTF,BTD->FD".

    XLA on CPU turns the first factor of such a product about, and computes it again while doing so. So the smaller
    factor goes first, and what is turned about instead is the result; the barrier keeps XLA from undoing that.
    """
    if x.size <= y.size:
        return product(spec, x, y, dtype, result)
    x_axes, y_axes, z_axes = spec.replace("->", ",").split(",")
    turned = "".join(dict.fromkeys(axis for axis in y_axes + x_axes if axis in z_axes))
    z = product(f"{y_axes},{x_axes}->{turned}", y, x, dtype, result)
    return jnp.einsum(f"{turned}->{z_axes}", jax.lax.optimization_barrier(z))


class Linear(nn.Module):
    """An einsum with a kernel of exactly the shape given, and an optional bias over its trailing axes.

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
        products, activations = precision(self.dtype)
        y = product(self.spec, x, kernel, products, activations)
        if not self.use_bias:
            return y
        shape, axes = tuple(self.shape)[-self.bias_axes :], tuple(self.axes)[-self.bias_axes :]
        bias: Any = self.param("bias", nn.with_logical_partitioning(nn.initializers.zeros, axes), shape)
        return y + bias.astype(activations)


def row_sum(x: jax.Array) -> jax.Array:
    """Returns the sum over the last axis, which stays with length 1. It has no gradient; what uses it has its own.

    On CPU by a product with ones: XLA's own sum takes a tenth of a microsecond a row there, however short the row.
    """

    def by_product(x: jax.Array) -> jax.Array:
        sums = x.reshape(-1, x.shape[-1]) @ jnp.ones((x.shape[-1], 1), x.dtype)
        return sums.reshape(*x.shape[:-1], 1)

    return jax.lax.platform_dependent(x, cpu=by_product, default=partial(jnp.sum, axis=-1, keepdims=True))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def normalize(x: jax.Array, center: bool, epsilon: float) -> jax.Array:
    """Returns each row of x over its root mean square, after its mean is taken off if `center`."""
    return _normalize_forward(x, center, epsilon)[0]


def _normalize_forward(x, center, epsilon):
    if center:
        x = x - row_sum(x) / x.shape[-1]
    inverse = jax.lax.rsqrt(row_sum(jnp.square(x)) / x.shape[-1] + epsilon)
    y = x * inverse
    return y, (y, inverse)


def _normalize_backward(center, epsilon, kept, dy):
    y, inverse = kept
    dx = dy - y * row_sum(dy * y) / y.shape[-1]
    if center:
        dx = dx - row_sum(dy) / y.shape[-1]
    return (dx * inverse,)


normalize.defvjp(_normalize_forward, _normalize_backward)


class Norm(nn.Module):
    """Layer norm (Ba et al. 2016) or RMS norm (Zhang and Sennrich 2019) over the last axis, in float32."""

    kind: str
    axis: str = "embed"
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def vector(name: str, init: Initializer) -> Any:
            return self.param(name, nn.with_logical_partitioning(init, (self.axis,)), (x.shape[-1],))

        if self.kind not in ("layernorm", "rmsnorm"):
            raise ValueError(f"no norm {self.kind!r}")
        y: Any = normalize(x.astype(jnp.float32), self.kind == "layernorm", self.epsilon)
        y = y * vector("scale", nn.initializers.ones)
        if self.kind == "layernorm":
            y = y + vector("bias", nn.initializers.zeros)
        return y.astype(x.dtype)


class Dropout(nn.Module):
    """Zeroes a share of the entries and scales the others up, if a "dropout" key is given (Srivastava et al. 2014)."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return drop(x, self.make_rng("dropout") if self.has_rng("dropout") else None, self.rate)


def drop(x: jax.Array, key: jax.Array | None, rate: float) -> jax.Array:
    """Returns x with a share of its entries zeroed and the others scaled up, the same ones for the same key."""
    if key is None or rate == 0.0:
        return x
    keep = hashed_bits(key, x.shape) >= jnp.uint32(round(rate * 2**32))
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)


def hashed_bits(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Returns uint32 bits of this shape: a hash of each entry's number, begun and ended with words drawn from the key.

    Threefry's twenty rounds an entry cost as much as the attention they thin out. Three multiplications and shifts
    (Wellons' triple32, 2018) scatter the bits well enough to choose what to drop, and fuse with whatever uses them.
    """
    first, last = jax.random.bits(key, (2,), jnp.uint32)
    x = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape) + first
    for shift, multiplier in ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB)):
        x = (x ^ (x >> shift)) * jnp.uint32(multiplier)
    return x ^ (x >> 14) ^ last


def rotate(x_BTNH: jax.Array, positions_BT: jax.Array, context_len: int, base: float = 10_000.0) -> jax.Array:
    """Returns x with each pair of dimensions turned by an angle that grows with the position (Su et al. 2021).

    Sines are taken once for every position there is, and looked up: in each batch anew they cost more than the turning.
    """
    half = x_BTNH.shape[-1] // 2
    frequency_H = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle_SH = jnp.arange(context_len, dtype=jnp.float32)[:, None] * frequency_H
    sin, cos = (table_SH[positions_BT][:, :, None] for table_SH in (jnp.sin(angle_SH), jnp.cos(angle_SH)))
    a, b = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x_BTNH.dtype)
