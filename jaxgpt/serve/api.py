"""The routes: OpenAI's models, completions and chat completions over the engine; a look inside, and the page."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from jaxgpt.config import ModelConfig, Sampling
from jaxgpt.errors import UserError
from jaxgpt.inference import engine as engines
from jaxgpt.inference.chat import fit_history
from jaxgpt.inference.engine import Engine
from jaxgpt.inference.generate import encode_prompt
from jaxgpt.serve.errors import ApiError, JsonResponse, Refusal, to_json
from jaxgpt.serve.inspecting import Inspector, Turns, inspect, next_tokens
from jaxgpt.serve.lengths import lengths
from jaxgpt.serve.middleware import Middleware
from jaxgpt.serve.places import prompt_places
from jaxgpt.serve.responses import ChatReply, CompletionReply, Json, Reply, envelope, usage
from jaxgpt.serve.schemas import (
    MAX_TOKENS,
    Asked,
    Beginning,
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    InspectRequest,
    NextRequest,
)
from jaxgpt.serve.streaming import Piece, Writer, Writing
from jaxgpt.text.conversation import prompt_of, render_each
from jaxgpt.text.tokenizer import Tokenizer

PAGE = Path(__file__).parent / "page"
SEND_SECONDS = 30.0  # a client that takes nothing for so long has gone
LONG_TEXT = 8192  # characters
COMPLETION_TOKENS = 16  # OpenAI's default
WAITING_LOOKS = 16
STREAM: dict[int | str, Any] = {200: {"description": "whole, or events", "content": {"text/event-stream": {}}}}


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
    """A text to go on with, as ids; `before` is what its reply is written after, on the same line."""

    ids: list[int]
    before: list[int]


def make_app(
    engine: Engine, inspector: Inspector, served: Served, api_key: str | None = None, local_only: bool = True
) -> ASGIApp:
    """Returns the ASGI app that serves a model. With `local_only` it answers under this machine's own names alone."""
    errors: Any = {"4XX": {"model": Refusal}, "5XX": {"model": Refusal}}
    app = FastAPI(title="jaxgpt", docs_url=None, redoc_url=None, responses=errors)
    app.add_exception_handler(ApiError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)
    app.add_exception_handler(HTTPException, _refuse_unknown)
    app.add_exception_handler(Exception, _fail)
    turns = Turns(WAITING_LOOKS)
    card = {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "jaxgpt",
        "jaxgpt": {
            "chat": served.is_chat,
            "context_len": served.config.context_len,
            "max_tokens": MAX_TOKENS,
            "tokenizer": served.tokenizer.kind,
            **served.about,
        },
    }

    @app.get("/health")
    async def health() -> Response:
        writing, waiting = engine.load()
        return JsonResponse({"status": "ok", "writing": writing, "waiting": waiting, "slots": engine.slots})

    @app.get("/v1/models")
    async def models() -> Response:
        return JsonResponse({"object": "list", "data": [card]})

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> Response:
        _check_model(model, served)
        return JsonResponse(card)

    @app.post("/v1/completions", responses=STREAM)
    async def completions(asked: CompletionRequest, request: Request) -> Response:
        _check_model(asked.model, served)
        prompts = [await _aside(len(text), _text_prompt, text, served) for text in asked.prompts]
        max_tokens = asked.max_tokens or COMPLETION_TOKENS
        reply = CompletionReply(asked.candidates is not None, len(prompts) * (asked.n or 1))
        about = {"unknown_words": served.tokenizer.unknown("\n".join(asked.prompts))}
        # Where lines go on from one to the next, "stop": "\n" ends with the first of them.
        stop_id = engines.NEVER if served.stop_id is None else served.stop_id
        return await _answer(engine, served, asked, reply, prompts, stop_id, max_tokens, about, request.receive)

    @app.post("/v1/chat/completions", responses=STREAM)
    async def chat_completions(asked: ChatRequest, request: Request) -> Response:
        _check_model(asked.model, served)
        size = sum(len(message.plain()["content"]) for message in asked.messages)
        prompt, about = await _aside(size, _chat_prompt, asked.messages, served)
        max_tokens = asked.max_completion_tokens or asked.max_tokens or min(served.config.context_len, MAX_TOKENS)
        reply = ChatReply(asked.candidates is not None)
        return await _answer(
            engine, served, asked, reply, [prompt], served.tokenizer.special.end, max_tokens, about, request.receive
        )

    @app.post("/v1/inspect")
    async def inspect_token(asked: InspectRequest) -> Response:
        _check_model(asked.model, served)
        size = len(asked.written) + asked.text_size
        prompt, written = await _aside(size, _text_to_inspect, asked, served)
        seen = await turns.take(
            inspect,
            inspector,
            [*prompt, *written],
            len(prompt) + min(asked.given, len(written)),
            _stop_id(asked, served),
        )
        places = await _aside(size, prompt_places, asked, served.tokenizer, served.config.context_len)
        told = [*places, *[None] * len(written)][seen["out_of_sight"] :]
        return JsonResponse({"object": "jaxgpt.inspection", "model": served.name} | seen | {"places": told})

    @app.post("/v1/next")
    async def next_token(asked: NextRequest) -> Response:
        _check_model(asked.model, served)
        prompt, written = await _aside(len(asked.written) + asked.text_size, _text_to_inspect, asked, served)
        sampling = Sampling(asked.temperature, asked.top_k or None, asked.top_p, asked.min_p)
        read = len(prompt) + min(asked.given, len(written))
        told = await turns.take(next_tokens, inspector, [*prompt, *written], read, _stop_id(asked, served), sampling)
        return JsonResponse({"object": "jaxgpt.next", "model": served.name} | told)

    @app.post("/v1/lengths")
    async def prompt_lengths(asked: Beginning) -> Response:
        _check_model(asked.model, served)
        told = await _aside(asked.text_size, lengths, asked, served.tokenizer, served.config.context_len)
        return JsonResponse({"object": "jaxgpt.lengths", "model": served.name} | told)

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return Middleware(app, api_key, local_only)


async def _aside(size: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what the work on a text of this size comes to.

    A long text is split into tokens on another thread, and streams go on meanwhile; for a short one that costs more
    than the work.
    """
    return await run_in_threadpool(work, *arguments) if size > LONG_TEXT else work(*arguments)


def _check_model(name: str, served: Served) -> None:
    if name != served.name:
        raise ApiError(404, f"there is no model {name!r} here; there is {served.name!r}", "model", "model_not_found")


def _text_prompt(text: str, served: Served) -> Prompt:
    try:
        ids = encode_prompt(text, served.tokenizer, served.config)
    except UserError as error:
        raise _prompt_error(error, "prompt", is_empty=not served.tokenizer.encode(text)) from None
    return Prompt([served.tokenizer.special.bos, *ids], ids)


def _text_to_inspect(asked: InspectRequest, served: Served) -> tuple[list[int], list[int]]:
    """Returns the ids of (the prompt, what was written after it), as the model read them."""
    if asked.messages is None:
        prompt = _text_prompt(asked.prompt or "", served)
    else:
        prompt, _ = _chat_prompt(asked.messages, served)
    written = served.tokenizer.encode(asked.written) if isinstance(asked.written, str) else asked.written
    _check_written(written, served)
    return prompt.ids, written


def _stop_id(asked: InspectRequest, served: Served) -> int:
    return served.tokenizer.special.eos if asked.messages is None else served.tokenizer.special.end


def _check_written(written: Sequence[int], served: Served) -> None:
    if max(written, default=0) >= (size := served.tokenizer.vocab_size):
        raise ApiError(400, f"written: {max(written)} is no token; there are {size}, from 0", "written")
    if len(written) > MAX_TOKENS:
        raise ApiError(400, f"written: {len(written)} tokens; at most {MAX_TOKENS} are written", "written")


def _chat_prompt(messages_asked: Sequence[ChatMessage], served: Served) -> tuple[Prompt, Json]:
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
    if messages[-1]["role"] != "user":
        raise ApiError(400, "messages: the last one must be the user's, for the model to answer", "messages")
    try:
        fitted = fit_history(render_each(messages, served.tokenizer), served.config.context_len)
    except UserError as error:
        is_empty = not served.tokenizer.encode(messages[-1]["content"])
        raise _prompt_error(error, "messages", is_empty) from None
    about = {
        "forgotten": len(messages) - len(fitted),
        "unknown_words": served.tokenizer.unknown(messages[-1]["content"]),
    }
    return Prompt(prompt_of(fitted, served.tokenizer), []), about


def _prompt_error(error: UserError, param: str, is_empty: bool) -> ApiError:
    message = str(error).replace("prompt:", f"{param}:", 1)
    return ApiError(400, message, param, None if is_empty else "context_length_exceeded")


async def _answer(
    engine: Engine,
    served: Served,
    asked: Asked,
    reply: Reply,
    prompts: Sequence[Prompt],
    stop_id: int,
    max_tokens: int,
    about: Json,
    receive: Receive,
) -> Response:
    """Returns the whole answer, or a stream of it, of n texts for each prompt."""
    n = asked.n or 1
    _check_written(asked.written, served)
    if n * len(prompts) > engine.slots:
        raise ApiError(400, f"n: {n * len(prompts)} texts in one request; at most {engine.slots} are written", "n")
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    temperature, top_p = (1.0 if x is None else x for x in (asked.temperature, asked.top_p))
    each = [(prompt, seed + i) for prompt in prompts for i in range(n)]
    requests = [
        engines.Request(
            [*prompt.ids, *asked.written],
            stop_id,
            max_tokens,
            temperature,
            top_p,
            seed,
            asked.candidates or 0,
            min(asked.top_k or 0, served.config.vocab_size),
            asked.min_p or 0.0,
        )
        for prompt, seed in each
    ]
    writers = [Writer(served.tokenizer, [*prompt.before, *asked.written], asked.stops) for prompt, _ in each]
    frame = envelope(reply, served.name, bool(asked.stream)) | {"jaxgpt": about}
    read = sum(len(prompt.ids) + len(asked.written) for prompt in prompts)
    writing = Writing(engine, requests, writers)
    if asked.stream:
        return Events(writing, _events(writing, reply, frame, len(each), read, asked.include_usage))
    try:
        whole = await _unless_gone(receive, _collect(writing, len(each)))
    finally:
        writing.cancel()
    if whole is None:
        return Response(status_code=499)  # the client has gone
    choices = [reply.whole(index, pieces, finish) for index, (pieces, finish) in enumerate(whole)]
    return JsonResponse(frame | {"choices": choices, "usage": usage(read, writing.count)})


async def _collect(writing: Writing, count: int) -> list[tuple[list[Piece], str | None]]:
    texts: list[list[Piece]] = [[] for _ in range(count)]
    finishes: list[str | None] = [None] * count
    async for index, pieces, finish in writing.pieces():
        texts[index] += pieces
        finishes[index] = finish
    return list(zip(texts, finishes, strict=True))


async def _events(
    writing: Writing, reply: Reply, frame: Json, count: int, read: int, include_usage: bool
) -> AsyncIterator[Json]:
    """Yields the chunks of a streamed answer; an error that comes on the way is the last of them."""
    extra = {"usage": None} if include_usage else {}
    for index in range(count):
        if (choice := reply.start(index)) is not None:
            yield frame | {"choices": [choice]} | extra
    try:
        async for index, pieces, finish in writing.pieces():
            yield frame | {"choices": [reply.part(index, pieces, finish)]} | extra
    except ApiError as error:
        yield error.body()
        return
    if include_usage:
        yield frame | {"choices": [], "usage": usage(read, writing.count)}


class Events(Response):
    """Server-sent events. However the connection ends, the texts are let go."""

    def __init__(self, writing: Writing, events: AsyncIterator[Json]) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._writing, self._events = writing, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await _unless_gone(receive, self._send_all(send))
        finally:
            self._writing.cancel()

    async def _send_all(self, send: Send) -> None:
        async def send_in_time(**message: Any) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        body = partial(send_in_time, type="http.response.body")
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for event in self._events:
            await body(body=f"data: {to_json(event)}\n\n".encode(), more_body=True)
        await body(body=b"data: [DONE]\n\n", more_body=False)


async def _unless_gone(receive: Receive, work: Awaitable[Any]) -> Any:
    """Returns what the work comes to, or None, the work cancelled, when the client goes away before that."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _refuse_invalid(_: Request, error: Exception) -> Response:
    """Says what is wrong with a body first, with the field it is in."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        why, place = first.get("ctx", {}).get("error", ""), first["loc"][-1]
        example = """curl URL -H 'content-type: application/json' -d '{"model": "NAME", "prompt": "The"}'"""
        return ApiError(400, f"the request is not JSON: {why} (character {place}); for example {example}").response()
    path = [str(part) for part in first["loc"][1:]]
    message = first["msg"].removeprefix("Value error, ")
    param = path[0] if path else message.partition(":")[0] if first["type"] == "value_error" else None
    where = f"{'.'.join(path)}: " if path else ""
    return ApiError(400, f"{where}{message}"[:1000], param and param[:100]).response()


async def _refuse_unknown(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return ApiError(error.status_code, str(error.detail)).response()


async def _fail(_: Request, error: Exception) -> Response:
    return ApiError(500, "the server has made a mistake; its output says which").response()
