"""Evaluation in words: every number with what it is a number of."""

import dataclasses
import math
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import jax
import numpy as np

from jaxgpt.config import Config, MeshConfig, Sampling, data_in_context
from jaxgpt.data.manifest import SPELLED_BITS, Manifest, TextCounts
from jaxgpt.data.mixture import open_parts
from jaxgpt.data.reopen import encode_file, open_split
from jaxgpt.data.require import WARN_UNK_SHARE
from jaxgpt.data.sources import Packed, Pairs, Source, Windows
from jaxgpt.devices.mesh import make_mesh
from jaxgpt.errors import RunError, UserError, shown
from jaxgpt.inference.eval_chat import answer_all, checkable, questions, right_by_kind
from jaxgpt.model.parameters import in_floats
from jaxgpt.ops.sampling import GREEDY
from jaxgpt.run.load import Trained
from jaxgpt.text.corpora import open_chat
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.training.evaluate import Score, evaluate, num_batches, rows_at_once
from jaxgpt.training.objectives import Objective, dpo, next_token
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.progress import evaluation_bar
from jaxgpt.training.step import compile_steps
from jaxgpt.training.summary import below_floor

PROMPTS = 100  # held-out prompts that are answered to see whether replies end by themselves


def evaluate_text(trained: Trained, split: str, stride: int | None) -> Iterator[str]:
    """Yields the lines of a language model's evaluation on a split of its corpus.

    Raises UserError for a split or stride that cannot be, RunError where the loss is not finite.
    """
    _check_stride(stride, data_in_context(trained.config).seq_len)
    yield from _evaluate_texts(trained, trained.run.data, split, stride)


def _evaluate_texts(trained: Trained, data: Manifest, split: str, stride: int | None) -> Iterator[str]:
    """Yields what a split of each corpus of a text costs the model, and their mean."""
    losses = []
    for share, manifest, source in open_parts(data, trained.run.tokenizer, data_in_context(trained.config), split):
        source = _every(stride, source)
        yield from _heading(trained, manifest, split)
        score = _score(trained, source)
        losses.append((share, score.loss))
        yield from _scored(trained, score, manifest.splits[split], source, stride)
    if data.parts:
        mean = sum(share * loss for share, loss in losses)
        yield f"{data.full_name}, by their shares\n  loss           {mean:.4f} nats per token"


def evaluate_file(trained: Trained, path: Path, stride: int | None) -> Iterator[str]:
    """Yields the lines of an evaluation on all the text of a file; raises as `evaluate_text` does."""
    config = data_in_context(trained.config)
    _check_stride(stride, config.seq_len)
    counts, source = encode_file(path, config, trained.run.tokenizer)
    if not counts.tokens:
        raise UserError(f"{path}: there is no text in it")
    yield f"{trained.run.path}, step {trained.step}, on {path}"
    if counts.unknown_share > WARN_UNK_SHARE:
        what = "words" if trained.run.tokenizer.kind == "word" else "tokens"
        yield f"  NOTE: {counts.unknown_share:.1%} of its {what} are unknown to the tokenizer"
    if isinstance(source, Packed) and (cuts := _cuts(source, trained.run.tokenizer)):
        yield f"  NOTE: lines longer than the window of {config.seq_len} tokens were cut, {cuts:,} times in all"
    source = _every(stride, source)
    yield from _scored(trained, _score(trained, source), counts, source, stride)


def _cuts(lines: Packed, tokenizer: Tokenizer) -> int:
    """Returns how often a line was cut: each that is whole begins and ends once."""
    _, targets, weights, _, positions = np.moveaxis(lines.rows, 1, 0)
    begin, end = (positions == 0) & (weights > 0), (targets == tokenizer.special.eos) & (weights > 0)
    return int(begin.sum() - end.sum())


def _every(stride: int | None, source: Source) -> Source:
    """Returns text in windows at a stride, where one is given."""
    if stride is None:
        return source
    if not isinstance(source, Windows):
        raise UserError("stride: this run keeps its lines whole, and every token sees its whole line; leave it out")
    return dataclasses.replace(source, stride=stride)


def _check_stride(stride: int | None, seq_len: int) -> None:
    if stride is not None and not 1 <= stride <= seq_len:
        raise UserError(f"stride: {shown(stride)} was given; it must be between 1 and the window, {seq_len} tokens")


def _scored(trained: Trained, score: Score, counts: TextCounts, source: Source, stride: int | None) -> Iterator[str]:
    """Yields what the text of a source costs the model."""
    tokenizer, seq_len = trained.run.tokenizer, data_in_context(trained.config).seq_len
    window = f"windows of {seq_len} tokens"
    if not isinstance(source, Windows):
        window = "its line from the beginning"
    elif stride is None or stride == seq_len:
        window += " side by side: a token sees what is before it in its window"
    else:
        window += f" every {stride}: a token sees at least {seq_len - stride} before it"
    yield f"  loss           {score.loss:.4f} nats per token"
    yield f"  perplexity     {score.perplexity_in_words} {per_token(tokenizer, counts)}"
    yield f"  bits per byte  {bits_per_byte(score.loss, counts)}"
    unknown = "" if tokenizer.special.unk is None else f"; {counts.unk / counts.tokens:.2%} of them <unk>"
    yield f"  tokens         {score.tokens:,}, each scored once{unknown}"
    yield f"  context        {window}"
    if (floor := counts.floor) is not None:
        gap = score.loss - floor
        yield f"  entropy floor  {floor:.4f} nats per token; the model is {gap:+.4f} from it{below_floor(gap)}"


def per_token(tokenizer: Tokenizer, counts: TextCounts) -> str:
    """Returns what a token is, so that a perplexity says what it is a perplexity of."""
    if tokenizer.kind == "word":
        return "per word-level token, <eos> and <unk> counted"
    name = {"char": "character", "byte": "byte", "bpe": "BPE token"}.get(tokenizer.kind, "token")
    return f"per {name}, ends of documents counted; a token is {counts.bytes / counts.tokens:.2f} bytes"


def bits_per_byte(loss: float, counts: TextCounts) -> str:
    """Returns what a text costs per byte of it, and how much of that spells what is unknown."""
    bits = counts.bits_per_byte(loss)
    assert bits is not None, "the text was counted"
    told = f"{bits:.4f} over {counts.bytes:,} bytes"
    if not counts.unk:
        return told
    share = counts.spelled_bits / (bits * counts.bytes)
    return f"{told}; {share:.1%} of it spells what is <unk>, at {SPELLED_BITS:.3f} bits a byte and for the end of each"


def evaluate_chat(trained: Trained, split: str) -> Iterator[str]:
    """Yields the lines of a chat model's evaluation: of conversations, and of the text that was learned beside.

    Raises UserError for a split that is not there, RunError where the loss is not finite.
    """
    yield from _evaluate_talks(trained, split)
    beside = trained.run.data.rehearsed
    if beside is not None and split in beside.splits:
        yield from _evaluate_texts(trained, beside, split, None)


def _evaluate_talks(trained: Trained, split: str) -> Iterator[str]:
    """Yields the perplexity of the assistant's tokens, and answers; of pairs, how often the better is the likelier."""
    config, run = trained.config, trained.run
    window = config.data if run.data.kind == "pairs" else data_in_context(config)
    manifest, source = open_split(run.data, run.tokenizer, window, split)
    yield from _heading(trained, manifest, split)
    if manifest.kind == "pairs":
        assert isinstance(source, Packed)
        unmoved = Pairs(source, np.zeros((len(source), config.data.seq_len), np.float32))  # every answer as likely
        score = _score(trained, unmoved, dpo)
        share = score.measures["preferred"]
        count = round(share * score.tokens)
        yield f"  likelier       the better answer in {count:,} of {score.tokens:,} pairs ({share:.1%})"
        return
    score = _score(trained, source)
    counts = manifest.splits[split]
    yield f"  loss           {score.loss:.4f} nats per assistant token (its text and the end token)"
    yield f"  perplexity     {score.perplexity_in_words} per assistant token"
    yield f"  tokens         {score.tokens:,} in {counts.kept:,} conversations, window {window.seq_len}"
    if run.tokenizer.special.unk is not None:
        yield f"  <unk>          {counts.unk_prompts:.2%} of prompts, {counts.unk_replies:.2%} in replies"
    model, key = config.model, jax.random.key(config.run.seed)
    corpus = open_chat(run.data.corpus, None, config.data.oasst_all_paths).read()  # answers expected, as written
    answer = partial(answer_all, trained.params, model, run.tokenizer, max_tokens=model.context_len)
    if corpus.exact is not None:
        answers = answer(list(checkable(corpus, split, run.tokenizer, model.context_len)), GREEDY, key)
        right = sum(answer.right for answer in answers)
        yield f"  exact answers  {right} of {len(answers)} ({right / len(answers):.1%}), greedy, whole answer equal"
        yield from (f"    {line}" for line in right_by_kind(answers))
    asked = questions(corpus.documents[split](), run.tokenizer, model.context_len)
    answers = answer(list(islice(asked, PROMPTS)), Sampling(), key)
    ended = sum(answer.ended for answer in answers)
    yield f"  replies end    {ended} of {len(answers)} by themselves within {model.context_len} tokens, sampled"


def _heading(trained: Trained, manifest: Manifest, split: str) -> Iterator[str]:
    run = trained.run
    yield f"{run.path}, step {trained.step}, on the {split} split of {manifest.full_name}"
    if not any(manifest.is_of_same_data(known) for known in [run.data, *run.data.corpora]):
        yield f"  NOTE: {manifest.corpus} has changed since this run was trained on it"


def _score(trained: Trained, source: Source, objective: Objective = next_token) -> Score:
    """Returns the score on all local devices, sharded as the run was trained if they divide into its shards.

    Shows a bar on a terminal. Raises RunError where the loss is not finite.
    """
    devices, trained_on = jax.device_count(), trained.config.mesh
    mesh = MeshConfig()
    if devices % (trained_on.fsdp * trained_on.tensor) == 0:
        mesh = dataclasses.replace(trained_on, data=-1)
    batch_size = math.ceil(rows_at_once(trained.config) / devices) * devices
    data = dataclasses.replace(trained.config.data, batch_size=batch_size)
    optimizer = dataclasses.replace(trained.config.optimizer, grad_accumulation_steps=1)
    config: Config = dataclasses.replace(trained.config, data=data, optimizer=optimizer, mesh=mesh)
    compiled = compile_steps(config, make_optimizer(config.optimizer, 1), make_mesh(config), objective)
    params = jax.device_put(in_floats(trained.params), compiled.state_shardings.params)
    with evaluation_bar("scoring", num_batches(source, batch_size)) as advance:
        score = evaluate(compiled, params, source, batch_size, advance)
    if not math.isfinite(score.loss):
        where = f"{trained.run.path}, step {trained.step}"
        raise RunError(f"{where}: its loss is {score.loss}, not a finite number; train it again, at a lower rate")
    return score
