"""What a chat model answers to the questions of conversations: does it end by itself, is it exactly right."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import compress
from typing import NamedTuple

import jax
import numpy as np

from jaxgpt.config import ModelConfig, Sampling
from jaxgpt.errors import UserError
from jaxgpt.inference.chat import fit_history
from jaxgpt.inference.generate import banned_tokens, generate
from jaxgpt.model.gpt import Params
from jaxgpt.text.conversation import Message, answered, prompt_of, render_each, render_message
from jaxgpt.text.corpora import Conversation, Splits
from jaxgpt.text.tokenizer import Tokenizer

BATCH = 50


class Question(NamedTuple):
    """A conversation whose last message, the answer expected, is held back."""

    messages: list[Message]
    """As far back as they fit."""
    ids: list[int]
    """The same as tokens, after which the assistant speaks."""
    expected: str
    kind: str
    """What it is about, where the corpus says so; otherwise nothing."""


class Answer(NamedTuple):
    """What a model says to a question."""

    question: Question
    given: str
    ids: list[int]
    ended: bool
    """Whether it ended by itself."""

    @property
    def right(self) -> bool:
        """Whether it is the answer expected, to the last character."""
        return self.ended and self.given == self.question.expected


def questions(
    conversations: Iterable[Sequence[Message]], tokenizer: Tokenizer, context_len: int, kinds: Iterable[str] = ()
) -> Iterator[Question]:
    """Yields the last questions of the conversations that end with one and its answer, and fit.

    What comes after the last answer is left out, and so are older exchanges for which there is no room.
    """
    named = iter(kinds)
    for conversation in conversations:
        kind, talk = next(named, ""), answered(conversation)
        if [message["role"] for message in talk[-2:]] != ["user", "assistant"]:
            continue
        try:
            prompt = fit_history(render_each(talk[:-1], tokenizer), context_len)
        except UserError:
            continue
        asked = [message.message for message in prompt]
        expected = tokenizer.decode(render_message(talk[-1], tokenizer).content_ids)  # as the model can say it
        yield Question(asked, prompt_of(prompt, tokenizer), expected, kind)


def answer_all(
    params: Params,
    model: ModelConfig,
    tokenizer: Tokenizer,
    asked: Sequence[Question],
    sampling: Sampling,
    key: jax.Array,
    max_tokens: int,
    batch_size: int = BATCH,
    copies: int = 1,
    before_batch: Callable[[], None] = lambda: None,
) -> list[Answer]:
    """Returns the answers to questions, to each as many as `copies`, one after the other; each has draws of its own.

    batch_size questions are answered at a time. The key of an answer's draws is made of its place and `key`.
    """
    end_id = tokenizer.special.end
    banned_V = banned_tokens(tokenizer, end_id)
    answers = []
    for first in range(0, len(asked), batch_size):
        before_batch()
        part = asked[first : first + batch_size]
        keys = jax.vmap(partial(jax.random.fold_in, key))(np.arange(first * copies, (first + len(part)) * copies))
        prompts = [question.ids for question in part]
        replies = generate(params, model, prompts, keys, sampling, banned_V, end_id, max_tokens, copies)
        each = [question for question in part for _ in range(copies)]
        for question, ids in zip(each, replies, strict=True):
            answers.append(Answer(question, tokenizer.decode(ids), ids, len(ids) < max_tokens))
    return answers


def checkable(corpus: Splits[Conversation], split: str, tokenizer: Tokenizer, context_len: int) -> Iterator[Question]:
    """Yields the questions of a split that have one right answer: all, where the corpus does not tell."""
    talks = list(corpus.documents[split]())
    exact = [True] * len(talks) if corpus.exact is None else corpus.exact[split]
    kinds = [""] * len(talks) if corpus.kinds is None else corpus.kinds[split]
    yield from questions(compress(talks, exact), tokenizer, context_len, compress(kinds, exact))


def right_by_kind(answers: Sequence[Answer]) -> list[str]:
    """Returns how many answers to each kind of question are right, in words, the worst first; none without kinds."""
    shares = sorted((share, kind, asked) for kind, (share, asked) in shares_right(answers).items() if kind)
    return [f"{kind:14} {round(share * asked)} of {asked} ({share:.1%})" for share, kind, asked in shares]


def shares_right(answers: Sequence[Answer]) -> dict[str, tuple[float, int]]:
    """Returns for each kind of question (the share of right answers, how many were asked)."""
    right: dict[str, list[bool]] = {}
    for answer in answers:
        right.setdefault(answer.question.kind, []).append(answer.right)
    return {kind: (sum(all_) / len(all_), len(all_)) for kind, all_ in right.items()}
