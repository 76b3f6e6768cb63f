"""lm-evaluation-harness against a real server beside the same tasks in one process: the same numbers, and how fast.

python -m benchmarks.harness runs/base

2,000 requests over sentences of the run's own held-out text: multiple choice, a last word, whole texts, and writing.
Both ways take turns; what is compiled is compiled before, and so is left out. Wants the extra `eval`.
"""

import contextlib
import io
import itertools
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import lm_eval  # pyright: ignore[reportMissingImports]  # the extra `eval`
import tyro
from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

from benchmarks.serve import server
from jaxgpt.devices.setup import start_jax
from jaxgpt.inference.harness import RunModel
from jaxgpt.run.load import Trained, load_trained
from jaxgpt.text.corpora import open_text

CHOICES, WORDS, TEXTS, WRITTEN = 400, 500, 400, 300  # examples of each task; a choice is two requests: 2,000 in all
DATA = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}}}
test_split: test
doc_to_text: context
"""
TASKS = {
    "choice": "output_type: multiple_choice\ndoc_to_choice: choices\ndoc_to_target: label",
    "word": "output_type: loglikelihood\ndoc_to_target: word\n"
    "metric_list: [{metric: perplexity, aggregation: perplexity}]",
    "text": "output_type: loglikelihood_rolling\ndoc_to_target: whole\n"
    "metric_list: [{metric: word_perplexity, aggregation: weighted_perplexity}]",
    "write": "output_type: generate_until\ndoc_to_target: word\n"
    'generation_kwargs: {until: ["\\n"], max_gen_toks: 16, do_sample: false}\nmetric_list: [{metric: exact_match}]',
}


@dataclass(frozen=True)
class Options:
    """Compare lm-evaluation-harness against `serve` with `evaluate --tasks`."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of a language model's run."""
    batch: int = 16
    """Texts in a request; the server's slots."""
    at_once: int = 4
    """Requests at once."""
    tokenizer: str | None = None
    """Folder of the run as `export` makes it: the harness tokenizes by itself (wants transformers), in place of asking
    the server."""
    rounds: int = 3
    """Rounds; in each both have a turn."""
    out: Path = Path("benchmarks/results")
    """Folder for the JSON file and the server's log."""


def sentences(trained: Trained, least: int, words: int) -> Iterator[list[str]]:
    """Yields the words of the sentences of the run's valid text: those of `least` words or more, cut to `words`."""
    data = trained.run.config.data
    corpus = open_text(data.corpus, data.fallback)
    for piece in corpus.read().documents["valid"]():
        for sentence in piece.text.split(" . "):
            if len(found := sentence.split()) >= least:
                yield found[:words]


def write_tasks(folder: Path, trained: Trained) -> TaskManager:
    """Writes the tasks and their examples into a folder; returns the harness's manager of them."""
    longest = (trained.config.model.context_len - 20) // 2  # words may be two tokens and more
    found = list(itertools.islice(itertools.cycle(sentences(trained, 12, longest)), max(CHOICES, WORDS) + 1))
    for name, count in zip(TASKS, (CHOICES, WORDS, TEXTS, WRITTEN), strict=True):
        path = folder / f"{name}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number in range(count):
                mine, other = found[number], found[number + 1]
                example = {
                    "context": " ".join(mine[:-4]),
                    "choices": [" ".join(mine[-4:]), " ".join(other[-4:])],
                    "label": 0,
                    "word": f" {mine[-4]}",
                    "whole": " ".join(mine),
                }
                file.write(json.dumps(example) + "\n")
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{TASKS[name]}{DATA.format(path=path)}", encoding="utf-8")
    return TaskManager(include_path=str(folder), include_defaults=False)


def ask(model: Any, manager: TaskManager, **settings: Any) -> tuple[float, dict[str, list[Any]]]:
    """Returns (seconds, the answers by task) of the four tasks."""
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = lm_eval.simple_evaluate(
            model, tasks=list(TASKS), task_manager=manager, bootstrap_iters=0, verbosity="ERROR", **settings
        )
    seconds = time.perf_counter() - began
    samples = {
        name: [sample["resps"] for sample in sorted(of_task, key=lambda sample: sample["doc_id"])]
        for name, of_task in found["samples"].items()
    }
    return seconds, samples


def differences(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> tuple[float, int]:
    """Returns (the largest difference of two log-likelihoods in nats, how many texts differ)."""
    largest, texts = 0.0, 0
    for name, answers in one.items():
        for mine, theirs in zip(answers, other[name], strict=True):
            for (a,), (b,) in zip(mine, theirs, strict=True):
                if isinstance(a, str):
                    texts += a != b
                else:
                    first, second = (x[0] if isinstance(x, tuple | list) else x for x in (a, b))
                    largest = max(largest, abs(first - second))
    return largest, texts


def tokens_of(trained: Trained, folder: Path) -> int:
    """Returns the tokens that are read for the tasks: contexts and what is scored after them."""
    encode = trained.run.tokenizer.encode
    total = 0
    for name in TASKS:
        for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            example = json.loads(line)
            scored = {"choice": example["choices"], "word": [example["word"]], "write": [""]}.get(name)
            texts = [example["whole"]] if scored is None else [f"{example['context']} {text}" for text in scored]
            total += sum(len(encode(text)) for text in texts)
    return total


def main() -> None:
    options = tyro.cli(Options)
    logging.disable(logging.WARNING)
    os.environ |= {"DISABLE_MULTIPROC": "1", "TQDM_DISABLE": "1", "OPENAI_API_KEY": "none"}
    start_jax("~/.cache/jaxgpt")
    trained = load_trained(options.run)
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        (options.out / "harness.log").open("w") as log,
        server(options.run, options.batch, log) as url,
    ):
        folder = Path(name)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
        manager = write_tasks(folder, trained)
        asked = {
            "base_url": f"{url}/v1/completions",
            "model": Path(options.run).resolve().name,
            "max_length": trained.config.model.context_len,
            "num_concurrent": options.at_once,
        }
        if options.tokenizer is not None:
            asked |= {"tokenizer": options.tokenizer, "tokenizer_backend": "huggingface"}
        ways: dict[str, Callable[[], tuple[float, dict[str, list[Any]]]]] = {
            "evaluate": lambda: ask(RunModel(trained), manager),
            "serve": lambda: ask("local-completions", manager, model_args=asked, batch_size=options.batch),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        answers = {way: run()[1] for way, run in ways.items()}  # compiles
        for _ in range(options.rounds):
            for way, run in ways.items():
                seconds[way].append(run()[0])
        tokens = tokens_of(trained, folder)
    largest, texts = differences(answers["evaluate"], answers["serve"])
    ratios = [mine / theirs for mine, theirs in zip(seconds["evaluate"], seconds["serve"], strict=True)]
    print(f"2,000 requests, {tokens:,} tokens: largest difference {largest:.1e} nats, {texts} texts differ")
    for way, each in seconds.items():
        print(f"  {way:8s} {tokens / statistics.median(each):,.0f} tokens/s ({min(each):.1f} to {max(each):.1f} s)")
    print(
        f"  serve has {statistics.median(ratios):.2f} of evaluate's tokens a second "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )
    found = {"tokens": tokens, "seconds": seconds, "ratios": ratios, "nats": largest, "texts": texts}
    (options.out / "harness.json").write_text(json.dumps(found | {"run": options.run}, indent=1))


if __name__ == "__main__":
    main()
