"""Rollouts: a model answers questions, each several times, and what each answer is worth beside its group's others.

Everything is a function of (parameters, seed, number of the rollout): a run that was killed draws the same again.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxgpt.config import Config, Sampling
from jaxgpt.data.batch import BRANCHES, Batch
from jaxgpt.data.packing import Answered, answered_rows, pack
from jaxgpt.data.rehearsal import Rehearsal, with_text_rows
from jaxgpt.data.require import require_enough
from jaxgpt.data.sources import EMPTY, sample_indices
from jaxgpt.devices.distributed import on_primary
from jaxgpt.errors import UserError
from jaxgpt.inference.eval_chat import Answer, Question, answer_all, checkable, questions, right_by_kind, shares_right
from jaxgpt.inference.rewards import Reward
from jaxgpt.model.gpt import Params
from jaxgpt.ops.sampling import GREEDY
from jaxgpt.text.corpora import Conversation, Splits, open_chat
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.training.rollouts import Judged, Rollouts, questions_at_once

MOST_JUDGED = 512  # held-out questions that are answered at each evaluation, spread evenly over all
SHOWN = 100  # answers that are kept of them, to lay the first beside the last


def prepare_rollouts(
    config: Config, tokenizer: Tokenizer, reward: Reward, rehearsal: Rehearsal | None = None
) -> Rollouts:
    """Returns how the questions of data.corpus are answered and rewarded; says how many there are.

    `config` has the model in its true size. Raises UserError where there are too few questions, and where text that is
    rehearsed leaves no row for answers.
    """
    corpus = open_chat(config.data.corpus, config.data.fallback, config.data.oasst_all_paths)
    splits = corpus.read()
    asked = {split: ask(splits, split, config, tokenizer) for split in ("train", "valid")}
    train, valid, at_once = asked["train"], asked["valid"], questions_at_once(config)
    if len(train) < at_once:
        raise UserError(
            f"objective.oversample: {config.objective.oversample} was given, so {at_once} questions are asked at a "
            f"time, but {corpus.name} has {len(train)} to train on; give less, or a smaller --data.batch-size"
        )
    require_enough(corpus.name, asked, at_once)
    rows = config.data.batch_size
    text_rows = np.arange(rows - (0 if rehearsal is None else max(1, round(rehearsal.share * rows))), rows)
    if len(text_rows) == rows:
        raise UserError(
            f"data.rehearse: {config.data.rehearse} was given, and leaves no row for answers in data.batch_size = "
            f"{rows}; give a smaller share"
        )
    places = np.linspace(0, len(valid) - 1, min(len(valid), MOST_JUDGED)).round().astype(int)
    judged = [valid[place] for place in places]

    def write(params: Params, number: int) -> tuple[Batch, dict[str, float]]:
        batch, told = write_batch(params, config, tokenizer, train, reward, number, rows - len(text_rows))
        if rehearsal is not None:
            places = number * len(text_rows) + np.arange(len(text_rows))
            batch = with_text_rows(batch, text_rows, rehearsal.rows(places))
        return batch, told

    def judge(params: Params, before_batch: Callable[[], None]) -> Judged:
        key, most = jax.random.key(config.run.seed), config.objective.answer_tokens
        answers = answer_all(params, config.model, tokenizer, judged, GREEDY, key, most, before_batch=before_batch)
        return _judged(answers, on_primary(lambda: [reward(answer) for answer in answers]))

    return Rollouts(train, write, judge)


def ask(corpus: Splits[Conversation], split: str, config: Config, tokenizer: Tokenizer) -> list[Question]:
    """Returns the questions of a split: those with one right answer, where that is what is rewarded; says how many.

    Raises UserError where none leaves room for an answer.
    """
    found = list(
        checkable(corpus, split, tokenizer, config.model.context_len)
        if config.objective.reward == "exact"
        else questions(corpus.documents[split](), tokenizer, config.model.context_len)
    )
    room = config.data.seq_len + 1 - config.objective.answer_tokens
    fitting = [question for question in found if len(question.ids) <= room]
    if not fitting:
        raise UserError(
            f"objective.answer_tokens: {config.objective.answer_tokens} was given; none of the {len(found):,} "
            f"questions of {split} leaves so much room in data.seq_len = {config.data.seq_len}; give fewer, "
            "or a longer window"
        )
    without_room = len(found) - len(fitting)
    left_out = f"; {without_room:,} left out, with no room for an answer" if without_room else ""
    print(f"  {split}: {len(fitting):,} questions{left_out}")
    return fitting


def write_batch(
    params: Params,
    config: Config,
    tokenizer: Tokenizer,
    asked: Sequence[Question],
    reward: Reward,
    number: int,
    most_rows: int,
) -> tuple[Batch, dict[str, float]]:
    """Returns (answers with their advantages, in the first `most_rows` rows of a batch; what is told of them).

    They are those of the rollout of this number.
    Each question is answered group_size times, and an answer's advantage is its reward less the mean of its group's.
    Groups in which all are worth the same have none and come last: with objective.oversample above 1 there is no room
    for most of them (dynamic sampling, Yu et al. 2025). Equal answers of a group are one, which counts as often. A
    group is there whole or not at all: a part of its advantages would not add up to nothing.
    """
    objective, S = config.objective, config.objective.group_size
    at_once = questions_at_once(config)
    indices = sample_indices(len(asked), config.run.epochs, config.run.seed, number, at_once)
    part = [asked[index % len(asked)] for index in indices if index != EMPTY]
    key = jax.random.fold_in(jax.random.key(config.run.seed + 2), number)
    sampling = Sampling(temperature=objective.temperature, top_p=None)
    answers = answer_all(
        params, config.model, tokenizer, part, sampling, key, objective.answer_tokens, at_once, copies=S
    )
    rewards_QS = np.asarray(on_primary(lambda: [reward(answer) for answer in answers]), np.float64).reshape(-1, S)
    advantages_QS = rewards_QS - rewards_QS.mean(axis=1, keepdims=True)
    alike_Q = np.ptp(rewards_QS, axis=1) == 0
    taken: list[Group] = []
    sizes: list[int] = []
    rows: list[list[int]] = []
    for q in np.argsort(alike_Q, kind="stable"):
        each = zip(answers[q * S : (q + 1) * S], advantages_QS[q], strict=True)
        different = _different([Drawn(_whole(answer, tokenizer), advantage, 1) for answer, advantage in each])
        more = _fitting(Group(part[q], different), config.data.seq_len)
        with_more = [*sizes, *(group.answered.size for group in more)]
        plan = pack(with_more, config.data.seq_len)
        if len(plan) <= most_rows:
            taken, sizes, rows = taken + more, with_more, plan
    batch = rows_of([[taken[item] for item in row] for row in rows], config)
    told = {
        "reward": rewards_QS.mean(),
        "right": np.mean([answer.right for answer in answers]),
        "answer_tokens": np.mean([len(answer.ids) + answer.ended for answer in answers]),
        "cut": np.mean([not answer.ended for answer in answers]),
        "no_signal": alike_Q.mean(),
    }
    return batch, {name: float(value) for name, value in told.items()}


def _whole(answer: Answer, tokenizer: Tokenizer) -> list[int]:
    return [*answer.ids, *([tokenizer.special.end] if answer.ended else [])]


class Drawn(NamedTuple):
    """An answer's tokens, its end included, how much better it is than its group's mean, how often the group has it."""

    ids: list[int]
    advantage: float
    times: int


class Group(NamedTuple):
    """Different answers to one question."""

    question: Question
    drawn: list[Drawn]

    @property
    def answered(self) -> Answered:
        """The same as it is packed."""
        return Answered(self.question.ids, [(drawn.ids, drawn.times) for drawn in self.drawn])


def _different(group: Sequence[Drawn]) -> list[Drawn]:
    """Returns the different answers of a group with their times; equal ones that a reward tells apart stay apart."""
    found: dict[tuple, Drawn] = {}
    for drawn in group:
        key = *drawn.ids, drawn.advantage
        found[key] = drawn._replace(times=1 + (found[key].times if key in found else 0))
    return list(found.values())


def _fitting(group: Group, seq_len: int) -> list[Group]:
    """Returns a group as one that fits in a row, or several where its answers do not."""
    parts = [Group(group.question, [])]
    for drawn in group.drawn:
        if parts[-1].answered.size + len(drawn.ids) > seq_len:
            parts.append(Group(group.question, []))
        parts[-1].drawn.append(drawn)
    return parts


def rows_of(rows: Sequence[Sequence[Group]], config: Config) -> Batch:
    """Returns a batch with the groups of each row: a question, which is read once, and the answers that go on from it.

    What counts is what the model drew.
    """
    shape = config.data.batch_size, config.data.seq_len
    plan = [[group.answered for group in groups] for groups in rows]
    tokens_BT, targets_BT, weights_BT, segments_BT, positions_BT = np.moveaxis(answered_rows(plan, shape), 1, 0)
    advantages_BT = np.zeros(shape, np.float32)
    for b, groups in enumerate(rows):
        for number, group in enumerate(groups, start=1):
            for branch, drawn in enumerate(group.drawn, start=1):
                advantages_BT[b, segments_BT[b] == number * BRANCHES + branch] = drawn.advantage
    weights_BT = weights_BT.astype(np.float32)
    return Batch(tokens_BT, targets_BT, weights_BT, segments_BT, positions_BT, advantages=advantages_BT)


def _judged(answers: Sequence[Answer], rewards: Sequence[float]) -> Judged:
    reward = float(np.mean(rewards))
    right = sum(answer.right for answer in answers)
    measures = {"valid_reward": reward, "valid_right": right / len(answers)}
    shares = shares_right(answers)
    measures |= {f"valid_right/{kind}": share for kind, (share, _) in shares.items() if kind}
    said = [f"reward {reward:.4f} on {len(answers)} held-out questions, {right} right ({right / len(answers):.1%})"]
    if worst := right_by_kind(answers)[:3]:
        said.append(f"right least often: {'; '.join(' '.join(line.split()) for line in worst)}")
    kept = [
        {
            "question": answer.question.messages[-1]["content"],
            "kind": answer.question.kind,
            "expected": answer.question.expected,
            "given": answer.given,
            "right": answer.right,
            "reward": value,
        }
        for answer, value in zip(answers[:SHOWN], rewards, strict=False)
    ]
    return Judged(reward, measures, said, kept)
