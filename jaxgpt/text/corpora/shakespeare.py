"""Tiny Shakespeare: a million characters of his plays (Karpathy 2015), nine tenths to learn from, as in nanoGPT."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from jaxgpt.text.corpora.documents import Piece, Splits, identity_of
from jaxgpt.text.corpora.files import read_lines
from jaxgpt.text.corpora.hub import UnavailableError

NAME, FILE = "tinyshakespeare", "input.txt"


def find_shakespeare() -> tuple[int, str, Splits[Piece]]:
    """Returns (size, identity, splits) of $JAXGPT_DATA/tinyshakespeare; raises UnavailableError where it is not."""
    data = os.environ.get("JAXGPT_DATA")
    if not data:
        raise UnavailableError(NAME, [FILE], ["JAXGPT_DATA is not set"])
    path = Path(data).expanduser() / NAME / FILE
    if not path.is_file():
        raise UnavailableError(NAME, [FILE], [f"JAXGPT_DATA is set to {data}, which has no {NAME}/{FILE}"])
    documents = {split: partial(_read, path, split) for split in ("train", "valid")}
    return *identity_of([path]), Splits(documents, ["the last tenth of its characters is held out, as in nanoGPT"])


def _read(path: Path, split: str) -> Iterator[Piece]:
    text = "\n".join(read_lines(path)) + "\n"
    cut = int(0.9 * len(text))
    yield Piece(text[:cut] if split == "train" else text[cut:])
