"""The character tokenizer: every character of a text is a token; for small texts, and to see spelling being learned."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxgpt.errors import UserError, clipped
from jaxgpt.text.tokenizer import Encoded, Special, visible

NAMES = ("<unk>", "<eos>", "<system>", "<user>", "<assistant>", "<end>")  # ids 0 to 5
_SPECIAL = Special(unk=0, bos=1, eos=1, pad=1, system=(2,), user=(3,), assistant=(4,), end=5)
_FORMAT = 1


@dataclass(frozen=True)
class CharTokenizer:
    """A vocabulary of characters, whose ids follow those of the special tokens."""

    characters: tuple[str, ...]

    @property
    def kind(self) -> str:
        return "char"

    @property
    def vocab_size(self) -> int:
        return len(NAMES) + len(self.characters)

    @property
    def special(self) -> Special:
        return _SPECIAL

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the characters in hexadecimal digits."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(["char", _FORMAT, *self.characters]).encode()).hexdigest()

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {character: id for id, character in enumerate(self.characters, start=len(NAMES))}

    def encode(self, text: str) -> list[int]:
        """Returns the ids of the characters of a text."""
        return [self._ids.get(character, 0) for character in text]

    def encode_batch(self, texts: Sequence[str], tokenized: bool = False) -> Encoded:
        """Returns what `encode` gives for each text, and what is lost in it."""
        ids = [np.array(self.encode(text), np.int32) for text in texts]
        lost = Counter("".join(texts))
        unknown = [(len(c.encode("utf-8", "surrogatepass")), n) for c, n in lost.items() if c not in self._ids]
        return Encoded(ids, sum(n for _, n in unknown), sum(size * n for size, n in unknown))

    def unknown(self, text: str) -> list[str]:
        """Returns the characters of a text that are not in the vocabulary, each once."""
        return [character for character in dict.fromkeys(text) if character not in self._ids]

    def token_text(self, id: int) -> str:
        """Returns a character as it is shown to people."""
        return NAMES[id] if id < len(NAMES) else visible(self.characters[id - len(NAMES)].encode())

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids; special tokens stand as they are written."""
        return "".join(self.decode_stream(ids))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yields the character of each id, as it comes."""
        for id in ids:
            yield NAMES[id] if id < len(NAMES) else self.characters[id - len(NAMES)]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything about the tokenizer in the types of JSON."""
        about = {"format": _FORMAT, "kind": "char", "fingerprint": self.fingerprint}
        return about | {"characters": list(self.characters)}

    @classmethod
    def from_dict(cls, content: Any, source: str = "tokenizer") -> "CharTokenizer":
        """Returns the tokenizer that `to_dict` described; raises UserError, naming `source`, where it is damaged."""
        if content.get("format") != _FORMAT:
            raise UserError(f"{source}: format is {clipped(str(content.get('format')))}, this version reads {_FORMAT}")
        characters = content.get("characters")
        if not isinstance(characters, list) or not all(isinstance(c, str) and len(c) == 1 for c in characters):
            raise UserError(f"{source}: `characters` must be a list of characters; make the tokenizer anew")
        if len(set(characters)) != len(characters):
            raise UserError(f"{source}: a character is there twice; make the tokenizer anew")
        tokenizer = cls(tuple(characters))
        if content.get("fingerprint") != tokenizer.fingerprint:
            raise UserError(f"{source}: `characters` do not match `fingerprint`, the file was changed; make it anew")
        return tokenizer


def train_char_tokenizer(texts: Iterable[str], vocab_size: int) -> tuple[CharTokenizer, str]:
    """Returns (the tokenizer of all characters of these texts, or the most frequent, how it came about in words)."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    counts["\n"] += 0  # documents of one line have none, and prompts may
    frequent = sorted(counts, key=lambda character: (-counts[character], character))[: vocab_size - len(NAMES)]
    made = CharTokenizer(tuple(sorted(frequent)))
    told = (
        f"{len(counts):,} characters in train; vocabulary of {made.vocab_size:,}, {len(NAMES)} of them special tokens"
    )
    return made, told
