"""Text and conversations by split, wherever they come from, with what a person should know of them."""

import difflib
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from jaxgpt.errors import UserError
from jaxgpt.text.corpora.hub import UnavailableError, find
from jaxgpt.text.corpora.local import Conversation, Message, load_conversations, load_lines
from jaxgpt.text.corpora.oasst import OASST1, conversation_splits
from jaxgpt.text.corpora.wikitext import WIKITEXT_2

__all__ = ["ChatCorpus", "Conversation", "Message", "TextCorpus", "fingerprint", "load_chat", "load_text"]


@dataclass(frozen=True)
class _Stage:
    """What pretraining or finetuning reads."""

    content: str
    command: str
    names: tuple[str, ...]
    """The corpora there are; the last one is embedded."""


TEXT = _Stage("text", "train.py", ("wikitext-2", "tinyworld"))
CHAT = _Stage("conversations", "finetune.py", ("oasst1", "tinyworld-chat"))


@dataclass(frozen=True)
class TextCorpus:
    """Text to pretrain on."""

    name: str
    source: str
    """Where it was found, for people to read."""
    splits: dict[str, list[str]]
    """"train", "valid", "test", those there are -> lines without their newline."""
    floor: dict[str, float] | None
    """Split -> nats below which no model gets on the whole of it, where its true distribution is known."""
    fallback_for: str | None
    """The corpus that was asked for, when this one stands in for it."""
    notes: list[str]
    """What a person should know: what was counted, held out, left out, and why."""
    lines_are_documents: bool = False
    """Whether each line is a text of its own; otherwise lines go on from one to the next."""


@dataclass(frozen=True)
class ChatCorpus:
    """Conversations to finetune on."""

    name: str
    source: str
    splits: dict[str, list[Conversation]]
    exact: dict[str, list[bool]] | None
    """Split -> for each conversation whether only one last answer is right, where that is known."""
    fallback_for: str | None
    notes: list[str]


Corpus = TypeVar("Corpus", TextCorpus, ChatCorpus)


def load_text(corpus: str, fallback: str | None) -> TextCorpus:
    """Returns the text corpus of that name or path or, when it cannot be found, the fallback.

    Raises UserError for an unknown name, a corpus of conversations, bad files, and nothing to read.
    """
    return _load(corpus, fallback, TEXT, _text)


def load_chat(corpus: str, fallback: str | None, oasst_all_paths: bool = False) -> ChatCorpus:
    """Returns the conversations of that name or path or, when they cannot be found, the fallback.

    `all_paths` takes every path of an oasst1 tree, otherwise its best-ranked one. Raises as load_text.
    """
    return _load(corpus, fallback, CHAT, lambda name: _chat(name, oasst_all_paths))


def fingerprint(corpus: TextCorpus | ChatCorpus) -> str:
    """Returns the sha256, in hex, of what the splits hold; the corpus's name and source do not matter."""
    digest = hashlib.sha256()
    for split in sorted(corpus.splits):
        entries = corpus.splits[split]
        digest.update(f"{split} {len(entries)}\n".encode())
        for entry in entries:
            digest.update(json.dumps(entry, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _load(corpus: str, fallback: str | None, stage: _Stage, load: Callable[[str], Corpus]) -> Corpus:
    _check_name("data.corpus", corpus, stage)
    if fallback is not None:
        _check_name("data.fallback", fallback, stage)
    try:
        return load(corpus)
    except UnavailableError as nowhere:
        if fallback is None:
            raise UserError(
                f"data.corpus: {nowhere}. Three ways out: set JAXGPT_DATA to a folder with {nowhere.files}; "
                "connect to the network once, so that the hub's copy is kept in the cache; or choose another "
                f"corpus, or a data.fallback such as {stage.names[-1]}"
            ) from None
        reason = str(nowhere)
    stand_in = _load(fallback, None, stage, load)
    return replace(stand_in, fallback_for=corpus, notes=[reason, *stand_in.notes])


def _check_name(field: str, name: str, stage: _Stage) -> None:
    """Raises UserError unless the name is a corpus of this stage or a path that is there."""
    if name in stage.names:
        return
    allowed = f"allowed: {', '.join(stage.names)}, or the path of a file or folder"
    other = CHAT if stage is TEXT else TEXT
    if name in other.names:
        raise UserError(
            f"{field}: {name} holds {other.content}, which {other.command} reads; {stage.command} reads "
            f"{stage.content}; {allowed}"
        )
    if not name or not Path(name).expanduser().exists():
        near = difflib.get_close_matches(name, stage.names, n=1)
        guess = f"; perhaps you meant {near[0]}" if near else ""
        raise UserError(f"{field}: {name!r} is no known corpus and no path that exists{guess}; {allowed}")


def _text(name: str) -> TextCorpus:
    if name == "tinyworld":
        return _tinyworld()
    if name == "wikitext-2":
        found = find(WIKITEXT_2)
        source, splits, notes = found.source, found.splits, found.notes
    else:
        path = Path(name).expanduser().resolve()
        splits, notes = load_lines(path)
        name, source = path.name, "files"
    return TextCorpus(name, source, splits, None, None, notes)


def _chat(name: str, oasst_all_paths: bool) -> ChatCorpus:
    if name == "tinyworld-chat":
        return _tinyworld_chat()
    if name == "oasst1":
        found = find(OASST1)
        splits, left_out = conversation_splits(found.splits, oasst_all_paths)
        source, notes = found.source, [*found.notes, *left_out]
    else:
        path = Path(name).expanduser().resolve()
        splits, notes = load_conversations(path)
        name, source = path.name, "files"
    return ChatCorpus(name, source, splits, None, None, notes)


def _tinyworld() -> TextCorpus:
    from jaxgpt.text.corpora.tinyworld import stories

    splits, floor = {}, {}
    for split in ("train", "valid", "test"):
        told = list(stories(split))
        splits[split] = [line for story in told for line in story.text.split("\n")]
        floor[split] = -math.fsum(story.log_prob for story in told)
    return TextCorpus("tinyworld", "embedded", splits, floor, None, [], lines_are_documents=True)


def _tinyworld_chat() -> ChatCorpus:
    from jaxgpt.text.corpora.tinyworld import dialogues

    splits, exact = {}, {}
    for split in ("train", "valid", "test"):
        held = list(dialogues(split))
        splits[split] = [list(dialogue.messages) for dialogue in held]
        exact[split] = [dialogue.exact for dialogue in held]
    return ChatCorpus("tinyworld-chat", "embedded", splits, exact, None, [])
