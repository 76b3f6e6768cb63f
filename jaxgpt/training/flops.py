"""What a step costs in arithmetic, memory and time: told before a run, watched during it, explained when too much."""

import statistics
import time
from typing import Any

import jax

from jaxgpt.config import Config, ModelConfig
from jaxgpt.data.batch import Batch
from jaxgpt.devices.peak import peak_flops
from jaxgpt.model.gpt import padded_vocab_size
from jaxgpt.model.parameters import abstract_params, parameter_kind
from jaxgpt.ops.matmul import precision
from jaxgpt.training.progress import clock
from jaxgpt.training.step import Compiled

TIMED_STEPS = 5


def flops_per_token(model: ModelConfig, seq_len: int, frozen: bool = False) -> int:
    """Returns 6 N + 12 L D T, forward and backward (Chowdhery et al. 2022): N parameters that are multiplied with a
    token, the head among them and the tables of embeddings not, and attention over all T positions.

    Where the parameters are `frozen`, 4 N: they have no gradient, and adapters beside them are too thin to count.
    """
    leaves = jax.tree_util.tree_leaves_with_path(abstract_params(model))
    kernels = sum(leaf.size for path, leaf in leaves if parameter_kind(path) == "matrix")
    head = padded_vocab_size(model) * model.embed_dim
    return (4 if frozen else 6) * (kernels + head) + 12 * model.num_layers * model.num_heads * model.head_size * seq_len


def peak_tokens_per_second(model: ModelConfig, seq_len: int, frozen: bool = False) -> float:
    """Returns what all devices would train on if a step were nothing but their best product: MFU is the share of it."""
    flops, _ = peak_flops(precision(model.dtype).compute_dtype)
    return flops * jax.device_count() / flops_per_token(model, seq_len, frozen)


def cost(config: Config, compiled: Compiled, batch: Batch, steps: int) -> list[str]:
    """Returns lines on memory by part, arithmetic, and the time of all steps, from a few that are run and forgotten."""
    state = compiled.init()
    stats: Any = compiled.program(state, batch).memory_analysis()
    parts = {
        "parameters": _megabytes((state.params, state.frozen)),
        "optimizer state": _megabytes(state.opt_state),
        "gradients and activations": stats.temp_size_in_bytes / 1e6,
    }
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        state, metrics = compiled.train_step(state, batch)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - began)
    step_seconds = statistics.median(seconds[1:])
    frozen = config.lora.rank is not None
    per_token = flops_per_token(config.model, config.data.seq_len, frozen)
    per_step = per_token * config.data.batch_size * config.data.seq_len
    peak, source = peak_flops(precision(config.model.dtype).compute_dtype)
    share = per_step / step_seconds / (peak * jax.device_count())
    # Above 1 the machine was busy while the peak was measured.
    of_peak = f", {share:.0%} of the {source} peak of {peak / 1e9:,.0f} GFLOP/s" if share <= 1 else ""
    return [
        f"memory on each of {jax.device_count()} x {jax.devices()[0].device_kind}: {sum(parts.values()):,.0f} MB",
        *(f"  {part:26} {size:>8,.0f} MB" for part, size in parts.items()),
        f"arithmetic: {per_token / 1e6:,.1f} MFLOP a token ({4 if frozen else 6} N + 12 L D T), "
        f"{per_step / 1e9:,.1f} GFLOP a step",
        f"time: {step_seconds * 1e3:,.0f} ms a step{of_peak}; "
        f"about {clock(step_seconds * steps)} for {steps:,} steps, evaluations not counted",
    ]


def _megabytes(tree: Any) -> float:
    """Returns what one device holds of the arrays."""
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree)) / 1e6


def out_of_memory(config: Config, error: Exception) -> str:
    """Returns what to do about a step that did not fit, with the settings that keep the global batch."""
    rows, steps = config.data.batch_size, config.optimizer.grad_accumulation_steps
    finer = next((n for n in range(2 * steps, rows + 1) if rows % n == 0 and n % steps == 0), None)
    advice = []
    if finer is not None:
        advice.append(
            f"--optimizer.grad-accumulation-steps={finer} works on {rows // finer} of the {rows} windows at a time, "
            "and the gradient stays the same"
        )
    if config.model.remat != "full":
        advice.append("--model.remat=full computes activations twice instead of keeping them")
    if config.model.dtype != "bfloat16":
        advice.append("--model.dtype=bfloat16 halves activations")
    if not advice:
        advice.append("a smaller model, a shorter data.seq_len or more devices")
    first_line = str(error).strip().splitlines()[0]
    size = f"{rows // steps} x {config.data.seq_len} tokens at a time"
    return f"out of memory with {size} ({first_line}). Try: {'; '.join(advice)}"
