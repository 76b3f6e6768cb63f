"""The step gives the same numbers however it is cut: over devices, over micro-batches, under jit and pmap."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import AxisType

from jaxgpt.config import Config, DataConfig, MeshConfig, ModelConfig, ObjectiveConfig, OptimizerConfig
from jaxgpt.data.batch import Batch
from jaxgpt.devices.hlo import read_program
from jaxgpt.devices.mesh import RULES, make_mesh
from jaxgpt.errors import UserError
from jaxgpt.model.gpt import GPT, logits, unembedding
from jaxgpt.model.parameters import stacked, unstacked
from jaxgpt.run.state import TrainState
from jaxgpt.training.objectives import OBJECTIVES, next_token
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import compile_steps, init_state, make_train_step

MODEL = ModelConfig(vocab_size=200, context_len=16, embed_dim=32, num_heads=4, num_layers=2, dropout=0.1)
CONFIG = Config(model=MODEL, data=DataConfig(seq_len=16, batch_size=16), mesh=MeshConfig(1, 1, 1))
MESH_OF_EIGHT = dataclasses.replace(CONFIG, mesh=MeshConfig(2, 2, 2))
STEPS = 3


def initial(config: Config, optimizer) -> TrainState:
    return jax.jit(lambda: init_state(config, optimizer))()


def batch_of(seed: int) -> Batch:
    """Random tokens, a third of them without weight, so that shards carry different weights."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 200, (16, 17)).astype(np.int32)
    weights = (rng.random((16, 16)) > 0.33).astype(np.float32)
    return Batch(tokens[:, :-1], tokens[:, 1:], weights)


def run(config: Config, mesh) -> tuple[list[dict[str, float]], dict]:
    """Returns the metrics of three steps, and the parameters after them."""
    compiled = compile_steps(config, make_optimizer(config.optimizer, STEPS), mesh)
    state, seen = compiled.init(), []
    for step in range(STEPS):
        state, metrics = compiled.train_step(state, compiled.put(batch_of(step)))
        seen.append({name: float(value) for name, value in metrics.items()})
    assert int(state.step) == STEPS
    return seen, jax.device_get(state.params)


def one_device():
    return jax.make_mesh(
        (1, 1, 1), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3, devices=jax.devices()[:1]
    )


@pytest.fixture(scope="module")
def alone():
    return run(CONFIG, one_device())


@pytest.mark.parametrize(
    "shape", [*(pytest.param(shape, marks=pytest.mark.long) for shape in ((8, 1, 1), (1, 8, 1))), (2, 2, 2)]
)
def test_one_device_equals_eight(alone, shape):
    """Dropout is on: every device draws the bits that one device would draw for its rows."""
    config = dataclasses.replace(
        CONFIG, mesh=MeshConfig(*shape), model=dataclasses.replace(MODEL, embed_dim=32, num_heads=4)
    )
    metrics, params = run(config, make_mesh(config))
    for got, want in zip(metrics, alone[0], strict=True):
        assert got == pytest.approx(want, rel=1e-5)
    chex.assert_trees_all_close(params, alone[1], atol=2e-5)


def test_state_is_sharded_and_constraints_are_compiled_in():
    config = dataclasses.replace(CONFIG, mesh=MeshConfig(2, 2, 2))
    compiled = compile_steps(config, make_optimizer(config.optimizer, STEPS), make_mesh(config))
    state = compiled.init()
    for tree in (state.params, state.opt_state[1][0].mu):
        kernel = tree["block_0"]["attention"]["query"]["kernel"]
        assert kernel.sharding.spec == jax.sharding.PartitionSpec("fsdp", "tensor", None)
        assert kernel.addressable_shards[0].data.shape == (16, 2, 8)
    for tree in (state.params, state.opt_state[1][0].mu):
        assert tree["token_embedding"].sharding.spec == jax.sharding.PartitionSpec(("tensor", "fsdp"), None)
    batch = compiled.put(batch_of(0))
    assert batch.tokens.addressable_shards[0].data.shape == (4, 16)
    with jax.set_mesh(compiled.mesh), nn.logical_axis_rules(RULES):
        lowered = jax.jit(make_train_step(config, make_optimizer(config.optimizer, STEPS))).lower(state, batch)
    assert "sharding_constraint" in lowered.as_text()  # silently absent where the mesh is not set


def test_a_vocabulary_that_does_not_divide_over_the_shards_is_sharded_by_columns():
    config = dataclasses.replace(
        CONFIG, mesh=MeshConfig(2, 2, 2), model=dataclasses.replace(MODEL, embedding_rows=202, dropout=0.0)
    )
    metrics, params = run(config, make_mesh(config))
    compiled = compile_steps(config, make_optimizer(config.optimizer, STEPS), make_mesh(config))
    spec = compiled.state_shardings.params["token_embedding"].spec
    assert spec == jax.sharding.PartitionSpec("tensor", "fsdp")
    expected, expected_params = run(config, one_device())
    for got, want in zip(metrics, expected, strict=True):
        assert got == pytest.approx(want, rel=1e-5)
    chex.assert_trees_all_close(params, expected_params, atol=2e-5)


def test_accumulated_equals_full_batch():
    plain = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, dropout=0.0))
    cut = dataclasses.replace(plain, optimizer=dataclasses.replace(plain.optimizer, grad_accumulation_steps=4))
    (whole, whole_params), (micro, micro_params) = run(plain, one_device()), run(cut, one_device())
    for got, want in zip(micro, whole, strict=True):
        assert got == pytest.approx(want, rel=1e-5)
    chex.assert_trees_all_close(micro_params, whole_params, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)])
def test_one_device_equals_eight_in_micro_batches(shape):
    config = dataclasses.replace(CONFIG, optimizer=dataclasses.replace(CONFIG.optimizer, grad_accumulation_steps=2))
    config = dataclasses.replace(config, mesh=MeshConfig(*shape))
    metrics, params = run(config, make_mesh(config))
    expected, expected_params = run(config, one_device())
    for got, want in zip(metrics, expected, strict=True):
        assert got == pytest.approx(want, rel=1e-5)
    chex.assert_trees_all_close(params, expected_params, atol=2e-5)


def test_micro_batches_need_no_mesh():
    config = dataclasses.replace(CONFIG, optimizer=dataclasses.replace(CONFIG.optimizer, grad_accumulation_steps=2))
    optimizer = make_optimizer(config.optimizer, STEPS)
    _, metrics = jax.jit(make_train_step(config, optimizer))(initial(config, optimizer), batch_of(0))
    expected, _ = run(config, one_device())
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(expected[0], rel=1e-5)


def test_micro_batches_send_no_more_than_one_batch():
    sent = []
    for steps in (1, 2):
        config = dataclasses.replace(CONFIG, mesh=MeshConfig(8, 1, 1))
        config = dataclasses.replace(config, optimizer=OptimizerConfig(grad_accumulation_steps=steps))
        compiled = compile_steps(config, make_optimizer(config.optimizer, STEPS), make_mesh(config))
        program = compiled.program(compiled.init(), compiled.put(batch_of(0)))
        sent.append(sum(size for _, size in read_program(program.as_text()).sent.values()))
    assert sent[1] <= 1.01 * sent[0]


@pytest.mark.long
def test_log_probabilities_in_micro_batches_are_those_of_the_whole():
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, dropout=0.0))
    in_parts = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, grad_accumulation_steps=4))
    found = []
    for asked in (config, in_parts):
        compiled = compile_steps(asked, make_optimizer(asked.optimizer, STEPS), one_device())
        state = compiled.init()
        found.append(np.asarray(compiled.log_probs(state.params, compiled.put(batch_of(0)))))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_jit_equals_pmap():
    """The same pure step, over `per_device` batches: the loss is divided by the weights of all devices."""
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, dropout=0.0))
    expected, expected_params = run(config, one_device())
    optimizer = make_optimizer(config.optimizer, STEPS)
    step = jax.pmap(make_train_step(config, optimizer, axis_name="devices"), axis_name="devices")
    state = jax.tree.map(lambda x: jnp.stack([x] * 8), initial(config, optimizer))
    for number in range(STEPS):
        state, metrics = step(state, batch_of(number).per_device(8))
        for name, value in metrics.items():
            np.testing.assert_allclose(value, expected[number][name], rtol=1e-5)
    for device in (0, 7):
        params = jax.tree.map(lambda x, device=device: np.asarray(x[device]), state.params)
        chex.assert_trees_all_close(params, expected_params, atol=1e-5)


def test_step_is_plain_optax_on_the_plain_loss():
    """Against a step written the obvious way: mean loss over all logits, optax, nothing else."""
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, dropout=0.0))
    optimizer = make_optimizer(config.optimizer, STEPS)
    state, batch = initial(config, optimizer), batch_of(0)

    def mean_loss(params):
        hidden, _ = GPT(config.model).apply({"params": params}, batch.tokens)
        scores = logits(unembedding(params), hidden, 200)
        losses = optax.softmax_cross_entropy_with_integer_labels(scores[..., :200], batch.targets)
        return jnp.sum(losses * batch.weights) / batch.weights.sum()

    loss, gradients = jax.jit(jax.value_and_grad(mean_loss))(state.params)
    updates, _ = jax.jit(optimizer.update)(gradients, state.opt_state, state.params)
    expected = optax.apply_updates(state.params, updates)
    after, metrics = jax.jit(make_train_step(config, optimizer))(state, batch)
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    assert float(metrics["grad_norm"]) == pytest.approx(float(optax.tree.norm(gradients)), rel=1e-4)
    chex.assert_trees_all_close(after.params, expected, atol=1e-5)


def test_losses_and_weights_add_up():
    config = CONFIG
    params, batch = initial(config, make_optimizer(config.optimizer, 1)).params, batch_of(1)
    sums = jax.jit(lambda params, batch: next_token(params, batch, config, None)[:2])
    whole = sums(params, batch)
    halves = [sums(params, Batch(*(x if x is None else x[i : i + 8] for x in batch))) for i in (0, 8)]
    np.testing.assert_allclose(whole, np.sum(halves, axis=0), rtol=1e-5)
    assert float(whole[1]) == batch.weights.sum()


@pytest.mark.parametrize("name", ["next_token", "dpo"])
def test_a_batch_of_rehearsed_text_alone_teaches_the_text_and_tells_nothing_of_answers(name):
    still = dataclasses.replace(MODEL, dropout=0.0)
    config = dataclasses.replace(CONFIG, model=still, objective=ObjectiveConfig(name=name))
    optimizer = make_optimizer(config.optimizer, STEPS)
    text = batch_of(0)
    positions = np.tile(np.arange(16, dtype=np.int32), (16, 1))
    text = text._replace(segments=np.ones((16, 16), np.int32), positions=positions)
    nothing = np.zeros((16, 16), np.float32)
    alone = text._replace(weights=nothing, rehearsed=text.weights, reference=nothing)
    taught, metrics = jax.jit(make_train_step(config, optimizer, objective=OBJECTIVES[name]))(
        initial(config, optimizer), alone
    )
    expected, plain = jax.jit(make_train_step(config, optimizer))(initial(config, optimizer), text)
    chex.assert_trees_all_close(taught.params, expected.params, atol=1e-5)
    np.testing.assert_allclose(metrics["text_loss"], plain["loss"], rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], plain["grad_norm"], rtol=1e-4)
    assert float(metrics["weight"]) == 0
    assert not metrics["skipped"]
    assert np.isnan([metrics[name] for name in metrics.keys() & {"loss", "preferred", "margin"}]).all()


def test_dropout_is_decided_by_seed_and_step():
    optimizer = make_optimizer(CONFIG.optimizer, STEPS)
    step = jax.jit(make_train_step(CONFIG, optimizer))
    state = initial(CONFIG, optimizer)

    def loss(state):
        return float(step(state, batch_of(0))[1]["loss"])

    assert loss(state) == loss(state)
    assert loss(state) != loss(state._replace(step=jnp.ones((), jnp.int32)))


@pytest.mark.long
def test_muon_learns_and_shards():
    config = dataclasses.replace(
        CONFIG, optimizer=OptimizerConfig(name="muon", learning_rate=1e-2), mesh=MeshConfig(2, 2, 2)
    )
    compiled = compile_steps(config, make_optimizer(config.optimizer, 20), make_mesh(config))
    state, batch = compiled.init(), compiled.put(batch_of(0))
    losses = []
    for _ in range(20):
        state, metrics = compiled.train_step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mesh": MeshConfig(3, 1, 1)}, "there are 8; their product must be the number of devices"),
        (
            {"data": DataConfig(seq_len=16, batch_size=12)},
            "data.batch_size: 12 in 1 micro-batches does not divide over 8",
        ),
        ({"mesh": MeshConfig(1, 1, 8)}, "model.num_heads: 4 does not divide over mesh.tensor"),
    ],
)
def test_what_does_not_divide_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make_mesh(dataclasses.replace(CONFIG, **{"mesh": MeshConfig(), **changes}))


@pytest.mark.parametrize(("name", "remat"), [("adamw", "none"), pytest.param("muon", "dots", marks=pytest.mark.long)])
def test_blocks_in_a_loop_train_alike(name, remat):
    model = dataclasses.replace(MODEL, dropout=0.0, remat=remat)
    config = dataclasses.replace(CONFIG, model=model, optimizer=OptimizerConfig(name=name), mesh=MeshConfig(2, 2, 2))
    looped = dataclasses.replace(config, model=dataclasses.replace(model, scan_layers=True))
    seen = []
    params = None
    for each in (config, looped):
        compiled = compile_steps(each, make_optimizer(each.optimizer, STEPS), make_mesh(each))
        state = compiled.init()
        if params is None:
            params = jax.device_get(state.params)
        else:
            chex.assert_trees_all_equal_shapes(stacked(params), state.params)
            state = compiled.start_from(jax.device_put(stacked(params), compiled.state_shardings.params))
        losses = []
        for step in range(STEPS):
            state, metrics = compiled.train_step(state, compiled.put(batch_of(step)))
            losses.append(metrics["loss"])
        seen.append((losses, unstacked(state)))
    chex.assert_trees_all_equal_structs(*seen)
    chex.assert_trees_all_close(*seen, rtol=1e-4, atol=1e-5)


def test_rows_are_gathered_once_for_all_their_devices():
    compiled = compile_steps(CONFIG, make_optimizer(CONFIG.optimizer, 1), make_mesh(MESH_OF_EIGHT))
    asked = []

    def gather(rows):
        asked.append(rows.tolist())
        return jax.tree.map(lambda x: x[rows], batch_of(0))

    placed = compiled.place(16, gather)
    assert asked == [list(range(16))]
    chex.assert_trees_all_equal(jax.device_get(placed), batch_of(0))
