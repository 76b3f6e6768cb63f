"""A tokenizer made elsewhere that `tokenizers` runs as it is: its ids, of which none moves, and its special tokens."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from jaxgpt.errors import UserError, clipped
from jaxgpt.text.bpe_tokenizer import from_written
from jaxgpt.text.tokenizer import Encoded, Special, visible

_FORMAT = 1


class ChatFormat(NamedTuple):
    """What stands around messages, in text; a special token is written as its name."""

    system: str
    user: str
    assistant: str
    end: str
    """One special token."""
    after: str = ""
    start: str = ""


@dataclass(frozen=True)
class ImportedTokenizer:
    """A tokenizer that `tokenizers` runs: its tokenizer.json, and which of its tokens are special."""

    content: str
    names: tuple[tuple[str, str], ...]
    """(field of Special, token)."""
    chat: ChatFormat | None = None
    """How the model it came with was taught to talk; None: with our own special tokens."""

    @property
    def kind(self) -> str:
        return "imported"

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer as HuggingFace

        tokenizer = HuggingFace.from_str(self.content)
        tokenizer.encode_special_tokens = True  # what looks like a special token in text is text
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _vocab_size(self) -> int:
        return max(self._tokenizer.get_vocab().values()) + 1  # there may be ids without a token

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @cached_property
    def _special(self) -> Special:
        ids = {field: self._tokenizer.token_to_id(name) for field, name in self.names}
        unk, pad = self._unknown_id, ids["eos"]
        if self.chat is None:
            system, user, assistant = ((ids[role],) for role in ("system", "user", "assistant"))
            return Special(ids["bos"], ids["eos"], pad, system, user, assistant, ids["end"], unk=unk)
        system, user, assistant, (end,), after, start = (tuple(self._as_control(text)) for text in self.chat)
        return Special(ids["bos"], ids["eos"], pad, system, user, assistant, end, after, start, unk)

    @property
    def _unknown_id(self) -> int | None:
        """Returns the token that stands for what is unknown: by its name, or as a Unigram model has it, by its id."""
        model = json.loads(self.content)["model"]
        if model.get("unk_id") is not None:
            return model["unk_id"]
        return self._tokenizer.token_to_id(model.get("unk_token") or "<unk>")

    def _as_control(self, text: str) -> list[int]:
        """Returns the ids of a text in which special tokens are themselves."""
        from tokenizers import Tokenizer as HuggingFace

        return HuggingFace.from_str(self.content).encode(text, add_special_tokens=False).ids

    @property
    def special(self) -> Special:
        return self._special

    @cached_property
    def _fingerprint(self) -> str:
        parts = ["imported", _FORMAT, json.loads(self.content), self.names, *([self.chat] if self.chat else [])]
        content = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the tokenizer.json and the names in hexadecimal digits."""
        return self._fingerprint

    @cached_property
    def _control(self) -> set[int]:
        return set(self.special.ids) - {self.special.unk}

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids if self._control.isdisjoint(ids) else self._encode_apart(text)

    def _encode_apart(self, text: str) -> list[int]:
        """Returns the ids of a text cut within each name of a special token: some models know these as text, too."""
        names = [self._tokenizer.id_to_token(id) for id in sorted(self._control)]
        cuts = "|".join(f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in names)
        parts = self._tokenizer.encode_batch(re.split(cuts, text), add_special_tokens=False)
        return [id for part in parts for id in part.ids if id not in self._control]

    def encode_batch(self, texts: Sequence[str], tokenized: bool = False) -> Encoded:
        """Returns the ids of each text, and what is lost in it; `tokenized` makes no difference."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ids = [
            np.array(encoding.ids if self._control.isdisjoint(encoding.ids) else self._encode_apart(text), np.int32)
            for text, encoding in zip(texts, encodings, strict=True)
        ]
        lost = [size for text, part in zip(texts, ids, strict=True) for size in self._lost(text, part)]
        return Encoded(ids, len(lost), sum(lost))

    def _lost(self, text: str, ids: np.ndarray) -> list[int]:
        """Returns the bytes of each part of a text that is unknown."""
        unk = self.special.unk
        if unk is None or unk not in ids:
            return []
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        places = zip(encoding.ids, encoding.offsets, strict=True)
        return [len(text[first:end].encode()) for id, (first, end) in places if id == unk]

    def unknown(self, text: str) -> list[str]:
        """Returns the words of a text in which something is unknown."""
        unk = self.special.unk
        return [] if unk is None else [word for word in dict.fromkeys(text.split()) if unk in self.encode(word)]

    def token_text(self, id: int) -> str:
        """Returns a token as it is shown to people."""
        token = self._tokenizer.id_to_token(id) or ""
        if byte := re.fullmatch("<0x([0-9A-F]{2})>", token):  # as SentencePiece's vocabularies have a byte
            return visible(bytes.fromhex(byte[1]))
        try:
            shown = visible(from_written(token)) if id not in self.special.ids else token
        except KeyError:
            shown = visible(token.replace("▁", " ").encode())
        return shown or "∅"

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids; special tokens stand as they are written."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yields for each id what of the text is known with it.

        How a token is written depends on those before it, so the last of them are decoded with it and without. The
        stream that `tokenizers` has raises an exception where bytes are no text, and a model may write such.
        """
        before: list[int] = []  # the last whose text is known
        held: list[int] = []  # those after them, which end in the middle of a character
        for id in ids:
            held.append(int(id))
            known, text = self.decode(before), self.decode([*before, *held])
            if text.endswith("\ufffd"):
                yield ""
                continue
            piece = text.removeprefix(known) if text.startswith(known) else self.decode(held)
            before, held = held if piece else [*before, *held], []
            yield piece

    def to_dict(self) -> dict[str, Any]:
        """Returns everything about the tokenizer in the types of JSON."""
        about = {"format": _FORMAT, "kind": self.kind, "fingerprint": self.fingerprint, "special": dict(self.names)}
        return about | {"chat": self.chat and self.chat._asdict(), "tokenizer": json.loads(self.content)}

    @classmethod
    def from_dict(cls, content: Any, source: str = "tokenizer") -> "ImportedTokenizer":
        """Returns the tokenizer that `to_dict` described; raises UserError, naming `source`, where it is damaged."""
        if content.get("format") != _FORMAT:
            raise UserError(f"{source}: format is {clipped(str(content.get('format')))}, this version reads {_FORMAT}")
        try:
            chat = ChatFormat(**content["chat"]) if content.get("chat") else None
            found = cls(json.dumps(content["tokenizer"]), tuple(content["special"].items()), chat)
            whole = found.fingerprint == content["fingerprint"] and found.special is not None
        except Exception as error:  # whatever `tokenizers` raises, the file is not one it can read
            raise UserError(f"{source}: cannot be read ({clipped(str(error))}); make the tokenizer anew") from None
        if not whole:
            raise UserError(f"{source}: `tokenizer` does not match `fingerprint`, the file was changed; make it anew")
        return found
