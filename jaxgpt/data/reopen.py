"""What a run was trained on, opened again: a split as it was encoded, its tokens and their counts; or any one file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.config import DataConfig
from jaxgpt.data.encode import Progress, batches_of, count, encode_batch
from jaxgpt.data.kept import open_kept
from jaxgpt.data.manifest import Manifest, TextCounts
from jaxgpt.data.packing import packed_lines
from jaxgpt.data.prepare import (
    find_text_of,
    is_split,
    prepare_chat,
    prepare_pairs,
    prepare_text,
    rows_name,
    talks_source,
    text_name,
    text_source,
    windows_of,
)
from jaxgpt.data.shards import Tokens, read_shards, token_dtype
from jaxgpt.data.sources import Packed, Source
from jaxgpt.errors import UserError
from jaxgpt.text.corpora import Piece, Reading, open_chat, open_pairs
from jaxgpt.text.corpora.files import refuse
from jaxgpt.text.corpora.local import read_text
from jaxgpt.text.tokenizer import Tokenizer


def open_split(manifest: Manifest, tokenizer: Tokenizer, config: DataConfig, split: str) -> tuple[Manifest, Source]:
    """Returns (manifest, source) of a split, as it was encoded for the run with this manifest: no text is read.

    Where that is no longer in data.cache_dir the corpus is read and encoded anew, and the manifest is of what it holds
    now. Raises UserError where there is no such split, or no corpus.
    """
    _require_split(split, manifest.name, manifest.splits)
    kept = open_kept(config.cache_dir, kept_name(manifest, tokenizer, config))
    if manifest.is_chat:
        if kept is not None:
            return manifest, talks_source(kept, split, tokenizer)
        if manifest.kind == "pairs":
            data = prepare_pairs(open_pairs(manifest.corpus, None), config, tokenizer)
        else:
            data = prepare_chat(open_chat(manifest.corpus, None, config.oasst_all_paths), config, tokenizer)
    else:
        if kept is not None:
            return manifest, text_source(kept, split, tokenizer, config)
        data = prepare_text(find_text_of(config, manifest.corpus), config, tokenizer)
    _require_split(split, data.manifest.name, data.sources)
    return data.manifest, data.sources[split]


def encode_file(path: Path, config: DataConfig, tokenizer: Tokenizer) -> tuple[TextCounts, Source]:
    """Returns (its counts, all the text of one file) as the config wants text, in memory; lines too long are cut.

    Raises UserError for what is no text.
    """
    reading = Reading(config.text_field, config.paragraphs, config.skip_bad)

    def read() -> Iterator[Piece]:
        return read_text(path, reading, refuse)

    tokenized = tokenizer.kind == "word" and is_split([read], config)
    done, ids = Progress(), [np.zeros(0, np.int32)]
    for batch in batches_of(read()):
        encoded = encode_batch(tokenizer, batch, tokenized)
        count(done, batch, encoded)
        ids.append(encoded.ids)
    stream = np.concatenate(ids)
    if config.pack_lines and len(stream):
        return done.counts, Packed(packed_lines(stream, tokenizer.special.eos, config.seq_len, cut=True))
    return done.counts, windows_of(stream, tokenizer, config)


def kept_streams(manifest: Manifest, tokenizer: Tokenizer, config: DataConfig) -> dict[str, Tokens]:
    """Returns the tokens of each split of a text, as they are kept; none where it is not text, or no longer kept."""
    if manifest.is_chat:
        return {}
    kept = open_kept(config.cache_dir, kept_name(manifest, tokenizer, config))
    if kept is None:
        return {}
    dtype = token_dtype(tokenizer.vocab_size)
    return {split: read_shards(kept.folder, split, dtype) for split in manifest.splits}


COUNTED = 5_000_000  # tokens of training text: enough to tell frequent ones from rare ones


def token_counts(manifest: Manifest, tokenizer: Tokenizer, config: DataConfig) -> np.ndarray | None:
    """Returns how often each token is in the first of a run's training text; None where it is not text, or not kept."""
    counts_V = np.zeros(tokenizer.vocab_size, np.int64)
    for part in [part.manifest for part in manifest.parts] or [manifest]:
        if (train := kept_streams(part, tokenizer, config).get("train")) is None:
            return None
        counts_V += np.bincount(train[np.arange(min(len(train), COUNTED))], minlength=len(counts_V))
    return counts_V


def kept_name(manifest: Manifest, tokenizer: Tokenizer, config: DataConfig) -> str:
    """Returns the name under which the data of a run is kept."""
    if manifest.is_chat:
        what = "pairs" if manifest.kind == "pairs" else "talks"
        return rows_name(what, manifest.fingerprint, tokenizer, config.seq_len)
    return text_name(manifest.fingerprint, tokenizer, bool(manifest.tokenized))


def _require_split(split: str, name: str, there: dict[str, Any]) -> None:
    if not there:
        raise UserError(f"split: {name} is imported weights, and not the text that they learned from; give --text FILE")
    if split not in there:
        raise UserError(f"split: {split} was asked for, but {name} has {', '.join(there)}")
