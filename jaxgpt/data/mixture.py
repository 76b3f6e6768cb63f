"""A mixture of corpora, "a.jsonl:0.7,b/:0.3": each is encoded and kept by itself, and gives its share of windows."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from jaxgpt.config import DataConfig
from jaxgpt.data.kept import kept_for, key_of, make_kept
from jaxgpt.data.manifest import Manifest, Part, TextCounts
from jaxgpt.data.prepare import Prepared, find_text_of, is_split, prepare_text, recipe_of, texts_of
from jaxgpt.data.reopen import open_split
from jaxgpt.data.require import require_text
from jaxgpt.data.sources import Mixture, Source
from jaxgpt.errors import UserError, shown
from jaxgpt.text.corpora import TextCorpus
from jaxgpt.text.corpora.documents import fingerprint
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.text.vocabulary import check_choice, load_tokenizer, make_tokenizer, save_tokenizer


def shares_of(corpus: str) -> dict[str, float] | None:
    """Returns the share of each corpus of a mixture, or None where data.corpus is one corpus.

    Shares are taken relative to their sum. Raises UserError for a share that is no number above 0, and for a corpus
    that is named twice.
    """
    parts = [part.strip() for part in corpus.split(",")]
    if len(parts) < 2 or Path(corpus).expanduser().exists():
        return None
    shares: dict[str, float] = {}
    for part in parts:
        name, _, share = part.rpartition(":")
        try:
            weight = float(share)
        except ValueError:
            weight = 0.0
        if not name or not 0 < weight < 1e9:
            raise UserError(
                f"data.corpus: {shown(part)} is no part of a mixture; a mixture is NAME:SHARE,NAME:SHARE with shares "
                "above 0, such as a.jsonl:0.7,b/:0.3"
            )
        if name in shares:
            raise UserError(f"data.corpus: {name} is in the mixture twice; name it once, with all of its share")
        shares[name] = weight
    return {name: weight / sum(shares.values()) for name, weight in shares.items()}


def prepare_corpus(config: DataConfig, tokenizer: Tokenizer | None = None, vocab_size: int = 30_000) -> Prepared:
    """Returns what data.corpus names, one corpus or a mixture of them, as `prepare_text` does."""
    shares = shares_of(config.corpus)
    if shares is None:
        return prepare_text(find_text_of(config), config, tokenizer, vocab_size)
    if config.fallback is not None:
        config = replace(config, fallback=None)  # a mixture of which a part is missing is another one
    found = {name: find_text_of(config, name) for name in shares}
    vocabulary = ""
    if tokenizer is None:
        tokenizer, vocabulary = _tokenizer_of(list(found.values()), config, vocab_size)
    parts = {
        name: prepare_text(corpus, replace(config, corpus=name), tokenizer, vocab_size)
        for name, corpus in found.items()
    }
    manifest = _manifest([Part(shares[name], part.manifest) for name, part in parts.items()], tokenizer)
    sources: dict[str, Source] = {
        split: _mixture(manifest, [part.sources[split] for part in parts.values()]) for split in manifest.splits
    }
    return Prepared(sources, manifest, tokenizer, vocabulary)


def open_parts(
    manifest: Manifest, tokenizer: Tokenizer, config: DataConfig, split: str
) -> Iterator[tuple[float, Manifest, Source]]:
    """Yields (share, manifest, source) of a split of each corpus that a run was trained on: one, or those of a mixture.

    Raises as `open_split` does.
    """
    for part in manifest.parts or [Part(1.0, manifest)]:
        config_of_part = replace(config, corpus=part.manifest.corpus, fallback=None) if manifest.parts else config
        yield part.share, *open_split(part.manifest, tokenizer, config_of_part, split)


def open_mixed(manifest: Manifest, tokenizer: Tokenizer, config: DataConfig, split: str) -> tuple[Manifest, Source]:
    """Returns (manifest, source) of a split of all that a run was trained on; raises as `open_split` does."""
    if not manifest.parts:
        return open_split(manifest, tokenizer, config, split)
    opened = list(open_parts(manifest, tokenizer, config, split))
    now = _manifest([Part(share, part) for share, part, _ in opened], tokenizer)
    return now, _mixture(now, [source for _, _, source in opened])


def _mixture(manifest: Manifest, sources: list[Source]) -> Mixture:
    names = [part.manifest.name for part in manifest.parts]
    return Mixture(dict(zip(names, sources, strict=True)), tuple(part.share for part in manifest.parts))


def _tokenizer_of(found: list[TextCorpus], config: DataConfig, vocab_size: int) -> tuple[Tokenizer, str]:
    """Returns (a tokenizer of the training text of all parts, how it came about); their shares do not matter to it."""
    check_choice(config.tokenizer)
    recipe = recipe_of(config, vocab_size)
    origin = key_of("tokenizer", *(corpus.identity for corpus in found), recipe.identity, config.tokenized)

    def make(folder: Path) -> tuple[str, dict[str, Any]]:
        splits = [corpus.read() for corpus in found]
        for corpus, of in zip(found, splits, strict=True):
            require_text(corpus.name, of, config)

        def texts() -> Iterator[str]:
            for of in splits:
                yield from texts_of(of.documents["train"])()

        tokenized = config.tokenizer == "word" and is_split((of.documents["train"] for of in splits), config)
        tokenizer, vocabulary = make_tokenizer(recipe, texts, sum(corpus.size for corpus in found), tokenized)
        save_tokenizer(tokenizer, folder / "tokenizer.json")
        return origin, {"vocabulary": vocabulary}

    kept = kept_for(config.cache_dir, origin) or make_kept(config.cache_dir, origin, make)
    return load_tokenizer(kept.folder / "tokenizer.json"), kept.facts["vocabulary"]


def _manifest(parts: list[Part], tokenizer: Tokenizer) -> Manifest:
    """Returns what a mixture of these is; a split has what all parts have in it."""
    manifests = [part.manifest for part in parts]
    names = [manifest.name for manifest in manifests]
    if len(set(names)) < len(names):  # files of one name in two folders
        parts = [Part(part.share, replace(part.manifest, name=part.manifest.corpus)) for part in parts]
    splits = {
        split: _sum([manifest.splits[split] for manifest in manifests])
        for split in manifests[0].splits
        if all(split in manifest.splits for manifest in manifests)
    }
    return Manifest(
        kind="text",
        name=" and ".join(f"{part.share:.3g} of {part.manifest.name}" for part in parts),
        corpus=",".join(f"{part.manifest.corpus}:{part.share!r}" for part in parts),
        source="a mixture",
        fingerprint=fingerprint({part.manifest.fingerprint: repr(part.share) for part in parts}),
        tokenizer=tokenizer.fingerprint,
        splits=splits,
        notes=[f"{part.manifest.name}: {note}" for part in parts for note in part.manifest.notes],
        tokenized=parts[0].manifest.tokenized,
        lines_are_documents=all(manifest.lines_are_documents for manifest in manifests),
        parts=parts,
    )


def _sum(counts: list[TextCounts]) -> TextCounts:
    """Returns the counts of several texts together; a floor is known of none of them."""
    fields = asdict(counts[0]).keys() - {"floor_nats"}
    return TextCounts(**{name: sum(getattr(count, name) for count in counts) for name in fields})
