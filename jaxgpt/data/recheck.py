"""Whether a run's kept tokens, and the text they were made from, are still what the run was trained on."""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce

from jaxgpt.config import DataConfig
from jaxgpt.data.kept import damaged_files
from jaxgpt.data.manifest import Manifest
from jaxgpt.data.prepare import find_text_of
from jaxgpt.data.reopen import kept_name
from jaxgpt.errors import RunError, UserError
from jaxgpt.text.corpora import open_chat, open_pairs
from jaxgpt.text.corpora.documents import digest_after, fingerprint
from jaxgpt.text.tokenizer import Tokenizer


def check_kept(manifest: Manifest, tokenizer: Tokenizer, config: DataConfig) -> Iterator[tuple[str, str | None]]:
    """Yields (file, what is wrong with it or None) for all that is kept of a run's data, read to the last byte.

    What is not kept any more is not wrong: it can be made again.
    """
    for corpus in manifest.corpora:
        yield from damaged_files(config.cache_dir, kept_name(corpus, tokenizer, config))


def check_source(manifest: Manifest, config: DataConfig) -> Iterator[tuple[str, str | None]]:
    """Yields (corpus, what is wrong with it or None) for all that a run was trained on, read anew."""
    for corpus in manifest.corpora:
        yield corpus.corpus, _changed(corpus, replace(config, corpus=corpus.corpus))


def _changed(manifest: Manifest, config: DataConfig) -> str | None:
    if manifest.version != Manifest.version:
        return "the run is of an older version, whose fingerprints are made in another way"
    try:
        if manifest.kind == "pairs":
            documents = open_pairs(manifest.corpus, None).read().documents
        elif manifest.is_chat:
            documents = open_chat(manifest.corpus, None, config.oasst_all_paths).read().documents
        else:
            documents = find_text_of(config, manifest.corpus).read().documents
        digests = {split: reduce(digest_after, read(), "") for split, read in documents.items()}
    except (UserError, RunError) as error:
        return str(error)
    return None if fingerprint(digests) == manifest.fingerprint else "its contents have changed since it was encoded"
