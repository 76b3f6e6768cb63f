"""Schedules at the steps that matter; decay on matrices only; clipping before all."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import AxisType

from jaxgpt.config import LoraConfig, ModelConfig, OptimizerConfig
from jaxgpt.devices.mesh import RULES
from jaxgpt.model.gpt import GPT
from jaxgpt.model.lora import init_adapters
from jaxgpt.training.optimizer import (
    _iterate,
    decay_mask,
    learning_rate_schedule,
    make_optimizer,
    muon_labels,
    orthogonalize,
)


def rates(steps: int, **options) -> list[float]:
    schedule = learning_rate_schedule(OptimizerConfig(**options), steps, 1.0)
    return [float(schedule(step)) for step in range(steps)]


def test_constant():
    assert rates(5) == [1.0] * 5


def test_warmup_rises_to_the_peak_and_wastes_no_step():
    np.testing.assert_allclose(rates(6, warmup_steps=4), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    assert rates(3, warmup_steps=1) == [1.0] * 3
    assert len(rates(2, warmup_steps=10)) == 2


def test_cosine():
    got = rates(101, schedule="cosine", final_lr_fraction=0.1)
    assert got[0] == 1.0
    assert got[50] == pytest.approx(0.55, abs=0.01)
    assert got[100] == pytest.approx(0.1, abs=0.01)
    assert got == sorted(got, reverse=True)


def test_wsd_is_flat_and_then_falls_in_a_line():
    got = rates(100, schedule="wsd", warmup_steps=10, decay_fraction=0.5, final_lr_fraction=0.0)
    assert got[9:55] == [1.0] * 46
    np.testing.assert_allclose(np.diff(got[56:]), np.diff(got[56:])[0], rtol=1e-3)
    assert got[-1] == 0.0
    assert 0 < got[-2] < 0.05


@pytest.mark.parametrize("warmup_steps", [0, 1, 4])
@pytest.mark.parametrize("decay_fraction", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_the_last_step_is_at_the_final_fraction(schedule, decay_fraction, warmup_steps):
    options = {"schedule": schedule, "decay_fraction": decay_fraction, "warmup_steps": warmup_steps}
    got = rates(20, final_lr_fraction=0.1, **options)
    assert got[-1] == pytest.approx(0.1, rel=1e-6)
    assert got[-2] > 0.1
    assert max(got) == got[max(0, warmup_steps - 1)] == 1.0
    assert got[warmup_steps:] == sorted(got[warmup_steps:], reverse=True)


@pytest.mark.parametrize("field", ["schedule", "name"])
def test_a_choice_that_is_not_built_is_refused(field):
    """A choice added to the config alone must not train as another one."""
    with pytest.raises(ValueError, match="new"):
        make_optimizer(OptimizerConfig(**{field: "new"}), 10)


@pytest.fixture(scope="module")
def params():
    config = ModelConfig(vocab_size=64, embed_dim=16, num_heads=2, num_layers=1, tie_embeddings=False)
    return nn.unbox(GPT(config).init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))["params"]


def names(tree, wanted) -> set[str]:
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator=".") for path, value in flat if value == wanted}


def test_decay_is_for_matrices_only(params):
    decayed = names(decay_mask(params), True)
    assert decayed >= {"token_embedding", "position_embedding", "head", "block_0.mlp.up.kernel"}
    left_alone = names(decay_mask(params), False)
    assert all(name.endswith(("bias", "scale")) for name in left_alone)
    assert "block_0.attention.query.bias" in left_alone  # two axes, and still no matrix


def test_decay_is_for_adapters_too(params):
    adapters = init_adapters(params, LoraConfig(rank=2), jax.random.key(0))
    assert not names(decay_mask(adapters), False)


def test_decay_moves_matrices_towards_zero_without_a_gradient(params):
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.1, weight_decay=0.5), 1)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(lambda: optimizer.update(zeros, optimizer.init(params), params))()
    np.testing.assert_allclose(updates["token_embedding"], -0.05 * params["token_embedding"], rtol=1e-5)
    assert not np.any(updates["block_0"]["mlp_norm"]["scale"])


def test_clipping_comes_first(params):
    """Adam does not care for the gradient's length, so clipping shows in its second moment."""
    optimizer = make_optimizer(OptimizerConfig(grad_clip=1.0, beta2=0.0), 1)
    gradient = jax.tree.map(lambda x: 100 * jnp.ones_like(x), params)
    _, state = optimizer.update(gradient, optimizer.init(params), params)
    adam = next(
        s
        for s in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState))
        if isinstance(s, optax.ScaleByAdamState)
    )
    assert float(sum(jnp.sum(x) for x in jax.tree.leaves(adam.nu))) == pytest.approx(1.0, rel=1e-3)


def test_muon_takes_the_blocks_matrices_only(params):
    labels = muon_labels(params)
    assert names(labels, "muon") == {
        f"block_0.{part}.kernel"
        for part in ("attention.query", "attention.key", "attention.value", "attention.out", "mlp.up", "mlp.down")
    }
    optimizer = make_optimizer(OptimizerConfig(name="muon", weight_decay=0.0, grad_clip=1e9), 1)
    gradient = jax.tree.map(lambda x: jax.random.normal(jax.random.key(1), x.shape), params)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    for name in ("query", "out"):
        update = np.asarray(updates["block_0"]["attention"][name]["kernel"])
        matrix = update.reshape(16, 16)  # heads and head_dim together, on their own side
        singular = np.linalg.svd(matrix, compute_uv=False)
        assert singular.max() / singular.min() < 3  # nearly orthogonal


def test_orthogonalized_matrices_are_those_of_optax(params):
    kernels = {name: part["kernel"] for name, part in params["block_0"]["mlp"].items()}
    gradient = jax.tree.map(lambda x: jax.random.normal(jax.random.key(2), x.shape), {"mlp": kernels})
    matrices = jax.tree.map(lambda x: optax.contrib.MuonDimensionNumbers(), gradient)
    theirs = optax.contrib.scale_by_muon(weight_dimension_numbers=matrices)
    expected, _ = theirs.update(gradient, theirs.init(gradient))
    ours = orthogonalize()
    got, _ = ours.update(gradient, ours.init(gradient))
    for name, kernel in got["mlp"].items():
        inputs, outputs = kernel.shape
        np.testing.assert_allclose(
            kernel, expected["mlp"][name] * max(1.0, outputs / inputs) ** 0.5, atol=2e-3, err_msg=name
        )


def test_short_numbers_make_nearly_orthogonal_matrices():
    x_NRC = jax.random.normal(jax.random.key(0), (3, 16, 24))
    exact, short = (_iterate(dtype, x_NRC) for dtype in (jnp.float32, jnp.bfloat16))
    assert short.dtype == jnp.float32
    singular = jnp.linalg.svd(short, compute_uv=False)
    assert 0.6 < singular.min() < singular.max() < 1.3
    lengths = jnp.linalg.norm(short, axis=(1, 2)) * jnp.linalg.norm(exact, axis=(1, 2))
    assert (jnp.sum(short * exact, axis=(1, 2)) / lengths).min() > 0.995  # the same direction


def test_devices_share_the_matrices(monkeypatch):
    """Seven kernels of one shape over eight devices: the same update as on one, and no device iterates them all."""
    updates = {f"block_{i}": {"kernel": jax.random.normal(jax.random.key(i), (8, 16))} for i in range(7)}
    alone, _ = jax.jit(orthogonalize().update)(updates, optax.EmptyState())
    mesh = jax.make_mesh((8, 1, 1), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
        program = jax.jit(orthogonalize().update).lower(updates, optax.EmptyState()).compile()
        shared, _ = program(updates, optax.EmptyState())
    # Five iterations multiply a difference of rounding, which depends on how a processor sums, by about a hundred.
    chex.assert_trees_all_close(jax.device_get(shared), jax.device_get(alone), atol=1e-4)
    assert "f32[1,8,16]" in program.as_text()
    assert "f32[7,8,8]" not in program.as_text()
