"""Import: a Hugging Face folder becomes a run at step 0, tensor by tensor onto the mesh, and proves itself."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgpt.allowed import validate
from jaxgpt.config import Config, DataConfig, ModelConfig, RunConfig
from jaxgpt.convert import proof
from jaxgpt.convert.chat_template import chat_format, read_template
from jaxgpt.convert.families import tensors_of
from jaxgpt.convert.folder import Folder, match, open_folder, read_json
from jaxgpt.convert.layout import sizes_of, to_ours
from jaxgpt.convert.settings import dtype_names, family_of, model_of, window_of
from jaxgpt.convert.tokenizer_files import BETWEEN_BLANKS, is_of_words
from jaxgpt.data.manifest import Manifest
from jaxgpt.devices.allocator import give_back_freed_memory
from jaxgpt.devices.mesh import inference_mesh
from jaxgpt.errors import UserError, shown
from jaxgpt.files import folder_made_whole, write_text
from jaxgpt.model.gpt import VOCAB_MULTIPLE, Params
from jaxgpt.run.folder import Run, locked
from jaxgpt.run.load import abstract_on
from jaxgpt.run.write import write_run
from jaxgpt.text.imported_tokenizer import ImportedTokenizer
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.text.tokenizer_json import ids_of_folder, import_tokenizer

RECORD = "imported.json"
LONGEST_WINDOW = 1024  # tokens of a training window where none is asked for


class Imported(NamedTuple):
    """What an import came to."""

    run: Run
    proof: proof.Proof
    notes: list[str]


def import_folder(
    folder: Path, path: Path, context_len: int | None = None, tell: Callable[[str], None] = print
) -> Imported:
    """Makes the run `path` of a folder's weights, tokenizer and settings, and returns it with its proof.

    `context_len` keeps less than the folder's positions. `tell` is told what goes on. Raises UserError where the folder
    is not what can be imported, RunError where the logits differ; no run is left then.
    """
    if path.exists():
        raise UserError(f"{path}: it is there already; choose another --run.name")
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; give a Hugging Face folder: config.json, safetensors, tokenizer.json"
        )
    where = str(folder / "config.json")
    settings = read_json(folder / "config.json")
    family = family_of(settings, where)
    model = _cut(model_of(settings, family, where), window_of(settings, family), context_len, where)
    tokenizer, notes, talks = _tokenizer(folder, model)
    most = max(model.vocab_size, tokenizer.vocab_size)
    model = dataclasses.replace(model, embedding_rows=math.ceil(most / VOCAB_MULTIPLE) * VOCAB_MULTIPLE)
    seq_len = min(model.context_len, LONGEST_WINDOW)
    data = DataConfig(corpus=str(folder.absolute()), tokenizer=str(folder.absolute()), seq_len=seq_len)
    run_config = RunConfig(name=path.name, folder=str(path.parent))
    config = validate(Config(model=model, data=data, run=run_config))

    opened = open_folder(folder)
    tell(f"{folder}: a {family.name} of {sum(map(math.prod, opened.shapes.values())) / 1e6:,.1f}M parameters")
    read = _reader(opened, family, model, context_len or 0)
    with locked(path), folder_made_whole(path) as building:
        params, digest = _load(config, tokenizer, read)
        manifest = Manifest(
            kind="chat" if talks else "text",
            name=folder.absolute().name,
            corpus=str(folder.absolute()),
            source=f"weights of a {family.name}",
            fingerprint=digest,
            tokenizer=tokenizer.fingerprint,
            notes=notes,
            lines_are_documents=False,
        )
        run = Run(building, config, tokenizer, manifest)
        ids = proof.ids_to_prove(folder, tokenizer, model)
        ours_TV = proof.our_logits(params, model, ids)
        write_run(run, params)
        del params
        give_back_freed_memory()  # the other side's process needs as much
        record = {"family": family.name, "dtype": dtype_names(list(opened.dtypes.values())), "config": settings}
        write_text(building / RECORD, json.dumps(record, indent=1) + "\n")
        found = proof.prove(folder, ours_TV, ids)
    return Imported(dataclasses.replace(run, path=path), found, notes)


def _cut(model: ModelConfig, window: int | None, context_len: int | None, where: str) -> ModelConfig:
    """Returns the model with the positions that are asked for, if it has them and attention goes over them all."""
    most = model.context_len
    if context_len is not None:
        if not 2 <= context_len <= most:
            raise UserError(f"context_len: {shown(context_len)} was given; it must be from 2 to the model's {most}")
        model = dataclasses.replace(model, context_len=context_len)
    if window is not None and model.context_len > window:
        raise UserError(
            f"{where}: attention goes over a sliding window of {window} tokens, which is not supported; with "
            f"--context-len {window} the window is never left"
        )
    return model


def _tokenizer(folder: Path, model: ModelConfig) -> tuple[Tokenizer, list[str], bool]:
    """Returns (the folder's tokenizer, what is to be said about it, whether the model was taught to talk)."""
    template, names = read_template(folder)
    found, notes = None, []
    if template is not None:
        found, note = chat_format(template, names, _special_names(folder))
        if found is None:
            note += "; training and chat use <|user|>, <|assistant|> and <|end|>, which it has not seen"
        notes.append(note)
    tokenizer = import_tokenizer(folder, found)
    if isinstance(tokenizer, ImportedTokenizer) and is_of_words(json.loads(tokenizer.content)):
        notes.append(BETWEEN_BLANKS)
    if (count := ids_of_folder(folder)) > model.vocab_size:
        raise UserError(
            f"{folder}: its tokenizer has ids up to {count - 1}, and its embedding {model.vocab_size} rows; they are "
            "of different models"
        )
    return tokenizer, notes, found is not None


def _special_names(folder: Path) -> list[str]:
    content = read_json(folder / "tokenizer.json") if (folder / "tokenizer.json").is_file() else {}
    tokens = content.get("added_tokens") if isinstance(content, dict) else None
    return [token["content"] for token in tokens or [] if isinstance(token, dict) and token.get("special")]


Reader = Callable[[str], list[tuple[str, np.ndarray]]]


def _reader(folder: Folder, family: Any, model: ModelConfig, context_len: int) -> tuple[list[str], Reader]:
    """Returns (the names of their tensors, a function that reads one as our parameters)."""
    tensors = tensors_of(family, model)
    sizes = sizes_of(model, model.vocab_size)
    positions = next(
        (folder.shapes[t.theirs][0] for t in tensors if "P D" in t.layout and t.theirs in folder.shapes), 0
    )
    if context_len and positions:  # they are all there, and the first of them are taken
        sizes["P"] = positions
    names = match(folder, family, tensors, sizes)
    by_name = {tensor.theirs: tensor for tensor in tensors}

    def read(name: str) -> list[tuple[str, np.ndarray]]:
        tensor = by_name[name]
        parts = to_ours(folder.read(names[name]), tensor.layout, sizes)
        if "P" in tensor.layout:
            parts = [part[: model.context_len] for part in parts]
        return list(zip(tensor.ours, parts, strict=True))

    return list(by_name), read


def drawn_like(known_VD: np.ndarray, count: int) -> np.ndarray:
    """Returns so many vectors for tokens that are added for chat, of the mean and the spread of those there are.

    Equal ones would stay equal where adapters are trained and the embedding is not.
    """
    noise = np.random.default_rng(0).standard_normal((count, known_VD.shape[1]), np.float32)
    return known_VD.mean(0) + known_VD.std(0) * noise


def _load(config: Config, tokenizer: Tokenizer, reader: tuple[list[str], Reader]) -> tuple[Params, str]:
    """Returns (the parameters on the mesh, in float32; the digest of the tensors they are made of).

    Of theirs no more than one tensor is in memory at a time.
    """
    abstract, digest = abstract_on(inference_mesh(config.mesh), config), hashlib.sha256()
    leaves, tree = jax.tree_util.tree_flatten_with_path(abstract)
    want = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    placed: dict[str, jax.Array] = {}
    names, read = reader
    for name in names:
        for path, part in read(name):
            digest.update(path.encode() + np.ascontiguousarray(part).tobytes())
            leaf = want[path]
            rows = leaf.shape[0] - part.shape[0] if path in ("token_embedding", "head") else 0
            array = np.zeros(leaf.shape, np.float32)
            array[: len(part)] = part
            if rows:
                count = max(0, tokenizer.vocab_size - len(part))
                array[len(part) : len(part) + count] = drawn_like(part.astype(np.float32), count)
            placed[path] = jax.device_put(array, leaf.sharding)
    return jax.tree_util.tree_unflatten(tree, [placed[path] for path in want]), digest.hexdigest()
