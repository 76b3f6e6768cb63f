"""Tokenizers made elsewhere: Hugging Face's tokenizer.json, and GPT-2's vocab.json with merges.txt.

A byte-level BPE in the order of its merges, as GPT-2's, becomes our own, which encodes several times quicker. Any other
is run by `tokenizers` itself. What chat needs beyond the tokens that are there follows after the last id: none moves.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxgpt.errors import UserError, clipped
from jaxgpt.files import parse_json, read_text
from jaxgpt.text.bpe_tokenizer import NAMES, PATTERNS, BpeTokenizer, from_written, irregular
from jaxgpt.text.tokenizer import Encoded, Special, Tokenizer, visible

ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
"""What ends a document, by its usual names."""
BEGINS = ("<|begin_of_text|>", "<s>", "<bos>", "[CLS]")
_FORMAT = 1


def import_tokenizer(path: Path, chat: "ChatFormat | None" = None) -> Tokenizer:
    """Returns the tokenizer of a file or a folder; raises UserError where there is none that can be read.

    `chat` is how the model that it belongs to was taught to talk, which takes the place of our own special tokens.
    """
    if path.is_dir():
        if (path / "tokenizer.json").is_file():
            return import_tokenizer(path / "tokenizer.json", chat)
        if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
            return _from_vocab_and_merges(path)
        kind = " (SentencePiece's tokenizer.model alone cannot be read)" if (path / "tokenizer.model").exists() else ""
        raise UserError(f"data.tokenizer: {path} has no tokenizer.json, and no vocab.json with merges.txt{kind}")
    try:
        content = parse_json(read_text(path))
    except OSError as error:
        raise UserError(f"data.tokenizer: {path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"data.tokenizer: {path} is not JSON ({clipped(str(error))})") from None
    ours = _as_ours(content)
    if ours is not None and (chat is None or chat == ChatFormat(*NAMES[1:])):
        return ours
    return _as_it_is(content, str(path), chat, _stated(path.parent))


def _stated(folder: Path) -> dict[str, Any]:
    """Returns the tokens that begin and end a text by a folder's tokenizer_config.json, where there is one."""
    try:
        config = parse_json(read_text(folder / "tokenizer_config.json"))
        tokens = {field: config.get(f"{field}_token") for field in ("bos", "eos")}
    except (OSError, ValueError, AttributeError):
        return {}
    return {field: token["content"] if isinstance(token, dict) else token for field, token in tokens.items() if token}


def ids_of_folder(path: Path) -> int:
    """Returns how many ids the tokenizer of a folder, which `import_tokenizer` could read, has by itself."""
    if not (path / "tokenizer.json").is_file():
        return len(parse_json(read_text(path / "vocab.json")))
    from tokenizers import Tokenizer as HuggingFace

    ids = HuggingFace.from_file(str(path / "tokenizer.json")).get_vocab().values()
    return max(ids, default=-1) + 1


def _from_vocab_and_merges(folder: Path) -> Tokenizer:
    try:
        vocab = parse_json(read_text(folder / "vocab.json"))
        lines = read_text(folder / "merges.txt").splitlines()
        merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    except ValueError as error:
        raise UserError(f"data.tokenizer: {folder / 'vocab.json'} is not JSON ({clipped(str(error))})") from None
    tokens = _in_order_of_merges(vocab, merges, [name for name in (NAMES[0],) if name in vocab])
    if tokens is None:
        raise UserError(
            f"data.tokenizer: {folder} is no vocabulary of GPT-2's kind (bytes first, then each merge in its order); "
            "give its tokenizer.json"
        )
    return BpeTokenizer(tokens, "gpt2")


def _as_ours(content: Any) -> BpeTokenizer | None:
    """Returns a tokenizer.json as our own BPE, where that gives the same ids; else None."""
    try:
        model, added = content["model"], {token["content"]: token["id"] for token in content.get("added_tokens", [])}
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        pattern = _pattern(content["pre_tokenizer"])
        plain = model["type"] == "BPE" and not content.get("normalizer") and not model.get("dropout")
        plain = plain and not model.get("ignore_merges") and not model.get("byte_fallback")
        vocab = model["vocab"] | added
        if not plain or pattern is None or tuple(added) not in ((), NAMES[:1], NAMES):
            return None
        tokens = _in_order_of_merges(vocab, merges, list(added))
    except (KeyError, TypeError, AttributeError):
        return None
    return None if tokens is None else BpeTokenizer(tokens, pattern)


def _pattern(pre_tokenizer: Any) -> str | None:
    """Returns the name of the way text is split before merging, where it is one of ours."""
    if pre_tokenizer["type"] == "ByteLevel":
        return "gpt2" if pre_tokenizer.get("use_regex", True) and not pre_tokenizer["add_prefix_space"] else None
    if pre_tokenizer["type"] != "Sequence" or len(pre_tokenizer["pretokenizers"]) != 2:
        return None
    split, to_bytes = pre_tokenizer["pretokenizers"]
    if split["type"] != "Split" or split["behavior"] != "Isolated" or split["invert"]:
        return None
    if to_bytes["type"] != "ByteLevel" or to_bytes["add_prefix_space"] or to_bytes.get("use_regex", True):
        return None
    return next((name for name, pattern in PATTERNS.items() if pattern == split["pattern"].get("Regex")), None)


def _in_order_of_merges(vocab: Any, merges: Sequence[tuple[str, ...]], last: Sequence[str]) -> tuple[bytes, ...] | None:
    """Returns the tokens by id: the bytes, then what each merge makes, then only those of `last`. Else None."""
    try:
        by_id = sorted(vocab, key=vocab.__getitem__)
        tokens = tuple(from_written(token) for token in by_id[: len(by_id) - len(last)])
        made = [from_written(left + right) for left, right in merges]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    in_order = list(tokens[256:]) == made and sorted(vocab.values()) == list(range(len(by_id)))
    return tokens if in_order and by_id[len(tokens) :] == list(last) and not irregular(tokens) else None


def _as_it_is(
    content: Any, source: str, chat: "ChatFormat | None" = None, stated: Mapping[str, Any] = MappingProxyType({})
) -> "ImportedTokenizer":
    """Returns a tokenizer that `tokenizers` reads, with the special tokens it lacks added after its last id.

    What begins and ends a text has one of the usual names, or the one that is `stated`: of a model that talks that is
    often the end of a message.
    """
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as HuggingFace

    try:
        tokenizer = HuggingFace.from_str(json.dumps(content))
    except Exception as error:  # whatever it raises, the file is not one it can read
        raise UserError(f"data.tokenizer: {source} is no tokenizer.json ({clipped(str(error))})") from None
    there = tokenizer.get_vocab()
    eos = next((name for name in (*ENDS, stated.get("eos")) if name in there), NAMES[0])
    bos = next((name for name in (*BEGINS, stated.get("bos")) if name in there), eos)
    names = {"eos": eos, "bos": bos}
    if chat is None:
        names |= dict(zip(("system", "user", "assistant", "end"), NAMES[1:], strict=True))
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names.values() if name not in there])
    return ImportedTokenizer(tokenizer.to_str(), tuple(names.items()), chat)


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
