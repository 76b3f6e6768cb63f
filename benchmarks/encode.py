"""Measures the way from a text to token shards: time, CPU time and memory of a first start, and of a second one.

python -m benchmarks.encode my.txt --vocab-size 32000
"""

import json
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import tyro


@dataclass(frozen=True)
class Options:
    """Measure encoding on this machine."""

    corpus: Annotated[str, tyro.conf.Positional]
    """A file or folder of text."""
    tokenizer: str = "bpe"
    """A kind, or a path."""
    vocab_size: int = 32_000
    """Most tokens of a tokenizer that is made for the text."""
    sample: int = 10**9
    """Bytes that the tokenizer is made from at most."""


def used() -> tuple[float, float]:
    """Returns (seconds, CPU seconds of this process and its ended children) so far."""
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(spent.ru_utime + spent.ru_stime for spent in times)


def measure(options: Options) -> dict[str, Any]:
    """Returns what a first and a second start took, the tokenizer apart."""
    from jaxgpt.config import DataConfig
    from jaxgpt.data.prepare import find_text_of, prepare_text
    from jaxgpt.text.vocabulary import Recipe, make_tokenizer

    with tempfile.TemporaryDirectory() as cache_dir:
        config = DataConfig(corpus=options.corpus, cache_dir=cache_dir, batch_size=1)
        corpus = find_text_of(config)
        documents = corpus.read().documents
        began = used()
        recipe = Recipe(options.tokenizer, options.vocab_size, sample=options.sample)

        def texts() -> Iterator[str]:
            return (piece.text for piece in documents["train"]())

        tokenizer, _ = make_tokenizer(recipe, texts, corpus.size, tokenized=False)
        made = used()
        data = prepare_text(corpus, config, tokenizer)
        first = used()
        prepare_text(find_text_of(config), config, tokenizer)
        second = used()
    megabytes = sum(counts.bytes for counts in data.manifest.splits.values()) / 1e6
    tokens = sum(counts.tokens for counts in data.manifest.splits.values())
    peak = [resource.getrusage(who).ru_maxrss / 1e3 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "megabytes": round(megabytes, 1),
        "tokens": tokens,
        "tokenizer_seconds": round(made[0] - began[0], 2),
        "tokenizer_cpu_seconds": round(made[1] - began[1], 2),
        "encode_seconds": round(first[0] - made[0], 2),
        "megabytes_a_cpu_second": round(megabytes / (first[1] - made[1]), 2),
        "second_start_seconds": round(second[0] - first[0], 3),
        "peak_megabytes": round(peak[0]),
        "peak_megabytes_of_a_worker": round(peak[1]),
    }


if __name__ == "__main__":
    print(json.dumps(measure(tyro.cli(Options, description=__doc__)), indent=2))
