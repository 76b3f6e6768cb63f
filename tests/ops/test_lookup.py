"""Rows of a table equal plain indexing, their gradient is exact, and shards travel in the activations' precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgpt.devices.mesh import RULES
from jaxgpt.ops.int8 import dequantize, quantize
from jaxgpt.ops.lookup import lookup, lookup_reference

V, D = 64, 8
BF16, F32 = jnp.dtype("bfloat16"), jnp.dtype("float32")
TABLE = jax.random.normal(jax.random.key(0), (V, D))
TOKENS = jax.random.randint(jax.random.key(1), (4, 6), 0, V)


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_rows_and_their_gradient_equal_the_reference(dtype):
    weights = jax.random.normal(jax.random.key(2), (4, 6, D)).astype(dtype)
    got, back = jax.vjp(lambda table: lookup(table, TOKENS, dtype, "vocab"), TABLE)
    want, back_reference = jax.vjp(lambda table: lookup_reference(table, TOKENS), TABLE)
    assert got.dtype == dtype
    assert np.array_equal(got, want.astype(dtype))
    np.testing.assert_allclose(back(weights)[0], back_reference(weights.astype(F32))[0], rtol=1e-6)


def test_the_gradient_is_summed_in_float32():
    """A sum in bfloat16 would stay at 256, the first number to which it cannot add one."""
    tokens = jnp.full((1000,), 3)
    (gradient,) = jax.vjp(lambda table: lookup(table, tokens, BF16, "vocab"), TABLE)[1](jnp.ones((1000, D), BF16))
    assert gradient.dtype == F32
    assert np.array_equal(gradient, jnp.zeros((V, D)).at[3].set(1000.0))


def test_rows_of_eight_bits_are_those_of_the_floats():
    table = quantize(TABLE, [1])
    assert np.array_equal(lookup(table, TOKENS, F32, "vocab"), dequantize(table)[TOKENS])


def test_shards_are_cast_before_devices_gather_them():
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(1, 4, 1), ("data", "fsdp", "tensor"))
    sharded = NamedSharding(mesh, PartitionSpec("fsdp"))

    def gathers(dtype: jnp.dtype) -> str:
        of = jax.jit(lambda table, tokens: lookup(table, tokens, dtype, "vocab"), in_shardings=(sharded, sharded))
        with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
            text = of.lower(TABLE, TOKENS).as_text()
        cast, constraint = text.find("stablehlo.convert"), text.find("sharding_constraint")
        assert constraint > 0
        return "cast first" if 0 < cast < constraint else "not cast first"

    assert (gathers(BF16), gathers(F32)) == ("cast first", "not cast first")
