"""Text and conversations by name or path, wherever they come from: found here, read later, document by document."""

import difflib
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jaxgpt.errors import UserError
from jaxgpt.text.corpora.documents import (
    ChatCorpus,
    Conversation,
    Corpus,
    Document,
    Pair,
    PairCorpus,
    Piece,
    Reading,
    Splits,
    TextCorpus,
    in_memory,
)
from jaxgpt.text.corpora.hub import UnavailableError, find
from jaxgpt.text.corpora.local import find_conversations, find_pairs, find_text
from jaxgpt.text.corpora.oasst import OASST1, conversation_splits, pair_splits
from jaxgpt.text.corpora.shakespeare import find_shakespeare
from jaxgpt.text.corpora.streamed import PREFIX, Download, find_streamed
from jaxgpt.text.corpora.wikitext import WIKITEXT_2

if TYPE_CHECKING:
    from jaxgpt.text.corpora.tinyworld import Dialogue

__all__ = [
    "ChatCorpus",
    "Conversation",
    "Corpus",
    "Download",
    "Pair",
    "PairCorpus",
    "Piece",
    "Reading",
    "Splits",
    "TextCorpus",
    "open_chat",
    "open_pairs",
    "open_text",
]


@dataclass(frozen=True)
class _Stage:
    """What pretraining or finetuning reads."""

    content: str
    command: str
    names: tuple[str, ...]
    """The corpora there are."""
    embedded: str | None
    """The one among them that needs no files."""


READ, DOWNLOAD = Reading(), Download()
TEXT = _Stage("text", "train.py", ("wikitext-2", "tinyshakespeare", "tinyworld"), "tinyworld")
CHAT = _Stage("conversations", "finetune.py", ("oasst1", "tinyworld-questions", "tinyworld-chat"), "tinyworld-chat")
PAIRS = _Stage("pairs of answers", "finetune.py with --objective.name dpo", ("oasst1-pairs",), None)


def open_text(
    corpus: str,
    fallback: str | None,
    reading: Reading = READ,
    download: Download = DOWNLOAD,
    field: str = "data.corpus",
) -> TextCorpus:
    """Returns the text corpus of that name or path or, when it cannot be found, the fallback; nothing is read yet.

    Text of the hub, hub:OWNER/NAME, is brought here first. Raises UserError for an unknown name, a corpus of
    conversations, files that cannot be text, and nothing to read; RunError where the hub cannot be reached.
    """
    return _open(corpus, fallback, TEXT, lambda name: _text(name, reading, download), field)


def open_chat(corpus: str, fallback: str | None, oasst_all_paths: bool = False) -> ChatCorpus:
    """Returns the conversations of that name or path or, when they cannot be found, the fallback; not read yet.

    `oasst_all_paths` takes every path of an oasst1 tree, otherwise its best-ranked one. Raises as open_text.
    """
    return _open(corpus, fallback, CHAT, lambda name: _chat(name, oasst_all_paths))


def open_pairs(corpus: str, fallback: str | None) -> PairCorpus:
    """Returns the pairs of that name or path or, when they cannot be found, the fallback; not read yet.

    Raises as open_text.
    """
    return _open(corpus, fallback, PAIRS, _pairs)


def _open(
    corpus: str,
    fallback: str | None,
    stage: _Stage,
    named: Callable[[str], Corpus[Document]],
    field: str = "data.corpus",
) -> Corpus[Document]:
    _check_name(field, corpus, stage)
    if fallback is not None:
        _check_name("data.fallback", fallback, stage)
    try:
        return named(corpus)
    except UnavailableError as nowhere:
        if fallback is None:
            stands_in = stage.embedded is not None and field == "data.corpus"
            instead = f", or a data.fallback such as {stage.embedded}" if stands_in else ""
            raise UserError(
                f"{field}: {nowhere}. Three ways out: set JAXGPT_DATA to a folder with {nowhere.files}; "
                "connect to the network once, so that the hub's copy is kept in the cache; or choose another "
                f"corpus{instead}"
            ) from None
        reason = str(nowhere)
    stand_in = _open(fallback, None, stage, named)
    return replace(stand_in, fallback_for=corpus, notes=[reason, *stand_in.notes])


def _check_name(field: str, name: str, stage: _Stage) -> None:
    """Raises UserError unless the name is a corpus of this stage or a path that is there."""
    if name in stage.names or (stage is TEXT and name.startswith(PREFIX)):
        return
    allowed = f"allowed: {', '.join(stage.names)}, or the path of a file or folder"
    other = next((other for other in (TEXT, CHAT, PAIRS) if name in other.names), None)
    if other is not None:
        raise UserError(
            f"{field}: {name} holds {other.content}, which {other.command} reads; {stage.command} reads "
            f"{stage.content}; {allowed}"
        )
    if not name or not Path(name).expanduser().exists():
        if stage is not TEXT and (name.startswith(PREFIX) or "," in name):
            raise UserError(
                f"{field}: {name!r} names text, which {TEXT.command} reads, from the hub or as a mixture; "
                f"{stage.command} reads one corpus of {stage.content}; {allowed}"
            )
        near = difflib.get_close_matches(name, stage.names, n=1)
        guess = f"; perhaps you meant {near[0]}" if near else ""
        raise UserError(f"{field}: {name!r} is no known corpus and no path that exists{guess}; {allowed}")


def _text(name: str, reading: Reading, download: Download) -> TextCorpus:
    if name == "tinyworld":
        return Corpus(name, "embedded", 0, _world_version(), _tinyworld, [])
    if name == "tinyshakespeare":
        size, identity, splits = find_shakespeare()
        return Corpus(name, f"$JAXGPT_DATA/{name}", size, identity, lambda: splits, [])
    if name == "wikitext-2":
        found = find(WIKITEXT_2)
        return Corpus(name, found.source, found.size, found.identity, lambda: Splits(found.splits, []), found.notes)
    if name.startswith(PREFIX):
        folder, source, notes = find_streamed(name, reading.field, download)
        size, identity, read = find_text(folder, reading._replace(field="text"))
        return Corpus(name, source, size, identity, read, notes)
    path = Path(name).expanduser().resolve()
    size, identity, read = find_text(path, reading)
    return Corpus(path.name, "files", size, identity, read, [])


def _chat(name: str, oasst_all_paths: bool) -> ChatCorpus:
    if name == "tinyworld-chat":
        return Corpus(name, "embedded", 0, _world_version(), _tinyworld_chat, [])
    if name == "tinyworld-questions":
        return Corpus(name, "embedded", 0, f"{_world_version()} fresh", _tinyworld_questions, [])
    if name == "oasst1":
        found = find(OASST1)
        identity = f"{found.identity} all paths: {oasst_all_paths}"
        return Corpus(
            name, found.source, found.size, identity, partial(_oasst1, found.splits, oasst_all_paths), found.notes
        )
    path = Path(name).expanduser().resolve()
    size, identity, read = find_conversations(path)
    return Corpus(path.name, "files", size, identity, read, [])


def _pairs(name: str) -> PairCorpus:
    if name == "oasst1-pairs":
        found = find(OASST1)
        return Corpus(name, found.source, found.size, found.identity, partial(_oasst1_pairs, found.splits), found.notes)
    path = Path(name).expanduser().resolve()
    size, identity, read = find_pairs(path)
    return Corpus(path.name, "files", size, identity, read, [])


def _oasst1_pairs(rows: dict) -> Splits[Pair]:
    splits, notes = pair_splits(rows)
    return Splits({split: in_memory(found) for split, found in splits.items()}, notes)


def _oasst1(rows: dict, all_paths: bool) -> Splits[Conversation]:
    splits, notes = conversation_splits(rows, all_paths)
    return Splits({split: in_memory(talks) for split, talks in splits.items()}, notes)


def _world_version() -> str:
    """Returns what changes with the embedded world: a digest of the code that tells its stories."""
    digest = hashlib.sha256()
    for file in sorted((Path(__file__).parent / "tinyworld").glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _tinyworld() -> Splits[Piece]:
    from jaxgpt.text.corpora.tinyworld import stories

    documents, floor = {}, {}
    for split in ("train", "valid", "test"):
        told = list(stories(split))
        documents[split] = in_memory([Piece(story.text) for story in told])
        floor[split] = -math.fsum(story.log_prob for story in told)
    return Splits(documents, [], floor=floor, lines_are_documents=True)


def _tinyworld_chat() -> Splits[Conversation]:
    from jaxgpt.text.corpora.tinyworld import dialogues

    return _exact({split: dialogues(split) for split in ("train", "valid", "test")})


def _tinyworld_questions() -> Splits[Conversation]:
    from jaxgpt.text.corpora.tinyworld import dialogues, fresh_questions

    return _exact({"train": fresh_questions(), "valid": dialogues("valid"), "test": dialogues("test")})


def _exact(told: dict[str, Iterator["Dialogue"]]) -> Splits[Conversation]:
    documents, exact, kinds = {}, {}, {}
    for split, dialogues in told.items():
        held = list(dialogues)
        documents[split] = in_memory([list(dialogue.messages) for dialogue in held])
        exact[split] = [dialogue.exact for dialogue in held]
        kinds[split] = [dialogue.kind for dialogue in held]
    return Splits(documents, [], exact=exact, kinds=kinds)
