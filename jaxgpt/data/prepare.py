"""A corpus and a tokenizer become sources of batches, and a manifest that says what was read."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.config import DataConfig
from jaxgpt.data.cache import cache_key, cached_array, cached_with_facts, kept_array
from jaxgpt.data.manifest import COUNTS
from jaxgpt.data.packing import packed_lines, packed_rows
from jaxgpt.data.sources import Packed, Source, Windows
from jaxgpt.errors import RunError, UserError
from jaxgpt.text.conversation import Message, fit_answered, render
from jaxgpt.text.corpora import ChatCorpus, TextCorpus, fingerprint, load_chat, load_text
from jaxgpt.text.moses import is_tokenized
from jaxgpt.text.tokenizer import Tokenizer

WARN_UNK_SHARE = 0.05  # of held-out words: from here on a loss says little about the text
MAX_UNK_SHARE = 0.30  # beyond it the tokenizer does not fit the text or the conversations


@dataclass(frozen=True)
class Prepared:
    """What a run trains on: sources by split, and the manifest kept in the run folder."""

    sources: dict[str, Source]
    manifest: dict[str, Any]
    example: list[Message] = field(default_factory=list)
    """Conversations: the first one, as it is trained on."""


def decide_tokenized(corpus: TextCorpus, config: DataConfig) -> bool:
    """Returns whether a corpus is split into words already: as data.tokenized says, or judged by all its lines."""
    if config.tokenized != "auto":
        return config.tokenized == "true"
    return is_tokenized(chain.from_iterable(corpus.splits.values()))


def prepare_text(
    corpus: TextCorpus, tokenizer: Tokenizer, config: DataConfig, tokenized: bool | None = None
) -> Prepared:
    """Returns every split as windows of one stream of tokens, or of whole lines; encoded once, kept in data.cache_dir.

    `tokenized` is what `decide_tokenized` said, where it was asked already. Raises UserError where lines are to be kept
    whole and one is longer than the window.
    """
    content = fingerprint(corpus)
    tokenized = decide_tokenized(corpus, config) if tokenized is None else tokenized
    sources: dict[str, Source] = {}
    splits: dict[str, Any] = {}
    for split, lines in corpus.splits.items():

        def encode(lines: list[str] = lines) -> tuple[np.ndarray, dict[str, int]]:
            encoded = tokenizer.encode_corpus(lines, tokenized)
            return encoded.ids, {"unknown": encoded.unknown, "unknown_bytes": encoded.unknown_bytes}

        key = stream_key(content, split, tokenizer, tokenized)
        stream, facts = cached_with_facts(config.cache_dir, key, encode)
        _check_ids(stream, tokenizer, f"{corpus.name}, {split}")
        if config.pack_lines:
            build = partial(packed_lines, stream, tokenizer.eos_id, config.seq_len)
            sources[split] = Packed(cached_array(config.cache_dir, _lines_key(key, config.seq_len), build))
        else:
            sources[split] = Windows(stream, config.seq_len, start=tokenizer.eos_id)
        splits[split] = {
            "lines": len(lines),
            "tokens": len(stream),
            "unk": int(np.sum(stream == tokenizer.unk_id)),
            **facts,
            "bytes": sum(len(line.encode()) + 1 for line in lines),
            "floor_nats": corpus.floor[split] if corpus.floor else None,
        }
    about_lines = {
        "tokenized": tokenized,
        "lines_are_documents": corpus.lines_are_documents or config.pack_lines,
    }
    return Prepared(sources, _manifest(corpus, content, config, tokenizer, splits) | about_lines)


def open_split(
    manifest: dict[str, Any], tokenizer: Tokenizer, config: DataConfig, split: str
) -> tuple[dict[str, Any], Source]:
    """Returns (manifest, source) of a split, as it was encoded for the run with this manifest: no text is read.

    Where that is no longer in data.cache_dir the corpus is read and encoded anew, and the manifest is of what it holds
    now. Raises UserError where there is no such split, or no corpus.
    """
    _require_split(split, manifest["name"], manifest["splits"])
    source = _kept_source(manifest, tokenizer, config, split)
    if source is not None:
        return manifest, source
    if manifest["kind"] == "chat":
        data = prepare_chat(load_chat(manifest["corpus"], None, config.oasst_all_paths), tokenizer, config)
    else:
        data = prepare_text(load_text(manifest["corpus"], None), tokenizer, config, manifest.get("tokenized"))
    _require_split(split, data.manifest["name"], data.sources)
    return data.manifest, data.sources[split]


def _require_split(split: str, name: str, there: Iterable[str]) -> None:
    if split not in there:
        raise UserError(f"split: {split} was asked for, but {name} has {', '.join(there)}")


def _kept_source(manifest: dict[str, Any], tokenizer: Tokenizer, config: DataConfig, split: str) -> Source | None:
    """Returns a split from data.cache_dir; None where it is not there, and for a manifest of an older version."""
    kind, counts = manifest["kind"], manifest["splits"][split]
    if not set(COUNTS[kind]) <= counts.keys() or (kind == "text" and "tokenized" not in manifest):
        return None
    if kind == "chat":
        rows = kept_array(config.cache_dir, _talks_key(manifest["fingerprint"], split, tokenizer, config.seq_len))
        return None if rows is None else Packed(rows)
    key = stream_key(manifest["fingerprint"], split, tokenizer, manifest["tokenized"])
    if config.pack_lines:
        rows = kept_array(config.cache_dir, _lines_key(key, config.seq_len))
        return None if rows is None else Packed(rows)
    stream = kept_array(config.cache_dir, key)
    return None if stream is None else Windows(stream, config.seq_len, start=tokenizer.eos_id)


def stream_key(content: str, split: str, tokenizer: Tokenizer, tokenized: bool) -> str:
    """Returns the name under which the stream of a split is kept; `content` is the corpus's fingerprint."""
    return cache_key("text", content, split, tokenizer.fingerprint, tokenized)


def _lines_key(stream: str, seq_len: int) -> str:
    return cache_key("lines", stream, seq_len)


def _talks_key(content: str, split: str, tokenizer: Tokenizer, seq_len: int) -> str:
    return cache_key("talks", content, split, tokenizer.fingerprint, seq_len)


def prepare_chat(corpus: ChatCorpus, tokenizer: Tokenizer, config: DataConfig) -> Prepared:
    """Returns every split as packed conversations, cut to the window at turn boundaries.

    Raises UserError when too many words of the training split are unknown to the tokenizer.
    """
    content = fingerprint(corpus)
    sources: dict[str, Source] = {}
    splits: dict[str, Any] = {}
    example: list[Message] = []
    for split, conversations in corpus.splits.items():
        rendered = []
        cut = dropped = messages_cut = 0
        for conversation in conversations:
            fitted = fit_answered(conversation, tokenizer, config.seq_len + 1)
            cut += bool(fitted) and len(fitted) < len(conversation)
            dropped += not fitted
            messages_cut += len(conversation) - len(fitted)
            if fitted:
                rendered.append(render(fitted, tokenizer))
                example = example or fitted
        key = _talks_key(content, split, tokenizer, config.seq_len)
        rows = cached_array(config.cache_dir, key, partial(packed_rows, rendered, config.seq_len))
        _check_ids(rows[:, :2], tokenizer, f"{corpus.name}, {split}")  # tokens and targets
        sources[split] = Packed(rows)
        splits[split] = {
            "conversations": len(conversations),
            "kept": len(rendered),
            "cut": cut,
            "dropped": dropped,
            "messages_cut": messages_cut,
            "tokens": sum(len(ids) for ids, _ in rendered),
            "supervised": sum(sum(mask[1:]) for _, mask in rendered),
            "unk_prompts": _unk_share(conversations, ("system", "user"), tokenizer),
            "unk_replies": _unk_share(conversations, ("assistant",), tokenizer),
        }
    train = splits["train"]
    for name in ("unk_prompts", "unk_replies"):
        if train[name] > MAX_UNK_SHARE:
            raise UserError(
                f"data.corpus: {train[name]:.0%} of the words in the {name.removeprefix('unk_')} of {corpus.name} are "
                f"unknown to this tokenizer (at most {MAX_UNK_SHARE:.0%} make sense). Pretrain on text like these "
                "conversations, or with a larger --model.vocab-size, and finetune from that run; or choose "
                "conversations in the words of the pretraining text"
            )
    if not train["kept"]:
        raise UserError(
            f"data.seq_len: no conversation of {corpus.name} has an exchange that fits in {config.seq_len} tokens; "
            "use a longer window"
        )
    return Prepared(sources, _manifest(corpus, content, config, tokenizer, splits), example)


def _check_ids(ids: np.ndarray, tokenizer: Tokenizer, what: str) -> None:
    """Raises RunError for an id without a word: the model would read another word's vector and say nothing."""
    if ids.size and not (ids.min() >= 0 and ids.max() < tokenizer.vocab_size):
        raise RunError(
            f"{what}: ids from {ids.min()} to {ids.max()} for a vocabulary of {tokenizer.vocab_size}; delete "
            "data.cache_dir and run again"
        )


def require_text(corpus: TextCorpus, config: DataConfig) -> None:
    """Raises what `require_enough` would, as far as it can be known before any word is counted."""
    if not corpus.splits.get("valid"):
        raise _nothing_to_validate_on(corpus.name)
    most_tokens = sum(len(line.encode()) + 1 for line in corpus.splits["train"])  # a token is a byte at least
    if (most_windows := math.ceil(most_tokens / config.seq_len)) < config.batch_size and not config.pack_lines:
        raise _too_few_windows(corpus.name, most_windows, config.batch_size, at_most=" at most")


def require_enough(data: Prepared, batch_size: int) -> None:
    """Raises UserError when there is less than a batch to train on, or nothing to validate on."""
    name, windows = data.manifest["name"], len(data.sources["train"])
    if windows < batch_size:
        raise _too_few_windows(name, windows, batch_size)
    if "valid" not in data.sources or not len(data.sources["valid"]):
        raise _nothing_to_validate_on(name)


def _too_few_windows(name: str, windows: int, batch_size: int, at_most: str = "") -> UserError:
    return UserError(
        f"data.batch_size: {batch_size} was given, but {name} makes only {windows} training windows{at_most}; "
        f"give at most {windows}, a shorter --data.seq-len, or more text"
    )


def _nothing_to_validate_on(name: str) -> UserError:
    return UserError(f"data.corpus: {name} leaves nothing to validate on; give more text, or a valid file beside train")


def unknown_share(counts: dict[str, Any]) -> float:
    """Returns the share of a text split's words that the tokenizer does not know; <unk> in the text is no such word."""
    return counts["unknown"] / max(1, counts["tokens"] - counts["lines"])


def require_known(data: Prepared) -> str | None:
    """Returns a warning where the tokenizer does not know much of the held-out text, else None.

    Raises UserError where it knows so little that training makes no sense.
    """
    name, share = data.manifest["name"], unknown_share(data.manifest["splits"]["valid"])
    if share <= WARN_UNK_SHARE:
        return None
    known = f"{share:.1%} of the words of the validation split of {name} are unknown to the tokenizer"
    if share > MAX_UNK_SHARE:
        raise UserError(
            f"data.corpus: {known} (at most {MAX_UNK_SHARE:.0%} make sense). A vocabulary of words fits languages that "
            "put blanks between words, and text that repeats them: give more text, or a larger --model.vocab-size"
        )
    return f"{known}. To the model they are all <unk>: its perplexity leaves out what it would take to spell them"


def _unk_share(conversations: Iterable[Sequence[Message]], roles: tuple[str, ...], tokenizer: Tokenizer) -> float:
    unknown = total = 0
    for conversation in conversations:
        for message in conversation:
            if message["role"] in roles:
                ids = np.asarray(tokenizer.encode(message["content"].strip()))
                unknown += int(np.sum(ids == tokenizer.unk_id))
                total += int(np.sum(ids != tokenizer.eos_id))
    return unknown / max(1, total)


def _manifest(
    corpus: TextCorpus | ChatCorpus,
    content: str,
    config: DataConfig,
    tokenizer: Tokenizer,
    splits: dict[str, Any],
) -> dict[str, Any]:
    return {
        "kind": "text" if isinstance(corpus, TextCorpus) else "chat",
        "name": corpus.name,
        "corpus": _address(corpus, config),
        "fallback_for": corpus.fallback_for,
        "source": corpus.source,
        "fingerprint": content,
        "tokenizer": tokenizer.fingerprint,
        "splits": splits,
        "notes": corpus.notes,
    }


def _address(corpus: TextCorpus | ChatCorpus, config: DataConfig) -> str:
    """Returns the name or path that loads the corpus again, from any folder."""
    address = corpus.name
    if corpus.source == "files":
        asked = config.fallback if corpus.fallback_for and config.fallback else config.corpus
        address = str(Path(asked).expanduser().resolve())
    return address
