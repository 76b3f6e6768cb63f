"""What a chat model answers to held-out conversations: does it end by itself, is it exactly right."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from jaxgpt.config import Sampling
from jaxgpt.errors import UserError
from jaxgpt.inference.chat import fit_history
from jaxgpt.inference.generate import banned_tokens, generate
from jaxgpt.run.load import Trained
from jaxgpt.text.conversation import Message, answered, prompt_of, render_each

BATCH = 50


@dataclass(frozen=True)
class Answer:
    """A model's answer to a conversation whose last message, the one expected, was held back."""

    prompt: list[Message]
    expected: str
    given: str
    ended: bool


def answer_all(
    trained: Trained,
    conversations: Iterable[Sequence[Message]],
    sampling: Sampling,
    key: jax.Array,
    limit: int | None = None,
) -> list[Answer]:
    """Returns the answers to the (first `limit`) conversations whose last answer follows a question, if that fits.

    What comes after the last answer is left out. Each answer's draws have a key of its own, from its place and `key`.
    """
    tokenizer, model = trained.run.tokenizer, trained.config.model
    end_id = tokenizer.special.end
    asked = []
    for conversation in map(answered, conversations):
        if [message["role"] for message in conversation[-2:]] != ["user", "assistant"]:
            continue
        try:
            prompt = fit_history(render_each(conversation[:-1], tokenizer), model.context_len)
        except UserError:
            continue
        asked.append((prompt, conversation[-1]["content"]))
        if len(asked) == limit:
            break
    answers = []
    for first in range(0, len(asked), BATCH):
        part = asked[first : first + BATCH]
        replies = generate(
            trained.params,
            model,
            [prompt_of(prompt, tokenizer) for prompt, _ in part],
            jax.vmap(partial(jax.random.fold_in, key))(np.arange(first, first + len(part))),
            sampling,
            banned_tokens(tokenizer, end_id),
            end_id,
            model.context_len,
        )
        for (prompt, expected), ids in zip(part, replies, strict=True):
            asked_for = [message.message for message in prompt]
            answers.append(Answer(asked_for, expected, tokenizer.decode(ids), len(ids) < model.context_len))
    return answers
