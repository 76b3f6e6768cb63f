"""Talking with a finetuned model: history in, the assistant's words out, by the renderer it was trained with."""

from collections.abc import Iterator, Sequence

import jax

from jaxgpt.config import ModelConfig, Sampling
from jaxgpt.errors import UserError
from jaxgpt.inference.generate import banned_tokens, stream
from jaxgpt.model.gpt import Params
from jaxgpt.text.conversation import Message, fit, render_prompt
from jaxgpt.text.tokenizer import Tokenizer

REPLY_SHARE = 4  # a quarter of the context is kept free for the reply


def fit_history(messages: Sequence[Message], tokenizer: Tokenizer, context_len: int) -> list[Message]:
    """Returns the latest whole exchanges that leave room for a reply; older ones are dropped.

    Raises UserError when the last message alone is too long, or empty.
    """
    last = messages[-1]
    if not last["content"].strip():
        raise UserError("prompt: it is empty; write something")
    limit = context_len - context_len // REPLY_SHARE - 1
    fitted = fit(messages, tokenizer, limit)
    if not fitted or fitted[-1] is not last:
        size = len(tokenizer.encode(last["content"]))
        raise UserError(
            f"prompt: it is {size} tokens long; with the context of {context_len} tokens this model takes at most "
            f"{limit - 2} and keeps {context_len // REPLY_SHARE} for its reply. Write less"
        )
    return fitted


def reply(
    params: Params,
    model: ModelConfig,
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    key: jax.Array,
    sampling: Sampling,
    max_tokens: int,
) -> Iterator[str]:
    """Yields the assistant's reply to fitted messages, piece by piece as it is made."""
    banned_V = banned_tokens(tokenizer, tokenizer.end_id)
    prompt = render_prompt(messages, tokenizer)
    tokens = stream(params, model, [prompt], key, sampling, banned_V, tokenizer.end_id, max_tokens)
    return tokenizer.decode_stream(token for (token,) in tokens if token is not None)
