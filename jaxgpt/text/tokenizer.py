"""What every tokenizer does, whatever its tokens are: text to ids and back. And the one place that knows the kinds."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxgpt.errors import UserError, clipped
from jaxgpt.files import parse_json, write_text


class Special(NamedTuple):
    """The ids of tokens that stand for something other than text. Two of them may be one token."""

    bos: int
    """What the first token of a text follows."""
    eos: int
    """Ends a document."""
    pad: int
    system: int
    user: int
    assistant: int
    """These three open a message of that role."""
    end: int
    """Ends a message."""
    unk: int | None = None
    """Stands for text outside the vocabulary, where there is such text."""
    newline: int | None = None
    """Stands for a line break and nothing else, where one token always does."""

    @property
    def ids(self) -> list[int]:
        """All of them, each once, in order."""
        return sorted({id for id in self if id is not None})


class Encoded(NamedTuple):
    """The ids of several texts, and what cannot be read back from them."""

    ids: list[np.ndarray]
    """int32 [N] of each text."""
    unknown: int
    """Words outside the vocabulary; those that the text itself has as <unk> are not counted."""
    unknown_bytes: int
    """Bytes in UTF-8 of these words together."""


class Tokenizer(Protocol):
    """A vocabulary, and how text becomes tokens of it. Equal tokenizers have equal fingerprints, on any machine."""

    @property
    def kind(self) -> str: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def special(self) -> Special: ...

    @property
    def fingerprint(self) -> str:
        """A SHA-256 in hexadecimal digits."""
        ...

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text. No text gives a special token, except where it is `unk` or `newline`."""
        ...

    def encode_batch(self, texts: Sequence[str], tokenized: bool = False) -> Encoded:
        """Returns the ids of each text of a corpus; `tokenized` says that its words stand between blanks already."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Returns readable text; special tokens other than `newline` stand as `token_text` writes them."""
        ...

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yields for each id, as it comes, its piece of `decode(ids)`; a character split over tokens is held back."""
        ...

    def token_text(self, id: int) -> str:
        """Returns a token as it is shown to people; never nothing."""
        ...

    def unknown(self, text: str) -> list[str]:
        """Returns what of a text the vocabulary does not have, in its order, each once."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Returns all of the tokenizer in the types of JSON, with `kind` and `fingerprint`."""
        ...


MARKS = {" ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥"}


def visible(token: bytes) -> str:
    """Returns the bytes of a token as people can see them: a blank as ␣, a line break as ⏎, half a character in hex."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if 32 < byte < 127 else f"⟨{byte:02x}⟩" for byte in token)
    return "".join(MARKS.get(c) or (c if c.isprintable() else f"⟨{ord(c):x}⟩") for c in text)


def tokenizer_from_dict(content: Any, source: str = "tokenizer") -> Tokenizer:
    """Returns the tokenizer that `to_dict` described; raises UserError, naming `source`, where it is damaged."""
    from jaxgpt.text.bpe_tokenizer import BpeTokenizer
    from jaxgpt.text.char_tokenizer import CharTokenizer
    from jaxgpt.text.imported_tokenizer import ImportedTokenizer
    from jaxgpt.text.word_tokenizer import WordTokenizer

    kinds = {
        "word": WordTokenizer,
        "bpe": BpeTokenizer,
        "byte": BpeTokenizer,
        "char": CharTokenizer,
        "imported": ImportedTokenizer,
    }
    kind = content.get("kind") if isinstance(content, dict) else type(content).__name__
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(f"{source}: kind is {clipped(str(kind))}; this version reads {', '.join(kinds)}; make it anew")
    return kinds[kind].from_dict(content, source)


def save_tokenizer(tokenizer: Tokenizer, path: Path | str) -> None:
    """Writes a tokenizer as JSON, whole or not at all."""
    write_text(Path(path), json.dumps(tokenizer.to_dict(), indent=0) + "\n")


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Returns what `save_tokenizer` wrote. Raises UserError when the file is missing or not what was written."""
    try:
        content = parse_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: the tokenizer cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: not a tokenizer file, which is JSON ({error}); make it anew") from error
    return tokenizer_from_dict(content, str(path))
