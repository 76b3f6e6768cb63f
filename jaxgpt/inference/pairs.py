"""Pairs that a run makes itself: to questions with one right answer, that one beside the wrong ones that it gives."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxgpt.config import Config, ModelConfig, ObjectiveConfig, Sampling, data_in_context
from jaxgpt.data.kept import key_of, make_kept
from jaxgpt.data.prepare import Prepared, prepare_chat, prepare_pairs
from jaxgpt.devices.mesh import inference_mesh
from jaxgpt.errors import UserError
from jaxgpt.inference.eval_chat import Answer, Question, answer_all, checkable
from jaxgpt.model.gpt import Params
from jaxgpt.run.folder import Run
from jaxgpt.run.load import Origin, abstract_on, checkpoint_digest, restore_origin
from jaxgpt.text.corpora import CHAT, ChatCorpus, Pair, PairCorpus, Splits, open_chat, open_pairs
from jaxgpt.text.corpora.pairs import write_pairs
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.training.plan import announce
from jaxgpt.training.progress import evaluation_bar
from jaxgpt.training.reference import with_reference

MOST_WRONG = 2  # different wrong answers to a question that are made pairs
AT_ONCE = 256  # questions that are answered together


def prepare_preferences(config: Config, origin: Origin) -> Prepared:
    """Returns the pairs that data.corpus names, or that the origin makes of its conversations, with their reference.

    Those that it makes have the conversations' manifest, so that what it answers to them can be evaluated. Says what
    was read. Raises UserError for a corpus of neither, and where no pair fits.
    """
    data, tokenizer = config.data, origin.run.tokenizer
    if data.corpus not in CHAT.names:
        pairs = prepared = prepare_pairs(open_pairs(data.corpus, data.fallback), data, tokenizer)
        announce(pairs)
    else:
        talks = open_chat(data.corpus, data.fallback, data.oasst_all_paths)
        pairs = prepare_pairs(
            own_pairs(talks, origin, config.objective, data.cache_dir, config.run.seed), data, tokenizer
        )
        announce(pairs)
        prepared = replace(pairs, manifest=prepare_chat(talks, data_in_context(config), tokenizer).manifest)
    sized = Run(origin.run.path, config, tokenizer, prepared.manifest).sized
    return replace(prepared, sources=with_reference(pairs, origin, sized))


def own_pairs(corpus: ChatCorpus, origin: Origin, objective: ObjectiveConfig, cache_dir: str, seed: int) -> PairCorpus:
    """Returns the pairs that a run makes of conversations, which are kept: the same run makes the same ones.

    Raises UserError where their answers cannot be checked, and where it answers every question of a split right.
    """
    drawn = objective.group_size, objective.temperature, objective.answer_tokens
    name = key_of("own pairs", corpus.identity, checkpoint_digest(origin), *drawn, seed)

    def make(folder: Path) -> tuple[str, dict[str, Any]]:
        write_own_pairs(folder, corpus, origin, objective, seed)
        return name, {}

    def read() -> Splits[Pair]:
        return replace(found.read(), notes=[])  # there is nothing to say of a folder of our own

    found = open_pairs(str(make_kept(cache_dir, name, make).folder), None)
    return replace(found, name=f"pairs of {corpus.name}", source=f"answers of {origin.run.path}", read=read)


def write_own_pairs(
    folder: Path, corpus: ChatCorpus, origin: Origin, objective: ObjectiveConfig, seed: int
) -> dict[str, tuple[int, int]]:
    """Writes train.jsonl and valid.jsonl into a folder; returns for each (pairs, questions asked)."""
    config = origin.run.sized
    params = restore_origin(origin, abstract_on(inference_mesh(config.mesh), config), alone=True)
    splits, counts = corpus.read(), {}
    if splits.exact is None and corpus.source != "files":
        raise UserError(
            f"data.corpus: the answers of {corpus.name} cannot be checked, so no pairs can be made of them; give "
            "tinyworld-chat, oasst1-pairs, or a file of pairs"
        )
    for number, split in enumerate(("train", "valid")):
        asked = list(checkable(splits, split, origin.run.tokenizer, config.model.context_len))
        key = jax.random.fold_in(jax.random.key(seed), number)
        answers = draw_answers(params, config.model, origin.run.tokenizer, asked, objective, key, split)
        count = write_pairs(folder / f"{split}.jsonl", pairs_of(answers))
        if not count:
            drawn = [answer for group in answers for answer in group]
            right, cut = sum(answer.right for answer in drawn), sum(not answer.ended for answer in drawn)
            raise UserError(
                f"data.corpus: nothing to reject in {split} of {corpus.name}: to {len(asked):,} questions "
                f"{origin.run.path} gave {len(drawn):,} answers, {right:,} of them right and {cut:,} longer than "
                f"objective.answer_tokens = {objective.answer_tokens}; allow longer ones, or draw more, "
                "--objective.group-size, at a higher temperature"
            )
        counts[split] = count, len(asked)
    return counts


def draw_answers(
    params: Params,
    model: ModelConfig,
    tokenizer: Tokenizer,
    asked: list[Question],
    objective: ObjectiveConfig,
    key: jax.Array,
    what: str,
) -> list[list[Answer]]:
    """Returns the answers that are drawn to each question."""
    sampling, S = Sampling(temperature=objective.temperature, top_p=None), objective.group_size
    most = objective.answer_tokens
    with evaluation_bar(f"answering, {what}", -(-len(asked) // AT_ONCE)) as advance:
        answers = answer_all(params, model, tokenizer, asked, sampling, key, most, AT_ONCE, S, advance)
    return [answers[first : first + S] for first in range(0, len(answers), S)]


def pairs_of(answers: Iterable[Sequence[Answer]]) -> Iterator[Pair]:
    """Yields each question's right answer beside the first different wrong ones among those drawn that ended."""
    for group in answers:
        wrong = dict.fromkeys(answer.given for answer in group if answer.ended and not answer.right)
        for given in list(wrong)[:MOST_WRONG]:
            yield Pair(group[0].question.messages, group[0].question.expected, given)
