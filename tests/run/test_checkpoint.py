"""Checkpoints: the latest two and the best stay; params come back alone; what cannot be written loses nothing."""

import dataclasses
import functools
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.config import Config, DataConfig, MeshConfig, ModelConfig, OptimizerConfig
from jaxgpt.devices.mesh import inference_mesh, make_mesh
from jaxgpt.errors import RunError, UserError
from jaxgpt.model.parameters import unstacked
from jaxgpt.run.checkpoint import (
    Best,
    open_checkpoints,
    read_best,
    restore_params,
    restore_state,
    save,
    write_best,
)
from jaxgpt.run.load import abstract_on
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import compile_steps

MODEL = ModelConfig(vocab_size=64, context_len=8, embed_dim=16, num_heads=2, num_layers=1)
DOCUMENTS = {"config": {"a": 1}, "tokenizer": {"words": ["x"]}, "data": {"name": "mine"}}


def compiled_on(*mesh: int, **model):
    config = Config(
        model=dataclasses.replace(MODEL, **model), data=DataConfig(seq_len=8, batch_size=8), mesh=MeshConfig(*mesh)
    )
    return compile_steps(config, make_optimizer(config.optimizer, 1), make_mesh(config))


def at_step(state, step):
    return state._replace(step=jnp.array(step, jnp.int32))


def test_latest_two_and_best_are_kept(tmp_path):
    state = compiled_on(8, 1, 1).init()
    with open_checkpoints(tmp_path) as manager:
        for step in (1, 2, 3, 4, 5):
            save(manager, at_step(state, step), DOCUMENTS)
            if step == 2:
                write_best(tmp_path, Best(2, 1.5))
        assert sorted(manager.all_steps()) == [2, 4, 5]
    assert read_best(tmp_path) == Best(2, 1.5)
    with open_checkpoints(tmp_path) as manager:
        write_best(tmp_path, Best(5, 1.0))
        save(manager, at_step(state, 6), DOCUMENTS)
        assert sorted(manager.all_steps()) == [5, 6]
        assert manager.restore(6)["config"] == {"a": 1}
        assert manager.restore(6)["tokenizer"] == {"words": ["x"]}


@functools.cache
def three_blocks(optimizer: str, looped: bool):
    model = dataclasses.replace(MODEL, num_layers=3, scan_layers=looped)
    config = Config(model=model, data=DataConfig(seq_len=8, batch_size=8), mesh=MeshConfig(2, 2, 2))
    return compile_steps(config, make_optimizer(OptimizerConfig(name=optimizer), 1), make_mesh(config))


@pytest.mark.parametrize("looped", [True, pytest.param(False, marks=pytest.mark.long)])
@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("muon", marks=pytest.mark.long)])
def test_state_comes_back_in_a_loop_or_out_of_one(tmp_path, looped, optimizer):
    before, after = three_blocks(optimizer, looped), three_blocks(optimizer, not looped)
    state = at_step(before.init(), 7)
    with open_checkpoints(tmp_path) as manager:
        save(manager, state, DOCUMENTS)
        restored = restore_state(manager, 7, after.abstract_state)
        again = restore_state(manager, 7, before.abstract_state)
        params = restore_params(manager, 7, after.abstract_state.params)
    chex.assert_trees_all_equal(again, state)
    chex.assert_trees_all_equal(jax.device_get(unstacked(restored)), jax.device_get(unstacked(state)))
    chex.assert_trees_all_equal(params, restored.params)
    assert jax.tree.map(lambda x: x.sharding, restored) == after.state_shardings


def test_state_comes_back_on_another_mesh(tmp_path):
    before = compiled_on(8, 1, 1)
    state = at_step(before.init(), 7)
    with open_checkpoints(tmp_path) as manager:
        save(manager, state, DOCUMENTS)
    after = compiled_on(2, 2, 2)
    with open_checkpoints(tmp_path) as manager:
        restored = restore_state(manager, 7, after.abstract_state)
        alone = restore_params(manager, 7, abstract_on(inference_mesh(MeshConfig()), Config(model=MODEL)))
    kernel = restored.params["block_0"]["mlp"]["up"]["kernel"]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec("fsdp", "tensor")
    for tree in (restored, restored._replace(params=alone)):
        for got, want in zip(jax.tree.leaves(tree), jax.tree.leaves(state), strict=True):
            np.testing.assert_array_equal(got, want)


def test_a_step_that_is_there_is_not_silently_skipped(tmp_path):
    state = at_step(compiled_on(8, 1, 1).init(), 3)
    with open_checkpoints(tmp_path) as manager:
        save(manager, state, DOCUMENTS)
        with pytest.raises(RunError, match="step 3 "):
            save(manager, state, DOCUMENTS)


def test_a_full_disk_is_noticed_before_and_loses_nothing(tmp_path, monkeypatch):
    state = compiled_on(8, 1, 1).init()
    with open_checkpoints(tmp_path) as manager:
        save(manager, at_step(state, 1), DOCUMENTS)
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10_000))
        with pytest.raises(UserError, match=r"step 2 needs 2\.\d MB and the disk has 0\.0 MB left"):
            save(manager, at_step(state, 2), DOCUMENTS)
        assert manager.all_steps() == [1]
        assert restore_state(manager, 1, compiled_on(8, 1, 1).abstract_state).step == 1


def test_no_best_before_the_first_evaluation(tmp_path):
    assert read_best(tmp_path) is None
