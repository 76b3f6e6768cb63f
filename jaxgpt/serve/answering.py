"""From a checked request to its answer: texts are written by the engine, and go out whole or as they come."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import partial
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from jaxgpt.inference.engine import Engine, Request
from jaxgpt.inference.slots import TokenOutput
from jaxgpt.inference.writer import Piece, Writer
from jaxgpt.serve.errors import ApiError, JsonResponse, to_json
from jaxgpt.serve.meters import Meters
from jaxgpt.serve.prompts import Prompt, Served, check_tokens, check_written
from jaxgpt.serve.responses import Json, Reply, envelope, usage
from jaxgpt.serve.schemas import Asked, ChatRequest, CompletionRequest
from jaxgpt.serve.scoring import Scorer
from jaxgpt.serve.streaming import Delivery, Writing

SEND_SECONDS = 30.0  # a client that takes nothing for so long has gone


def check_number(asked: Asked, prompts: int, slots: int) -> None:
    """Raises ApiError where a request with so many prompts wants more texts than are written at once."""
    if (count := prompts * (asked.n or 1)) > slots:
        raise ApiError(400, f"n: {count} texts in one request; at most {slots} are written", "n")


class Backend(NamedTuple):
    """What answers are made with: the engine writes, the scorer scores prompts."""

    engine: Engine
    scorer: Scorer
    served: Served
    meters: Meters


async def answer(
    backend: Backend,
    asked: ChatRequest | CompletionRequest,
    reply: Reply,
    prompts: Sequence[Prompt],
    stop_id: int,
    max_tokens: int,
    about: Json,
    receive: Receive,
) -> Response:
    """Returns the whole answer, or a stream of it, of n texts for each prompt, the prompt before them with `echo`."""
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    temperature, top_p = (1.0 if x is None else x for x in (asked.temperature, asked.top_p))
    candidates = 0 if asked.candidates is None else max(1, asked.candidates)
    penalties = asked.penalties
    check_tokens(list(penalties.bias), backend.served, "logit_bias")
    check_written(asked.written, backend.served)
    top_k, given = min(max(0, asked.top_k or 0), backend.served.config.vocab_size), len(asked.written)
    shared = top_k, asked.min_p or 0.0, penalties, given
    echo = isinstance(asked, CompletionRequest) and bool(asked.echo)
    context = backend.served.config.context_len
    begun = [Prompt([*prompt.ids, *asked.written], [*prompt.before, *asked.written]) for prompt in prompts]
    each = [(prompt, seed + i) for prompt in begun for i in range(asked.n or 1)]
    requests = [
        Request(prompt.ids, stop_id, max_tokens, temperature, top_p, seed, candidates, echo and candidates > 0, *shared)
        for prompt, seed in each
    ]
    tokenizer = backend.served.tokenizer
    writers = [Writer(tokenizer, [] if echo else prompt.before, asked.stops) for prompt, _ in each]
    echoes: list[list[Piece]] = [[] for _ in each]
    ready: list[Delivery] | None = None if max_tokens else [([], "length") for _ in each]
    if echo and candidates:
        if (longest := max(len(prompt.ids) for prompt in begun)) > context:
            raise ApiError(400, f"prompt: {longest} tokens with `written`; at most {context} are scored", "written")
        scored = await backend.scorer.score(requests)
        given = [_given(prompt, text.outputs) for (prompt, _), text in zip(each, scored, strict=True)]
        echoes = await run_in_threadpool(_read, writers, given)
        if max_tokens == 1:  # the pass over the prompt has drawn it
            drawn = [text.following for text in scored]
            ready = [([output], "stop" if output.token == stop_id else "length") for output in drawn]
    elif echo:
        untold = [[TokenOutput(token, 0.0, []) for token in prompt.before] for prompt, _ in each]
        echoes = await run_in_threadpool(_read, writers, untold)
    frame = envelope(reply, backend.served.name, bool(asked.stream)) | {"jaxgpt": about}
    read = sum(len(prompt.ids) for prompt in begun)
    backend.meters.prompt_tokens.inc(read)
    writing = Writing(backend.engine, requests, writers, backend.meters, ready)
    if asked.stream:
        return Events(writing, _events(writing, reply, frame, echoes, read, asked.include_usage))
    try:
        whole = await _unless_gone(receive, _collect(writing, echoes))
    finally:
        writing.cancel()
    if whole is None:
        return Response(status_code=499)  # the client has gone
    choices = [reply.whole(index, pieces, finish) for index, (pieces, finish) in enumerate(whole)]
    return JsonResponse(frame | {"choices": choices, "usage": usage(read, writing.count)})


def _read(writers: Sequence[Writer], given: Sequence[Sequence[TokenOutput]]) -> list[list[Piece]]:
    """Returns the prompts as pieces; of a long one, with much beside each token, that takes seconds."""
    return [writer.read(outputs) for writer, outputs in zip(writers, given, strict=True)]


def _given(prompt: Prompt, scored: Sequence[TokenOutput]) -> list[TokenOutput]:
    """Returns the tokens that were given: the first without log-probability, the others as they were scored."""
    first = TokenOutput(prompt.before[0], None, [])
    return [first, *scored[len(scored) - len(prompt.before) + 1 :]]


async def _collect(writing: Writing, echoes: Sequence[list[Piece]]) -> list[tuple[list[Piece], str | None]]:
    texts = [list(echo) for echo in echoes]
    finishes: list[str | None] = [None] * len(texts)
    async for index, pieces, finish in writing.pieces():
        texts[index] += pieces
        finishes[index] = finish
    return list(zip(texts, finishes, strict=True))


async def _events(
    writing: Writing, reply: Reply, frame: Json, echoes: Sequence[list[Piece]], read: int, include_usage: bool
) -> AsyncIterator[Json]:
    """Yields the chunks of a streamed answer; an error that comes on the way is the last of them."""
    extra = {"usage": None} if include_usage else {}
    for index, echo in enumerate(echoes):
        if (choice := reply.start(index, echo)) is not None:
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
