"""Export to one GGUF file, llama.cpp's format, through its `gguf` package: settings, tokenizer and tensors."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgpt.config import ModelConfig
from jaxgpt.convert.chat_template import format_of, template_of
from jaxgpt.convert.families import Family
from jaxgpt.convert.tokenizer_files import merges_of
from jaxgpt.errors import RunError, UserError
from jaxgpt.model.layers import rope_frequencies
from jaxgpt.run.folder import Run
from jaxgpt.text.bpe_tokenizer import NAMES, PATTERNS, BpeTokenizer, written
from jaxgpt.text.imported_tokenizer import ImportedTokenizer
from jaxgpt.text.tokenizer import Tokenizer

ARCHITECTURES = {"gpt2": "gpt2", "gpt_neox": "gptneox", "llama": "llama", "mistral": "llama"}
ARCHITECTURES |= {"qwen2": "qwen2", "qwen3": "qwen3"}
PLAIN, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # kinds of tokens
QWEN2 = PATTERNS["gpt4"].replace(r"\p{N}{1,3}", r"\p{N}")
SPLITS = {PATTERNS["gpt2"]: "gpt-2", PATTERNS["gpt4"]: "dbrx", QWEN2: "qwen2"}
"""How text is split before merging -> llama.cpp's name for it."""
NO_VOCABULARY = "no tokenizer goes along: llama.cpp has none of its kind. The model takes ids"


class Vocabulary(NamedTuple):
    """A byte-level BPE as llama.cpp has it."""

    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    split: str


def write_gguf(file: Path, run: Run, family: Family, tensors: dict[str, np.ndarray]) -> list[str]:
    """Writes a model whose tensors are named as its family names them; returns what is to be said about it.

    Reads the file again, and raises RunError where it does not hold what was written; UserError where llama.cpp
    computes something else for this model.
    """
    gguf, model = _package(), run.sized.model
    _require_same_network(model, family)
    writer = gguf.GGUFWriter(file, ARCHITECTURES[family.name])
    _write_settings(writer, run, model)
    notes = _write_vocabulary(writer, run, model)
    architecture = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == ARCHITECTURES[family.name])
    names = gguf.get_tensor_name_map(architecture, model.num_layers)
    named = {}
    for theirs, tensor in tensors.items():
        name = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
        assert name is not None, theirs
        named[name] = _turned(theirs, tensor, family, model)
    if family.name == "gpt_neox" and model.tie_embeddings:  # which llama.cpp does not tie
        named["output.weight"] = named["token_embd.weight"]
    if model.rope_factor != 1:
        plain = rope_frequencies(ModelConfig(**{**model.__dict__, "rope_factor": 1.0}))
        named["rope_freqs.weight"] = np.asarray(plain / rope_frequencies(model), np.float32)
    for name, tensor in named.items():
        short = tensor.ndim == 1 or name.startswith("position")  # llama.cpp adds these in float32
        tensor = np.ascontiguousarray(tensor.astype(np.float32) if short else tensor)
        if tensor.dtype.name == "bfloat16":
            writer.add_tensor(name, tensor.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    there = {tensor.name: tuple(reversed(tensor.shape.tolist())) for tensor in gguf.GGUFReader(file).tensors}
    if there != {name: tensor.shape for name, tensor in named.items()}:
        raise RunError(f"{file}: it does not hold what was written; try again")
    return notes


def _package() -> Any:
    try:
        import gguf
    except ImportError:
        raise UserError('out: a .gguf file needs the package gguf; pip install "jaxgpt[gguf]"') from None
    return gguf


def _require_same_network(model: ModelConfig, family: Family) -> None:
    if model.mlp == "gelu_exact":
        raise UserError("model.mlp: gelu_exact cannot go into a .gguf file; llama.cpp computes gelu by its tanh there")
    if model.rope_factor != 1 and family.name not in ("llama", "mistral"):
        raise UserError(f"model.rope_factor: stretched positions of a {family.name} cannot go into a .gguf file")
    if model.head_size * model.num_heads != model.embed_dim and family.name != "qwen3":
        raise UserError(f"model.head_dim: heads of their own width cannot go into a .gguf file of a {family.name}")


def _write_settings(writer: Any, run: Run, model: ModelConfig) -> None:
    writer.add_name(run.path.absolute().name)
    writer.add_context_length(model.context_len)
    writer.add_embedding_length(model.embed_dim)
    writer.add_block_count(model.num_layers)
    writer.add_feed_forward_length(model.mlp_size)
    writer.add_head_count(model.num_heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_vocab_size(model.vocab_size)
    if model.norm == "rmsnorm":
        writer.add_layer_norm_rms_eps(model.norm_epsilon)
        writer.add_key_length(model.head_size)
        writer.add_value_length(model.head_size)
    else:
        writer.add_layer_norm_eps(model.norm_epsilon)
    if model.positions == "rotary":
        writer.add_rope_dimension_count(model.head_size)
        writer.add_rope_freq_base(model.rope_theta)
    if model.positions == "rotary" and model.norm == "layernorm":
        writer.add_parallel_residual(False)


def _write_vocabulary(writer: Any, run: Run, model: ModelConfig) -> list[str]:
    """Writes the tokenizer, or that there is none; returns what is to be said."""
    tokenizer, found = run.tokenizer, _vocabulary(run, model)
    if found is None:
        writer.add_tokenizer_model("none")
        return [NO_VOCABULARY]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(found.split)
    writer.add_token_list(found.tokens)
    writer.add_token_types(found.kinds)
    writer.add_token_merges(found.merges)
    writer.add_bos_token_id(tokenizer.special.bos)
    writer.add_eos_token_id(tokenizer.special.end if run.data.is_chat else tokenizer.special.eos)
    writer.add_add_bos_token(not run.data.is_chat and _begins_with_bos(tokenizer))
    if run.data.is_chat:
        writer.add_chat_template(template_of(format_of(tokenizer)))
    return []


def _begins_with_bos(tokenizer: Tokenizer) -> bool:
    """Returns whether texts begin with bos: ours do, conversations apart; one made elsewhere says so itself."""
    if not isinstance(tokenizer, ImportedTokenizer):
        return True
    from tokenizers import Tokenizer as HuggingFace

    return HuggingFace.from_str(tokenizer.content).encode("a").ids[:1] == [tokenizer.special.bos]


def _vocabulary(run: Run, model: ModelConfig) -> Vocabulary | None:
    """Returns the tokens of a model, as many as it predicts, where they are a byte-level BPE that llama.cpp splits."""
    tokenizer = run.tokenizer
    if tokenizer.kind == "byte":  # llama.cpp reads no BPE without merges
        return None
    if isinstance(tokenizer, BpeTokenizer):
        tokens = [*map(written, tokenizer.tokens), *NAMES]
        kinds = [PLAIN] * len(tokenizer.tokens) + [CONTROL] * len(NAMES)
        merges, split = [" ".join(pair) for pair in merges_of(tokenizer)], PATTERNS[tokenizer.pattern]
    elif isinstance(tokenizer, ImportedTokenizer):
        content = json.loads(tokenizer.content)
        split = _split_of(content)
        if content["model"]["type"] != "BPE" or split is None or content["model"].get("byte_fallback"):
            return None
        added = {token["content"]: token["id"] for token in content["added_tokens"]}
        by_id = {id: token for token, id in (content["model"]["vocab"] | added).items()}
        size = max(by_id) + 1
        tokens = [by_id.get(id, f"[unused{id}]") for id in range(size)]
        kinds = [PLAIN if id in by_id else UNUSED for id in range(size)]
        for token in content["added_tokens"]:
            kinds[token["id"]] = CONTROL if token["special"] else USER_DEFINED
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    else:
        return None
    more = model.vocab_size - len(tokens)
    tokens = tokens[: model.vocab_size] + [f"[unused{len(tokens) + n}]" for n in range(more)]
    return Vocabulary(tokens, kinds[: model.vocab_size] + [UNUSED] * max(0, more), merges, SPLITS.get(split, ""))


def _split_of(content: Any) -> str | None:
    """Returns the pattern by which a tokenizer.json splits text, where llama.cpp knows it."""
    steps = content.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    patterns = [step["pattern"].get("Regex") for step in steps if step.get("type") == "Split"]
    to_bytes = [step for step in steps if step.get("type") == "ByteLevel" and not step.get("add_prefix_space")]
    if len(to_bytes) != 1 or len(patterns) > 1 or content.get("normalizer"):
        return None
    pattern = patterns[0] if patterns else PATTERNS["gpt2"]
    return pattern if pattern in SPLITS else None


def _turned(name: str, tensor: np.ndarray, family: Family, model: ModelConfig) -> np.ndarray:
    """Returns a tensor of a Hugging Face folder as llama.cpp wants it."""
    N, K, H = model.num_heads, model.kv_heads, model.head_size
    if family.name == "gpt2" and tensor.ndim == 2 and ".h." in name:
        return tensor.T  # theirs are [inputs, outputs]
    if "query_key_value" in name:  # of all heads the queries, then the keys, then the values
        return tensor.reshape(N, 3, H, -1).swapaxes(0, 1).reshape(tensor.shape)
    if ARCHITECTURES[family.name] == "llama" and any(part in name for part in (".q_proj.", ".k_proj.")):
        heads = N if ".q_proj." in name else K  # the two halves of a head, that turn together, lie side by side
        return tensor.reshape(heads, 2, H // 2, -1).swapaxes(1, 2).reshape(tensor.shape)
    return tensor
