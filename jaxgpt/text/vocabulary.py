"""How a run comes to its tokenizer: trained on its text, by kind, or brought along from a file, a folder or a run."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from jaxgpt.errors import UserError
from jaxgpt.text.bpe_tokenizer import byte_tokenizer, train_bpe_tokenizer
from jaxgpt.text.char_tokenizer import train_char_tokenizer
from jaxgpt.text.imported_tokenizer import import_tokenizer
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.text.word_tokenizer import train_word_tokenizer

KINDS = ("word", "bpe", "byte", "char")


class Recipe(NamedTuple):
    """What tokenizer is wanted; with the text it decides the tokenizer."""

    choice: str
    """One of KINDS, or a path."""
    vocab_size: int
    pattern: str = "gpt4"
    """How BPE splits text before it merges."""
    sample: int = 10**9
    """Bytes of text that it is trained on at most."""

    @property
    def identity(self) -> str:
        """What changes with the tokenizer, found without making it: for a path its files' sizes and times."""
        if self.choice in KINDS:
            return json.dumps(self)
        path = Path(self.choice).expanduser().resolve()
        files = sorted(path.glob("*.[jt][sx][ot]*")) if path.is_dir() else [path]
        return json.dumps(
            [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
        )


def check_choice(choice: str) -> None:
    """Raises UserError where a choice is neither a kind of tokenizer nor a path that is there."""
    if choice not in KINDS and not Path(choice).expanduser().exists():
        raise UserError(
            f"data.tokenizer: {choice!r} was given; it must be {', '.join(KINDS)}, or the path of a tokenizer.json, of "
            "a folder with one or with GPT-2's vocab.json and merges.txt, or of a run"
        )


def make_tokenizer(
    recipe: Recipe, read: Callable[[], Iterator[str]], size: int, tokenized: bool
) -> tuple[Tokenizer, str]:
    """Returns (the tokenizer of a recipe for the texts that `read` gives, how it came about in words).

    Of texts of more than the recipe's sample, by their `size` in bytes, some are taken, evenly spread. Raises UserError
    where the vocabulary has no room, or a file is no tokenizer.
    """
    every = max(1, -(-size // recipe.sample))

    def texts() -> Iterator[str]:
        return (text for number, text in enumerate(read()) if number % every == 0)

    part = f"\n  learned from every {every}th part of the text, data.tokenizer_sample bytes" if every > 1 else ""
    if recipe.choice == "word":
        tokenizer, told = train_word_tokenizer(texts(), recipe.vocab_size, tokenized)
    elif recipe.choice == "bpe":
        tokenizer, told = train_bpe_tokenizer(texts(), recipe.vocab_size, recipe.pattern)
    elif recipe.choice == "char":
        tokenizer, told = train_char_tokenizer(texts(), recipe.vocab_size)
    elif recipe.choice == "byte":
        return byte_tokenizer(), "vocabulary: the 256 bytes and the special tokens"
    else:
        tokenizer = import_tokenizer(Path(recipe.choice).expanduser())
        return tokenizer, f"vocabulary of {tokenizer.vocab_size:,}: that of {recipe.choice}"
    return tokenizer, told + part
