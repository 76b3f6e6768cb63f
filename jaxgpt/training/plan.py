"""Before a run's first step: what it starts from and is trained on, said to the user; what --dry-run prints."""

import dataclasses
import json
import math
from collections.abc import Sized

import jax

from jaxgpt.config import HOW_TO_TRAIN, Config, ModelConfig, differences, run_dir
from jaxgpt.data.manifest import ChatCounts, TextCounts
from jaxgpt.data.prepare import Prepared
from jaxgpt.data.rehearsal import Rehearsal, WithRehearsal
from jaxgpt.data.sources import batch_at
from jaxgpt.devices.distributed import on_primary
from jaxgpt.devices.mesh import make_mesh
from jaxgpt.devices.setup import fast_dtype, fused_attention
from jaxgpt.errors import UserError
from jaxgpt.model.lora import init_adapters
from jaxgpt.model.parameters import abstract_params, parameter_part
from jaxgpt.run.folder import Run, latest_step, read_run
from jaxgpt.run.load import Origin
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.training.flops import cost
from jaxgpt.training.horizon import total_steps
from jaxgpt.training.objectives import Objective, next_token
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.rollouts import questions_at_once
from jaxgpt.training.step import compile_steps

# Of fewer blocks the steps that a loop slows down (by a third on a v5e) matter more than minutes of compiling.
MANY_LAYERS = 24


def settle(config: Config) -> tuple[Config, dict[str, str]]:
    """Returns the config with all that is left to the machine decided, and why it was decided so, by field."""
    config, dtype = settle_dtype(settle_layers(config))
    config, attention = settle_attention(config)
    return config, dtype | attention


def settle_layers(config: Config) -> Config:
    """Returns the config with model.scan_layers settled: for many blocks compiling each would take minutes."""
    model = config.model
    scan = model.num_layers >= MANY_LAYERS if model.scan_layers is None else model.scan_layers
    return dataclasses.replace(config, model=dataclasses.replace(model, scan_layers=scan))


def settle_attention(config: Config) -> tuple[Config, dict[str, str]]:
    """Returns the config with model.attention settled, and why; raises UserError where what is asked for cannot be."""
    asked, model = config.model.attention, config.model
    if asked == "xla":
        return config, {}
    if asked != "auto" and model.dropout:
        raise UserError(
            f"model.attention: {asked} drops no weights, and model.dropout is {model.dropout}; give 0 or xla"
        )
    kernel, why = on_primary(lambda: fused_attention(model, config.data.seq_len))
    if kernel == "splash" and config.objective.name != "next_token":
        kernel, why = "xla", "splash has no mask for answers that go on from one question"
    if asked not in ("auto", kernel):
        raise UserError(f"model.attention: {asked} was given; it cannot be had here ({why}); give auto or xla")
    if jax.default_backend() != "cpu":
        print(f"model.attention: {kernel} ({why})")
    settled = dataclasses.replace(config, model=dataclasses.replace(model, attention=kernel))
    return settled, {"model.attention": f"{kernel} ({why})"}


def settle_dtype(config: Config) -> tuple[Config, dict[str, str]]:
    """Returns the config with model.dtype "auto" replaced by what this machine is fast at, and why.

    A resumed run keeps what it began with; of several processes the first decides for all.
    """
    if config.model.dtype != "auto":
        return config, {}
    dtype, why = on_primary(lambda: _dtype_for(config))
    print(f"model.dtype: {dtype} ({why})")
    settled = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype))
    return settled, {"model.dtype": f"{dtype} ({why})"}


def _dtype_for(config: Config) -> tuple[str, str]:
    """Returns (dtype, why): that of the run that is resumed, else what this machine is fast at."""
    path = run_dir(config)
    if not config.run.restart and latest_step(path) is not None:
        return read_run(path).config.model.dtype, f"as {path} began"
    return fast_dtype()


def model_of(origin: Origin, config: Config) -> ModelConfig:
    """Returns the model of the run that training continues, with this config's dropout, remat and dtype.

    Says which settings of the config it takes the place of.
    """
    own = {name: getattr(config.model, name.removeprefix("model.")) for name in HOW_TO_TRAIN}
    model = dataclasses.replace(
        origin.run.config.model, **{name.removeprefix("model."): value for name, value in own.items()}
    )
    before, after = (dataclasses.replace(config, model=m) for m in (config.model, model))
    if changed := [f"{name} {new!r}" for name, _, new in differences(before, after)]:
        print(f"  its model, in place of the config's: {', '.join(changed)}")
    return model


def announce(data: Prepared) -> None:
    """Prints what was read, and unmissably when it is not what was asked for."""
    manifest = data.manifest
    if manifest.fallback_for:
        rule = "!" * 78
        print(rule)
        print(f"!! {manifest.fallback_for} could not be had. Continuing with {manifest.name} in its place.")
        print(f"!! {manifest.notes[0]}")
        print("!! Every number of this run is about the stand-in.")
        print(rule)
    print(f"data: {manifest.full_name} ({manifest.source})")
    things = "pairs" if manifest.kind == "pairs" else "conversations"
    for part in manifest.parts:
        passes = part.share * manifest.splits["train"].tokens / max(1, part.manifest.splits["train"].tokens)
        print(f"  {part.share:.1%} of the windows from {part.manifest.name}, {passes:.2f} passes over it an epoch:")
        for split, counts in part.manifest.splits.items():
            print(f"    {split}: {_counts(counts, data.tokenizer.special.unk is not None, things)}")
    if manifest.tokenized is not None:
        print(f"  {'split into words already: only at blanks' if manifest.tokenized else 'raw text'}")
    for note in manifest.notes[bool(manifest.fallback_for) :]:
        print(f"  {note}")
    for split, counts in [] if manifest.parts else manifest.splits.items():
        print(f"  {split}: {_counts(counts, data.tokenizer.special.unk is not None, things)}")
    train, valid = (manifest.splits[split].tokens if split in manifest.splits else 0 for split in ("train", "valid"))
    if valid > train:
        print(
            f"WARNING: more is held out than trained on, {valid:,} tokens of valid and {train:,} of train; in a folder "
            "files named train.*, valid.* and test.* are taken as that"
        )


def _asked(config: Config, questions: Sized, steps: int) -> int:
    """Returns how many questions a run of so many steps asks."""
    at_once = steps // config.objective.updates * questions_at_once(config)
    return min(at_once, len(questions) * config.run.epochs)


def announce_rehearsal(rehearsal: Rehearsal, tokenizer: Tokenizer) -> None:
    """Prints what text is learned beside conversations."""
    manifest = rehearsal.manifest
    print(f"beside it, so that it is not forgotten: {manifest.full_name} ({manifest.source})")
    print(f"  {rehearsal.share:.1%} of the rows")
    for split, counts in manifest.splits.items():
        print(f"  {split}: {_counts(counts, tokenizer.special.unk is not None, 'texts')}")


def _counts(counts: TextCounts | ChatCounts, has_unk: bool, things: str) -> str:
    if isinstance(counts, TextCounts):
        tokens = max(1, counts.tokens)
        more = f"{counts.unk / tokens:.2%} of them <unk>" if has_unk else f"{counts.bytes / tokens:.2f} bytes each"
        return f"{counts.lines:,} lines, {counts.tokens:,} tokens, {more}"
    unknown = f"<unk>: {counts.unk_prompts:.1%} of the tokens of prompts, {counts.unk_replies:.1%} of replies"
    return (
        f"{counts.conversations:,} {things}: {counts.kept:,} kept{_lost(counts)}\n"
        f"    {counts.tokens:,} tokens, {counts.supervised:,} of them to learn{f'; {unknown}' if has_unk else ''}"
    )


def _lost(counts: ChatCounts) -> str:
    """Returns what of conversations does not fit into data.seq_len; nothing where all does."""
    lost = ""
    if counts.cut:
        lost = f", {counts.cut:,} of them cut at a turn ({counts.messages_cut:,} messages gone in all)"
    if counts.dropped:
        lost += f", {counts.dropped:,} dropped, as nothing of them fits data.seq_len"
    return lost


def parameter_counts(config: Config) -> dict[str, int]:
    """Returns the number of parameters by part, in the order of the data's way through the model."""
    parts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract_params(config.model)):
        part = parameter_part(path)
        part = "blocks" if part in ("attention", "mlp", "norm") else part
        parts[part] = parts.get(part, 0) + math.prod(leaf.shape)
    order = ("token_embedding", "position_embedding", "blocks", "final_norm", "head")
    return {part: parts[part] for part in order if part in parts}


def adapters_in_words(config: Config) -> str:
    """Returns how much of a network is trained where adapters are."""
    params, lora = abstract_params(config.model), config.lora
    shapes = jax.eval_shape(lambda: init_adapters(params, lora, jax.random.key(0)))
    count, whole = (sum(x.size for x in jax.tree.leaves(tree)) for tree in (shapes, params))
    what = f"rank {lora.rank}, alpha {lora.alpha:g}, projections {lora.projections}"
    return f"adapters of {what}: {count:,} numbers are trained beside {whole:,} that stay, {count / whole:.1%}"


def plan(run: Run, data: Prepared, objective: Objective = next_token, questions: Sized | None = None) -> str:
    """Returns what --dry-run prints: the resolved config, parameters by part, steps, tokens, memory and time.

    Where the model answers `questions` to learn, what drawing the answers takes is not in it.
    """
    config = run.sized
    counts = parameter_counts(config)
    mesh = make_mesh(config)  # refuses here what a run would refuse
    train = data.sources["train"]
    planned, steps = total_steps(config, train if questions is None else questions)
    compiled = compile_steps(config, make_optimizer(config.optimizer, planned), mesh, objective)
    first = batch_at(train, config.run.seed, 0, config.data.batch_size, config.run.epochs)
    if questions is not None:  # of answers in its shape
        first = first._replace(reference=first.weights, advantages=first.weights)
    batch = compiled.put(first)
    tokens, tokenizer = data.manifest.splits["train"].tokens, data.tokenizer
    if isinstance(train, WithRehearsal):
        tokens += train.text_rows * config.data.seq_len
    per_step = config.data.batch_size * config.data.seq_len
    lines = [
        json.dumps(dataclasses.asdict(config), indent=2),
        f"vocabulary: {tokenizer.vocab_size:,} tokens, fingerprint {tokenizer.fingerprint[:16]}",
        f"parameters: {sum(counts.values()):,}",
        *(f"  {part:20} {count:>12,}" for part, count in counts.items()),
        *([adapters_in_words(config)] if config.lora.rank is not None else []),
        f"steps: {steps:,} of {per_step:,} tokens ({config.data.batch_size} windows of {config.data.seq_len})",
        f"tokens: {min(steps * per_step, tokens * config.run.epochs):,}"
        if questions is None
        else f"questions: {_asked(config, questions, steps):,}, each answered {config.objective.group_size} times",
        *cost(config, compiled, batch, steps),
        *(["drawing the answers is not in memory and time"] if questions is not None else []),
        f"dry run: no run was made; encoded text and compiled programs are kept in {config.data.cache_dir}",
    ]
    return "\n".join(lines)
