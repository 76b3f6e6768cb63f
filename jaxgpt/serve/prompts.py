"""What requests give the model to read: texts, tokens and conversations as prompts, within its context."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool

from jaxgpt.config import ModelConfig
from jaxgpt.errors import UserError
from jaxgpt.inference.chat import fit_history
from jaxgpt.inference.generate import check_prompt
from jaxgpt.serve.errors import ApiError
from jaxgpt.serve.responses import Json
from jaxgpt.serve.schemas import MAX_WRITTEN, ChatMessage, InspectRequest
from jaxgpt.text.conversation import prompt_of, render_each
from jaxgpt.text.tokenizer import Tokenizer

LONG_TEXT = 8192  # characters


class Served(NamedTuple):
    """What is served: a model with its name, and what the page says about it."""

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    is_chat: bool
    stop_id: int | None
    """What ends a completion by itself."""
    created: int
    about: dict[str, Any]


class Prompt(NamedTuple):
    """What the model goes on with, as ids; `before` is what its reply is written after, on the same line."""

    ids: list[int]
    before: list[int]


def completion_prompt(given: str | list[int], served: Served) -> Prompt:
    """Returns a prompt of text, or of its tokens: either follows bos, which tokens may begin with themselves.

    Raises ApiError where it is empty, too long, or has tokens that are none.
    """
    bos = served.tokenizer.special.bos
    if isinstance(given, str):
        ids = served.tokenizer.encode(given)
        prompt = Prompt([bos, *ids], ids)
    else:
        check_tokens(given, served, "prompt")
        prompt = Prompt(given if given[:1] == [bos] else [bos, *given], given)
    try:
        check_prompt(prompt.ids[1:] or prompt.before, served.config)
    except UserError as error:
        raise _prompt_error(error, "prompt", is_empty=not prompt.before) from None
    return prompt


def check_tokens(ids: Sequence[int], served: Served, param: str) -> None:
    """Raises ApiError where ids are no tokens of both the tokenizer and the model; imported weights may have more."""
    size = min(served.tokenizer.vocab_size, served.config.vocab_size)
    if max(ids, default=0) >= size:
        raise ApiError(400, f"{param}: {max(ids)} is no token; there are {size}, from 0", param)


def text_to_inspect(asked: InspectRequest, served: Served) -> tuple[list[int], list[int]]:
    """Returns the ids of (the prompt, what was written after it), as the model read them."""
    if asked.messages is None:
        prompt = completion_prompt(asked.prompt or "", served)
    else:
        prompt, _ = chat_prompt(asked.messages, served)
    written = served.tokenizer.encode(asked.written) if isinstance(asked.written, str) else asked.written
    check_written(written, served)
    return prompt.ids, written


def check_written(written: Sequence[int], served: Served) -> None:
    """Raises ApiError where what was written before has ids that are no tokens, or more than are ever written."""
    check_tokens(written, served, "written")
    if len(written) > MAX_WRITTEN:
        raise ApiError(400, f"written: {len(written)} tokens; at most {MAX_WRITTEN} are taken", "written")


def stop_of(asked: InspectRequest, served: Served) -> int:
    """Returns the token that ends what is written after a conversation, or after a prompt."""
    return served.tokenizer.special.eos if asked.messages is None else served.tokenizer.special.end


def chat_prompt(messages_asked: Sequence[ChatMessage], served: Served) -> tuple[Prompt, Json]:
    """Returns (the conversation's latest whole exchanges as a prompt, what of it was forgotten or cannot be read)."""
    if not served.is_chat:
        raise ApiError(
            400,
            f"{served.name} is a language model that has not learned to talk; finetune it first (python finetune.py), "
            "or let it write on from a prompt: /v1/completions",
            "model",
            "not_a_chat_model",
        )
    messages = [message.plain() for message in messages_asked]
    roles = [message["role"] for message in messages]
    if roles[-1] == "system" or "user" not in roles:
        last = "the last one must be the user's, for the model to answer, or the assistant's answer to go on with"
        raise ApiError(400, f"messages: {last}", "messages")
    try:
        fitted = fit_history(render_each(messages, served.tokenizer), served.config.context_len)
    except UserError as error:
        is_empty = not served.tokenizer.encode(messages[-1]["content"])
        raise _prompt_error(error, "messages", is_empty) from None
    about = {
        "forgotten": len(messages) - len(fitted),
        "unknown_words": served.tokenizer.unknown(messages[-1]["content"]),
    }
    if roles[-1] == "user":
        return Prompt(prompt_of(fitted, served.tokenizer), []), about
    begun = fitted[-1].content_ids
    return Prompt([*prompt_of(fitted[:-1], served.tokenizer), *begun], begun), about


def _prompt_error(error: UserError, param: str, is_empty: bool) -> ApiError:
    message = str(error).replace("prompt:", f"{param}:", 1)
    if is_empty:
        return ApiError(400, message, param)
    # LiteLLM and LangChain tell this error from others by these words, not by its code.
    return ApiError(400, f"{message}; the prompt is too long", param, "context_length_exceeded")


def check_model(name: str, served: Served) -> None:
    """Raises ApiError where another model is asked for than is served."""
    if name != served.name:
        raise ApiError(404, f"there is no model {name!r} here; there is {served.name!r}", "model", "model_not_found")


async def aside(size: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what the work on a text of this size comes to.

    A long text is split into tokens on another thread, and streams go on meanwhile; for a short one that costs more
    than the work.
    """
    return await run_in_threadpool(work, *arguments) if size > LONG_TEXT else work(*arguments)
