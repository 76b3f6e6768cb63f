"""One training step, and one evaluation step: pure functions, jitted over the mesh by `compile_*`."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh

from jaxgpt.config import Config
from jaxgpt.data.batch import Batch
from jaxgpt.devices.allocator import give_back_freed_memory
from jaxgpt.devices.chips import compiler_options
from jaxgpt.devices.mesh import RULES, batch_sharding, replicated, shardings_of, summed_over_devices
from jaxgpt.model.gpt import GPT, Params
from jaxgpt.model.lora import adapted, init_adapters, merged
from jaxgpt.run.state import TrainState
from jaxgpt.training.objectives import Objective, Sums, log_probs, next_token
from jaxgpt.training.optimizer import at_step

Metrics = dict[str, jax.Array]


def init_state(config: Config, optimizer: optax.GradientTransformation, *, boxed: bool = False) -> TrainState:
    """Returns the state at step 0, drawn from run.seed; `boxed` keeps the logical axis names on the arrays."""
    tokens_BT = jnp.zeros((1, config.data.seq_len), jnp.int32)
    params = GPT(config.model).init(jax.random.key(config.run.seed), tokens_BT)["params"]
    state = starting_from(params, config, optimizer)
    return state if boxed else nn.unbox(state)


def starting_from(params: Params, config: Config, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state at step 0 that trains these parameters, or with lora.rank adapters beside them."""
    step = jnp.zeros((), jnp.int32)
    if config.lora.rank is None:
        reference = params if config.objective.name == "grpo" else None
        return TrainState(step, params, optimizer.init(params), frozen=reference)
    adapters = init_adapters(params, config.lora, jax.random.key(config.run.seed))
    return TrainState(step, adapters, optimizer.init(adapters), frozen=params)


def _summed_gradients(
    objective: Objective, config: Config, state: TrainState, batch: Batch, key: jax.Array
) -> tuple[Sums, Any]:
    """Returns (the objective's sums, the gradient of what they reduce), adding up micro-batches one after the other."""
    params = state.params

    def loss_of(params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Sums]:
        if config.lora.rank is not None:
            params = adapted(state.frozen, params, config.lora)
        sums = objective(params, batch, config, key)
        return sums[0], sums

    with_gradient = jax.grad(loss_of, has_aux=True)
    count = config.optimizer.grad_accumulation_steps
    if count == 1:
        grads, sums = with_gradient(params, batch, key)
        return sums, grads

    def add(total, inputs):
        grads, sums = with_gradient(params, *inputs)
        return jax.tree.map(jnp.add, total, (sums, grads)), None

    micro_batches = _micro_batches(batch, count)
    keys = jax.random.split(key, count)
    first = jax.tree.map(lambda x: x[0], (micro_batches, keys))
    shapes = jax.eval_shape(lambda: loss_of(params, *first)[1])
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(add, start, (micro_batches, keys))
    return total


def _micro_batches(batch: Batch, count: int) -> Batch:
    """Returns arrays as [count, rows, ...]: micro-batch i takes rows i, i + count, ...: each device's stay on it."""
    return jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, count, *x.shape[1:]), 0, 1), batch)


def _log_probs(config: Config, params: Params, batch: Batch) -> jax.Array:
    """Returns log_p_BT of a batch's targets at objective.temperature, one micro-batch after the other."""
    count = config.optimizer.grad_accumulation_steps
    of = partial(log_probs, params, config=config, temperature=config.objective.temperature)
    if count == 1:
        return of(batch)
    log_p_CBT = jax.lax.map(of, _micro_batches(batch, count))
    return jnp.swapaxes(log_p_CBT, 0, 1).reshape(batch.tokens.shape)


def make_train_step(
    config: Config,
    optimizer: optax.GradientTransformation,
    axis_name: str | None = None,
    objective: Objective = next_token,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Returns the pure train_step(state, batch) -> (state, metrics).

    Metrics: loss (of next_token nats per counted token), weight (what it is a mean over: tokens, pairs, answers),
    grad_norm (before clipping), skipped, and the objective's own; NaN for what a batch has nothing of. A step whose
    loss or gradient is not finite is skipped: it changes nothing but the step's number. Under pmap `axis_name` names
    the device axis, over which sums are added; under jit on a mesh the compiler adds them.
    """

    summed = partial(_summed_gradients, objective, config)
    if config.optimizer.grad_accumulation_steps > 1 and axis_name is None:
        summed = summed_over_devices(summed)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.run.seed + 1), state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
        sums, grads = summed(state, batch, key)
        if axis_name is not None:
            sums, grads = jax.lax.psum((sums, grads), axis_name)
        total, count, measures = sums
        if "text_loss" in measures:  # which may be all that a batch has
            count = jnp.where(count > 0, count, measures["text_loss"][1])
        count = jnp.maximum(count, 1.0)
        grads = jax.tree.map(lambda g: g / count, grads)
        updates, opt_state = optimizer.update(grads, at_step(state.opt_state, state.step), state.params)
        params = optax.apply_updates(state.params, updates)
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(total) & jnp.isfinite(grad_norm)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        metrics = {name: jnp.where(of > 0, x / jnp.maximum(of, 1.0), jnp.nan) for name, (x, of) in measures.items()}
        metrics |= {"weight": measures["loss"][1], "grad_norm": grad_norm, "skipped": ~finite}
        return TrainState(state.step + 1, params, opt_state, state.frozen), metrics

    return train_step


class Compiled(NamedTuple):
    """The jitted functions of a run on its mesh, and how to bring data there."""

    mesh: Mesh
    state_shardings: TrainState
    abstract_state: TrainState
    init: Callable[[], TrainState]
    start_from: Callable[[Params], TrainState]  # given parameters, which become its own, at step 0
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    eval_step: Callable[[Params, Batch], Sums]
    log_probs: Callable[[Params, Batch], jax.Array]  # of a batch's targets, at objective.temperature
    model_params: Callable[[TrainState], Params]  # the network's: the state's own, or with its adapters merged in
    program: Callable[[TrainState, Batch], jax.stages.Compiled]  # that of train_step, for arrays or their shapes

    def place(self, size: int, gather: Callable[[np.ndarray], Batch]) -> Batch:
        """Returns a batch of `size` rows on the devices; `gather` gives rows by number, each process its own only."""
        sharding = batch_sharding(self.mesh)
        on_each: Any = sharding.addressable_devices_indices_map((size,))
        parts = [index[0].indices(size) for index in on_each.values()]
        own = np.unique(np.concatenate([np.arange(*part) for part in parts]))

        def on_devices(x: np.ndarray) -> jax.Array:
            def part(index: Any) -> np.ndarray:
                first, last, _ = index[0].indices(size)
                begin = np.searchsorted(own, first)
                return x[begin : begin + last - first]

            return jax.make_array_from_callback((size, *x.shape[1:]), sharding, part)

        return jax.tree.map(on_devices, gather(own))

    def put(self, batch: Batch) -> Batch:
        """Returns the batch on the devices; every process gives the same one."""
        return self.place(len(batch.tokens), lambda rows: jax.tree.map(lambda x: x[rows], batch))


def compile_steps(
    config: Config, optimizer: optax.GradientTransformation, mesh: Mesh, objective: Objective = next_token
) -> Compiled:
    """Returns init, train_step and eval_step jitted over the mesh; the state is donated to train_step."""
    boxed = jax.eval_shape(lambda: init_state(config, optimizer, boxed=True))
    shardings = shardings_of(boxed, mesh)
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), nn.unbox(boxed), shardings)
    rows, whole = batch_sharding(mesh), replicated(mesh)
    of_model = shardings.params if config.lora.rank is None else shardings.frozen

    def on_mesh(function: Callable) -> Callable:
        def call(*args):
            with jax.set_mesh(mesh), nn.logical_axis_rules(RULES):
                return function(*args)

        return call

    def eval_step(params: Params, batch: Batch) -> Sums:
        return objective(params, batch, config, None)

    train_step = jax.jit(
        make_train_step(config, optimizer, objective=objective),
        donate_argnums=0,
        in_shardings=(shardings, rows),
        out_shardings=(shardings, whole),
    )
    draw = jax.jit(lambda: init_state(config, optimizer), out_shardings=shardings)
    take = jax.jit(
        lambda params: starting_from(params, config, optimizer),
        donate_argnums=0,
        in_shardings=(of_model,),
        out_shardings=shardings,
    )
    merge = jax.jit(
        lambda state: merged(state.frozen, state.params, config.lora),
        in_shardings=(shardings,),
        out_shardings=of_model,
    )
    programs: list[jax.stages.Compiled] = []

    def init() -> TrainState:
        state = draw()
        draw.clear_cache()  # type: ignore[attr-defined]  # a program of 50 MB that is wanted once
        return state

    def program(state: TrainState, batch: Batch) -> jax.stages.Compiled:
        if not programs:
            options = compiler_options(mesh.devices.flat[0].device_kind)
            programs.append(train_step.lower(state, batch).compile(compiler_options=options))
            give_back_freed_memory()  # or the first step's arrays come on top of what tracing and compiling left
        return programs[0]

    return Compiled(
        mesh=mesh,
        state_shardings=shardings,
        abstract_state=abstract,
        init=on_mesh(init),
        start_from=on_mesh(take),
        train_step=on_mesh(lambda state, batch: program(state, batch)(state, batch)),
        eval_step=on_mesh(jax.jit(eval_step, in_shardings=(of_model, rows), out_shardings=whole)),
        log_probs=on_mesh(jax.jit(partial(_log_probs, config), in_shardings=(of_model, rows), out_shardings=rows)),
        model_params=on_mesh(lambda state: state.params if config.lora.rank is None else merge(state)),
        program=on_mesh(program),
    )
