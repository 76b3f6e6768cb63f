"""Their config.json as our ModelConfig, and back. A key that may change the numbers and is not known is refused."""

from collections.abc import Sequence
from typing import Any

from jaxgpt.config import ModelConfig
from jaxgpt.convert.families import FAMILIES, Family, obstacles
from jaxgpt.errors import UserError, clipped, shown

_HARMLESS = """
    _attn_implementation_autoset _name_or_path architectures attention_dropout attention_probs_dropout_prob attn_pdrop
    bos_token_id chunk_size_feed_forward classifier_dropout dtype embd_pdrop eos_token_id finetuning_task
    gradient_checkpointing hidden_dropout hidden_dropout_prob id2label initializer_range is_decoder
    is_encoder_decoder is_llama_config keys_to_ignore_at_inference label2id max_length max_window_layers model_type
    n_ctx output_attentions output_hidden_states pad_token_id pretraining_tp problem_type reorder_and_upcast_attn
    resid_pdrop return_dict sep_token_id summary_activation summary_first_dropout summary_proj_to_labels summary_type
    summary_use_proj task_specific_params tokenizer_class torch_dtype transformers_version transformers.js_config
    unk_token_id unsloth_version use_bfloat16 use_cache vocab_size
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Keys that name, train or print a model, and change none of its logits."""

ROPE = ("rope_parameters", "rope_scaling", "rope_theta", "rotary_emb_base", "rotary_pct", "partial_rotary_factor")
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def family_of(config: Any, where: str) -> Family:
    """Returns the family of a config.json; raises UserError where it is none of ours."""
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UserError(f"{where}: it has no model_type; it must be the config.json of a Hugging Face model")
    found = [family for family in FAMILIES if family.name == config["model_type"]]
    names = ", ".join(dict.fromkeys(family.name for family in FAMILIES))
    if not found:
        raise UserError(
            f"{where}: model_type {shown(config['model_type'])} cannot be imported; it must be one of {names}"
        )
    with_biases = [config.get(key, False) for key in ("attention_bias", "mlp_bias")]
    if found[0].name == "llama":
        if with_biases[0] is not with_biases[1]:
            raise UserError(
                f"{where}: attention_bias is {shown(with_biases[0])} and mlp_bias {shown(with_biases[1])}; our linear "
                "maps have biases all or none"
            )
        return found[int(with_biases[0] is True)]
    return found[0]


def model_of(config: dict[str, Any], family: Family, where: str) -> ModelConfig:
    """Returns the network that a config.json describes; UserError names the key that it cannot be."""
    fields: dict[str, Any] = dict(family.ours)
    for setting in family.settings:
        value = config.get(setting.theirs, setting.default)
        if setting.names is not None:
            if value not in setting.names:
                raise UserError(
                    f"{where}: {setting.theirs} is {shown(value)}; only {', '.join(setting.names)} can be imported"
                )
            value = setting.names[value]
        fields[setting.ours] = value
    for key, (only, *_) in family.fixed.items():
        if (value := config.get(key, family.fixed[key][-1])) != only:
            raise UserError(f"{where}: {key} is {shown(value)}; only {shown(only)} can be imported")
    fields |= _rope(config, family, where) if fields["positions"] == "rotary" else {}
    _refuse_unknown(config, family, where)
    dropouts = {config.get(key, 0.1) for key in DROPOUTS} if family.name == "gpt2" else {0.0}
    fields["dropout"] = dropouts.pop() if len(dropouts) == 1 else 0.0
    try:
        model = ModelConfig(vocab_size=config.get("vocab_size", 0), **fields)
        wide = model.head_size * model.num_heads == model.embed_dim
        return ModelConfig(**{**model.__dict__, "head_dim": None if wide else model.head_dim})
    except (TypeError, ZeroDivisionError) as error:
        raise UserError(f"{where}: its sizes cannot be those of a model ({clipped(str(error))})") from None


def window_of(config: dict[str, Any], family: Family) -> int | None:
    """Returns over how many tokens attention goes, where that is limited."""
    return None if family.window_key is None else config.get(family.window_key, family.window)


def _rope(config: dict[str, Any], family: Family, where: str) -> dict[str, Any]:
    """Returns the fields of rotary positions, whether the config is of transformers 4 or 5."""
    theta, share = family.rope_keys["theta"], family.rope_keys["share"]
    rope = {
        "rope_theta": config.get(theta, 10_000.0),
        "partial_rotary_factor": config.get(share, family.partial_rotary),
    }
    key = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
    if not isinstance(more := config.get(key) or {}, dict):
        raise UserError(f"{where}: {key} is {shown(more)}; it must be an object")
    rope |= more
    kind = rope.pop("rope_type", rope.pop("type", "default"))
    rope.pop("type", None)
    if rope.pop("partial_rotary_factor") != 1:
        raise UserError(f"{where}: {share} is not 1; only heads that turn as a whole can be imported")
    if isinstance(base := rope.pop("rope_theta"), bool) or not isinstance(base, int | float):
        raise UserError(f"{where}: {theta} is {shown(base)}; it must be a number")
    fields = {"rope_theta": float(base)}
    if kind == "llama3":
        for name, key in (
            ("rope_factor", "factor"),
            ("rope_low_freq", "low_freq_factor"),
            ("rope_high_freq", "high_freq_factor"),
            ("rope_original_context", "original_max_position_embeddings"),
        ):
            if key not in rope:
                raise UserError(f"{where}: rope_scaling has no {key}, and llama3's has one")
            fields[name] = rope.pop(key)
    elif kind != "default":
        raise UserError(f"{where}: rope_type {shown(kind)} cannot be imported; it must be default or llama3")
    if rope:
        raise UserError(f"{where}: rope_scaling has {shown(min(rope))}, which is not known and may change the numbers")
    return fields


def _refuse_unknown(config: dict[str, Any], family: Family, where: str) -> None:
    known = HARMLESS | set(ROPE) | {setting.theirs for setting in family.settings} | family.fixed.keys()
    known |= {"attention_bias", "mlp_bias", "sliding_window", "use_sliding_window", "layer_types"}
    layers = config.get("layer_types") or []
    if other := [kind for kind in layers if kind != "full_attention"]:
        raise UserError(f"{where}: layer_types has {shown(other[0])}; only full_attention can be imported")
    for key, value in config.items():
        if key not in known and value not in (None, False, {}, []):
            raise UserError(
                f"{where}: {clipped(key)} is {shown(value)}, a key that is not known and may change the numbers; where "
                "it does not, take it out"
            )


def choose_family(model: ModelConfig, origin: str | None) -> Family:
    """Returns the family that a model is exported as, that of its import if it can be; UserError says what is in the
    way of the family that comes nearest."""
    found = {id(family): obstacles(family, model) for family in FAMILIES}
    can = [family for family in FAMILIES if not found[id(family)]]
    if can:
        return next((family for family in can if family.name == origin), can[0])
    nearest = min(FAMILIES, key=lambda family: len(found[id(family)]))
    raise UserError(
        f"{'; '.join(found[id(nearest)])}. So no family can express this model; the nearest is {nearest.name}, of "
        f"{', '.join(dict.fromkeys(family.name for family in FAMILIES))}"
    )


def config_of(model: ModelConfig, family: Family) -> dict[str, Any]:
    """Returns the config.json of a model, as transformers 4 and 5 and what else reads such files take it."""
    config: dict[str, Any] = {"architectures": [family.architecture], "model_type": family.name}
    sizes = {"num_kv_heads": model.kv_heads, "head_dim": model.head_size, "mlp_dim": model.mlp_size}
    for setting in family.settings:
        value = getattr(model, setting.ours)
        if setting.theirs != "n_inner":  # GPT-2's may be left out
            value = sizes.get(setting.ours, value)
        if setting.names is not None:
            value = next(theirs for theirs, ours in setting.names.items() if ours == value)
        config[setting.theirs] = value
    config |= {key: values[0] for key, values in family.fixed.items()}
    if family.name == "llama":
        config |= dict.fromkeys(("attention_bias", "mlp_bias"), model.bias == "all")
    if family.window_key is not None:
        config[family.window_key] = None
    if model.positions == "rotary":
        config |= {family.rope_keys["theta"]: model.rope_theta}
        config |= {"rotary_pct": 1.0} if family.name == "gpt_neox" else {}
        if model.rope_factor != 1:
            config["rope_scaling"] = {
                "rope_type": "llama3",
                "factor": model.rope_factor,
                "low_freq_factor": model.rope_low_freq,
                "high_freq_factor": model.rope_high_freq,
                "original_max_position_embeddings": model.rope_original_context,
            }
    if family.name == "gpt2":
        config |= dict.fromkeys(DROPOUTS, model.dropout)
    return config | {"vocab_size": model.vocab_size}


def dtype_names(dtypes: Sequence[str]) -> str:
    """Returns the name of the type that all these tensors have in a safetensors file, or float32 where they differ."""
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    return names[dtypes[0]] if len(set(dtypes)) == 1 else "float32"
