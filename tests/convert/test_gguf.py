"""The .gguf file, read by its own package: settings, tokens and tensors as llama.cpp takes them."""

import dataclasses
import json

import numpy as np
import pytest
from gguf import GGUFReader
from tokenizers import AddedToken, processors
from tokenizers import Tokenizer as HuggingFace

from jaxgpt.config import ModelConfig
from jaxgpt.convert import proof
from jaxgpt.convert.exporting import export_gguf
from jaxgpt.errors import UserError
from jaxgpt.run.load import load_trained
from jaxgpt.text.bpe_tokenizer import train_bpe_tokenizer
from jaxgpt.text.tokenizer_json import import_tokenizer
from tests.convert.test_import import MODEL, make_run
from tests.text.test_imported_tokenizer import gpt2_like

LLAMA = dataclasses.replace(MODEL, qk_norm=False)
NEOX = ModelConfig(vocab_size=300, context_len=16, embed_dim=24, num_heads=4, num_layers=2, positions="rotary")
TOKENIZER, _ = train_bpe_tokenizer(["the cat sat on the mat, the rat at the hat"] * 5, 280)
GPT2 = dataclasses.replace(NEOX, positions="learned")


@pytest.fixture(autouse=True)
def _without_llama_cpp(monkeypatch):
    monkeypatch.setattr(proof.importlib.util, "find_spec", lambda _: None)


def read(file):
    found = GGUFReader(file)
    tensors = {tensor.name: tensor.data.reshape(tuple(reversed(tensor.shape))) for tensor in found.tensors}
    return {name: field.contents() for name, field in found.fields.items()}, tensors


def half_turned(x_NH, position):
    """Rotary positions as llama.cpp has Llama's: neighbours turn together."""
    half = x_NH.shape[-1] // 2
    angle = position * 10_000.0 ** (-np.arange(half) / half)
    a, b = x_NH[..., 0::2], x_NH[..., 1::2]
    turned = np.empty_like(x_NH)
    turned[..., 0::2], turned[..., 1::2] = a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)
    return turned


@pytest.mark.parametrize("name", ["qwen3", "llama", "gptneox", "gpt2"])
def test_what_is_written_is_there(tmp_path, name):
    model = {"qwen3": MODEL, "llama": LLAMA, "gptneox": NEOX, "gpt2": GPT2}[name]
    run = make_run(tmp_path / "run", model, TOKENIZER)
    made = export_gguf(run.path, tmp_path / "it.gguf")
    assert made.proof.difference is None
    fields, tensors = read(tmp_path / "it.gguf")
    assert fields["general.architecture"] == name
    assert fields[f"{name}.block_count"] == 2
    assert fields["tokenizer.ggml.pre"] == "dbrx"
    assert len(fields["tokenizer.ggml.tokens"]) == TOKENIZER.vocab_size
    params = load_trained(run.path).params
    np.testing.assert_array_equal(tensors["token_embd.weight"], params["token_embedding"][: TOKENIZER.vocab_size])
    attention = params["block_1"]["attention"]
    D, N, H = attention["query"]["kernel"].shape
    K = attention["key"]["kernel"].shape[1]
    x = np.random.default_rng(0).normal(size=D).astype(np.float32)
    query_NH, key_KH = (np.einsum("D,DNH->NH", x, attention[part]["kernel"]) for part in ("query", "key"))
    if name in ("gptneox", "gpt2"):
        q, k, _ = np.split(tensors["blk.1.attn_qkv.weight"] @ x, 3)
    else:
        q, k = tensors["blk.1.attn_q.weight"] @ x, tensors["blk.1.attn_k.weight"] @ x
    if name != "llama":
        np.testing.assert_allclose(q.reshape(N, H), query_NH, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(k.reshape(K, H), key_KH, rtol=1e-4, atol=1e-5)
        return
    for position in (0, 3):  # other order of dimensions, the same products of turned queries and keys
        theirs = half_turned(q.reshape(N, H), position)[0] @ half_turned(k.reshape(K, H), 1)[0]
        angle = (position - 1) * 10_000.0 ** (-np.arange(H // 2) / (H // 2))
        a, b = np.split(query_NH[0], 2)
        c, d = np.split(key_KH[0], 2)
        ours = np.sum((a * c + b * d) * np.cos(angle) + (a * d - b * c) * np.sin(angle))
        assert theirs == pytest.approx(ours, rel=1e-4)


def test_tokens_that_were_added_are_control_only_where_they_are_special(tmp_path):
    """llama.cpp prints no control token, and a model's <think> is text."""
    content = json.loads(gpt2_like(()).to_str())
    theirs = HuggingFace.from_str(json.dumps(content))
    theirs.add_special_tokens(["<|begin|>"])
    theirs.add_tokens([AddedToken("<think>", special=False)])
    theirs.save(str(tmp_path / "tokenizer.json"))
    imported = import_tokenizer(tmp_path / "tokenizer.json")
    run = make_run(tmp_path / "run", dataclasses.replace(MODEL, vocab_size=imported.vocab_size), imported)
    export_gguf(run.path, tmp_path / "it.gguf")
    fields, _ = read(tmp_path / "it.gguf")
    kinds = dict(zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"], strict=True))
    assert (kinds["<|begin|>"], kinds["<think>"], kinds["a"]) == (3, 4, 1)
    assert fields["tokenizer.ggml.add_bos_token"] is False


@pytest.mark.parametrize("says", [True, False])
def test_a_text_begins_with_bos_where_the_tokenizer_says_so(tmp_path, says):
    theirs = gpt2_like(("<|begin_of_text|>", "<|end_of_text|>"))
    if says:
        bos = "<|begin_of_text|>", theirs.token_to_id("<|begin_of_text|>")
        theirs.post_processor = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    theirs.save(str(tmp_path / "tokenizer.json"))
    imported = import_tokenizer(tmp_path / "tokenizer.json")
    run = make_run(tmp_path / "run", dataclasses.replace(MODEL, vocab_size=imported.vocab_size), imported)
    export_gguf(run.path, tmp_path / "it.gguf")
    assert read(tmp_path / "it.gguf")[0]["tokenizer.ggml.add_bos_token"] is says


def test_bytes_go_without_a_tokenizer(tmp_path):
    made = export_gguf(make_run(tmp_path / "run").path, tmp_path / "it.gguf")
    assert "no tokenizer goes along" in made.notes[0]
    fields, _ = read(tmp_path / "it.gguf")
    assert fields["tokenizer.ggml.model"] == "none"


def test_what_llama_cpp_computes_otherwise_is_refused(tmp_path):
    run = make_run(tmp_path / "run", dataclasses.replace(GPT2, mlp="gelu_exact"))
    with pytest.raises(UserError, match=r"model.mlp: gelu_exact cannot go into a \.gguf file"):
        export_gguf(run.path, tmp_path / "it.gguf")
    assert not list(tmp_path.glob("*gguf*"))
    run = make_run(tmp_path / "other", dataclasses.replace(NEOX, rope_factor=2.0))
    with pytest.raises(UserError, match=r"model\.rope_factor"):
        export_gguf(run.path, tmp_path / "it.gguf")
