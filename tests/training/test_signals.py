"""A second Ctrl-C ends training as one does, wherever it came."""

import os
import signal

import jax
import pytest

from jaxgpt.training.signals import stop_on_signal


@jax.tree_util.register_static
class Compared:
    """What JAX compares, while Ctrl-C is pressed twice."""

    def __eq__(self, other):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return True

    def __hash__(self):
        return 0


def test_a_second_ctrl_c_within_jax_is_still_one():
    trees = Compared(), Compared()
    with pytest.raises(KeyboardInterrupt), stop_on_signal() as asked:
        assert jax.tree.structure(trees[0]) == jax.tree.structure(trees[1])
    assert asked() == signal.SIGINT


def test_other_errors_are_what_they_were():
    with pytest.raises(ValueError, match="its own"), stop_on_signal():
        raise ValueError("its own")
