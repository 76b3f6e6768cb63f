"""How a tensor of theirs is cut and turned into parameters of ours, and back: one notation, read both ways.

"D (q N H) -> D N H" says: theirs has two axes, the second holds q parts of N heads of H numbers; ours are q kernels
of three axes each. Letters are those of the shape suffixes, and V is their vocabulary.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxgpt.config import ModelConfig

PARTS = "q"  # the axis of what they keep in one tensor and we in several


class Tensor(NamedTuple):
    """A tensor of theirs, and the parameters of ours that it holds; {i} stands for the layer."""

    theirs: str
    ours: tuple[str, ...]
    """Paths, their names joined by dots."""
    layout: str

    def of_layer(self, i: int) -> "Tensor":
        """Returns the tensor of a layer."""
        return Tensor(self.theirs.format(i=i), tuple(path.format(i=i) for path in self.ours), self.layout)


def sizes_of(model: ModelConfig, vocab_rows: int) -> dict[str, int]:
    """Returns the size of each axis that layouts name."""
    return {
        "D": model.embed_dim,
        "N": model.num_heads,
        "K": model.kv_heads,
        "H": model.head_size,
        "F": model.mlp_size,
        "P": model.context_len,
        "V": vocab_rows,
        PARTS: 3,
    }


def shape_of(layout: str, sizes: dict[str, int]) -> tuple[int, ...]:
    """Returns the shape of their tensor."""
    return tuple(math.prod(sizes[axis] for axis in group) for group in _groups(layout)[0])


def to_ours(tensor: np.ndarray, layout: str, sizes: dict[str, int]) -> list[np.ndarray]:
    """Returns our parameters out of their tensor, as views of it."""
    groups, ours = _groups(layout)
    theirs = [axis for group in groups for axis in group]
    apart = tensor.reshape([sizes[axis] for axis in theirs]).transpose(list(map(theirs.index, ours)))
    return list(apart) if PARTS in theirs else [apart]


def to_theirs(params: Sequence[np.ndarray], layout: str, sizes: dict[str, int]) -> np.ndarray:
    """Returns their tensor, in one piece of memory, out of our parameters."""
    groups, ours = _groups(layout)
    theirs = [axis for group in groups for axis in group]
    together = np.stack(params) if PARTS in theirs else params[0]
    return np.ascontiguousarray(together.transpose(list(map(ours.index, theirs))).reshape(shape_of(layout, sizes)))


def _groups(layout: str) -> tuple[list[list[str]], list[str]]:
    """Returns (their axes, those that share one together; our axes, the parts first)."""
    theirs, ours = layout.split(" -> ")
    groups: list[list[str]] = []
    inside = False
    for letter in theirs.replace(" ", ""):
        if letter in "()":
            inside = letter == "("
            groups += [[]] if inside else []
        elif inside:
            groups[-1].append(letter)
        else:
            groups.append([letter])
    parts = [PARTS] if PARTS in theirs else []
    return groups, parts + ours.split()
