"""A corpus and a tokenizer become sources of batches, and a manifest that says what was read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.config import DataConfig
from jaxgpt.data.cache import cache_key, cached_array
from jaxgpt.data.packing import packed_lines, packed_rows
from jaxgpt.data.sources import Packed, Source, Windows
from jaxgpt.errors import RunError, UserError
from jaxgpt.text.conversation import Message, fit, render
from jaxgpt.text.corpora import ChatCorpus, TextCorpus, fingerprint
from jaxgpt.text.tokenizer import Tokenizer

MAX_UNK_SHARE = 0.30  # beyond it the tokenizer does not fit the conversations


@dataclass(frozen=True)
class Prepared:
    """What a run trains on: sources by split, and the manifest kept in the run folder."""

    sources: dict[str, Source]
    manifest: dict[str, Any]
    example: list[Message] = field(default_factory=list)
    """Conversations: the first one, as it is trained on."""


def prepare_text(corpus: TextCorpus, tokenizer: Tokenizer, config: DataConfig) -> Prepared:
    """Returns every split as windows of one stream of tokens, or of whole lines; encoded once, kept in data.cache_dir.

    Raises UserError where lines are to be kept whole and one is longer than the window.
    """
    content = fingerprint(corpus)
    sources: dict[str, Source] = {}
    splits: dict[str, Any] = {}
    for split, lines in corpus.splits.items():
        key = stream_key(content, split, tokenizer)
        stream = cached_array(config.cache_dir, key, lambda lines=lines: tokenizer.encode_lines(lines))
        _check_ids(stream, tokenizer, f"{corpus.name}, {split}")
        if config.whole_lines:
            rows_key = cache_key("lines", content, split, tokenizer.fingerprint, config.seq_len)
            build = partial(packed_lines, stream, tokenizer.eos_id, config.seq_len)
            sources[split] = Packed(cached_array(config.cache_dir, rows_key, build))
        else:
            sources[split] = Windows(stream, config.seq_len, start=tokenizer.eos_id)
        splits[split] = {
            "lines": len(lines),
            "tokens": len(stream),
            "unk": int(np.sum(stream == tokenizer.unk_id)),
            "bytes": sum(len(line.encode()) + 1 for line in lines),
            "floor_nats": corpus.floor[split] if corpus.floor else None,
        }
    return Prepared(sources, _manifest(corpus, content, config, tokenizer, splits))


def stream_key(content: str, split: str, tokenizer: Tokenizer) -> str:
    """Returns the name under which the stream of a split is kept; `content` is the corpus's fingerprint."""
    return cache_key("text", content, split, tokenizer.fingerprint)


def prepare_chat(corpus: ChatCorpus, tokenizer: Tokenizer, config: DataConfig) -> Prepared:
    """Returns every split as packed conversations, cut to the window at turn boundaries.

    Raises UserError when too many words of the training split are unknown to the tokenizer.
    """
    sources: dict[str, Source] = {}
    splits: dict[str, Any] = {}
    example: list[Message] = []
    for split, conversations in corpus.splits.items():
        rendered = []
        cut = dropped = messages_cut = 0
        for conversation in conversations:
            fitted = fit(conversation, tokenizer, config.seq_len + 1)
            if all(message["role"] != "assistant" for message in fitted):
                fitted = []
            cut += bool(fitted) and len(fitted) < len(conversation)
            dropped += not fitted
            messages_cut += len(conversation) - len(fitted)
            if fitted:
                rendered.append(render(fitted, tokenizer))
                example = example or fitted
        rows = packed_rows(rendered, config.seq_len)
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
    return Prepared(sources, _manifest(corpus, fingerprint(corpus), config, tokenizer, splits), example)


def _check_ids(ids: np.ndarray, tokenizer: Tokenizer, what: str) -> None:
    """Raises RunError for an id without a word: the model would read another word's vector and say nothing."""
    if ids.size and not (ids.min() >= 0 and ids.max() < tokenizer.vocab_size):
        raise RunError(
            f"{what}: ids from {ids.min()} to {ids.max()} for a vocabulary of {tokenizer.vocab_size}; delete "
            "data.cache_dir and run again"
        )


def require_enough(data: Prepared, batch_size: int) -> None:
    """Raises UserError when there is less than a batch to train on, or nothing to validate on."""
    name, windows = data.manifest["name"], len(data.sources["train"])
    if windows < batch_size:
        raise UserError(
            f"data.batch_size: {batch_size} was given, but {name} makes only {windows} training windows; "
            f"give at most {windows}, a shorter --data.seq-len, or more text"
        )
    if "valid" not in data.sources or not len(data.sources["valid"]):
        raise UserError(
            f"data.corpus: {name} leaves nothing to validate on; give more text, or a valid file beside train"
        )


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


def data_name(manifest: dict[str, Any]) -> str:
    """Returns how the data is named beside every number measured on it; a stand-in is called one."""
    if manifest["fallback_for"]:
        return f"{manifest['name']}, standing in for {manifest['fallback_for']}"
    return manifest["name"]
