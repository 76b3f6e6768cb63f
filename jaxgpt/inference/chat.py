"""Talking with a finetuned model: history in, the assistant's reply out, by the renderer it was trained with."""

from collections.abc import Iterator, Sequence

import jax

from jaxgpt.config import ModelConfig, Sampling
from jaxgpt.errors import UserError
from jaxgpt.inference.generate import banned_tokens, stream
from jaxgpt.model.gpt import Params
from jaxgpt.text.conversation import Rendered, exchanges, fit, prompt_of, size
from jaxgpt.text.tokenizer import Tokenizer

REPLY_SHARE = 8  # an eighth of the context is kept free for the reply; it may be longer, and then the oldest tokens go


def fit_history(messages: Sequence[Rendered], context_len: int) -> list[Rendered]:
    """Returns the latest whole exchanges that leave room for a reply; older ones are dropped.

    Raises UserError when the last message is empty, or too long, alone or with the system messages before it.
    """
    last = messages[-1]
    if not last.content_ids:
        raise UserError("prompt: it is empty; write something")
    limit = _prompt_limit(context_len)
    fitted = fit(messages, limit)
    if not fitted or fitted[-1] is not last:
        raise UserError(_what_does_not_fit(messages, context_len, limit))
    return fitted


def room_for_prompt(messages: Sequence[Rendered], context_len: int) -> int:
    """Returns how many tokens the content of the last message may have, beside the system messages before it."""
    system, _ = exchanges(messages)
    control = size(messages[-1:]) - len(messages[-1].content_ids)
    return max(0, _prompt_limit(context_len) - size(system) - control)


def _prompt_limit(context_len: int) -> int:
    return context_len - context_len // REPLY_SHARE - 1


def _what_does_not_fit(messages: Sequence[Rendered], context_len: int, limit: int) -> str:
    """Returns which message is too long, how long, and what room there is for it."""
    system, _ = exchanges(messages)
    instructions, prompt = size(system), size(messages[-1:])
    of_system, of_prompt = (sum(len(m.content_ids) for m in part) for part in (system, messages[-1:]))
    keeps = f"and keeps {context_len // REPLY_SHARE} for its reply"
    if system and prompt <= limit:
        return (
            f"system message: it is {of_system} tokens long; with the context of {context_len} tokens this model "
            f"takes at most {max(0, limit - prompt - instructions + of_system)} beside the {of_prompt} of "
            f"the last message, {keeps}. Shorten the system message"
        )
    beside = f" beside the {instructions} of the system message" if system else ""
    return (
        f"prompt: it is {of_prompt} tokens long; with the context of {context_len} tokens this model takes at most "
        f"{room_for_prompt(messages, context_len)}{beside} {keeps}. Write less"
    )


def reply(
    params: Params,
    model: ModelConfig,
    tokenizer: Tokenizer,
    messages: Sequence[Rendered],
    key: jax.Array,
    sampling: Sampling,
    max_tokens: int,
) -> Iterator[str]:
    """Yields the assistant's reply to fitted messages, piece by piece as it is made."""
    end_id, prompt = tokenizer.special.end, prompt_of(messages, tokenizer)
    tokens = stream(params, model, [prompt], key, sampling, banned_tokens(tokenizer, end_id), end_id, max_tokens)
    return tokenizer.decode_stream(token for (token,) in tokens if token is not None)
