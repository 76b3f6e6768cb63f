"""The GELU: as its definition, with a backward pass that keeps its input only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.ops.gelu import gelu, gelu_reference


@pytest.mark.parametrize("approximate", [True, False])
def test_values_and_gradients_are_those_of_the_definition(approximate):
    x, dy = (jax.random.normal(jax.random.key(seed), (64, 48)) * 3 for seed in (0, 1))
    y, vjp = jax.vjp(lambda x: gelu(x, approximate), x)
    expected, expected_vjp = jax.vjp(lambda x: gelu_reference(x, approximate), x)
    np.testing.assert_allclose(y, expected, atol=1e-6)
    np.testing.assert_allclose(vjp(dy)[0], expected_vjp(dy)[0], atol=1e-5)
    assert float(jnp.abs(gelu(x, True) - gelu(x, False)).max()) > 1e-4


def test_the_backward_pass_keeps_the_input_only():
    x = jnp.ones((64, 48))
    _, vjp = jax.vjp(lambda x: gelu(x, True), x)
    assert sum(kept.size for kept in jax.tree.leaves(vjp)) == x.size
