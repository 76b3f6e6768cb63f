"""How gradients become updates: clip, then AdamW, or Muon for the blocks' matrices; and the learning-rate schedule."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxgpt.config import OptimizerConfig
from jaxgpt.model.parameters import as_matrices, parameter_kind
from jaxgpt.ops.sharding import batch_shards


def learning_rate_schedule(config: OptimizerConfig, num_steps: int, peak: float) -> optax.Schedule:
    """Returns step -> learning rate, steps counted from 0: a linear warm-up to `peak`, then constant, cosine or wsd.

    The first step after warm-up is at the peak; cosine and wsd end at `peak * final_lr_fraction`, the rate of the last
    of num_steps. wsd (warm-up-stable-decay, Hu et al. 2024) stays at the peak and falls linearly over the last
    decay_fraction of the steps after warm-up.
    """
    warmup = min(config.warmup_steps, num_steps)
    rest = num_steps - warmup
    if config.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(1, rest - 1), alpha=config.final_lr_fraction)
    elif config.schedule == "wsd":
        decay = max(1, round(rest * config.decay_fraction))
        last_at_peak = rest - 1 - decay  # -1 is the last step of the warm-up
        if last_at_peak < 0 and not warmup:
            last_at_peak, decay = 0, max(1, rest - 1)
        falling = optax.linear_schedule(peak, peak * config.final_lr_fraction, decay)
        after = optax.join_schedules([optax.constant_schedule(peak), falling], [last_at_peak])
    else:
        raise ValueError(f"no schedule {config.schedule!r}")
    if not warmup:
        return after
    # The first step is at peak / warmup, not at 0: a step that learns nothing is wasted.
    rising = optax.linear_schedule(peak / warmup, peak, max(1, warmup - 1))
    return optax.join_schedules([rising, after], [warmup])


def learning_rates(config: OptimizerConfig, planned: int, steps: int) -> np.ndarray:
    """Returns the rates of a run's first `steps` steps, of as many as are planned."""
    schedule = learning_rate_schedule(config, planned, config.learning_rate)
    return np.broadcast_to(np.asarray(schedule(jnp.arange(steps))), steps)


def at_step(opt_state: optax.OptState, step: jax.Array) -> optax.OptState:
    """Returns the optimizer's state with its schedules at this step of the run, which is what is logged, too.

    Left to themselves schedules count updates, and fall behind by one with every step that is skipped. Adam's own
    count, of the gradients that its averages hold, stays.
    """

    def is_schedule(state: Any) -> bool:
        return isinstance(state, optax.ScaleByScheduleState)

    return jax.tree.map(lambda x: x._replace(count=step) if is_schedule(x) else x, opt_state, is_leaf=is_schedule)


def decay_mask(params: Any) -> Any:
    """Returns the tree of params with True where weight decay applies: not to biases and norm scales."""
    return jax.tree_util.tree_map_with_path(lambda path, _: parameter_kind(path) != "vector", params)


def muon_labels(params: Any) -> Any:
    """Returns the tree of params with "muon" at the blocks' kernels and "adamw" elsewhere."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "muon" if parameter_kind(path) == "matrix" else "adamw", params
    )


def orthogonalize() -> optax.GradientTransformation:
    """Returns the heart of Muon (Jordan et al. 2024): each matrix becomes the nearest with all singular values equal.

    Matrices of one shape, a tall one counted as its transpose, go through the iteration together: on their own they
    are so small that starting each product would cost more than computing it.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        leaves, tree = jax.tree_util.tree_flatten_with_path(updates)
        kernels = [as_matrices(path, kernel) for path, kernel in leaves]
        wide = [kernel.mT if kernel.shape[1] > kernel.shape[2] else kernel for kernel in kernels]
        places: dict[tuple[int, ...], list[int]] = {}
        for place, kernel in enumerate(wide):
            places.setdefault(kernel.shape[1:], []).append(place)
        for here in places.values():
            ends = np.cumsum([len(wide[place]) for place in here])[:-1]
            together = _newton_schulz(jnp.concatenate([wide[place] for place in here]))
            for place, result in zip(here, jnp.split(together, ends), strict=True):
                wide[place] = result
        results = []
        for (_, update), kernel, result in zip(leaves, kernels, wide, strict=True):
            _, inputs, outputs = kernel.shape
            result = result.mT if inputs > outputs else result
            results.append(result.reshape(update.shape) * math.sqrt(max(1.0, outputs / inputs)))
        return jax.tree_util.tree_unflatten(tree, results), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _newton_schulz(x_NRC: jax.Array) -> jax.Array:
    """Returns N matrices, no taller than wide, with singular values near 1: five steps of a quintic iteration.

    The devices that share the batch share the matrices, too: each iterates some. In bfloat16, but on a CPU, which is no
    quicker in it; the iteration forgives its rounding.
    """
    count, shards = len(x_NRC), batch_shards()
    padded_NRC = jnp.pad(x_NRC, [(0, -count % shards), (0, 0), (0, 0)])
    if shards > 1:
        padded_NRC = nn.with_logical_constraint(padded_NRC, ("batch", None, None))
    iterated_NRC = jax.lax.platform_dependent(
        padded_NRC, cpu=partial(_iterate, jnp.float32), default=partial(_iterate, jnp.bfloat16)
    )
    return iterated_NRC[:count]


def _iterate(dtype: Any, x_NRC: jax.Array) -> jax.Array:
    result = x_NRC.dtype
    x_NRC = (x_NRC / (jnp.linalg.norm(x_NRC, axis=(1, 2), keepdims=True) + 1e-8)).astype(dtype)
    for _ in range(5):
        square_NRQ = jnp.einsum("NRC,NQC->NRQ", x_NRC, x_NRC)
        mixed_NRQ = -4.7750 * square_NRQ + 2.0315 * jnp.einsum("NRS,NSQ->NRQ", square_NRQ, square_NRQ)
        x_NRC = 3.4445 * x_NRC + jnp.einsum("NRQ,NQC->NRC", mixed_NRQ, x_NRC)
    return x_NRC.astype(result)


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Returns the chain: global-norm clipping, then AdamW (Loshchilov and Hutter 2019) or Muon (Jordan et al. 2024)."""
    adamw = optax.adamw(
        learning_rate_schedule(config, num_steps, config.learning_rate),
        b1=config.beta1,
        b2=config.beta2,
        weight_decay=config.weight_decay,
        mask=decay_mask,
    )
    if config.name == "adamw":
        return optax.chain(optax.clip_by_global_norm(config.grad_clip), adamw)
    if config.name != "muon":
        raise ValueError(f"no optimizer {config.name!r}")
    muon = optax.chain(
        optax.trace(decay=0.95, nesterov=True),
        orthogonalize(),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(learning_rate_schedule(config, num_steps, config.muon_learning_rate)),
    )
    both = optax.partition({"muon": muon, "adamw": adamw}, muon_labels)
    return optax.chain(optax.clip_by_global_norm(config.grad_clip), both)
