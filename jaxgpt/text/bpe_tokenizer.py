"""Byte-level BPE: text becomes pieces of words, and with them any text can be written, to the last byte.

Frequent pairs of bytes, then of pieces, become tokens (Sennrich et al. 2016; over bytes, Radford et al. 2019).
`tokenizers` learns them, `tiktoken` encodes by them: the same ids, several times quicker. With no pair learned it is
the byte tokenizer.
"""

import codecs
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxgpt.errors import UserError, clipped
from jaxgpt.text.tokenizer import Encoded, Special, visible

PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
}
"""How text is split before pairs are merged, none over a border: GPT-2's way, and that of GPT-4 (numbers by three)."""

NAMES = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
"""The special tokens, whose ids follow those of all others. The first ends a document, and stands before one."""

_FORMAT = 1
_BYTES = 256


def _printable() -> dict[int, str]:
    """Returns GPT-2's characters for bytes, as its vocab.json writes them: a blank is Ġ."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(_BYTES) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(_BYTES + n) for n, byte in enumerate(others)}


CHARACTERS = _printable()
BYTES = {character: byte for byte, character in CHARACTERS.items()}


def written(token: bytes) -> str:
    """Returns a token as files have it, in GPT-2's characters."""
    return "".join(CHARACTERS[byte] for byte in token)


def from_written(text: str) -> bytes:
    """Returns the bytes of a token in GPT-2's characters; KeyError where it has another one."""
    return bytes(BYTES[character] for character in text)


@dataclass(frozen=True)
class BpeTokenizer:
    """`tokens[id]` are the bytes of an id: each byte once, then each merged pair, the earlier the sooner merged."""

    tokens: tuple[bytes, ...]
    pattern: str = "gpt4"
    """A name in PATTERNS."""

    @property
    def kind(self) -> str:
        return "bpe" if len(self.tokens) > _BYTES else "byte"

    @property
    def vocab_size(self) -> int:
        return len(self.tokens) + len(NAMES)

    @property
    def special(self) -> Special:
        eos = len(self.tokens)
        system, user, assistant = ((eos + n,) for n in (1, 2, 3))
        return Special(bos=eos, eos=eos, pad=eos, system=system, user=user, assistant=assistant, end=eos + 4)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of tokens and pattern in hexadecimal digits."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        content = json.dumps([self.kind, _FORMAT, self.pattern, *map(written, self.tokens)])
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def _encoding(self) -> Any:
        import tiktoken

        ranks = {token: rank for rank, token in enumerate(self.tokens)}
        return tiktoken.Encoding("bpe", pat_str=PATTERNS[self.pattern], mergeable_ranks=ranks, special_tokens={})

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text; control words in it are text."""
        return self.encode_batch([text]).ids[0].tolist()

    def encode_batch(self, texts: Sequence[str], tokenized: bool = False) -> Encoded:
        """Returns the ids of each text, nothing lost. Text is encoded as it stands, whether `tokenized` or not."""
        if self.kind == "byte":
            ids = [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]
        else:
            ids = [self._encoding.encode_to_numpy(text, disallowed_special=()).astype(np.int32) for text in texts]
        return Encoded(ids, 0, 0)

    def unknown(self, text: str) -> list[str]:
        """Returns nothing: every text can be written."""
        return []

    def token_text(self, id: int) -> str:
        """Returns a token as it is shown to people: a blank as ␣, half a character as its bytes."""
        if id >= len(self.tokens):
            return NAMES[id - len(self.tokens)]
        return visible(self.tokens[id])

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids; special tokens stand as they are written, bytes that are no text as �."""
        return "".join(self._decode(ids, to_end=True))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yields for each id what of the text is known with it: a character split over tokens comes with its last."""
        return self._decode(ids, to_end=False)

    def _decode(self, ids: Iterable[int], to_end: bool) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for id in ids:
            if id < len(self.tokens):
                yield decoder.decode(self.tokens[id])
            else:
                yield decoder.decode(b"", final=True) + NAMES[id - len(self.tokens)]
                decoder.reset()
        if to_end:
            yield decoder.decode(b"", final=True)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything about the tokenizer in the types of JSON."""
        about = {"format": _FORMAT, "kind": self.kind, "fingerprint": self.fingerprint, "pattern": self.pattern}
        return about | {"tokens": list(map(written, self.tokens))}

    @classmethod
    def from_dict(cls, content: Any, source: str = "tokenizer") -> "BpeTokenizer":
        """Returns the tokenizer that `to_dict` described; raises UserError, naming `source`, where it is damaged."""
        if content.get("format") != _FORMAT:
            raise UserError(f"{source}: format is {clipped(str(content.get('format')))}, this version reads {_FORMAT}")
        if content.get("pattern") not in tuple(PATTERNS):
            raise UserError(f"{source}: pattern is {clipped(str(content.get('pattern')))}, not {' or '.join(PATTERNS)}")
        try:
            tokens = tuple(map(from_written, content["tokens"]))
        except (KeyError, TypeError):
            raise UserError(
                f"{source}: `tokens` must be a list of tokens in GPT-2's characters; make it anew"
            ) from None
        if wrong := irregular(tokens):
            raise UserError(f"{source}: {wrong}; make the tokenizer anew")
        tokenizer = cls(tokens, content["pattern"])
        if content.get("fingerprint") != tokenizer.fingerprint:
            raise UserError(f"{source}: `tokens` do not match `fingerprint`, the file was changed; make it anew")
        return tokenizer


def irregular(tokens: Sequence[bytes]) -> str | None:
    """Returns what keeps tokens from being a byte-level vocabulary in the order of its merges, or None."""
    if len(set(tokens)) != len(tokens):
        return "a token is there twice"
    if {bytes([byte]) for byte in range(_BYTES)} != set(tokens[:_BYTES]):
        return f"the first {_BYTES} tokens must be the bytes, each once"
    return None


def byte_tokenizer() -> BpeTokenizer:
    """Returns the tokenizer whose tokens are the 256 bytes."""
    return BpeTokenizer(tuple(bytes([byte]) for byte in range(_BYTES)))


def train_bpe_tokenizer(texts: Iterable[str], vocab_size: int, pattern: str = "gpt4") -> tuple[BpeTokenizer, str]:
    """Returns (the tokenizer of at most `vocab_size` tokens that these texts teach, how it came about in words).

    Raises UserError where `vocab_size` leaves no room for a merge.
    """
    if vocab_size <= _BYTES + len(NAMES):
        least = _BYTES + len(NAMES) + 1
        raise UserError(f"model.vocab_size: {vocab_size} was given; byte-level BPE needs {least} or more")
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(NAMES),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    made = BpeTokenizer(tuple(from_written(token) for token, _ in by_id), pattern)
    told = f"vocabulary of {made.vocab_size:,} learned from train: {_BYTES} bytes, "
    told += f"{len(made.tokens) - _BYTES:,} merges, {len(NAMES)} special tokens"
    return made, told
