"""Folders as transformers writes them: tiny random models of odd shapes, with a small tokenizer; with --parity."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from jaxgpt.convert import proof
from jaxgpt.text.bpe_tokenizer import PATTERNS

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GROUPED = {
    "vocab_size": 333,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 72,
    "max_position_embeddings": 64,
}
CASES = {
    "gpt2": ("GPT2", {"vocab_size": 333, "n_positions": 64, "n_embd": 40, "n_layer": 3, "n_head": 5}),
    "gpt2-exact": (
        "GPT2",
        {"vocab_size": 333, "n_positions": 64, "n_embd": 40, "n_layer": 2, "n_head": 4, "n_inner": 56}
        | {"activation_function": "gelu", "tie_word_embeddings": False, "layer_norm_epsilon": 1e-4},
    ),
    "gpt_neox": (
        "GPTNeoX",
        {"vocab_size": 333, "hidden_size": 40, "num_hidden_layers": 3, "num_attention_heads": 5}
        | {"intermediate_size": 56, "max_position_embeddings": 64, "use_parallel_residual": False}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}},
    ),
    "llama": ("Llama", GROUPED | {"tie_word_embeddings": True}),
    "llama3": ("Llama", GROUPED | {"rope_parameters": LLAMA3, "rms_norm_eps": 1e-5}),
    "llama-head": ("Llama", GROUPED | {"head_dim": 14}),
    "llama-bias": ("Llama", GROUPED | {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("Mistral", GROUPED | {"sliding_window": None}),
    "qwen2": ("Qwen2", GROUPED | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen3": ("Qwen3", GROUPED | {"head_dim": 10, "tie_word_embeddings": True}),
}


def random_model(name: str):
    """Returns a model of theirs whose parameters are all random, biases and norms too, and large enough to matter."""
    kind, settings = CASES[name]
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = getattr(transformers, f"{kind}Config")(**settings, **ends)
    suffix = "LMHeadModel" if kind == "GPT2" else "ForCausalLM"
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}{suffix}")(config).eval()
    with torch.no_grad():
        for param in model.parameters():
            param.add_(0.1 * torch.randn_like(param))
    return model


@pytest.fixture(autouse=True)
def _in_this_process(request, monkeypatch):
    """Their side of a proof without a process of its own, which takes seconds to start; one test starts it."""

    def their_logits(folder, ids):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            return np.asarray(model(torch.tensor([list(ids)])).logits[0])

    if "their_process" not in request.keywords:
        monkeypatch.setattr(proof, "their_logits", their_logits)


@pytest.fixture(scope="session")
def small_tokenizer() -> Tokenizer:
    """Returns a byte-level BPE of 300 tokens, the first of them the end of a text."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERNS["gpt4"]), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(["the cat sat on the mat and the rat ate the hat that the bat sat at"] * 10, trainer)
    return tokenizer


@pytest.fixture
def folder_of(tmp_path, small_tokenizer) -> Callable[..., Path]:
    """Returns a function that writes a folder as people find them."""

    def make(name: str, **save) -> Path:
        folder = tmp_path / name
        random_model(name).save_pretrained(folder, **save)
        small_tokenizer.save(str(folder / "tokenizer.json"))
        return folder

    return make
