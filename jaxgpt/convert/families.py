"""Families of Hugging Face models that our network can be: a table each of settings and tensors, read both ways."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxgpt.config import ModelConfig
from jaxgpt.convert.layout import Tensor


class Setting(NamedTuple):
    """A key of their config.json, and the field of ModelConfig that it is."""

    theirs: str
    ours: str
    default: Any
    """What it is where the key is left out."""
    names: Mapping[Any, Any] | None = None
    """Their values to ours; the first of several is the one that is written. None: the values are the same."""


@dataclass(frozen=True)
class Family:
    """What a family calls things, and what of our network it cannot be."""

    name: str
    """Their model_type."""
    architecture: str
    settings: tuple[Setting, ...]
    fixed: dict[str, tuple[Any, ...]]
    """Keys that must have a value, the first of these, which is written; left out they have the last."""
    ours: dict[str, Any]
    """Fields of ModelConfig that have one value in this family."""
    tensors: tuple[Tensor, ...]
    head: str = "lm_head.weight"
    prefix: str = "model."
    """What the names of tensors begin with; some folders leave it out."""
    partial_rotary: float = 1.0
    """The share of a head's dimensions that turn, where their config does not say."""
    rope_keys: dict[str, str] = field(default_factory=lambda: {"theta": "rope_theta", "share": "partial_rotary_factor"})
    window_key: str | None = None
    """The key of a sliding window: attention to so many tokens only."""
    window: int | None = None
    """The window where the key is left out."""


_GELU = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu", "gelu": "gelu_exact"}

_GPT2 = Family(
    "gpt2",
    "GPT2LMHeadModel",
    settings=(
        Setting("n_positions", "context_len", 1024),
        Setting("n_embd", "embed_dim", 768),
        Setting("n_layer", "num_layers", 12),
        Setting("n_head", "num_heads", 12),
        Setting("n_inner", "mlp_dim", None),
        Setting("activation_function", "mlp", "gelu_new", _GELU),
        Setting("layer_norm_epsilon", "norm_epsilon", 1e-5),
        Setting("tie_word_embeddings", "tie_embeddings", True),
    ),
    fixed={
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    ours={"positions": "learned", "norm": "layernorm", "bias": "all", "qk_norm": False},
    tensors=(
        Tensor("transformer.wte.weight", ("token_embedding",), "V D -> V D"),
        Tensor("transformer.wpe.weight", ("position_embedding",), "P D -> P D"),
        *(
            Tensor(f"transformer.h.{{i}}.{theirs}", tuple(f"block_{{i}}.{path}" for path in ours.split()), layout)
            for theirs, ours, layout in (
                ("ln_1.weight", "attention_norm.scale", "D -> D"),
                ("ln_1.bias", "attention_norm.bias", "D -> D"),
                (
                    "attn.c_attn.weight",
                    "attention.query.kernel attention.key.kernel attention.value.kernel",
                    "D (q N H) -> D N H",
                ),
                (
                    "attn.c_attn.bias",
                    "attention.query.bias attention.key.bias attention.value.bias",
                    "(q N H) -> N H",
                ),
                ("attn.c_proj.weight", "attention.out.kernel", "(N H) D -> N H D"),
                ("attn.c_proj.bias", "attention.out.bias", "D -> D"),
                ("ln_2.weight", "mlp_norm.scale", "D -> D"),
                ("ln_2.bias", "mlp_norm.bias", "D -> D"),
                ("mlp.c_fc.weight", "mlp.up.kernel", "D F -> D F"),
                ("mlp.c_fc.bias", "mlp.up.bias", "F -> F"),
                ("mlp.c_proj.weight", "mlp.down.kernel", "F D -> F D"),
                ("mlp.c_proj.bias", "mlp.down.bias", "D -> D"),
            )
        ),
        Tensor("transformer.ln_f.weight", ("final_norm.scale",), "D -> D"),
        Tensor("transformer.ln_f.bias", ("final_norm.bias",), "D -> D"),
    ),
    prefix="transformer.",
)

_NEOX = Family(
    "gpt_neox",
    "GPTNeoXForCausalLM",
    settings=(
        Setting("max_position_embeddings", "context_len", 2048),
        Setting("hidden_size", "embed_dim", 6144),
        Setting("num_hidden_layers", "num_layers", 44),
        Setting("num_attention_heads", "num_heads", 64),
        Setting("intermediate_size", "mlp_dim", 24576),
        Setting("hidden_act", "mlp", "gelu", _GELU),
        Setting("layer_norm_eps", "norm_epsilon", 1e-5),
        Setting("tie_word_embeddings", "tie_embeddings", False),
    ),
    fixed={"use_parallel_residual": (False, True), "attention_bias": (True,)},
    ours={"positions": "rotary", "norm": "layernorm", "bias": "all", "qk_norm": False},
    tensors=(
        Tensor("gpt_neox.embed_in.weight", ("token_embedding",), "V D -> V D"),
        *(
            Tensor(f"gpt_neox.layers.{{i}}.{theirs}", tuple(f"block_{{i}}.{path}" for path in ours.split()), layout)
            for theirs, ours, layout in (
                ("input_layernorm.weight", "attention_norm.scale", "D -> D"),
                ("input_layernorm.bias", "attention_norm.bias", "D -> D"),
                (
                    "attention.query_key_value.weight",
                    "attention.query.kernel attention.key.kernel attention.value.kernel",
                    "(N q H) D -> D N H",
                ),
                (
                    "attention.query_key_value.bias",
                    "attention.query.bias attention.key.bias attention.value.bias",
                    "(N q H) -> N H",
                ),
                ("attention.dense.weight", "attention.out.kernel", "D (N H) -> N H D"),
                ("attention.dense.bias", "attention.out.bias", "D -> D"),
                ("post_attention_layernorm.weight", "mlp_norm.scale", "D -> D"),
                ("post_attention_layernorm.bias", "mlp_norm.bias", "D -> D"),
                ("mlp.dense_h_to_4h.weight", "mlp.up.kernel", "F D -> D F"),
                ("mlp.dense_h_to_4h.bias", "mlp.up.bias", "F -> F"),
                ("mlp.dense_4h_to_h.weight", "mlp.down.kernel", "D F -> F D"),
                ("mlp.dense_4h_to_h.bias", "mlp.down.bias", "D -> D"),
            )
        ),
        Tensor("gpt_neox.final_layer_norm.weight", ("final_norm.scale",), "D -> D"),
        Tensor("gpt_neox.final_layer_norm.bias", ("final_norm.bias",), "D -> D"),
    ),
    head="embed_out.weight",
    prefix="gpt_neox.",
    partial_rotary=0.25,
    rope_keys={"theta": "rotary_emb_base", "share": "rotary_pct"},
)


def _of_llama(*more: tuple[str, str, str]) -> tuple[Tensor, ...]:
    """Returns the tensors of Llama, and of what differs from it by some in each block."""
    return (
        Tensor("model.embed_tokens.weight", ("token_embedding",), "V D -> V D"),
        *(
            Tensor(f"model.layers.{{i}}.{theirs}", (f"block_{{i}}.{ours}",), layout)
            for theirs, ours, layout in (
                ("input_layernorm.weight", "attention_norm.scale", "D -> D"),
                ("self_attn.q_proj.weight", "attention.query.kernel", "(N H) D -> D N H"),
                ("self_attn.k_proj.weight", "attention.key.kernel", "(K H) D -> D K H"),
                ("self_attn.v_proj.weight", "attention.value.kernel", "(K H) D -> D K H"),
                ("self_attn.o_proj.weight", "attention.out.kernel", "D (N H) -> N H D"),
                ("post_attention_layernorm.weight", "mlp_norm.scale", "D -> D"),
                ("mlp.gate_proj.weight", "mlp.gate.kernel", "F D -> D F"),
                ("mlp.up_proj.weight", "mlp.up.kernel", "F D -> D F"),
                ("mlp.down_proj.weight", "mlp.down.kernel", "D F -> F D"),
                *more,
            )
        ),
        Tensor("model.norm.weight", ("final_norm.scale",), "D -> D"),
    )


_QKV_BIASES = (
    ("self_attn.q_proj.bias", "attention.query.bias", "(N H) -> N H"),
    ("self_attn.k_proj.bias", "attention.key.bias", "(K H) -> K H"),
    ("self_attn.v_proj.bias", "attention.value.bias", "(K H) -> K H"),
)
_OTHER_BIASES = (
    ("self_attn.o_proj.bias", "attention.out.bias", "D -> D"),
    ("mlp.gate_proj.bias", "mlp.gate.bias", "F -> F"),
    ("mlp.up_proj.bias", "mlp.up.bias", "F -> F"),
    ("mlp.down_proj.bias", "mlp.down.bias", "D -> D"),
)
_HEAD_NORMS = (
    ("self_attn.q_norm.weight", "attention.query_norm.scale", "H -> H"),
    ("self_attn.k_norm.weight", "attention.key_norm.scale", "H -> H"),
)


def _settings_of_llama(context_len: int, mlp_dim: int, kv_heads: int | None, head_dim: int | None):
    return (
        Setting("max_position_embeddings", "context_len", context_len),
        Setting("hidden_size", "embed_dim", 4096),
        Setting("num_hidden_layers", "num_layers", 32),
        Setting("num_attention_heads", "num_heads", 32),
        Setting("num_key_value_heads", "num_kv_heads", kv_heads),
        Setting("head_dim", "head_dim", head_dim),
        Setting("intermediate_size", "mlp_dim", mlp_dim),
        Setting("hidden_act", "mlp", "silu", {"silu": "swiglu"}),
        Setting("rms_norm_eps", "norm_epsilon", 1e-6),
        Setting("tie_word_embeddings", "tie_embeddings", False),
    )


_RMS = {"positions": "rotary", "norm": "rmsnorm"}
_LLAMA = Family(
    "llama",
    "LlamaForCausalLM",
    settings=_settings_of_llama(2048, 11008, None, None),
    fixed={},
    ours=_RMS | {"qk_norm": False, "bias": "none"},
    tensors=_of_llama(),
)
_LLAMA_WITH_BIASES = Family(
    "llama",
    "LlamaForCausalLM",
    settings=_LLAMA.settings,
    fixed={},
    ours=_RMS | {"qk_norm": False, "bias": "all"},
    tensors=_of_llama(*_QKV_BIASES, *_OTHER_BIASES),
)
_MISTRAL = Family(
    "mistral",
    "MistralForCausalLM",
    settings=_settings_of_llama(131072, 14336, 8, None),
    fixed={},
    ours=_LLAMA.ours,
    tensors=_LLAMA.tensors,
    window_key="sliding_window",
    window=4096,
)
_QWEN2 = Family(
    "qwen2",
    "Qwen2ForCausalLM",
    settings=_settings_of_llama(32768, 22016, 32, None),
    fixed={"use_sliding_window": (False,)},
    ours=_RMS | {"qk_norm": False, "bias": "qkv"},
    tensors=_of_llama(*_QKV_BIASES),
)
_QWEN3 = Family(
    "qwen3",
    "Qwen3ForCausalLM",
    settings=_settings_of_llama(32768, 22016, 32, 128),
    fixed={"use_sliding_window": (False,), "attention_bias": (False,)},
    ours=_RMS | {"qk_norm": True, "bias": "none"},
    tensors=_of_llama(*_HEAD_NORMS),
)

FAMILIES = (_GPT2, _NEOX, _LLAMA, _LLAMA_WITH_BIASES, _MISTRAL, _QWEN2, _QWEN3)
"""In the order in which one is chosen for a run of ours."""


def tensors_of(family: Family, model: ModelConfig) -> list[Tensor]:
    """Returns all tensors of a model of this family."""
    found: list[Tensor] = []
    for tensor in family.tensors:
        layers = range(model.num_layers) if "{i}" in tensor.theirs else range(1)
        found += [tensor.of_layer(i) for i in layers]
    if not model.tie_embeddings:
        found.append(Tensor(family.head, ("head",), "V D -> V D"))
    return found


def obstacles(family: Family, model: ModelConfig) -> list[str]:
    """Returns the fields of a model that this family cannot express, each with why."""
    found = [
        f"model.{name} is {getattr(model, name)!r}, and theirs is {value!r}"
        for name, value in family.ours.items()
        if getattr(model, name) != value
    ]
    keys = {setting.ours for setting in family.settings}
    for setting in family.settings:
        if setting.names is not None and getattr(model, setting.ours) not in setting.names.values():
            can = " or ".join(dict.fromkeys(setting.names.values()))
            found.append(f"model.{setting.ours} is {getattr(model, setting.ours)!r}, and theirs is {can}")
    if "num_kv_heads" not in keys and model.kv_heads != model.num_heads:
        found.append(f"model.num_kv_heads is {model.num_kv_heads}, and theirs are as many as num_heads")
    if "head_dim" not in keys and model.head_size * model.num_heads != model.embed_dim:
        found.append(f"model.head_dim is {model.head_dim}, and theirs is embed_dim / num_heads")
    return found
