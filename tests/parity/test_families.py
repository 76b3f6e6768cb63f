"""Every family against transformers: the same logits, the same greedy text, and the same tensors after a return."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from jaxgpt.config import Sampling
from jaxgpt.convert import proof
from jaxgpt.convert.exporting import export_run
from jaxgpt.convert.importing import import_folder
from jaxgpt.inference.generate import generate
from jaxgpt.run.load import load_trained
from tests.parity.conftest import CASES

PROMPTS = ([5, 17, 200, 3], [299, 1, 2, 80, 41, 41, 41, 7, 150, 33], [12])
NOT_OURS = {"_name_or_path", "transformers_version", "initializer_range", "attention_dropout", "use_cache", "dtype"}
NOT_OURS |= {"torch_dtype", "rope_theta", "rope_scaling", "generation_config", "head_dim", "max_window_layers"}


@pytest.mark.parametrize("name", CASES)
def test_a_folder_and_its_run_write_the_same(folder_of, tmp_path, name):
    folder = folder_of(name)
    made = import_folder(folder, tmp_path / "runs" / name, tell=lambda _: None)
    assert made.proof.against == "transformers"
    assert made.proof.difference < 1e-4 * made.proof.spread
    trained = load_trained(made.run.path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    banned_V = np.zeros(trained.config.model.vocab_size, bool)
    key, greedy = jax.random.key(0), Sampling(temperature=0.0)
    ours = generate(trained.params, trained.config.model, PROMPTS, key, greedy, banned_V, None, 48)
    for prompt, written in zip(PROMPTS, ours, strict=True):
        with torch.no_grad():
            logits = theirs(torch.tensor([prompt])).logits[0].numpy()
            out = theirs.generate(
                torch.tensor([prompt]), max_new_tokens=48, do_sample=False, eos_token_id=None, pad_token_id=0
            )
        mine = proof.our_logits(trained.params, trained.config.model, prompt)
        assert np.abs(mine - logits).max() < 1e-4 * np.ptp(logits)
        assert written == out[0, len(prompt) :].tolist()

    exported = export_run(made.run.path, tmp_path / "back")
    assert exported.family == CASES[name][0].lower().replace("gptneox", "gpt_neox")
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "back/model.safetensors")
    assert before.keys() == after.keys()
    for tensor in before:
        assert before[tensor].tobytes() == after[tensor].tobytes(), tensor
    configs = [transformers.AutoConfig.from_pretrained(at).to_dict() for at in (folder, tmp_path / "back")]
    one, other = ({k: v for k, v in config.items() if k not in NOT_OURS} for config in configs)
    assert {k: (one.get(k), other.get(k)) for k in one.keys() | other.keys() if one.get(k) != other.get(k)} == {}
    texts = ["the cat's hat", "naïve 🙂 12345\n\n  x", "<|endoftext|> the"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    for text in texts[:2]:
        assert tokenizer.encode(text, add_special_tokens=False) == trained.run.tokenizer.encode(text)


def test_shorter_numbers_come_and_go(folder_of, tmp_path):
    """Weights in bfloat16 are float32 here, and go out as the same bytes."""
    folder = folder_of("llama3")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    made = import_folder(folder, tmp_path / "runs/short", tell=lambda _: None)
    exported = export_run(made.run.path, tmp_path / "back")
    assert exported.dtype == "bfloat16"
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "back/model.safetensors")
    assert {k: v.tobytes() for k, v in before.items()} == {k: v.tobytes() for k, v in after.items()}


@pytest.mark.their_process
def test_weights_in_several_files(folder_of, tmp_path):
    folder = folder_of("qwen3", max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    made = import_folder(folder, tmp_path / "runs/parts", tell=lambda _: None)
    assert made.proof.difference < 1e-4 * made.proof.spread


def test_a_short_context_is_the_same_model(folder_of, tmp_path):
    folder = folder_of("gpt2")
    made = import_folder(folder, tmp_path / "runs/short", context_len=32, tell=lambda _: None)
    assert made.run.config.model.context_len == 32
    assert made.proof.difference < 1e-4 * made.proof.spread
    config = json.loads((folder / "config.json").read_text())
    assert dataclasses.asdict(made.run.config.model)["num_layers"] == config["n_layer"]
