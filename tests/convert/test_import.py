"""Folders that cannot be imported: one line, nothing left behind; and what can be seen without transformers."""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import linen as nn
from safetensors.numpy import load_file, save_file

from jaxgpt.config import Config, DataConfig, ModelConfig, RunConfig
from jaxgpt.convert import proof
from jaxgpt.convert.exporting import export_run
from jaxgpt.convert.importing import drawn_like, import_folder
from jaxgpt.convert.layout import shape_of, to_ours, to_theirs
from jaxgpt.convert.proof import prove
from jaxgpt.data.manifest import Manifest
from jaxgpt.errors import RunError, UserError
from jaxgpt.model.gpt import GPT
from jaxgpt.run.checkpoint import open_checkpoints, save
from jaxgpt.run.folder import Run, open_run
from jaxgpt.run.load import load_trained
from jaxgpt.run.state import TrainState
from jaxgpt.text.bpe_tokenizer import BpeTokenizer, byte_tokenizer

MODEL = ModelConfig(
    vocab_size=300,
    context_len=32,
    embed_dim=24,
    num_heads=4,
    num_kv_heads=2,
    num_layers=2,
    mlp_dim=40,
    positions="rotary",
    norm="rmsnorm",
    mlp="swiglu",
    bias="none",
    qk_norm=True,
)


def make_run(path: Path, model: ModelConfig = MODEL, tokenizer: BpeTokenizer | None = None) -> Run:
    """Returns a run with parameters at random and the tokenizer of bytes, or another."""
    tokenizer = tokenizer or byte_tokenizer()
    config = Config(
        model=model, data=DataConfig(corpus="mine", seq_len=16), run=RunConfig(name=path.name, folder=str(path.parent))
    )
    run = Run(path, config, tokenizer, Manifest("text", "mine", "mine", "here", "0", tokenizer.fingerprint))
    params = GPT(run.sized.model).init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    params = jax.tree.map(lambda x: x + 0.1, jax.device_get(nn.unbox(params)))
    open_run(run, 1)
    with open_checkpoints(run.checkpoints) as manager:
        save(manager, TrainState(jnp.zeros((), jnp.int32), jax.device_put(params), ()), run.documents)
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder that can be imported: a run of ours, exported."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "their_logits", lambda *_: None)
        export_run(make_run(place / "run").path, place / "folder")
    return place / "folder"


@pytest.fixture
def folder(whole, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(proof, "their_logits", lambda *_: None)
    shutil.copytree(whole, tmp_path / "folder")
    return tmp_path / "folder"


def change(folder: Path, file: str = "config.json", drop: str | None = None, **values) -> None:
    content = json.loads((folder / file).read_text())
    content.pop(drop, None)
    (folder / file).write_text(json.dumps(content | values))


def with_tensors(folder: Path, tensors) -> None:
    save_file(tensors, folder / "model.safetensors")


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def missing_shard(folder: Path) -> None:
    names = dict.fromkeys(tensors_of(folder), "model-00001-of-00002.safetensors")
    names["model.norm.weight"] = "model-00002-of-00002.safetensors"
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    names = {"model.norm.weight": "../model.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def wrong_shape(folder: Path) -> None:
    tensors = tensors_of(folder)
    name = "model.layers.1.self_attn.k_proj.weight"
    with_tensors(folder, tensors | {name: np.ascontiguousarray(tensors[name].T)})


def not_finite(folder: Path) -> None:
    tensors = tensors_of(folder)
    tensors["model.layers.0.mlp.up_proj.weight"][3, 5] = np.nan
    with_tensors(folder, tensors)


def without(folder: Path) -> None:
    tensors = tensors_of(folder)
    del tensors["model.layers.1.mlp.down_proj.weight"]
    with_tensors(folder, tensors)


def one_more(folder: Path) -> None:
    with_tensors(folder, tensors_of(folder) | {"model.layers.0.self_attn.q_proj.bias": np.zeros(24, np.float32)})


def whole_numbers(folder: Path) -> None:
    with_tensors(folder, tensors_of(folder) | {"model.norm.weight": np.zeros(24, np.int8)})


def pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def sentencepiece(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n")


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


BROKEN = {
    "cut": (cut, "model.safetensors: damaged, or not safetensors"),
    "missing shard": (missing_shard, "00002-of-00002.safetensors: it is missing"),
    "outside": (outside, "'../model.safetensors'; files must lie in the folder itself"),
    "wrong shape": (wrong_shape, r"k_proj.weight is (24, 12), and config.json asks for (12, 24)"),
    "not finite": (not_finite, "mlp.up_proj.weight holds numbers that are not finite"),
    "a tensor missing": (without, "model.layers.1.mlp.down_proj.weight is missing"),
    "a tensor too many": (one_more, "self_attn.q_proj.bias is a tensor that a qwen3 of this config.json has not"),
    "whole numbers": (whole_numbers, "model.norm.weight is of type I8"),
    "pickles": (pickles, "save_pretrained(FOLDER)"),
    "sentencepiece": (sentencepiece, "SentencePiece's tokenizer.model alone cannot be read"),
    "no json": (no_json, "config.json: not JSON"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json: it cannot be read"),
    "another model": (lambda f: change(f, model_type="bert"), "model_type 'bert' cannot be imported"),
    "experts": (lambda f: change(f, num_experts=8), "num_experts is 8, a key that is not known"),
    "window": (lambda f: change(f, use_sliding_window=True), "use_sliding_window is True; only False"),
    "window of layers": (lambda f: change(f, layer_types=["sliding_attention"]), "only full_attention"),
    "mistral's window": (
        lambda f: change(f, model_type="mistral", sliding_window=16),
        "a sliding window of 16 tokens, which is not supported; with --context-len 16",
    ),
    "rope": (
        lambda f: change(f, rope_scaling={"rope_type": "yarn", "factor": 4}),
        "rope_type 'yarn' cannot be imported",
    ),
    "rope that is none": (lambda f: change(f, rope_scaling="linear"), "rope_scaling is 'linear'; it must be an object"),
    "rope without a base": (lambda f: change(f, rope_theta=None), "rope_theta is None; it must be a number"),
    "rope in part": (lambda f: change(f, partial_rotary_factor=0.5), "partial_rotary_factor is not 1"),
    "activation": (lambda f: change(f, hidden_act="relu"), "hidden_act is 'relu'; only silu"),
    "quantised": (lambda f: change(f, quantization_config={"bits": 4}), "quantization_config is"),
    "sizes": (lambda f: change(f, num_attention_heads="four"), "model.num_heads"),
    "small embedding": (
        lambda f: change(f, vocab_size=100),
        "its tokenizer has ids up to 260, and its embedding 100 rows",
    ),
    "other logits": (lambda f: change(f, "logits.json", logits={"3": 7.5}), "its logits differ by"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_leave_nothing(folder, tmp_path, name):
    breaks, message = BROKEN[name]
    breaks(folder)
    kind = RunError if name == "other logits" else UserError
    with pytest.raises(kind) as raised:
        import_folder(folder, tmp_path / "runs/it", tell=lambda _: None)
    assert message in str(raised.value), raised.value
    assert len(str(raised.value).splitlines()) == 1
    assert [entry for entry in (tmp_path / "runs").glob("*") if not entry.name.endswith((".lock", ".holder"))] == []
    assert not list((tmp_path / "runs").glob(".*.part"))


def test_a_run_comes_back_as_it_went(whole, folder, tmp_path):
    """Exported and imported again: the same parameters, and what was measured then is measured now."""
    made = import_folder(folder, tmp_path / "runs/it", tell=lambda _: None)
    assert made.proof.against.endswith("logits.json")
    assert made.proof.difference < 1e-5 * made.proof.spread
    before, after = load_trained(whole.parent / "run"), load_trained(made.run.path)
    vocab_size = before.config.model.vocab_size
    for path, leaf in jax.tree_util.tree_leaves_with_path(after.params):
        ours = before.params
        for key in path:
            ours = ours[key.key]
        np.testing.assert_array_equal(leaf[:vocab_size], ours[:vocab_size], err_msg=str(path))
    again = export_run(made.run.path, tmp_path / "again")
    assert again.family == "qwen3"
    assert tensors_of(tmp_path / "again").keys() == tensors_of(whole).keys()
    for name, tensor in tensors_of(whole).items():
        assert tensor.tobytes() == tensors_of(tmp_path / "again")[name].tobytes()


def test_the_base_of_rotary_positions_is_read_wherever_it_stands(folder, tmp_path):
    (folder / "logits.json").unlink()
    change(folder, rope_theta=500_000.0, rope_parameters={"rope_type": "default"})
    assert import_folder(folder, tmp_path / "runs/a", tell=lambda _: None).run.config.model.rope_theta == 500_000.0
    change(folder, rope_parameters={"rope_type": "default", "rope_theta": 20_000.0})
    assert import_folder(folder, tmp_path / "runs/b", tell=lambda _: None).run.config.model.rope_theta == 20_000.0


def test_tokens_that_are_added_differ_and_are_like_the_others():
    known = np.random.default_rng(1).normal(3.0, 2.0, (500, 64)).astype(np.float32)
    added = drawn_like(known, 200)
    assert len(np.unique(added, axis=0)) == 200
    np.testing.assert_allclose(added.mean(), known.mean(), atol=0.1)
    np.testing.assert_allclose(added.std(), known.std(), rtol=0.1)
    np.testing.assert_array_equal(drawn_like(known, 200), added)


def test_short_numbers_are_kept(folder, tmp_path):
    short = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in tensors_of(folder).items()}
    with_tensors(folder, short)
    (folder / "logits.json").unlink()
    made = import_folder(folder, tmp_path / "runs/it", tell=lambda _: None)
    assert made.proof.difference is None
    assert export_run(made.run.path, tmp_path / "again").dtype == "bfloat16"
    back = tensors_of(tmp_path / "again")
    assert all(tensor.tobytes() == back[name].tobytes() for name, tensor in short.items())


def test_what_is_there_stays(folder, tmp_path):
    import_folder(folder, tmp_path / "runs/it", tell=lambda _: None)
    with pytest.raises(UserError, match="it is there already"):
        import_folder(folder, tmp_path / "runs/it", tell=lambda _: None)
    with pytest.raises(UserError, match="it is there already"):
        export_run(tmp_path / "runs/it", folder)


def test_a_model_of_no_family_says_why(tmp_path):
    model = ModelConfig(
        vocab_size=300, context_len=16, embed_dim=16, num_heads=2, num_layers=1, qk_norm=True, positions="rotary"
    )
    run = make_run(tmp_path / "run", model)
    with pytest.raises(UserError, match=re.escape("model.qk_norm is True, and theirs is False")):
        export_run(run.path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_logits_are_no_export(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "their_logits", lambda folder, ids: np.zeros((len(ids), 300)))
    run = make_run(tmp_path / "run")
    with pytest.raises(RunError, match="its logits differ by"):
        export_run(run.path, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_a_proof_compares(tmp_path, monkeypatch):
    ours = np.arange(12.0).reshape(3, 4)
    monkeypatch.setattr(proof, "their_logits", lambda *_: ours + 1e-4)
    assert prove(tmp_path, ours, [0, 1, 2]).difference == pytest.approx(1e-4)
    monkeypatch.setattr(proof, "their_logits", lambda *_: ours + np.nan)
    with pytest.raises(RunError, match="differ by nan"):
        prove(tmp_path, ours, [0, 1, 2])


@pytest.mark.parametrize(
    "layout", ["D (q N H) -> D N H", "(N q H) D -> D N H", "(q N H) -> N H", "D (N H) -> N H D", "V D -> V D"]
)
def test_layouts_go_both_ways(layout):
    sizes = {"D": 6, "N": 2, "H": 5, "V": 7, "q": 3}
    theirs = np.random.default_rng(0).normal(size=shape_of(layout, sizes))
    np.testing.assert_array_equal(to_theirs(to_ours(theirs, layout, sizes), layout, sizes), theirs)


def test_a_layout_is_an_einsum():
    """Multiplied either way, the same numbers come out: (N q H) rows of their matrix are our three kernels."""
    sizes = {"D": 6, "N": 2, "H": 5, "q": 3}
    draw = np.random.default_rng(0)
    weight, x = draw.normal(size=(30, 6)), draw.normal(size=6)
    theirs = (weight @ x).reshape(2, 3, 5)
    for part, kernel in enumerate(to_ours(weight, "(N q H) D -> D N H", sizes)):
        np.testing.assert_allclose(np.einsum("D,DNH->NH", x, kernel), theirs[:, part])
