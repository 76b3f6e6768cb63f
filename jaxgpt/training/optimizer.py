"""How gradients become updates: clip, then AdamW, or Muon for the blocks' matrices; and the learning rate's course."""

from typing import Any

import jax
import optax

from jaxgpt.config import OptimizerConfig


def learning_rate_schedule(config: OptimizerConfig, num_steps: int, peak: float) -> optax.Schedule:
    """Returns step -> learning rate: a linear warm-up to `peak`, then constant, cosine or warm-up-stable-decay.

    wsd (Hu et al. 2024) stays at the peak and falls linearly over the last decay_fraction of the steps.
    """
    warmup = min(config.warmup_steps, num_steps)
    rest = max(1, num_steps - warmup)
    final = peak * config.final_fraction
    if config.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, rest, alpha=config.final_fraction)
    else:
        decay = max(1, round(rest * config.decay_fraction))
        falling = optax.linear_schedule(peak, final, decay)
        after = optax.join_schedules([optax.constant_schedule(peak), falling], [rest - decay])
    if not warmup:
        return after
    # The first step is at peak / warmup, not at 0: a step that learns nothing is wasted.
    rising = optax.linear_schedule(peak / warmup, peak, max(1, warmup - 1))
    return optax.join_schedules([rising, after], [warmup])


def _path_names(path: tuple) -> list[str]:
    return [str(getattr(key, "key", "")) for key in path]


def _is_matrix(path: tuple) -> bool:
    """Embeddings, head and kernels are matrices; biases and norm scales are not, whatever their rank."""
    names = _path_names(path)
    return "kernel" in names or any(name in ("token_embedding", "position_embedding", "head") for name in names)


def decay_mask(params: Any) -> Any:
    """Returns the tree of params with True where weight decay applies."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _is_matrix(path), params)


def muon_labels(params: Any) -> Any:
    """Returns the tree of params with "muon" at the blocks' kernels and "adamw" elsewhere."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "muon" if "kernel" in _path_names(path) else "adamw", params
    )


def _muon_dimensions(params: Any) -> Any:
    """Which axes of a kernel are its input and which its output, heads and head_dim taken together."""

    def dimensions(path: tuple, kernel: jax.Array) -> optax.contrib.MuonDimensionNumbers:
        split = kernel.ndim - 1 if "out" in _path_names(path) else 1
        axes = tuple(range(kernel.ndim))
        return optax.contrib.MuonDimensionNumbers(reduction_axis=axes[:split], output_axis=axes[split:])

    return jax.tree_util.tree_map_with_path(dimensions, params)


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
    muon = optax.contrib.muon(
        learning_rate_schedule(config, num_steps, config.muon_learning_rate),
        weight_decay=config.weight_decay,
        muon_weight_dimension_numbers=_muon_dimensions,
    )
    both = optax.partition({"muon": muon, "adamw": adamw}, muon_labels)
    return optax.chain(optax.clip_by_global_norm(config.grad_clip), both)
