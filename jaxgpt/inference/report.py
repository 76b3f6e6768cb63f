"""Evaluation in words: every number with what it is a number of."""

import dataclasses
import math
from collections.abc import Iterator

import jax

from jaxgpt.config import Config, MeshConfig, Sampling
from jaxgpt.data.prepare import Prepared, data_name, prepare_chat, prepare_text
from jaxgpt.data.sources import Source, Windows
from jaxgpt.errors import UserError
from jaxgpt.inference.answers import answer_all
from jaxgpt.inference.sampling import GREEDY
from jaxgpt.text.corpora import load_chat, load_text
from jaxgpt.training.evaluate import Score, evaluate
from jaxgpt.training.loop import below_floor
from jaxgpt.training.mesh import make_mesh
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import compile_steps
from jaxgpt.training.trained import Trained

PROMPTS = 100  # held-out prompts that are answered to see whether replies end by themselves


def evaluate_text(trained: Trained, split: str, stride: int | None) -> Iterator[str]:
    """Yields the lines of a language model's evaluation on a split of its corpus."""
    config, run = trained.config, trained.run
    if stride is not None and not 1 <= stride <= config.data.seq_len:
        raise UserError(
            f"stride: {stride} was given; it must be between 1 and the window, {config.data.seq_len} tokens"
        )
    corpus = load_text(run.data["corpus"], None)
    data = prepare_text(corpus, run.tokenizer, config.data)
    source = _source(data, split)
    if stride is not None:
        if not isinstance(source, Windows):
            raise UserError("stride: this run keeps its lines whole, and every token sees its whole line; leave it out")
        source = dataclasses.replace(source, stride=stride)
    yield from _heading(trained, data, split)
    score = _score(trained, source)
    counts = data.manifest["splits"][split]
    seq_len = config.data.seq_len
    window = f"windows of {seq_len} tokens"
    if config.data.whole_lines:
        window = "its line from the beginning"
    elif stride is None or stride == seq_len:
        window += " side by side: a token sees what is before it in its window"
    else:
        window += f" every {stride}: a token sees at least {seq_len - stride} before it"
    yield f"  loss           {score.loss:.4f} nats per token"
    yield f"  perplexity     {score.perplexity:,.2f} per word-level token, <eos> and <unk> counted"
    yield f"  bits per byte  {score.nats / math.log(2) / counts['bytes']:.4f} over {counts['bytes']:,} bytes"
    yield f"  tokens         {score.tokens:,}, each scored once; {counts['unk'] / counts['tokens']:.2%} of them <unk>"
    yield f"  context        {window}"
    if counts["floor_nats"] is not None:
        floor = counts["floor_nats"] / counts["tokens"]
        gap = score.loss - floor
        yield f"  entropy floor  {floor:.4f} nats per token; the model is {gap:+.4f} from it{below_floor(gap)}"


def evaluate_chat(trained: Trained, split: str) -> Iterator[str]:
    """Yields the lines of a chat model's evaluation: perplexity of the assistant's tokens, and answers."""
    config, run = trained.config, trained.run
    corpus = load_chat(run.data["corpus"], None, config.data.all_paths)
    data = prepare_chat(corpus, run.tokenizer, config.data)
    source = _source(data, split)
    yield from _heading(trained, data, split)
    score = _score(trained, source)
    counts = data.manifest["splits"][split]
    yield f"  loss           {score.loss:.4f} nats per assistant token (its words and the end token)"
    yield f"  perplexity     {score.perplexity:,.2f} per assistant token"
    yield f"  tokens         {score.tokens:,} in {counts['kept']:,} conversations, window {config.data.seq_len}"
    yield f"  <unk>          {counts['unk_prompts']:.2%} of prompts, {counts['unk_replies']:.2%} in replies"
    key = jax.random.key(config.run.seed)
    conversations = corpus.splits[split]
    if corpus.exact is not None:
        checkable = [talk for talk, exact in zip(conversations, corpus.exact[split], strict=True) if exact]
        answers = answer_all(trained, checkable, GREEDY, key)
        right = sum(answer.given == answer.expected for answer in answers)
        yield f"  exact answers  {right} of {len(answers)} ({right / len(answers):.1%}), greedy, whole answer equal"
    answers = answer_all(trained, conversations, Sampling(), key, limit=PROMPTS)
    ended = sum(answer.ended for answer in answers)
    yield f"  replies end    {ended} of {len(answers)} by themselves within {config.model.context_len} tokens, sampled"


def _source(data: Prepared, split: str) -> Source:
    if split not in data.sources:
        raise UserError(f"split: {split} was asked for, but {data.manifest['name']} has {', '.join(data.sources)}")
    return data.sources[split]


def _heading(trained: Trained, data: Prepared, split: str) -> Iterator[str]:
    run = trained.run
    yield f"{run.path}, step {trained.step}, on the {split} split of {data_name(run.data)}"
    if data.manifest["fingerprint"] != run.data["fingerprint"]:
        yield f"  NOTE: {run.data['corpus']} has changed since this run was trained on it"


def _score(trained: Trained, source: Source) -> Score:
    """Returns the score on all local devices, whatever mesh the run was trained on."""
    devices = jax.device_count()
    batch_size = math.ceil(trained.config.data.batch_size / devices) * devices
    data = dataclasses.replace(trained.config.data, batch_size=batch_size)
    optimizer = dataclasses.replace(trained.config.optimizer, accumulate=1)
    config: Config = dataclasses.replace(trained.config, data=data, optimizer=optimizer, mesh=MeshConfig())
    compiled = compile_steps(config, make_optimizer(config.optimizer, 1), make_mesh(config))
    params = jax.device_put(trained.params, compiled.state_shardings.params)
    return evaluate(compiled, params, source, batch_size)
