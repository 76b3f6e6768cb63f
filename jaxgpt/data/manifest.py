"""What a run was trained on, as its data.json says: counted when it was read, and named beside every number."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxgpt.config import DataConfig
from jaxgpt.errors import clipped, kind_in_json, shown

SPELLED_BITS = math.log2(257)  # a symbol of a spelled word: one of 256 bytes, or the word's end
VERSION = 2  # of the fingerprint and of what is counted; manifests of version 1 may know less


@dataclass(frozen=True)
class TextCounts:
    """A split of text."""

    documents: int = 0
    lines: int = 0
    tokens: int = 0
    unk: int = 0
    """Tokens that stand for unknown text."""
    unknown: int = 0
    """Words outside the vocabulary; those that the text itself has as <unk> are not counted."""
    unknown_bytes: int = 0
    bytes: int = 0
    """In UTF-8, with one for the end of each document and line."""
    floor_nats: float | None = None
    """Nats below which no model gets on all of it, where its true distribution is known."""

    @property
    def unknown_share(self) -> float:
        """The share of the words that the tokenizer does not know."""
        return self.unknown / max(1, self.tokens - self.lines)

    @property
    def floor(self) -> float | None:
        """The floor in nats per token."""
        return None if self.floor_nats is None else self.floor_nats / self.tokens

    @property
    def spelled_bits(self) -> float:
        """What it takes to spell unknown words, in bits.

        An <unk> does not tell its word. So each is followed by the word's bytes and an end, 257 symbols alike; an <unk>
        that the text itself has by the end alone.
        """
        return (self.unknown_bytes + self.unk) * SPELLED_BITS

    def bits_per_byte(self, loss: float) -> float | None:
        """Returns what a byte of the split costs at a loss in nats per token; None where its bytes are not known.

        All that is needed to write the text again from what was predicted is in it, so it compares between tokenizers.
        """
        return (loss * self.tokens / math.log(2) + self.spelled_bits) / self.bytes if self.bytes else None


@dataclass(frozen=True)
class ChatCounts:
    """A split of conversations, or of pairs of answers, which are counted as conversations here."""

    conversations: int = 0
    kept: int = 0
    cut: int = 0
    """Conversations that are kept in part."""
    dropped: int = 0
    messages_cut: int = 0
    tokens: int = 0
    supervised: int = 0
    """Tokens that count in the loss."""
    unk_prompts: float = 0.0
    unk_replies: float = 0.0
    """Shares of the words of prompts and replies that are unknown."""

    @property
    def floor(self) -> None:
        """Not known of any conversations."""


@dataclass(frozen=True)
class Manifest:
    """What was read, and from where."""

    kind: Literal["text", "chat", "pairs"]
    name: str
    corpus: str
    """The name or path that finds the corpus again, from any folder."""
    source: str
    """Where it was found, for people to read."""
    fingerprint: str
    """The digest of what it holds."""
    tokenizer: str
    """The fingerprint of the tokenizer."""
    splits: dict[str, Any] = field(default_factory=dict)
    """Split -> TextCounts or ChatCounts."""
    notes: list[str] = field(default_factory=list)
    fallback_for: str | None = None
    """The corpus that was asked for, when this one stands in for it."""
    tokenized: bool | None = None
    """Text: whether it was split at blanks only."""
    lines_are_documents: bool | None = None
    """Text: whether each line is a text of its own."""
    version: int = VERSION
    parts: "list[Part]" = field(default_factory=list)
    """The corpora of a mixture; none where it is one corpus."""
    rehearsed: "Manifest | None" = None
    """The text that was trained on beside conversations, where there was any."""

    @property
    def corpora(self) -> "list[Manifest]":
        """All that was read, each corpus by itself."""
        own = [part.manifest for part in self.parts] or [self]
        return own if self.rehearsed is None else [*own, *self.rehearsed.corpora]

    @property
    def is_chat(self) -> bool:
        """Whether it is conversations, or pairs of answers, so that a model of it can talk."""
        return self.kind != "text"

    @property
    def talking_preset(self) -> str:
        """By which a model of this text learns to talk, in words that it knows."""
        return "tiny_chat" if self.name == "tinyworld" else "oasst"

    @property
    def full_name(self) -> str:
        """How the data is named beside every number measured on it; a stand-in is called one."""
        return f"{self.name}, standing in for {self.fallback_for}" if self.fallback_for else self.name

    @property
    def unit(self) -> str:
        """What a loss is counted over."""
        return "assistant token" if self.is_chat else "token"

    def floor(self, split: str) -> float | None:
        """Returns nats per token below which no model gets on a split, where that is known."""
        return self.splits[split].floor if split in self.splits else None

    def bits_per_byte(self, split: str, loss: float) -> float | None:
        """Returns what a byte of a split of text costs at a loss in nats per token, where that is known."""
        counts = None if self.parts else self.splits.get(split)  # of a mixture each part is scored by itself
        return counts.bits_per_byte(loss) if isinstance(counts, TextCounts) else None

    def is_of_same_data(self, other: "Manifest") -> bool:
        """Returns whether both were made from the same contents; between versions, whether all counts agree.

        What is rehearsed beside is not looked at: a loss is not measured on it.
        """
        if self.version == other.version:
            return self.fingerprint == other.fingerprint
        counted = ("lines", "conversations", "tokens", "supervised")
        mine, theirs = (
            {split: [getattr(counts, name, None) for name in counted] for split, counts in manifest.splits.items()}
            for manifest in (self, other)
        )
        return mine == theirs

    def ends_with_line(self, config: DataConfig) -> bool:
        """Returns whether a text of this data ends with its line; for version 1 as far as can be known."""
        if self.lines_are_documents is None:
            return config.pack_lines or self.name == "tinyworld"
        return self.lines_are_documents

    def to_dict(self) -> dict[str, Any]:
        """Returns the manifest in the types of JSON."""
        content = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        del content["parts"]
        if self.parts:
            content["parts"] = [{"share": part.share, "manifest": part.manifest.to_dict()} for part in self.parts]
        if self.rehearsed is not None:
            content["rehearsed"] = self.rehearsed.to_dict()
        return content


@dataclass(frozen=True)
class Part:
    """A corpus of a mixture."""

    share: float
    """Of the training windows."""
    manifest: Manifest


def manifest_from_dict(content: Any) -> Manifest:
    """Returns the manifest that was read; ValueError says what is wrong in it. Keys that it does not know are left."""
    if not isinstance(content, dict):
        raise ValueError(f"it is {kind_in_json(content)}, not an object")
    content = {"source": "not named", "tokenizer": "", "notes": [], "version": 1, "parts": []} | content
    if content.get("kind") not in ("text", "chat", "pairs"):
        raise ValueError(f"kind is {shown(content.get('kind'))}; it must be text, chat or pairs")
    for name in ("name", "corpus", "fingerprint", "source", "tokenizer"):
        _require(content, name, str)
    _require(content, "splits", dict)
    _require(content, "notes", list)
    _require(content, "parts", list)
    _require(content, "version", int)
    for name, kind in (("fallback_for", str), ("tokenized", bool), ("lines_are_documents", bool)):
        if content.get(name) is not None:
            _require(content, name, kind)
    counts_type = TextCounts if content["kind"] == "text" else ChatCounts
    rehearsed = content.get("rehearsed")
    plain = {field.name for field in dataclasses.fields(Manifest)} - {"splits", "notes", "parts", "rehearsed"}
    return Manifest(
        **{name: value for name, value in content.items() if name in plain},
        rehearsed=None if rehearsed is None else manifest_from_dict(rehearsed),
        parts=[_part(part) for part in content["parts"]],
        splits={split: _counts(split, found, counts_type) for split, found in content["splits"].items()},
        notes=[note if isinstance(note, str) else shown(note) for note in content["notes"]],
    )


def _part(content: Any) -> Part:
    if not isinstance(content, dict) or not _is_number(content.get("share")):
        raise ValueError(f"a part of the mixture is {shown(content)}; it must have a share and a manifest")
    return Part(content["share"], manifest_from_dict(content.get("manifest")))


def _require(content: dict[str, Any], name: str, kind: type) -> None:
    if name not in content:
        raise ValueError(f"it has no {name}")
    if type(content[name]) is not kind:
        raise ValueError(f"{name} is {shown(content[name])}; it must be {kind.__name__}")


def _counts(split: str, found: Any, kind: type) -> Any:
    where = f"splits.{clipped(split)}"
    if not isinstance(found, dict):
        raise ValueError(f"{where} is {shown(found)}; it must be an object")
    known = {}
    for field_ in dataclasses.fields(kind):
        value = found.get(field_.name, field_.default)
        if not (_is_number(value) or (field_.name == "floor_nats" and value is None)):
            raise ValueError(f"{where}.{field_.name} is {shown(value)}; it must be a number")
        known[field_.name] = value
    if known.get("floor_nats") is not None and known["tokens"] < 1:
        raise ValueError(f"{where} has floor_nats and no tokens")
    return kind(**known)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18 and math.isfinite(value)
