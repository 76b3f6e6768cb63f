"""What happens before a run's first step: JAX is set up, and the person is told what will be done with what."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax

from jaxgpt.config import Config
from jaxgpt.data.prepare import Prepared, data_name
from jaxgpt.data.sources import batch_at
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.training.cost import cost
from jaxgpt.training.loop import total_steps
from jaxgpt.training.memory import keep_freed_memory
from jaxgpt.training.mesh import make_mesh
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import compile_steps
from jaxgpt.training.trained import abstract_params


def start_jax(cache_dir: str, *, run_ahead: bool = True) -> None:
    """Keeps freed memory, and compiled programs on disk: what follows is quicker. Call it before the first array.

    Where the program may `run_ahead` of a CPU it hands over work before the last has ended, each with memory of its
    own. Training may not: a step is long, and its half gigabyte would be held two or three times.
    """
    keep_freed_memory()
    jax.config.update("jax_cpu_enable_async_dispatch", run_ahead)
    jax.config.update("jax_compilation_cache_dir", str(Path(cache_dir).expanduser().absolute() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def settle_dtype(config: Config) -> Config:
    """Returns the config with model.dtype "auto" replaced by what this machine is fast at; the run records it."""
    if config.model.dtype != "auto":
        return config
    kind = jax.default_backend()
    if kind != "cpu":
        dtype, why = "bfloat16", f"on a {kind.upper()}"
    elif _cpu_features() & {"avx512_bf16", "amx_bf16"}:
        dtype, why = "mixed", "this CPU multiplies bfloat16 in half the time"
    else:
        dtype, why = "float32", "this CPU has no instructions for bfloat16"
    print(f"model.dtype: {dtype} ({why})")
    return dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype))


def _cpu_features() -> set[str]:
    """Returns the names Linux has for what the processor can do; nothing elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    return {word for line in lines if line.startswith("flags") for word in line.split()}


def announce(data: Prepared) -> None:
    """Prints what was read, and unmissably when it is not what was asked for."""
    manifest = data.manifest
    if manifest["fallback_for"]:
        rule = "!" * 78
        print(rule)
        print(f"!! {manifest['fallback_for']} could not be had. Going on with {manifest['name']} in its place.")
        print(f"!! {manifest['notes'][0]}")
        print("!! Every number of this run is about the stand-in.")
        print(rule)
    print(f"data: {data_name(manifest)} ({manifest['source']})")
    for note in manifest["notes"][bool(manifest["fallback_for"]) :]:
        print(f"  {note}")
    for split, counts in manifest["splits"].items():
        print(f"  {split}: {_counts(counts)}")


def _counts(counts: dict[str, Any]) -> str:
    if "lines" in counts:
        share = counts["unk"] / max(1, counts["tokens"])
        return f"{counts['lines']:,} lines, {counts['tokens']:,} tokens, {share:.2%} of them <unk>"
    return (
        f"{counts['conversations']:,} conversations: {counts['kept']:,} kept, {counts['cut']:,} of them cut at a turn "
        f"({counts['messages_cut']:,} messages gone in all), {counts['dropped']:,} dropped: no exchange fits\n"
        f"    {counts['tokens']:,} tokens, {counts['supervised']:,} of them to learn; "
        f"<unk>: {counts['unk_prompts']:.1%} of the words of prompts, {counts['unk_replies']:.1%} of replies"
    )


def parameter_counts(config: Config) -> dict[str, int]:
    """Returns the number of parameters by part, in the order of the data's way through the model."""
    parts: dict[str, int] = {}
    for name, tree in abstract_params(config.model).items():
        part = "blocks" if name.startswith("block_") else name
        parts[part] = parts.get(part, 0) + sum(math.prod(x.shape) for x in jax.tree.leaves(tree))
    order = ("token_embedding", "position_embedding", "blocks", "final_norm", "head")
    return {part: parts[part] for part in order if part in parts}


def plan(config: Config, tokenizer: Tokenizer, data: Prepared) -> str:
    """Returns what --dry-run prints: the resolved config, parameters by part, steps, tokens, memory and time."""
    counts = parameter_counts(config)
    mesh = make_mesh(config)  # refuses here what a run would refuse
    train = data.sources["train"]
    planned, steps = total_steps(config, train)
    compiled = compile_steps(config, make_optimizer(config.optimizer, planned), mesh)
    batch = compiled.put(batch_at(train, config.run.seed, 0, config.data.batch_size, config.run.epochs))
    tokens = data.manifest["splits"]["train"]["tokens"]
    per_step = config.data.batch_size * config.data.seq_len
    lines = [
        json.dumps(dataclasses.asdict(config), indent=2),
        f"vocabulary: {tokenizer.vocab_size:,} words, fingerprint {tokenizer.fingerprint[:16]}",
        f"parameters: {sum(counts.values()):,}",
        *(f"  {part:20} {count:>12,}" for part, count in counts.items()),
        f"steps: {steps:,} of {per_step:,} tokens ({config.data.batch_size} windows of {config.data.seq_len})",
        f"tokens: {min(steps * per_step, tokens * config.run.epochs):,}",
        *cost(config, compiled, batch, steps),
        "dry run: nothing was kept or written",
    ]
    return "\n".join(lines)
