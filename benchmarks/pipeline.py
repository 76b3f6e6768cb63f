"""Measures what stands around the step: tokenizer, loader, trainer, and the second start of a run.

python -m benchmarks.pipeline
"""

import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

ROUNDS = 5
LOOP_STEPS = 300


@dataclass(frozen=True)
class Options:
    """Measure tokenizer, loader, loop and start on this machine."""

    corpus: str = "tinyworld"
    """Text to tokenize and to start on: wikitext-2 (where it can be had), tinyworld, or a file."""
    out: Path = Path("benchmarks/results")
    """Folder for the JSON file."""


def median_seconds(work: Callable[[], Any]) -> float:
    """Returns the median time of a few calls."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def tokenizing(corpus_name: str) -> dict[str, Any]:
    """Returns words a second from text to ids, on one core, with the corpus's own 30,000-word vocabulary."""
    from jaxgpt.text.corpora import open_text
    from jaxgpt.text.word_tokenizer import count_words, tokenizer_from_counts

    texts = [piece.text for piece in open_text(corpus_name, None).read().documents["train"]()]
    counts = count_words(texts)
    tokenizer = tokenizer_from_counts(counts, 30_000)
    seconds = median_seconds(lambda: tokenizer.encode_batch(texts))
    words = sum(counts.values())
    return {"corpus": corpus_name, "words": words, "words_per_second": words / seconds}


FAR = 1_000_000  # the step at which a long run resumes
LONG = 10**10  # tokens of a text on disk, in a file that holds none of them


def loading(folder: Path) -> dict[str, Any]:
    """Returns tokens a second that the loader makes into batches, and what the first batch of a long run takes.

    Of base's shape, and of GPT-2's (16 windows of 1,024 in two bytes each): over a text, over three by shares, and with
    attention inside documents.
    """
    import numpy as np

    from jaxgpt.data.shards import Tokens, map_shard
    from jaxgpt.data.sources import Mixture, Windows, batch_at

    def rate(source: Any, batch_size: int, seq_len: int, steps: int) -> float:
        seconds = median_seconds(lambda: [batch_at(source, 0, step, batch_size, 1) for step in range(steps)])
        return steps * batch_size * seq_len / seconds

    base = Windows(np.arange(2_088_628, dtype=np.int32) % 30_000, 128, 0)
    shards = Tokens([np.arange(2_000_000, dtype=np.uint16) % 50_000 for _ in range(4)])
    gpt2 = Windows(shards, 1_024, 0)
    mixture = Mixture({"a": gpt2, "b": replace(gpt2), "c": replace(gpt2)}, (0.6, 0.3, 0.1))
    rates = {
        "base": rate(base, 32, 128, 500),
        "gpt2": rate(gpt2, 16, 1_024, 100),
        "gpt2, mixture of three": rate(mixture, 16, 1_024, 100),
        "gpt2, inside documents": rate(replace(gpt2, eos=7), 16, 1_024, 100),
    }

    file = folder / "long.bin"
    with file.open("wb") as out:
        out.truncate(2 * LONG)
    resumed = {}
    for name in ("one text", "mixture of three"):
        long = Windows(Tokens([map_shard(file, "uint16")]), 1_024, 0)
        parts = {"a": long, "b": replace(long), "c": replace(long)}
        source: Any = long if name == "one text" else Mixture(parts, (0.6, 0.3, 0.1))
        tracemalloc.start()
        began = time.perf_counter()
        batch_at(source, 0, FAR, 512, 100)
        resumed[name] = {"seconds": time.perf_counter() - began, "peak_mb": tracemalloc.get_traced_memory()[1] / 1e6}
        tracemalloc.stop()
    return {"tokens_per_second": rates, f"first_batch_at_step_{FAR}": resumed}


def looping(folder: Path) -> dict[str, Any]:
    """Returns what the loop costs a step (data, metrics, progress): a run with the base batch and an empty step."""
    import jax.numpy as jnp
    import numpy as np

    from jaxgpt.config import Config, ModelConfig, RunConfig
    from jaxgpt.data.manifest import Manifest, TextCounts
    from jaxgpt.data.sources import Windows
    from jaxgpt.run.folder import Run
    from jaxgpt.text.word_tokenizer import tokenizer_from_counts
    from jaxgpt.training import trainer
    from jaxgpt.training.step import compile_steps

    metrics = {"loss": jnp.ones(()), "weight": jnp.ones(()), "grad_norm": jnp.ones(()), "skipped": jnp.zeros((), bool)}

    def with_empty_step(*arguments: Any) -> Any:
        return compile_steps(*arguments)._replace(train_step=lambda state, batch: (state, metrics))

    tokenizer = tokenizer_from_counts({f"w{i}": 1 for i in range(2_000)}, 1_000)
    config = Config(
        model=ModelConfig(vocab_size=1_000, embed_dim=8, num_layers=1, num_heads=1, dtype="float32"),
        run=RunConfig(name="loop", folder=str(folder), eval_every=LOOP_STEPS, max_steps=LOOP_STEPS, log_every=10),
    )
    train = Windows(np.arange(LOOP_STEPS * 32 * 128, dtype=np.int32) % 1_000, 128, 0)
    valid = replace(train, stream=train.stream[:4_096])
    manifest = Manifest("text", "none", "none", "", fingerprint="", tokenizer="", splits={"valid": TextCounts()})
    trainer_module: Any = trainer
    trainer_module.compile_steps = with_empty_step
    with contextlib.redirect_stdout(io.StringIO()):
        run = Run(folder / "loop", config, tokenizer, manifest)
        trainer.fit(run, train, valid, lambda params: "")
    records = [json.loads(line) for line in (folder / "loop" / "metrics.jsonl").read_text().splitlines()]
    rates = [record["tokens_per_second"] for record in records if record.get("tokens_per_second")]
    return {"seconds_per_step": 32 * 128 / statistics.median(rates)}


def starting(folder: Path, corpus: str) -> dict[str, Any]:
    """Returns seconds from the command to its first step, with nothing compiled before, and again."""

    def first_step(name: str) -> float:
        command = [sys.executable, "train.py", "--config", "configs/base.py", "--data.corpus", corpus]
        command += ["--run.folder", str(folder / "runs"), "--run.name", name, "--data.cache-dir", str(folder / "cache")]
        began = time.perf_counter()
        child = subprocess.Popen([*command, "--run.log-every", "1"], stdout=subprocess.PIPE, text=True)
        assert child.stdout, "opened as a pipe"
        line = next((line for line in child.stdout if line.startswith("step 1/")), None)
        seconds = time.perf_counter() - began
        child.kill()
        child.communicate()
        if line is None:
            raise RuntimeError("train.py ended before its first step")
        return seconds

    cold = first_step("cold")
    warm = [first_step(f"warm-{number}") for number in range(ROUNDS)]
    return {"cold_seconds": cold, "warm_seconds": statistics.median(warm)}


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {
            "tokenizing": tokenizing(options.corpus),
            "loading": loading(folder),
            "starting": starting(folder, options.corpus),
            "looping": looping(folder),
        }
    words, start = results["tokenizing"], results["starting"]
    print(f"tokenizing {words['corpus']}: {words['words_per_second'] / 1e6:.1f} million words/s on one core")
    for name, speed in results["loading"]["tokens_per_second"].items():
        print(f"loading, {name}: {speed / 1e6:,.0f} million tokens/s")
    for name, first in results["loading"][f"first_batch_at_step_{FAR}"].items():
        told = f"{first['seconds']:.3f} s, {first['peak_mb']:.0f} MB"
        print(f"first batch at step {FAR:,} of {LONG:,} tokens, {name}: {told}")
    print(f"loop around the step: {results['looping']['seconds_per_step'] * 1e3:.2f} ms a step")
    print(f"command to first step: {start['cold_seconds']:.1f} s, then {start['warm_seconds']:.1f} s")
    (options.out / "pipeline.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"{options.out}/pipeline.json")


if __name__ == "__main__":
    main()
