"""What compilers are told of a chip: options of a TPU to a TPU alone, as others end at a name they do not know."""

import jax
import pytest

from jaxgpt.devices.chips import CHIPS, compiler_options


@pytest.mark.parametrize("name", CHIPS)
def test_options_are_those_of_this_compiler(name):
    options = compiler_options(CHIPS[name].kind)
    assert all(option.startswith("xla_tpu_") for option in options)
    assert bool(options) == (name in ("v5e", "v5p", "v6e"))


def test_a_cpu_compiles_with_its_options():
    options = compiler_options(jax.devices()[0].device_kind)
    assert jax.jit(lambda x: x + 1).lower(1).compile(compiler_options=options)(1) == 2
