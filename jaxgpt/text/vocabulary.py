"""The kinds of tokenizers: how a run comes to one, trained on its text or brought along, and how one is kept and read.

A new kind is a file beside this one, and a line in each of the two tables below.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxgpt.buckets import path_of
from jaxgpt.errors import UserError, clipped, kind_in_json
from jaxgpt.files import parse_json, write_text
from jaxgpt.text.bpe_tokenizer import BpeTokenizer, byte_tokenizer, train_bpe_tokenizer
from jaxgpt.text.char_tokenizer import CharTokenizer, train_char_tokenizer
from jaxgpt.text.imported_tokenizer import ImportedTokenizer
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.text.tokenizer_json import import_tokenizer
from jaxgpt.text.word_tokenizer import WordTokenizer, train_word_tokenizer

FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
)  # of a folder, that say what its tokenizer is


class Recipe(NamedTuple):
    """What tokenizer is wanted; with the text it decides the tokenizer."""

    choice: str
    """A kind in TRAINED, or a path."""
    vocab_size: int
    pattern: str = "gpt4"
    """How BPE splits text before it merges."""
    sample: int = 10**9
    """Bytes of text that it is trained on at most."""

    @property
    def identity(self) -> str:
        """What changes with the tokenizer, found without making it: for a path its files' sizes and times."""
        if self.choice in TRAINED:
            return json.dumps(self)
        path = Path(self.choice).expanduser().resolve()
        files = [path / name for name in FILES] if path.is_dir() else [path, path.parent / FILES[-1]]
        return json.dumps(
            [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
        )


Texts = Iterator[str]
KINDS: dict[str, Callable[[Any, str], Tokenizer]] = {
    "word": WordTokenizer.from_dict,
    "bpe": BpeTokenizer.from_dict,
    "byte": BpeTokenizer.from_dict,
    "char": CharTokenizer.from_dict,
    "imported": ImportedTokenizer.from_dict,
}
"""Kind -> how it is read from what its to_dict gives."""

TRAINED: dict[str, Callable[[Texts, Recipe, bool], tuple[Tokenizer, str]]] = {
    "word": lambda texts, recipe, tokenized: train_word_tokenizer(texts, recipe.vocab_size, tokenized),
    "bpe": lambda texts, recipe, _: train_bpe_tokenizer(texts, recipe.vocab_size, recipe.pattern),
    "byte": lambda *_: (byte_tokenizer(), "vocabulary: the 256 bytes and the special tokens"),
    "char": lambda texts, recipe, _: train_char_tokenizer(texts, recipe.vocab_size),
}
"""Kind -> how it is made from texts: (texts, recipe, whether they are tokenized) -> (tokenizer, told in words)."""


def check_choice(choice: str) -> None:
    """Raises UserError where a choice is neither a kind of tokenizer nor a path that is there."""
    if choice not in TRAINED and not Path(choice).expanduser().exists():
        raise UserError(
            f"data.tokenizer: {choice!r} was given; it must be {', '.join(TRAINED)}, or the path of a tokenizer.json, "
            "of a folder with one or with GPT-2's vocab.json and merges.txt, or of a run"
        )


def make_tokenizer(recipe: Recipe, read: Callable[[], Texts], size: int, tokenized: bool) -> tuple[Tokenizer, str]:
    """Returns (the tokenizer of a recipe for the texts that `read` gives, how it came about in words).

    Of texts of more than the recipe's sample, by their `size` in bytes, some are taken, evenly spread. Raises UserError
    where the vocabulary has no room, or a file is no tokenizer.
    """
    if recipe.choice not in TRAINED:
        tokenizer = find_tokenizer(Path(recipe.choice).expanduser())
        return tokenizer, f"vocabulary of {tokenizer.vocab_size:,}: that of {recipe.choice}"
    every = max(1, -(-size // recipe.sample))
    texts = (text for number, text in enumerate(read()) if number % every == 0)
    tokenizer, told = TRAINED[recipe.choice](texts, recipe, tokenized)
    if every > 1:
        told += f"\n  learned from one in {every} parts of the text: data.tokenizer_sample is {recipe.sample:,} bytes"
    return tokenizer, told


def find_tokenizer(path: Path) -> Tokenizer:
    """Returns the tokenizer of a run, a file or a folder; raises UserError where there is none that can be read."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.is_file():
        content = _read(file)
        if isinstance(content, dict) and "kind" in content:
            return tokenizer_from_dict(content, str(file))
    return import_tokenizer(path)


def tokenizer_from_dict(content: Any, source: str = "tokenizer") -> Tokenizer:
    """Returns the tokenizer that `to_dict` described; raises UserError, naming `source`, where it is damaged."""
    kind = content.get("kind") if isinstance(content, dict) else kind_in_json(content)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"{source}: kind is {clipped(str(kind))}; this version reads {', '.join(KINDS)}; make it anew")
    return KINDS[kind](content, source)


def save_tokenizer(tokenizer: Tokenizer, path: Path | str) -> None:
    """Writes a tokenizer as JSON, whole or not at all."""
    write_text(path_of(path), json.dumps(tokenizer.to_dict(), indent=0) + "\n")


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Returns what `save_tokenizer` wrote. Raises UserError when the file is missing or not what was written."""
    return tokenizer_from_dict(_read(path_of(path)), str(path))


def _read(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: the tokenizer cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: not a tokenizer file, which is JSON ({error}); make it anew") from error
