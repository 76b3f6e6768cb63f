"""From a checked request to its answer: texts are written by the engine, and go out whole or as they come."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from jaxgpt.inference import engine as engines
from jaxgpt.inference.decode import TokenOutput
from jaxgpt.inference.engine import Engine
from jaxgpt.serve.errors import ApiError, JsonResponse, to_json
from jaxgpt.serve.prompts import Prompt, Served
from jaxgpt.serve.responses import Json, Reply, envelope, usage
from jaxgpt.serve.schemas import Asked
from jaxgpt.serve.streaming import Piece, Writer, Writing

SEND_SECONDS = 30.0  # a client that takes nothing for so long has gone


def check_number(asked: Asked, prompts: int, slots: int) -> None:
    """Raises ApiError where a request with so many prompts wants more texts than are written at once."""
    if (count := prompts * (asked.n or 1)) > slots:
        raise ApiError(400, f"n: {count} texts in one request; at most {slots} are written", "n")


async def answer(
    engine: Engine,
    served: Served,
    asked: Asked,
    reply: Reply,
    prompts: Sequence[Prompt],
    echoed: Sequence[Sequence[TokenOutput]] | None,
    stop_id: int,
    max_tokens: int,
    about: Json,
    receive: Receive,
) -> Response:
    """Returns the whole answer, or a stream of it, of n texts for each prompt; each begins with what is `echoed`."""
    n = asked.n or 1
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    temperature, top_p = (1.0 if x is None else x for x in (asked.temperature, asked.top_p))
    each = [(prompt, seed + i) for prompt in prompts for i in range(n)]
    requests = [
        engines.Request(prompt.ids, stop_id, max_tokens, temperature, top_p, seed, asked.candidates or 0)
        for prompt, seed in (each if max_tokens else [])
    ]
    if echoed is None:
        writers = [Writer(served.tokenizer, prompt.before, asked.stops) for prompt, _ in each]
        echoes: list[list[Piece]] = [[] for _ in each]
    else:
        writers = [Writer(served.tokenizer, [], asked.stops) for _ in each]
        echoes = [writer.read(echoed[number // n]) for number, writer in enumerate(writers)]
    frame = envelope(reply, served.name, bool(asked.stream)) | {"jaxgpt": about}
    read = sum(len(prompt.ids) for prompt in prompts)
    writing = Writing(engine, requests, writers)
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
