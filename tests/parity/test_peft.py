"""Adapters in PEFT: ours there, theirs here, the same logits; and there and back again."""

import dataclasses

import jax
import numpy as np
import peft
import pytest
import torch
import transformers

from jaxgpt.config import LoraConfig
from jaxgpt.convert.exporting import export_run
from jaxgpt.convert.importing import import_folder
from jaxgpt.convert.peft import export_adapters, import_adapters
from jaxgpt.convert.proof import our_logits
from jaxgpt.model.lora import PROJECTIONS, init_adapters
from jaxgpt.run.load import find_origin, load_trained, record_base
from jaxgpt.run.write import write_run
from tests.parity.test_presets import TOKENIZERS, run_at

# PEFT calls what the next version of transformers will call otherwise, and says of GPT-2 what it then mends itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False"),
]
IDS = list(range(5, 37))
LLAMA = {"norm": "rmsnorm", "mlp": "swiglu", "bias": "none", "qk_norm": False, "num_kv_heads": 2, "num_heads": 4}
NETWORKS = {
    "gpt2": ("base", {}),
    "gpt_neox": ("speedrun", {"qk_norm": False, "num_kv_heads": None}),
    "llama": ("speedrun", LLAMA),
}


def their_logits(base, adapters) -> np.ndarray:
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    with torch.no_grad():
        return peft.PeftModel.from_pretrained(model, adapters).eval()(torch.tensor([IDS])).logits[0].numpy()


def of_run(path) -> np.ndarray:
    trained = load_trained(path)
    return our_logits(trained.params, trained.config.model, IDS)


def same(ours, theirs) -> None:
    rows = min(ours.shape[1], theirs.shape[1])
    assert np.abs(ours[:, :rows] - theirs[:, :rows]).max() < 1e-4 * np.ptp(theirs)


@pytest.fixture(params=NETWORKS)
def base(request, tmp_path):
    preset, model = NETWORKS[request.param]
    run = run_at(tmp_path / "base", preset, TOKENIZERS["byte"](), **model)
    export_run(run.path, tmp_path / "theirs")
    return run


@pytest.mark.parametrize("projections", PROJECTIONS)
def test_ours_in_theirs_and_back(base, tmp_path, projections):
    lora = LoraConfig(3, 7.0, projections)
    origin = find_origin(base.path)
    adapters = init_adapters(load_trained(base.path).params, lora, jax.random.key(1))
    keys = iter(jax.random.split(jax.random.key(2), 200))
    adapters = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), adapters)
    of_adapters = dataclasses.replace(base.config.run, name="thin", init_from=str(base.path))
    config = dataclasses.replace(base.config, lora=lora, run=of_adapters)
    run = dataclasses.replace(base, path=tmp_path / "thin", config=config)
    write_run(run, adapters)
    record_base(run, origin)

    export_adapters(run.path, tmp_path / "adapters")
    ours = of_run(run.path)
    same(ours, their_logits(tmp_path / "theirs", tmp_path / "adapters"))
    assert np.abs(ours - of_run(base.path)).max() > 0.01 * np.ptp(ours)

    again = import_adapters(tmp_path / "adapters", base.path, tmp_path / "again")
    np.testing.assert_allclose(of_run(again.path), ours, atol=1e-5 * np.ptp(ours))
    export_run(run.path, tmp_path / "merged")
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_theirs_here(tmp_path, kind):
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=48, n_layer=2, n_head=4, n_positions=64, **sizes)
        targets = ["c_attn", "c_fc"]
    else:
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
        config = transformers.LlamaConfig(
            hidden_size=48, intermediate_size=80, num_hidden_layers=2, max_position_embeddings=64, **heads, **sizes
        )
        targets = ["q_proj", "o_proj", "down_proj"]
    model = transformers.AutoModelForCausalLM.from_config(config)
    folder = tmp_path / "theirs"
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(_byte_level())
    import_folder(folder, tmp_path / "base")
    lora = peft.LoraConfig(r=4, lora_alpha=9, target_modules=targets, rank_pattern={targets[-1]: 2}, bias="none")
    adapted = peft.get_peft_model(model, lora)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path / "adapters")
    run = import_adapters(tmp_path / "adapters", tmp_path / "base", tmp_path / "thin")
    same(of_run(run.path), their_logits(folder, tmp_path / "adapters"))


def _byte_level() -> str:
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(["a"], tokenizers.trainers.BpeTrainer(vocab_size=257, initial_alphabet=alphabet))
    made.add_special_tokens(["<|endoftext|>"])
    return made.to_str()
