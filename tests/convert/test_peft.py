"""A folder of adapters that is not what it should be: one line that names what is wrong, and no run."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxgpt.config import Config, DataConfig, LoraConfig, MeshConfig, ModelConfig, OptimizerConfig, RunConfig
from jaxgpt.convert.peft import export_adapters, import_adapters
from jaxgpt.data.manifest import Manifest
from jaxgpt.errors import UserError
from jaxgpt.model.gpt import GPT
from jaxgpt.model.lora import init_adapters
from jaxgpt.run.folder import Run, load_run
from jaxgpt.run.load import find_origin, load_trained, record_base
from jaxgpt.run.write import write_run
from jaxgpt.text.bpe_tokenizer import byte_tokenizer

MODEL = ModelConfig(vocab_size=300, context_len=16, embed_dim=32, num_heads=2, num_layers=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run, one with adapters beside it, and these as a PEFT folder."""
    folder = tmp_path_factory.mktemp("peft")
    tokenizer = byte_tokenizer()
    config = Config(
        model=MODEL,
        data=DataConfig(corpus="mine", seq_len=16),
        optimizer=OptimizerConfig(name="muon"),  # how the other run was trained is none of its adapters' business
        mesh=MeshConfig(1, 1, 1),
        run=RunConfig(name="base", folder=str(folder)),
    )
    manifest = Manifest("text", "mine", "mine", "here", "0", tokenizer.fingerprint)
    talk = dataclasses.replace(manifest, kind="chat", name="talk")
    run = Run(folder / "base", config, tokenizer, manifest)
    params = GPT(run.sized.model).init(jax.random.key(0), np.zeros((1, 2), np.int32))["params"]
    write_run(run, jax.tree.map(lambda x: x.unbox(), params, is_leaf=lambda x: hasattr(x, "unbox")))
    lora = LoraConfig(2, 4.0, "mlp")
    of_adapters = dataclasses.replace(config.run, name="thin", init_from=str(run.path))
    thin = dataclasses.replace(
        run,
        path=folder / "thin",
        data=talk,
        config=dataclasses.replace(config, optimizer=OptimizerConfig(), lora=lora, run=of_adapters),
    )
    adapters = init_adapters(load_trained(run.path).params, lora, jax.random.key(1))
    write_run(thin, jax.tree.map(lambda x: x + 0.1, adapters))
    record_base(thin, find_origin(run.path))
    export_adapters(thin.path, folder / "adapters")
    return folder


@pytest.fixture
def broken(place, tmp_path):
    """Returns a function that imports the folder after a change of its settings or tensors."""

    def attempt(settings=None, tensors=None, contains: str = "") -> None:
        folder, run = tmp_path / "adapters", tmp_path / "run"
        folder.mkdir()
        config = json.loads((place / "adapters" / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config | (settings or {})))
        weights = load_file(place / "adapters" / "adapter_model.safetensors")
        save_file(tensors(weights) if tensors else weights, folder / "adapter_model.safetensors")
        with pytest.raises(UserError) as refused:
            import_adapters(folder, place / "base", run)
        assert contains in str(refused.value)
        assert not run.exists()
        assert not list(tmp_path.glob(".run*.part"))

    return attempt


def test_there_and_back_is_the_same(place, tmp_path):
    again = import_adapters(place / "adapters", place / "base", tmp_path / "again")
    assert again.config.lora == LoraConfig(2, 4.0, "mlp")
    assert again.data == load_run(place / "thin").data
    one, other = (jax.tree.leaves(load_trained(path).params) for path in (place / "thin", again.path))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("settings", "contains"),
    [
        ({"peft_type": "IA3"}, "not LoRA"),
        ({"use_dora": True}, "use_dora is True, which is not supported"),
        ({"use_rslora": True}, "use_rslora is True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4', which changes the base"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"lora_alpha": "much"}, "lora_alpha is 'much'; it must be a number above 0"),
        ({"lora_alpha": -1}, "lora_alpha is -1"),
        ({"alpha_pattern": {"[": 1}}, "alpha_pattern"),
        ({"alpha_pattern": {"c_fc": None}}, "alpha_pattern"),
    ],
)
def test_settings_that_are_refused(broken, settings, contains):
    broken(settings=settings, contains=contains)


def half(weights):
    return {name: x for name, x in weights.items() if "lora_B" not in name}


def renamed(weights):
    return {name.replace("mlp", "experts"): x for name, x in weights.items()}


def cut(weights):
    return {name: np.ascontiguousarray(x[:, :-1]) for name, x in weights.items()}


def not_finite(weights):
    return {name: x * np.float32("nan") for name, x in weights.items()}


def test_a_damaged_record_is_named(place, tmp_path):
    folder = shutil.copytree(place / "adapters", tmp_path / "adapters")
    (folder / "jaxgpt_data.json").write_text("[]")
    with pytest.raises(UserError, match=r"jaxgpt_data\.json: not a data manifest"):
        import_adapters(folder, place / "base", tmp_path / "run")


def test_a_base_with_another_tokenizer_is_refused(place, tmp_path):
    """Its tensors may well fit, and it would write nonsense."""
    folder = shutil.copytree(place / "adapters", tmp_path / "adapters")
    data = json.loads((folder / "jaxgpt_data.json").read_text())
    (folder / "jaxgpt_data.json").write_text(json.dumps(data | {"tokenizer": "0" * 64}))
    with pytest.raises(UserError, match=r"were trained with another tokenizer than .*base has"):
        import_adapters(folder, place / "base", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("tensors", "contains"),
    [
        (half, "without its other half"),
        (renamed, "is of no linear map in it"),
        (cut, "has adapters of"),
        (not_finite, "not finite"),
        (lambda weights: {"x": np.zeros(1, np.float32)}, "x is of no linear map"),
    ],
)
def test_tensors_that_are_refused(broken, tensors, contains):
    broken(tensors=tensors, contains=contains)
