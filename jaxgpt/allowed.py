"""Which values the settings of a config may have: types, ranges, and what goes with what."""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from jaxgpt.buckets import is_in_bucket
from jaxgpt.config import DEEPEST, LARGEST, LONGEST, MOST, WIDEST, Config, DataConfig, ModelConfig
from jaxgpt.errors import UserError, is_text, shown

Require = Callable[[bool, str, str], None]
"""(whether it holds, the field, what is allowed): raises UserError where it does not."""


def validate(config: Config) -> Config:
    """Returns the config unchanged, or raises UserError naming the first field that cannot be."""

    def require(ok: bool, name: str, allowed: str) -> None:
        if not ok:
            section, key = name.split(".")
            given = getattr(getattr(config, section), key)
            raise UserError(f"{name}: {shown(given)} was given; it must be {allowed}")

    _check_types(config, "")
    _check_model(config.model, require)
    _check_data(config.data, require)
    _check_optimizer(config, require)
    _check_lora(config, require)
    _check_objective(config, require)
    _check_run(config, require)
    return config


def _check_model(model: ModelConfig, require: Require) -> None:
    require(model.vocab_size >= 16, "model.vocab_size", "at least 16")
    require(2 <= model.context_len <= LONGEST, "model.context_len", f"at least 2 and at most {LONGEST:,}")
    for key in ("embed_dim", "num_heads", "num_layers"):
        require(1 <= getattr(model, key) <= WIDEST, f"model.{key}", f"at least 1 and at most {WIDEST:,}")
    require(model.depth is None or 1 <= model.depth <= DEEPEST, "model.depth", f"at least 1 and at most {DEEPEST}")
    if model.head_dim is None:
        divides = model.embed_dim % model.num_heads == 0
        require(divides, "model.num_heads", f"a divisor of embed_dim ({model.embed_dim})")
    else:
        require(1 <= model.head_dim <= WIDEST, "model.head_dim", f"at least 1 and at most {WIDEST:,}, or None")
    if model.num_kv_heads is not None:
        divides = model.num_kv_heads >= 1 and model.num_heads % model.num_kv_heads == 0
        require(divides, "model.num_kv_heads", f"a divisor of num_heads ({model.num_heads})")
    fits = model.mlp_dim is None or 1 <= model.mlp_dim <= LONGEST
    require(fits, "model.mlp_dim", f"at least 1 and at most {LONGEST:,}, or None")
    require(0 <= model.dropout < 1, "model.dropout", "at least 0 and below 1")
    if model.positions == "rotary":
        name = "model.embed_dim" if model.head_dim is None else "model.head_dim"
        require(model.head_size % 2 == 0, name, "an even number of dimensions per head for rotary positions")
    for key in ("rope_theta", "rope_factor", "rope_low_freq", "rope_original_context", "norm_epsilon"):
        require(getattr(model, key) > 0, f"model.{key}", "above 0")
    higher = model.rope_high_freq > model.rope_low_freq
    require(higher, "model.rope_high_freq", f"above rope_low_freq ({model.rope_low_freq})")
    rows = model.embedding_rows is None or model.vocab_size <= model.embedding_rows < MOST
    require(rows, "model.embedding_rows", f"at least model.vocab_size ({model.vocab_size}), or None")


def _check_data(data: DataConfig, require: Require) -> None:
    require(data.seq_len >= 2, "data.seq_len", "at least 2")
    require(not (data.mask_documents and data.pack_lines), "data.mask_documents", "False with data.pack_lines")
    require(data.batch_size >= 1, "data.batch_size", "at least 1")
    require(data.hub_gb > 0, "data.hub_gb", "above 0")
    require(data.tokenizer_sample >= 1, "data.tokenizer_sample", "at least 1")
    if data.rehearse is not None:
        corpus, _, share = data.rehearse.rpartition(":")
        named = bool(corpus) and _is_share(share)
        example = "NAME:SHARE, a corpus of text and its share of the rows, below 1, for example wikitext-2:0.1"
        require(named, "data.rehearse", example)


def _is_share(text: str) -> bool:
    try:
        return 0 < float(text) < 1
    except ValueError:
        return False


def _check_optimizer(config: Config, require: Require) -> None:
    optimizer, rows = config.optimizer, config.data.batch_size
    for key in ("grad_accumulation_steps", "max_consecutive_skips"):
        require(getattr(optimizer, key) >= 1, f"optimizer.{key}", "at least 1")
    divides = rows % optimizer.grad_accumulation_steps == 0
    require(divides, "optimizer.grad_accumulation_steps", f"a divisor of data.batch_size ({rows})")
    for key in ("learning_rate", "muon_learning_rate", "grad_clip"):
        require(getattr(optimizer, key) > 0, f"optimizer.{key}", "above 0")
    require(optimizer.weight_decay >= 0, "optimizer.weight_decay", "at least 0")
    for key in ("beta1", "beta2"):
        require(0 <= getattr(optimizer, key) < 1, f"optimizer.{key}", "at least 0 and below 1")
    require(optimizer.warmup_steps >= 0, "optimizer.warmup_steps", "at least 0")
    require(0 <= optimizer.final_lr_fraction <= 1, "optimizer.final_lr_fraction", "between 0 and 1")
    require(0 < optimizer.decay_fraction <= 1, "optimizer.decay_fraction", "above 0 and at most 1")


def _check_lora(config: Config, require: Require) -> None:
    lora, run = config.lora, config.run
    require(lora.rank is None or 1 <= lora.rank <= WIDEST, "lora.rank", f"at least 1 and at most {WIDEST:,}, or None")
    require(lora.rank is None or run.init_from is not None, "lora.rank", "None without run.init_from, a run to adapt")
    require(lora.alpha > 0, "lora.alpha", "above 0")
    by_adam = lora.rank is None or config.optimizer.name == "adamw"
    require(by_adam, "optimizer.name", "adamw with lora.rank: muon is for whole matrices")


def _check_objective(config: Config, require: Require) -> None:
    objective, run, rows = config.objective, config.run, config.data.batch_size
    needs_run = objective.name == "next_token" or run.init_from is not None
    require(needs_run, "objective.name", "next_token without run.init_from, a run that can talk")
    require(objective.beta > 0 or objective.name != "dpo", "objective.beta", "above 0")
    require(objective.beta >= 0, "objective.beta", "at least 0")
    require(0 <= objective.label_smoothing < 0.5, "objective.label_smoothing", "at least 0 and below 0.5")
    require(objective.next_token_weight >= 0, "objective.next_token_weight", "at least 0")
    require(objective.group_size >= 2, "objective.group_size", "at least 2: answers are measured against their mean")
    for key in ("oversample", "updates", "answer_tokens"):
        require(1 <= getattr(objective, key) <= WIDEST, f"objective.{key}", f"at least 1 and at most {WIDEST:,}")
    require(objective.clip > 0, "objective.clip", "above 0")
    require(objective.temperature > 0, "objective.temperature", "above 0")
    if objective.name == "grpo":
        size, updates = objective.group_size, objective.updates
        require(rows % size == 0, "data.batch_size", f"a multiple of objective.group_size ({size})")
        multiple = f"a multiple of objective.updates ({updates}), where answers are drawn anew"
        require(run.eval_every % updates == 0, "run.eval_every", multiple)
        require(run.max_steps is None or run.max_steps % updates == 0, "run.max_steps", multiple)


def _check_run(config: Config, require: Require) -> None:
    mesh, run = config.mesh, config.run
    require(mesh.data >= 1 or mesh.data == -1, "mesh.data", "at least 1, or -1 for all devices that are left")
    require(mesh.fsdp >= 1, "mesh.fsdp", "at least 1")
    require(mesh.tensor >= 1, "mesh.tensor", "at least 1")
    named = run.name is None or (run.name not in ("", ".", "..") and not set(run.name) & set("/\\\0"))
    require(named, "run.name", "one folder's name, without slashes")
    require(0 <= run.seed < 2**32, "run.seed", "at least 0 and below 2**32")
    require(run.save_every_minutes > 0, "run.save_every_minutes", "above 0")
    for key in ("epochs", "log_every", "eval_every", "sample_tokens"):
        require(getattr(run, key) >= 1, f"run.{key}", "at least 1")
    for key in ("max_steps", "train_tokens"):
        require(getattr(run, key) is None or getattr(run, key) >= 1, f"run.{key}", "at least 1, or None")
    local = not (run.profile and is_in_bucket(run.folder))
    require(local, "run.profile", "left out where run.folder is in a bucket, which no trace can be written to")
    require(bool(run.sample_prompt.strip()), "run.sample_prompt", "some text")


def check_window(config: Config) -> None:
    """Raises UserError when the training window is longer than the model's positions.

    Apart from `validate`, because finetuning knows its model only once it has read the run it starts from.
    """
    seq_len, context_len = config.data.seq_len, config.model.context_len
    if seq_len > longest_window(config, context_len):
        such = "twice that, half for a prompt and an answer" if config.objective.name == "dpo" else "that"
        raise UserError(
            f"data.seq_len: {seq_len} was given; the model has positions for model.context_len = {context_len} tokens, "
            f"so give at most {such}"
        )


def longest_window(config: Config, context_len: int) -> int:
    """Returns how many tokens a window of this training may have for a model of so many positions."""
    return 2 * context_len if config.objective.name == "dpo" else context_len


def _check_types(value: Any, path: str) -> None:
    """Raises UserError where a field does not hold what its annotation says; a config file could put anything."""
    for key, hint in typing.get_type_hints(type(value)).items():
        name, given = f"{path}{key}", getattr(value, key)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if not isinstance(given, hint):
                raise UserError(f"{name}: {shown(given)} was given; it must be a {hint.__name__}")
            _check_types(given, f"{name}.")
        elif not _fits(given, hint):
            raise UserError(f"{name}: {shown(given)} was given; it must be {_spell(hint)}")


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < MOST
    return isinstance(value, hint) and (hint is not str or is_text(value))


def _spell(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return "one of " + ", ".join(repr(option) for option in typing.get_args(hint))
    if origin is tuple:
        return f"a tuple, each item {_spell(typing.get_args(hint)[0])}"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_spell(option) for option in typing.get_args(hint))
    names = {
        int: "a whole number below 2**32",
        float: "a finite number",
        bool: "True or False",
        str: "a text in UTF-8",
        type(None): "None",
    }
    return names[hint]
