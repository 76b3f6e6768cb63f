"""A Hugging Face folder of safetensors: which file has which tensor, whether all are there, and reading one."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.convert.families import Family
from jaxgpt.convert.layout import Tensor, shape_of
from jaxgpt.errors import UserError, clipped, shown
from jaxgpt.files import parse_json, read_text

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
BUFFERS = re.compile(r"(^|\.)(attn\.(masked_)?bias|attention\.(masked_)?bias|rotary_emb\.inv_freq)$")
"""Tensors that older folders carry and that are no parameters: masks and frequencies."""
TYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Folder:
    """The tensors of a folder, by name; none is read yet."""

    path: Path
    files: dict[str, Path]
    """Tensor -> the file that holds it."""
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]

    def read(self, name: str) -> np.ndarray:
        """Returns one tensor in its own type; UserError where it holds numbers that are not finite."""
        from safetensors import safe_open

        with safe_open(self.files[name], "numpy") as file:
            tensor = file.get_tensor(name)
        if not np.isfinite(tensor).all():
            raise UserError(f"{self.files[name]}: {name} holds numbers that are not finite; the weights are damaged")
        return tensor


def read_json(path: Path) -> Any:
    """Returns what a JSON file of a folder holds; raises UserError where it is missing or not JSON."""
    try:
        return parse_json(read_text(path))
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror}); give a Hugging Face folder") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({clipped(str(error))})") from None


def open_folder(path: Path) -> Folder:
    """Returns the tensors of a folder, their headers read; raises UserError where a file is missing or damaged."""
    named = _files(path)
    files, shapes, dtypes = {}, {}, {}
    for file in dict.fromkeys(named.values()) if named else [path / WEIGHTS]:
        if not file.is_file():
            raise UserError(f"{file}: it is missing, and {path / INDEX} names it; download it again")
        opened = open_file(file)
        files |= opened.files
        shapes |= opened.shapes
        dtypes |= opened.dtypes
    if lost := sorted(name for name, file in named.items() if files.get(name) != file):
        raise UserError(
            f"{named[lost[0]]}: it has no {clipped(lost[0])}, and {path / INDEX} says so; download it again"
        )
    return Folder(path, files, shapes, dtypes)


def open_file(file: Path) -> Folder:
    """Returns the tensors of one file of safetensors; raises UserError where it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    shapes, dtypes = {}, {}
    try:
        with safe_open(file, "numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118, it is no dict
                about = tensors.get_slice(name)
                shapes[name], dtypes[name] = tuple(about.get_shape()), str(about.get_dtype())
    except FileNotFoundError:
        raise UserError(f"{file}: it is missing; download it again") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file}: damaged, or not safetensors ({clipped(str(error))}); download it again") from None
    return Folder(file.parent, dict.fromkeys(shapes, file), shapes, dtypes)


def _files(path: Path) -> dict[str, Path]:
    """Returns the file of each tensor by the index; nothing where all are in one file."""
    if (path / WEIGHTS).is_file():
        return {}
    if not (path / INDEX).is_file():
        if any(path.glob("*.bin")) or any(path.glob("*.pt")) or any(path.glob("*.pth")):
            raise UserError(
                f"{path}: its weights are pickles (.bin, .pt), which may run anything when they are read; save them as "
                "safetensors: transformers' model.save_pretrained(FOLDER) does"
            )
        raise UserError(f"{path}: it has no {WEIGHTS} and no {INDEX}; give a Hugging Face folder with its weights")
    index = read_json(path / INDEX)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise UserError(f"{path / INDEX}: it has no weight_map")
    for name in names.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise UserError(f"{path / INDEX}: it names the file {shown(name)}; files must lie in the folder itself")
    return {tensor: path / name for tensor, name in names.items()}


def match(folder: Folder, family: Family, tensors: list[Tensor], sizes: dict[str, int]) -> dict[str, str]:
    """Returns our table's name of each tensor -> its name in the folder, all of them there, of their shape and type.

    Raises UserError, naming the tensor, where one is missing, is too many, or is another's.
    """
    there = {name for name in folder.shapes if not BUFFERS.search(name)}
    bare = not any(name.startswith(family.prefix) for name in there)
    names = {t.theirs: t.theirs.removeprefix(family.prefix) if bare else t.theirs for t in tensors}
    if missing := [name for name in names.values() if name not in there]:
        raise UserError(f"{folder.path}: {missing[0]} is missing, of {len(names)} tensors that config.json asks for")
    if other := sorted(there - set(names.values()) - {family.head}):
        raise UserError(
            f"{folder.path}: {clipped(other[0])} is a tensor that a {family.name} of this config.json has not; nothing "
            "of a model is left out silently"
        )
    for tensor in tensors:
        name, shape = names[tensor.theirs], shape_of(tensor.layout, sizes)
        if folder.shapes[name] != shape:
            raise UserError(f"{folder.path}: {name} is {folder.shapes[name]}, and config.json asks for {shape}")
        if folder.dtypes[name] not in TYPES:
            raise UserError(
                f"{folder.path}: {name} is of type {folder.dtypes[name]}; only {', '.join(TYPES)} can be imported, no "
                "quantised weights"
            )
    return names
