"""Products, norms: what they give, and gradients that are einsum's and the formula's, in the precision asked for."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.ops.matmul import add_bias, matmul, matmul_over_rows, sum_by_product
from jaxgpt.ops.norm import normalize, row_sum

B, T, D, N, H, F = 2, 5, 16, 4, 8, 24
SHAPES = {"B": B, "T": T, "D": D, "N": N, "H": H, "F": F, "K": N, "G": 3, "S": T}
SPECS = ("BTD,DNH->BTNH", "BTNH,NHD->BTD", "BTD,DF->BTF", "BTF,FD->BTD", "BKGTH,BKSH->BKGTS", "BKGTS,BKSH->BKGTH")


def factors(spec: str) -> list[jax.Array]:
    axes = spec.replace("->", ",").split(",")
    shapes = [tuple(SHAPES[axis] for axis in names) for names in axes]
    rng = np.random.default_rng(0)  # jax.random would be compiled for each shape
    return [jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes]


def gradients(multiply, x: jax.Array, y: jax.Array, dz: jax.Array):
    """Of x and y, through a sum that weighs each entry of the product by dz."""
    return jax.jit(jax.grad(lambda x, y: jnp.sum(multiply(x, y).astype(jnp.float32) * dz), argnums=(0, 1)))(x, y)


@pytest.mark.parametrize("spec", SPECS)
def test_gradients_are_those_of_einsum(spec):
    x, y, dz = factors(spec)
    float32 = jnp.dtype("float32")
    ours = gradients(lambda x, y: matmul(spec, x, y, float32, float32), x, y, dz)
    chex.assert_trees_all_close(ours, gradients(lambda x, y: jnp.einsum(spec, x, y), x, y, dz), rtol=1e-5, atol=1e-5)


def test_a_bias_sums_its_gradient_in_float32():
    x, bias, dz = (jnp.ones(shape, jnp.bfloat16) for shape in ((1024, N, H), (N, H), (1024, N, H)))
    bias = bias.astype(jnp.float32)
    dz = dz.at[0].set(1024.0)  # after it a sum in bfloat16 would hear no other one
    y, pull = jax.vjp(add_bias, x, bias)
    dx, dbias = pull(dz)
    assert y.dtype == dx.dtype == jnp.bfloat16
    chex.assert_trees_all_equal(dbias, jnp.full((N, H), 1024.0 + 1023.0))


def test_a_sum_by_product_is_the_sum():
    x = jax.random.normal(jax.random.key(0), (B, T, N, H), jnp.bfloat16)
    total = sum_by_product(x, 2)
    assert total.dtype == jnp.float32
    chex.assert_trees_all_close(total, jnp.sum(x, (0, 1), jnp.float32), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spec", ["BTF,BTD->FD", "BTD,BTF->DF", "BKGTS,BKGTH->BKSH", "BKGTH,BKGTS->BKSH"])
def test_a_sum_over_rows_is_that_of_einsum(spec):
    x, y, _ = factors(spec)
    float32 = jnp.dtype("float32")
    z = jax.jit(lambda x, y: matmul_over_rows(spec, x, y, float32, float32))(x, y)
    chex.assert_trees_all_close(z, jnp.einsum(spec, x, y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS)
def test_bfloat16_gradients_are_added_up_in_float32(spec):
    x, y, dz = factors(spec)
    bfloat16, float32 = jnp.dtype("bfloat16"), jnp.dtype("float32")

    def ours(x, y, dz):
        return gradients(lambda x, y: matmul(spec, x, y, bfloat16, float32), x, y, dz)

    lowered = jax.jit(ours).lower(x, y, dz).as_text()
    dots = [line for line in lowered.splitlines() if "stablehlo.dot_general" in line]
    assert len(dots) >= 2
    for dot in dots:
        taken, given = dot.rsplit(" : ", 1)[1].split(" -> ")
        assert taken.count("xbf16>") == 2, dot
        assert given.endswith("xf32>"), dot
    dx, dy = ours(x, y, dz)
    assert dx.dtype == dy.dtype == float32
    exact = gradients(lambda x, y: jnp.einsum(spec, x, y), x, y, dz)
    for given, wanted in zip((dx, dy), exact, strict=True):
        assert jnp.max(jnp.abs(given - wanted)) < 0.02 * jnp.max(jnp.abs(wanted))
        assert (given != given.astype(bfloat16)).any(), "rounded only where it is multiplied"


@pytest.mark.parametrize("center", [True, False])
def test_normalizing_and_its_gradient_are_those_of_the_formula(center):
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (3, 5, 24))
    weigh = jax.random.normal(jax.random.key(1), x.shape)

    def formula(x):
        x = x - jnp.mean(x, axis=-1, keepdims=True) if center else x
        return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-5)

    def with_gradient(function):
        return jax.jit(jax.value_and_grad(lambda x: jnp.sum(weigh * function(x))))(x)

    chex.assert_trees_all_close(
        with_gradient(lambda x: normalize(x, center, 1e-5)), with_gradient(formula), rtol=1e-5, atol=1e-5
    )


def test_sums_of_rows_keep_their_axis():
    x = jax.random.normal(jax.random.key(0), (3, 1, 5, 24))
    chex.assert_trees_all_close(row_sum(x), jnp.sum(x, axis=-1, keepdims=True), rtol=1e-5, atol=1e-5)
