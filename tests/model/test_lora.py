"""Adapters: nothing at first, then exactly the network whose kernels they are merged into, gradients included."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgpt.config import Config, DataConfig, LoraConfig, MeshConfig, ModelConfig, OptimizerConfig, RunConfig
from jaxgpt.data.batch import Batch
from jaxgpt.devices.mesh import make_mesh
from jaxgpt.model.gpt import GPT, variables
from jaxgpt.model.lora import PROJECTIONS, adapted, init_adapters, merged
from jaxgpt.model.parameters import unstacked
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import compile_steps

MODEL = ModelConfig(vocab_size=200, context_len=16, embed_dim=32, num_heads=4, num_layers=2, dropout=0.0)
GROUPED = dataclasses.replace(
    MODEL, num_kv_heads=2, head_dim=16, positions="rotary", mlp="swiglu", norm="rmsnorm", bias="qkv", qk_norm=True
)
LORA = LoraConfig(rank=3, alpha=6)
TOKENS_BT = np.random.default_rng(0).integers(0, 200, (2, 16)).astype(np.int32)


def network(model: ModelConfig, lora: LoraConfig):
    """Returns parameters, and adapters none of which is zero."""
    params = nn.unbox(jax.jit(GPT(model).init)(jax.random.key(0), TOKENS_BT)["params"])
    adapters = init_adapters(params, lora, jax.random.key(1))
    leaves, tree = jax.tree.flatten(adapters)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    noise = [0.1 * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    return params, adapters, jax.tree.unflatten(tree, [x + y for x, y in zip(leaves, noise, strict=True)])


def hidden(model: ModelConfig, params) -> jax.Array:
    return jax.jit(lambda params: GPT(model).apply(variables(params), TOKENS_BT)[0])(params)


@pytest.mark.parametrize(
    ("model", "projections"),
    [
        (MODEL, "query-value"),
        *(pytest.param(MODEL, name, marks=pytest.mark.long) for name in PROJECTIONS if name != "query-value"),
        (GROUPED, "all"),
        pytest.param(dataclasses.replace(GROUPED, scan_layers=True), "query-value", marks=pytest.mark.long),
    ],
)
def test_adapters_are_the_merged_network(model, projections):
    lora = dataclasses.replace(LORA, projections=projections)
    params, first, adapters = network(model, lora)
    chex.assert_trees_all_equal(hidden(model, adapted(params, first, lora)), hidden(model, params))
    whole = merged(params, adapters, lora)
    changed = [
        jax.tree_util.keystr(path)
        for path, same in jax.tree_util.tree_leaves_with_path(
            jax.tree.map(lambda a, b: bool(jnp.all(a == b)), whole, params)
        )
        if not same
    ]
    assert {name.split("'")[5] for name in changed} == PROJECTIONS[projections] & {
        "query", "key", "value", "out", "up", "down", *(["gate"] if model.mlp == "swiglu" else [])
    }  # fmt: skip
    np.testing.assert_allclose(
        hidden(model, adapted(params, adapters, lora)), hidden(model, whole), atol=2e-5, rtol=1e-5
    )
    assert np.abs(hidden(model, whole) - hidden(model, params)).max() > 0.01


def test_gradients_are_those_of_the_merged_network():
    params, _, adapters = network(GROUPED, LORA)

    def loss(run):
        return lambda adapters: jnp.sum(jnp.sin(hidden(GROUPED, run(params, adapters, LORA))))

    found, wanted = (jax.jit(jax.grad(loss(run)))(adapters) for run in (adapted, merged))
    chex.assert_trees_all_close(found, wanted, atol=2e-4, rtol=1e-4)


def config_of(mesh: MeshConfig, **model) -> Config:
    return Config(
        model=dataclasses.replace(MODEL, dropout=0.1, **model),
        data=DataConfig(seq_len=16, batch_size=16),
        optimizer=OptimizerConfig(learning_rate=1e-2, grad_accumulation_steps=2),
        lora=LORA,
        mesh=mesh,
        run=RunConfig(init_from="runs/some"),
    )


def trained(config: Config):
    """Returns (the state before, the losses of three steps, the state after)."""
    compiled = compile_steps(config, make_optimizer(config.optimizer, 3), make_mesh(config))
    state, losses, rng = compiled.init(), [], np.random.default_rng(0)
    before = jax.device_get(state)
    for _ in range(3):
        tokens = rng.integers(0, 200, (16, 17)).astype(np.int32)
        batch = Batch(tokens[:, :-1], tokens[:, 1:], np.ones((16, 16), np.float32))
        state, metrics = compiled.train_step(state, compiled.put(batch))
        losses.append(float(metrics["loss"]))
    whole = jax.device_get(compiled.model_params(state))
    return before, losses, jax.device_get(state), whole


@pytest.mark.long
def test_a_step_moves_adapters_alone_on_any_mesh():
    before, losses, after, whole = trained(config_of(MeshConfig(8, 1, 1)))
    chex.assert_trees_all_equal(after.frozen, before.frozen)
    assert jax.tree.structure(after.opt_state[1][0].mu) == jax.tree.structure(after.params)
    assert all(
        np.abs(x - y).max() > 0 for x, y in zip(*map(jax.tree.leaves, (before.params, after.params)), strict=True)
    )
    chex.assert_trees_all_close(whole, merged(after.frozen, after.params, LORA), atol=1e-6)
    _, sharded, again, _ = trained(config_of(MeshConfig(2, 2, 2)))
    assert sharded == pytest.approx(losses, rel=1e-5)
    chex.assert_trees_all_close(again.params, after.params, atol=5e-5)


@pytest.mark.long
def test_blocks_in_a_loop_have_adapters_too():
    _, losses, after, whole = trained(config_of(MeshConfig(8, 1, 1), scan_layers=True))
    assert losses[-1] == pytest.approx(np.log(200), abs=0.5)
    assert set(unstacked(after.params)) == {"block_0", "block_1"}
    chex.assert_trees_all_close(
        unstacked(whole), merged(unstacked(after.frozen), unstacked(after.params), LORA), atol=1e-6
    )
