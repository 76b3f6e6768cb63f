"""Saves that training does not wait for: they hold the state they were given, come one by one, and fail in words."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.errors import RunError
from jaxgpt.model.parameters import STACK
from jaxgpt.run import saver as savers
from jaxgpt.run.checkpoint import open_checkpoints, restore_state
from jaxgpt.run.integrity import damage
from jaxgpt.run.saver import saves_behind, saving
from jaxgpt.run.state import TrainState

DOCUMENTS = {"config": {"a": 1}, "tokenizer": {"words": ["x"]}, "data": {"name": "mine"}}


def state_at(step: int) -> TrainState:
    return TrainState(jnp.array(step, jnp.int32), {"w": jnp.full((64, 64), float(step))}, {"m": jnp.zeros(64)})


@pytest.fixture
def held(monkeypatch):
    """Holds back what is written until it is set."""
    go = threading.Event()
    write = savers.write
    monkeypatch.setattr(savers, "write", lambda *given: (go.wait(60), write(*given))[1])
    return go


def test_what_is_written_is_the_state_that_was_given(tmp_path, held):
    step_on = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state = state_at(3)
    with open_checkpoints(tmp_path) as manager, saving(manager, DOCUMENTS, behind=True) as saver:
        saver.save(state)
        assert not (tmp_path / "3").exists()
        for _ in range(5):  # takes the memory of the state that is being saved
            state = step_on(state)
        held.set()
        saver.wait()
        assert damage(tmp_path / "3") is None
        restored = restore_state(manager, 3, jax.eval_shape(lambda: state_at(3)))
    np.testing.assert_array_equal(restored.params["w"], np.full((64, 64), 3.0))


def test_blocks_that_share_arrays_are_taken_apart_on_the_way(tmp_path):
    params = {STACK: {"w": jnp.arange(6.0).reshape(3, 2)}, "head": jnp.ones(2)}
    state = TrainState(jnp.array(1, jnp.int32), params, {"m": jnp.zeros(2)})
    with open_checkpoints(tmp_path) as manager:
        with saving(manager, DOCUMENTS, behind=True) as saver:
            saver.save(state)
        restored = restore_state(manager, 1, jax.eval_shape(lambda: state))
        assert set(manager.item_metadata(1)["params"]) == {"block_0", "block_1", "block_2", "head"}
    np.testing.assert_array_equal(restored.params[STACK]["w"], params[STACK]["w"])


def test_one_waits_for_the_other_and_the_last_is_whole_at_the_end(tmp_path):
    with open_checkpoints(tmp_path) as manager, saving(manager, DOCUMENTS, behind=True) as saver:
        for step in (1, 2, 3):
            saver.save(state_at(step))
            assert all(damage(tmp_path / str(before)) is None for before in range(max(1, step - 1), step))
    assert damage(tmp_path / "3") is None


def test_it_is_whole_even_where_training_fails(tmp_path, held):
    def train(manager) -> None:
        with saving(manager, DOCUMENTS, behind=True) as saver:
            saver.save(state_at(1))
            held.set()
            raise ZeroDivisionError

    with open_checkpoints(tmp_path) as manager, pytest.raises(ZeroDivisionError):
        train(manager)
    assert damage(tmp_path / "1") is None


def test_what_fails_behind_is_told_at_the_next_save_or_the_end(tmp_path, monkeypatch):
    def fail(*_):
        raise RunError("step 1 could not be saved")

    monkeypatch.setattr(savers, "write", fail)
    with open_checkpoints(tmp_path) as manager:
        with pytest.raises(RunError, match="step 1 could"), saving(manager, DOCUMENTS, behind=True) as saver:
            saver.save(state_at(1))
        with saving(manager, DOCUMENTS, behind=True) as saver:
            saver.save(state_at(1))
            with pytest.raises(RunError, match="step 1 could"):
                saver.save(state_at(2))


def test_numbers_that_are_not_finite_are_told_at_once(tmp_path):
    state = state_at(1)._replace(params={"w": jnp.full(4, jnp.nan)})
    with open_checkpoints(tmp_path) as manager, saving(manager, DOCUMENTS, behind=True) as saver:
        with pytest.raises(RunError, match="not finite"):
            saver.save(state)
        saver.save(state_at(2))
    assert damage(tmp_path / "2") is None


def test_a_cpu_waits_unless_asked_otherwise():
    assert not saves_behind(None)
    assert saves_behind(asked=True)
    assert not saves_behind(asked=False)
