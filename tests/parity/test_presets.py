"""Runs of ours in transformers: the presets' shapes, their tokenizers and their way to talk."""

import dataclasses
import importlib
import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from jaxgpt.config import Config, DataConfig, MeshConfig, RunConfig
from jaxgpt.convert.exporting import export_run
from jaxgpt.convert.importing import import_folder
from jaxgpt.convert.proof import our_logits
from jaxgpt.data.manifest import Manifest
from jaxgpt.devices.mesh import make_mesh
from jaxgpt.run.checkpoint import open_checkpoints, save
from jaxgpt.run.folder import Run, open_run
from jaxgpt.run.load import find_origin, load_trained
from jaxgpt.run.state import TrainState
from jaxgpt.text.bpe_tokenizer import byte_tokenizer, train_bpe_tokenizer
from jaxgpt.text.char_tokenizer import train_char_tokenizer
from jaxgpt.text.conversation import prompt_of, render_each
from jaxgpt.text.word_tokenizer import train_word_tokenizer
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import compile_steps

TEXT = "The quick brown fox jumps over the lazy dog , and <unk> it is 3 @.@ 5 metres long .\n = Naïve =\n" * 20
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " What is\n2 + 2? "},
    {"role": "assistant", "content": "4."},
    {"role": "user", "content": "And <|end|> of it?"},
]
TOKENIZERS = {
    "word": lambda: train_word_tokenizer([TEXT], 100, tokenized=True)[0],
    "bpe": lambda: train_bpe_tokenizer([TEXT], 300)[0],
    "bpe2": lambda: train_bpe_tokenizer([TEXT], 300, "gpt2")[0],
    "byte": byte_tokenizer,
    "char": lambda: train_char_tokenizer([TEXT], 200)[0],
}


def run_at(path, preset: str, tokenizer, chat: bool = False, **model) -> Run:
    """Returns a run of a preset's model, with a small vocabulary and parameters that are all random."""
    config: Config = importlib.import_module(f"configs.{preset}").config
    sizes = {"embed_dim": 48, "num_layers": 2, "context_len": 64, "vocab_size": 400, "dtype": "float32"} | model
    config = Config(
        model=dataclasses.replace(config.model, **sizes),
        data=DataConfig(corpus="mine", seq_len=32, batch_size=4),
        mesh=MeshConfig(1, 1, 1),
        run=RunConfig(name=path.name, folder=str(path.parent)),
    )
    manifest = Manifest("chat" if chat else "text", "mine", "mine", "here", "0", tokenizer.fingerprint, tokenized=True)
    run = Run(path, config, tokenizer, manifest)
    optimizer = make_optimizer(config.optimizer, 1)
    mesh = make_mesh(run.sized, jax.devices()[:1])
    params = compile_steps(run.sized, optimizer, mesh).init().params
    keys = iter(jax.random.split(jax.random.key(0), 500))
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), params)
    open_run(run, 1)
    with open_checkpoints(run.checkpoints) as manager:
        save(manager, TrainState(jnp.zeros((), jnp.int32), params, ()), run.documents)
    return run


@pytest.mark.parametrize("preset", ["base", "speedrun", "gpt2", "shakespeare", "stories", "tiny"])
def test_presets_are_families(tmp_path, preset):
    run = run_at(tmp_path / preset, preset, TOKENIZERS["bpe"]())
    exported = export_run(run.path, tmp_path / "out")
    rotary = run.config.model.positions == "rotary"
    assert exported.family == ("gpt_neox" if rotary else "gpt2")
    assert exported.proof.difference < 1e-4 * exported.proof.spread
    back = import_folder(tmp_path / "out", tmp_path / "back", tell=lambda _: None)
    assert back.proof.difference < 1e-4 * back.proof.spread
    assert find_origin(back.run.path).model.positions == run.config.model.positions


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ({"norm": "rmsnorm", "mlp": "swiglu", "positions": "rotary", "bias": "none", "qk_norm": True}, "qwen3"),
        ({"norm": "rmsnorm", "mlp": "swiglu", "positions": "rotary", "bias": "qkv", "num_kv_heads": 2}, "qwen2"),
        ({"norm": "rmsnorm", "mlp": "swiglu", "positions": "rotary", "tie_embeddings": False}, "llama"),
        ({"mlp": "gelu_exact", "head_dim": None, "rope_factor": 4.0, "rope_original_context": 16}, "gpt2"),
    ],
)
def test_settings_find_their_family(tmp_path, model, family):
    run = run_at(tmp_path / "run", "base", TOKENIZERS["byte"](), **model)
    assert export_run(run.path, tmp_path / "out").family == family


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokenizers_go_along(tmp_path, kind):
    tokenizer = TOKENIZERS[kind]()
    export_run(run_at(tmp_path / "run", "base", tokenizer).path, tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    draw = random.Random(0)
    alphabet = [*"The quick brown fox , . ' 0 12 \t\n  é ß", "\n\n", "naïve ", "dog", " it's", "e\u0301", "日本", "🙂"]
    for _ in range(300):
        text = "".join(draw.choices(alphabet, k=draw.randrange(30)))
        ours = tokenizer.encode_batch([text], tokenized=True).ids[0].tolist()
        assert theirs.encode(text, add_special_tokens=False) == ours, text
        if kind != "word":
            known = [id for id in ours if id != tokenizer.special.unk]
            assert theirs.decode(known) == tokenizer.decode(known)
    assert theirs.eos_token_id == tokenizer.special.eos


@pytest.mark.parametrize("kind", ["bpe", "bpe2", "byte", "char"])
def test_talk_is_rendered_as_in_training(tmp_path, kind):
    tokenizer = TOKENIZERS[kind]()
    export_run(run_at(tmp_path / "run", "base", tokenizer, chat=True).path, tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    talk = [{**m, "content": m["content"].replace("<|end|>", "the end")} for m in TALK]
    ids = theirs.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    assert ids == prompt_of(render_each(talk, tokenizer), tokenizer)
    ends = json.loads((tmp_path / "out/generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.special.end in ends
    back = import_folder(tmp_path / "out", tmp_path / "back", tell=lambda _: None)
    assert back.run.data.is_chat
    assert prompt_of(render_each(talk, back.run.tokenizer), back.run.tokenizer) == ids


def test_words_of_raw_text_go_as_ids(tmp_path):
    run = run_at(tmp_path / "run", "tiny_chat", TOKENIZERS["word"](), chat=True)
    exported = export_run(run.path, tmp_path / "out")
    assert not (tmp_path / "out/tokenizer.json").exists()
    assert "python -m jaxgpt tokenize" in exported.notes[0]
    assert "python -m jaxgpt tokenize" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_model_that_they_trained(tmp_path, folder_of, name):
    """After their training, not at random: the loss of a text is the same to 1e-4."""
    folder = folder_of(name)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).train()
    draw = np.random.default_rng(0)
    text = torch.tensor(np.tile(draw.integers(3, 300, 20), 400))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(200):
        rows = torch.stack([text[at : at + 32] for at in draw.integers(0, 7000, 8)])
        loss = model(rows, labels=rows).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1.5
    model.eval().save_pretrained(folder)
    made = import_folder(folder, tmp_path / "runs/theirs", tell=lambda _: None)
    assert made.proof.difference < 1e-4 * made.proof.spread
    rows = torch.stack([text[at : at + 48] for at in range(0, 160, 7)])
    with torch.no_grad():
        want = float(model(rows, labels=rows).loss)
    trained = load_trained(made.run.path)
    losses = []
    for row in rows.tolist():
        log_p = jax.nn.log_softmax(our_logits(trained.params, trained.config.model, row))
        losses += [-log_p[t, row[t + 1]] for t in range(len(row) - 1)]
    assert float(np.mean(losses)) == pytest.approx(want, abs=1e-4)
