"""Export: a run becomes a Hugging Face folder, its tokenizer and chat template with it, and proves itself."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np

from jaxgpt.buckets import is_there
from jaxgpt.config import ModelConfig
from jaxgpt.convert import proof
from jaxgpt.convert.families import Family, tensors_of
from jaxgpt.convert.folder import WEIGHTS, read_json
from jaxgpt.convert.gguf_file import write_gguf
from jaxgpt.convert.importing import RECORD
from jaxgpt.convert.layout import sizes_of, to_theirs
from jaxgpt.convert.model_card import model_card
from jaxgpt.convert.settings import choose_family, config_of
from jaxgpt.convert.tokenizer_files import write_tokenizer
from jaxgpt.devices.allocator import give_back_freed_memory
from jaxgpt.devices.mesh import inference_mesh
from jaxgpt.errors import UserError
from jaxgpt.files import folder_made_whole, write_text
from jaxgpt.model.gpt import Params
from jaxgpt.run.folder import Run
from jaxgpt.run.load import abstract_on, find_origin, restore_origin

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
TOLERANCES = {"float32": proof.TOLERANCE, "bfloat16": 3e-2, "float16": 5e-3}
"""Of the spread of the logits; shorter numbers are the weights' own rounding."""
GGUF_TOLERANCES = {"float32": 1e-3, "bfloat16": 3e-2, "float16": 5e-3}
"""llama.cpp keeps keys and values in float16."""


class Exported(NamedTuple):
    """What an export came to."""

    family: str
    dtype: str
    parameters: int
    proof: proof.Proof
    notes: list[str]


def export_run(path: str | Path, out: Path, dtype: str | None = None) -> Exported:
    """Writes the folder `out` of a run's best checkpoint, and returns what it came to.

    Raises UserError where no family can express the model or `out` is in the way, RunError where transformers has other
    logits for the folder; nothing is left then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: it is there already; give a folder that is not")
    run, step, family, dtype, tensors, ids, ours_TV = _opened(path, dtype)
    model, count = run.sized.model, sum(tensor.size for tensor in tensors.values())
    with folder_made_whole(out) as building:
        _write_weights(building / WEIGHTS, tensors)
        del tensors
        give_back_freed_memory()  # the other side's process needs as much
        notes = write_tokenizer(building, run, model)
        special = run.tokenizer.special
        ends = sorted({special.eos, special.end} if run.data.is_chat else {special.eos})
        of_ids: dict[str, Any] = {"bos_token_id": special.bos, "pad_token_id": special.pad}
        of_ids["eos_token_id"] = ends[0] if len(ends) == 1 else ends
        config = config_of(model, family) | of_ids | {"torch_dtype": dtype}
        write_text(building / "config.json", json.dumps(config, indent=2) + "\n")
        generation = of_ids | {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "max_length": model.context_len}
        write_text(building / "generation_config.json", json.dumps(generation, indent=2) + "\n")
        write_text(building / "README.md", model_card(run, step, family.name, count, notes))
        found = proof.prove(building, ours_TV, ids, TOLERANCES[dtype])
        proof.keep_logits(building, ours_TV, ids)
    return Exported(family.name, dtype, count, found, notes)


def export_gguf(path: str | Path, out: Path, dtype: str | None = None) -> Exported:
    """Writes a run's best checkpoint as one file for llama.cpp; raises as `export_run` does."""
    if out.exists():
        raise UserError(f"{out}: it is there already; give a file that is not")
    run, _, family, dtype, tensors, ids, ours_TV = _opened(path, dtype)
    building = out.with_name(f".{out.name}.exporting")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        notes = write_gguf(building, run, family, tensors)
        found = proof.prove_gguf(building, ours_TV, ids, GGUF_TOLERANCES[dtype])
        building.rename(out)
    except BaseException:
        building.unlink(missing_ok=True)
        raise
    return Exported(family.name, dtype, sum(tensor.size for tensor in tensors.values()), found, notes)


class _Opened(NamedTuple):
    """A run as it is exported."""

    run: Run
    step: int
    family: Family
    dtype: str
    tensors: dict[str, np.ndarray]
    ids: list[int]
    """The text of the proof."""
    ours_TV: np.ndarray
    """Its logits."""


def _opened(path: str | Path, dtype: str | None) -> _Opened:
    """Returns a run's best checkpoint as the tensors of a family, with the logits that prove them."""
    origin = find_origin(path)
    run, record = origin.run, _record(origin.run)
    model = run.sized.model
    family = choose_family(model, record.get("family"))
    dtype = str(dtype or record.get("dtype", "float32"))
    params = restore_origin(origin, abstract_on(inference_mesh(run.config.mesh), run.sized), alone=True)
    ids = proof.text_ids(run.tokenizer, model)
    ours_TV = proof.our_logits(params, model, ids)
    return _Opened(run, origin.step, family, dtype, _tensors(params, family, model, DTYPES[dtype]), ids, ours_TV)


def _record(run: Run) -> dict[str, Any]:
    """Returns what an imported run's weights were; nothing for a run of our own."""
    record = read_json(run.path / RECORD) if is_there(run.path / RECORD) else {}
    return record if isinstance(record, dict) else {}


def _write_weights(file: Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes all tensors into one file."""
    from safetensors.numpy import save_file

    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod(0o644)  # it is made readable by its owner alone


def _tensors(params: Params, family: Family, model: ModelConfig, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Returns all tensors of a family by their names."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    ours = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    sizes, tensors, used = sizes_of(model, model.vocab_size), {}, set()
    for tensor in tensors_of(family, model):
        parts = [np.asarray(ours[path]) for path in tensor.ours]
        if "V" in tensor.layout:
            parts = [part[: model.vocab_size] for part in parts]
        tensors[tensor.theirs] = to_theirs(parts, tensor.layout, sizes).astype(dtype)
        used |= set(tensor.ours)
    assert used == ours.keys(), f"not exported: {ours.keys() - used}"
    return tensors
