"""What every tokenizer does, whatever its tokens are: text to ids and back."""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class Special(NamedTuple):
    """The ids of tokens that stand for something other than text. Two of them may be one token."""

    bos: int
    """What the first token of a text follows."""
    eos: int
    """Ends a document."""
    pad: int
    system: tuple[int, ...]
    user: tuple[int, ...]
    assistant: tuple[int, ...]
    """These three open a message of that role. The first is a special token; others may be tokens of text."""
    end: int
    """Ends a message."""
    after: tuple[int, ...] = ()
    """What stands between the end of a message and the next one."""
    start: tuple[int, ...] = ()
    """What stands before the first message."""
    unk: int | None = None
    """Stands for text outside the vocabulary, where there is such text."""
    newline: int | None = None
    """Stands for a line break and nothing else, where one token always does."""

    @property
    def ids(self) -> list[int]:
        """All that no text has, each once, in order."""
        alone = (self.bos, self.eos, self.pad, self.end, self.unk, self.newline)
        return sorted({id for id in alone if id is not None} | {self.system[0], self.user[0], self.assistant[0]})


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


def for_terminal(text: str) -> str:
    """Returns a text whose control characters are marked, line breaks and tabs aside: a terminal would obey them."""
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: visible(found[0].encode()), text)


def visible(token: bytes) -> str:
    """Returns the bytes of a token as people can see them; no two tokens look the same.

    A blank is ␣, a line break ⏎, a character that cannot be seen ⟨U+200D⟩, a byte of half a character ⟨f0⟩, and an
    accent with nothing to stand on stands on ◌.
    """
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if 32 < byte < 127 else MARKS.get(chr(byte)) or f"⟨{byte:02x}⟩" for byte in token)
    stands_on = "◌" if unicodedata.category(text[:1] or " ").startswith("M") else ""
    return stands_on + "".join(MARKS.get(c) or (c if c.isprintable() else f"⟨U+{ord(c):04X}⟩") for c in text)


def tell_unknown(tokenizer: Tokenizer, text: str) -> None:
    """Says what of a prompt the model cannot read: to it that is all the same <unk>."""
    if unknown := [visible(part.encode("utf-8", "surrogatepass")) for part in tokenizer.unknown(text)]:
        print(f"(not in this model's vocabulary: {', '.join(unknown)})", file=sys.stderr, flush=True)
