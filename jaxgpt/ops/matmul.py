"""Matrix products in a chosen precision, their gradients included."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgpt.ops.int8 import Int8

SUBLANES = 8  # rows of a TPU's registers


def matmul_reference(spec: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns einsum(spec, x, y) in float32."""
    return jnp.einsum(spec, x.astype(jnp.float32), y.astype(jnp.float32))


class Precision(NamedTuple):
    """Of the matrix products' factors, and of the activations between them."""

    compute_dtype: jnp.dtype
    activations: jnp.dtype


def precision(dtype: str) -> Precision:
    """Returns what model.dtype stands for; "auto" stands for nothing until a machine has decided it."""
    names = {
        "float32": ("float32", "float32"),
        "mixed": ("bfloat16", "float32"),
        "bfloat16": ("bfloat16", "bfloat16"),
    }[dtype]
    return Precision(*map(jnp.dtype, names))


def matmul(spec: str, x: jax.Array, y: jax.Array | Int8, dtype: jnp.dtype, result: jnp.dtype) -> jax.Array:
    """Returns einsum(spec, x, y), its factors cast to `dtype`, its sum in `result`; so do both of its gradients.

    Weights of eight bits have no gradient; their own axes must be the last of the result.

    Left to itself, the gradient meets a float32 factor with a bfloat16 one: the product is then of float32, several
    times as slow, and what it gives is rounded to bfloat16.
    """
    if isinstance(y, Int8):
        z = jnp.einsum(spec, x.astype(dtype), y.values.astype(dtype), preferred_element_type=result)
        return (z * y.scale).astype(result)
    z: Any = _product(spec, x, y, dtype, result)
    return z


@partial(jax.custom_vjp, nondiff_argnums=(0, 3, 4))
def _product(spec: str, x: jax.Array, y: jax.Array, dtype: jnp.dtype, result: jnp.dtype) -> jax.Array:
    return _product_forward(spec, x, y, dtype, result)[0]


def _product_forward(
    spec, x, y, dtype, result
):  # not by _product, in which jax.checkpoint would see no product to keep
    return jnp.einsum(spec, x.astype(dtype), y.astype(dtype), preferred_element_type=result), (x, y)


def _product_backward(spec, dtype, result, factors, dz):
    (x, y), (x_axes, y_axes, z_axes) = factors, spec.replace("->", ",").split(",")
    dx = matmul(f"{z_axes},{y_axes}->{x_axes}", dz, y, dtype, x.dtype)
    dy = matmul_over_rows(f"{x_axes},{z_axes}->{y_axes}", x, dz, dtype, y.dtype)
    return dx, dy


_product.defvjp(_product_forward, _product_backward)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns x + bias in x's dtype; the bias's gradient is summed in float32, however short x's numbers are."""
    return x + bias.astype(x.dtype)


def _add_bias_forward(x, bias):
    return add_bias(x, bias), bias


def _add_bias_backward(bias, dz):
    rows = dz.ndim - bias.ndim
    summed = partial(jnp.sum, axis=tuple(range(rows)), dtype=jnp.float32)
    if bias.ndim == 1:
        return dz, summed(dz).astype(bias.dtype)
    total = jax.lax.platform_dependent(dz, tpu=partial(sum_by_product, rows=rows), default=summed)
    return dz, total.astype(bias.dtype)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)


def sum_by_product(x: jax.Array, rows: int) -> jax.Array:
    """Returns the sum over so many leading axes, in float32.

    On a TPU four times as fast as a sum of what lies by heads, of which one of 64 fills half a register. The product
    has as many rows as a register: the compiler makes a sum of one of a single row.
    """
    ones = jnp.ones((SUBLANES, *x.shape[:rows]), x.dtype)
    return jnp.tensordot(ones, x, rows, preferred_element_type=jnp.float32)[0]


def matmul_over_rows(spec: str, x: jax.Array, y: jax.Array, dtype: jnp.dtype, result: jnp.dtype) -> jax.Array:
    """Returns product(spec, x, y) where axes are summed over that lead in both, like "BTF,BTD->FD".

    XLA on CPU transposes the first factor of such a product, and computes it a second time while doing so. So there the
    smaller factor goes first, and the result is transposed instead; the barrier keeps XLA from undoing that. Elsewhere
    it would keep XLA from adding up the gradients of micro-batches before it sums them over devices.
    """
    if x.size <= y.size:
        return matmul(spec, x, y, dtype, result)
    x_axes, y_axes, z_axes = spec.replace("->", ",").split(",")
    transposed = "".join(dict.fromkeys(axis for axis in y_axes + x_axes if axis in z_axes))

    def smaller_first(x: jax.Array, y: jax.Array) -> jax.Array:
        z = matmul(f"{y_axes},{x_axes}->{transposed}", y, x, dtype, result)
        return jnp.einsum(f"{transposed}->{z_axes}", jax.lax.optimization_barrier(z))

    def as_written(x: jax.Array, y: jax.Array) -> jax.Array:
        return matmul(spec, x, y, dtype, result)

    return jax.lax.platform_dependent(x, y, cpu=smaller_first, default=as_written)
