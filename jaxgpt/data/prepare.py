"""A corpus and a tokenizer become sources of batches: read and encoded once, kept in data.cache_dir, opened from there.

Training, evaluation and reports all come here. What is kept is found in two ways: by the corpus as it was found (for
files their places, sizes and times), so that a second start reads no text; and by the content that a run's manifest
names, so that a run can be evaluated when its corpus has gone.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.config import DataConfig
from jaxgpt.data.encode import encode_split, encoder, progress
from jaxgpt.data.encode_chat import encode_chat
from jaxgpt.data.encode_pairs import encode_pairs
from jaxgpt.data.kept import Kept, kept_for, key_of, make_kept
from jaxgpt.data.manifest import Manifest, manifest_from_dict
from jaxgpt.data.packing import packed_lines
from jaxgpt.data.require import require_documents, require_text
from jaxgpt.data.shards import Tokens, read_shards, token_dtype
from jaxgpt.data.sources import Packed, Source, Windows
from jaxgpt.errors import RunError
from jaxgpt.files import cache_folder, parse_json, write_text
from jaxgpt.text.conversation import Message
from jaxgpt.text.corpora import ChatCorpus, Corpus, Download, PairCorpus, Piece, Reading, Splits, TextCorpus, open_text
from jaxgpt.text.corpora.documents import Reader, fingerprint
from jaxgpt.text.moses import is_tokenized
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.text.vocabulary import Recipe, check_choice, load_tokenizer, make_tokenizer, save_tokenizer

CHECKED = 20_000_000  # tokens up to which ids are looked through each time they are opened


@dataclass(frozen=True)
class Prepared:
    """What a run trains on: sources by split, the manifest kept in the run folder, the tokenizer."""

    sources: dict[str, Source]
    manifest: Manifest
    tokenizer: Tokenizer
    vocabulary: str = ""
    """How the tokenizer came about, in words, where it was made for this text."""
    example: list[Message] = field(default_factory=list)
    """Conversations: the first one, as it is trained on."""


def find_text_of(config: DataConfig, corpus: str | None = None, field: str = "data.corpus") -> TextCorpus:
    """Returns the text that a config asks for, or another that `field` names, read as it says; nothing is read yet."""
    reading = Reading(config.text_field, config.paragraphs, config.skip_bad)
    download = Download(cache_folder(config.cache_dir), round(config.hub_gb * 1e9))
    if corpus is not None:
        return open_text(corpus, None, reading, download, field)
    return open_text(config.corpus, config.fallback, reading, download)


def recipe_of(config: DataConfig, vocab_size: int) -> Recipe:
    """Returns how the config wants its tokenizer made."""
    return Recipe(config.tokenizer, vocab_size, config.bpe_pattern, config.tokenizer_sample)


def prepare_text(
    corpus: TextCorpus, config: DataConfig, tokenizer: Tokenizer | None = None, vocab_size: int = 30_000
) -> Prepared:
    """Returns every split as windows of one stream of tokens, or of whole lines.

    Without a tokenizer the one that the config asks for is made, of at most `vocab_size` tokens. Raises UserError where
    there is nothing to validate on or less than a batch, as far as that is known before the text is encoded, where the
    tokenizer cannot be, and where lines are to be kept whole and one is longer than the window.
    """
    recipe = recipe_of(config, vocab_size)
    if tokenizer is None:
        check_choice(config.tokenizer)
    made_by = recipe.identity if tokenizer is None else tokenizer.fingerprint
    origin = key_of("text", corpus.identity, made_by, config.tokenized)

    def make(folder: Path) -> tuple[str, dict[str, Any]]:
        return _encode_text(folder, corpus, config, tokenizer, recipe)

    kept = kept_for(config.cache_dir, origin) or make_kept(config.cache_dir, origin, make)
    tokenizer = load_tokenizer(kept.folder / "tokenizer.json") if tokenizer is None else tokenizer
    manifest = _manifest(corpus, kept.facts, config)
    sources = {split: text_source(kept, split, tokenizer, config) for split in manifest.splits}
    return Prepared(sources, manifest, tokenizer, kept.facts["vocabulary"])


def _encode_text(
    folder: Path, corpus: TextCorpus, config: DataConfig, tokenizer: Tokenizer | None, recipe: Recipe
) -> tuple[str, dict[str, Any]]:
    """Writes the tokens of every split, and their tokenizer; returns (the name by their content, the facts)."""
    splits = corpus.read()
    require_text(corpus.name, splits, config)
    tokenizer, tokenized, vocabulary = _start(folder, corpus, splits, config, tokenizer, recipe)
    counts, digests, dtype = {}, {}, token_dtype(tokenizer.vocab_size)
    with encoder(tokenizer, tokenized, corpus.size) as encode, progress(corpus.name, corpus.size) as advance:
        for split, read in splits.documents.items():
            found, digests[split] = encode_split(folder, split, read, encode, dtype, advance)
            counts[split] = asdict(found) | ({"floor_nats": splits.floor[split]} if splits.floor else {})
    content = fingerprint(digests)
    facts = {
        "kind": "text",
        "fingerprint": content,
        "tokenizer": tokenizer.fingerprint,
        "splits": counts,
        "notes": [*splits.notes, *_skipped(splits.skipped)],
        "tokenized": tokenized if tokenizer.kind == "word" else None,
        "lines_are_documents": splits.lines_are_documents,
        "vocabulary": vocabulary,
    }
    return text_name(content, tokenizer, tokenized), facts


def _skipped(bad: dict[str, None]) -> list[str]:
    """Returns a note on what was left out as it could not be read."""
    return [f"{len(bad):,} bad lines or files left out, the first: {next(iter(bad))}"] if bad else []


def _start(
    folder: Path,
    corpus: TextCorpus,
    splits: Splits[Piece],
    config: DataConfig,
    tokenizer: Tokenizer | None,
    recipe: Recipe,
) -> tuple[Tokenizer, bool, str]:
    """Returns (the tokenizer, whether the text is split into words already, how the tokenizer came about).

    What was decided is kept in the folder: a start that continues an interrupted one reads it there.
    """
    started = folder / "started.json"
    if started.exists():
        return load_tokenizer(folder / "tokenizer.json"), *parse_json(started.read_text(encoding="utf-8"))
    of_words = recipe.choice == "word" if tokenizer is None else tokenizer.kind == "word"
    tokenized = of_words and is_split(splits.documents.values(), config)
    vocabulary = ""
    if tokenizer is None:
        tokenizer, vocabulary = make_tokenizer(recipe, texts_of(splits.documents["train"]), corpus.size, tokenized)
    require_documents(tokenizer, config)
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    write_text(started, json.dumps([tokenized, vocabulary]))
    return tokenizer, tokenized, vocabulary


def texts_of(read: Reader[Piece]) -> Callable[[], Iterator[str]]:
    """Returns a reader of the texts that a tokenizer is made from."""
    return lambda: (piece.text if piece.ends else piece.text + "\n" for piece in read())


def is_split(readers: Iterable[Reader[Piece]], config: DataConfig) -> bool:
    """Returns whether text is split into words already: as data.tokenized says, or by all its lines."""
    if config.tokenized != "auto":
        return config.tokenized == "true"
    return is_tokenized(line for read in readers for piece in read() for line in piece.text.split("\n"))


def text_name(content: str, tokenizer: Tokenizer, tokenized: bool) -> str:
    """Returns the name under which the tokens of a text are kept, from what they were made of."""
    return key_of("text", content, tokenizer.fingerprint, tokenized)


def text_source(kept: Kept, split: str, tokenizer: Tokenizer, config: DataConfig) -> Source:
    """Returns a split as the config wants it; whole lines are packed once, and kept beside."""
    tokens = read_shards(kept.folder, split, token_dtype(tokenizer.vocab_size))
    _check_ids(tokens.all() if len(tokens) < CHECKED else np.zeros(0, int), tokenizer, f"{kept.folder}, {split}")
    if not config.pack_lines:
        return windows_of(tokens, tokenizer, config)
    origin = key_of("lines", kept.folder.name, split, config.seq_len)

    def pack(folder: Path) -> tuple[str, dict[str, Any]]:
        np.save(folder / "rows.npy", packed_lines(tokens.all(), tokenizer.special.eos, config.seq_len))
        return origin, {}

    return _rows(make_kept(config.cache_dir, origin, pack), "rows")


def prepare_chat(corpus: ChatCorpus, config: DataConfig, tokenizer: Tokenizer) -> Prepared:
    """Returns every split as packed conversations, cut to the window at turn boundaries.

    Raises UserError when too many words of the training split are unknown to the tokenizer, and when no conversation
    fits.
    """
    return _prepare_rows("talks", corpus, encode_chat, config, tokenizer)


def prepare_pairs(corpus: PairCorpus, config: DataConfig, tokenizer: Tokenizer) -> Prepared:
    """Returns every split as packed pairs of answers, without what a reference says of them; raises as prepare_chat."""
    return _prepare_rows("pairs", corpus, encode_pairs, config, tokenizer)


def _prepare_rows(
    what: str, corpus: Corpus[Any], encode: Callable[..., dict[str, Any]], config: DataConfig, tokenizer: Tokenizer
) -> Prepared:
    origin = key_of(what, corpus.identity, tokenizer.fingerprint, config.seq_len)

    def make(folder: Path) -> tuple[str, dict[str, Any]]:
        facts = encode(folder, corpus.name, corpus.read(), config, tokenizer)
        return rows_name(what, facts["fingerprint"], tokenizer, config.seq_len), facts

    kept = kept_for(config.cache_dir, origin) or make_kept(config.cache_dir, origin, make)
    manifest = _manifest(corpus, kept.facts, config)
    sources: dict[str, Source] = {split: talks_source(kept, split, tokenizer) for split in manifest.splits}
    return Prepared(sources, manifest, tokenizer, example=kept.facts["example"])


def rows_name(what: str, content: str, tokenizer: Tokenizer, seq_len: int) -> str:
    """Returns the name under which packed conversations or pairs are kept, from what they were made of."""
    return key_of(what, content, tokenizer.fingerprint, seq_len)


def talks_source(kept: Kept, split: str, tokenizer: Tokenizer) -> Packed:
    """Returns a split of conversations, as it is kept."""
    rows = _rows(kept, split)
    _check_ids(rows.rows[:, :2], tokenizer, f"{kept.folder}, {split}")  # tokens and targets
    return rows


def _rows(kept: Kept, name: str) -> Packed:
    return Packed(np.load(kept.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))


def windows_of(stream: np.ndarray | Tokens, tokenizer: Tokenizer, config: DataConfig) -> Windows:
    """Returns a stream of tokens as windows of data.seq_len, inside which documents see each other or not."""
    require_documents(tokenizer, config)
    special = tokenizer.special
    return Windows(stream, config.seq_len, start=special.bos, eos=special.eos if config.mask_documents else None)


def _check_ids(ids: np.ndarray, tokenizer: Tokenizer, what: str) -> None:
    """Raises RunError for an id without a token: the model would read another one's vector and say nothing."""
    if ids.size and not (ids.min() >= 0 and ids.max() < tokenizer.vocab_size):
        raise RunError(
            f"{what}: ids from {ids.min()} to {ids.max()} for a vocabulary of {tokenizer.vocab_size}; delete "
            "data.cache_dir and run again"
        )


def _manifest(corpus: Corpus[Any], facts: dict[str, Any], config: DataConfig) -> Manifest:
    address = corpus.name
    if corpus.source == "files":
        asked = config.fallback if corpus.fallback_for and config.fallback else config.corpus
        address = str(Path(asked).expanduser().resolve())
    manifest = {
        "name": corpus.name,
        "corpus": address,
        "source": corpus.source,
        "fallback_for": corpus.fallback_for,
        "notes": [*corpus.notes, *facts["notes"]],
        "version": Manifest.version,
    }
    if facts["kind"] == "text":
        manifest["lines_are_documents"] = facts["lines_are_documents"] or config.pack_lines
    return manifest_from_dict(facts | manifest)
