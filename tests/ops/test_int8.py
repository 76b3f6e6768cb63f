"""Weights of eight bits: near the floats they stand for, and used as if they were these."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.ops.int8 import LARGEST, dequantize, quantize
from jaxgpt.ops.matmul import matmul, matmul_reference

F32 = jnp.dtype("float32")


def weights(*shape):
    return jax.random.normal(jax.random.key(0), shape) * jnp.exp(jax.random.normal(jax.random.key(1), shape[-1:]))


@pytest.mark.parametrize("summed", [[0], [0, 1], [1]])
def test_a_weight_is_off_by_half_a_step_at_most(summed):
    x = weights(6, 5, 4)
    q = quantize(x, summed)
    chex.assert_shape(q.scale, [1 if axis in summed else size for axis, size in enumerate(x.shape)])
    assert q.values.dtype == jnp.int8
    assert float(jnp.max(jnp.abs(dequantize(q) - x) / q.scale)) <= 0.5 + 1e-5
    assert np.all(np.max(np.abs(q.values), axis=tuple(summed)) == LARGEST)  # each output uses the whole range


def test_weights_of_zero_stay_zero():
    q = quantize(jnp.zeros((3, 2)), [0])
    assert np.array_equal(dequantize(q), np.zeros((3, 2)))


@pytest.mark.parametrize(("spec", "summed"), [("BTD,DF->BTF", [0]), ("BTD,DNH->BTNH", [0]), ("BTNH,NHD->BTD", [0, 1])])
def test_a_product_is_that_of_the_floats(spec, summed):
    sizes = {"B": 2, "T": 3, "D": 4, "N": 5, "H": 6, "F": 7}
    x_axes, y_axes = spec.split("->")[0].split(",")
    x = jax.random.normal(jax.random.key(2), [sizes[axis] for axis in x_axes])
    q = quantize(weights(*(sizes[axis] for axis in y_axes)), summed)
    z = matmul(spec, x, q, F32, F32)
    chex.assert_trees_all_close(z, matmul_reference(spec, x, dequantize(q)), rtol=1e-5, atol=1e-5)
