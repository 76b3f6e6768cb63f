"""The routes: OpenAI's models, completions and chat completions over the engine; a look inside, and the page."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from jaxgpt.config import Sampling
from jaxgpt.inference import engine as engines
from jaxgpt.inference.engine import Engine
from jaxgpt.serve.answering import Backend, answer, check_number
from jaxgpt.serve.errors import ApiError, JsonResponse, Refusal
from jaxgpt.serve.inspecting import Inspector, Turns, inspect, next_tokens
from jaxgpt.serve.lengths import lengths
from jaxgpt.serve.meters import Metered, Meters, make_meters
from jaxgpt.serve.middleware import Access, Middleware
from jaxgpt.serve.places import prompt_places
from jaxgpt.serve.prompts import (
    Served,
    aside,
    chat_prompt,
    check_model,
    completion_prompt,
    stop_of,
    text_to_inspect,
)
from jaxgpt.serve.responses import ChatReply, CompletionReply
from jaxgpt.serve.schemas import (
    MAX_TOKENS,
    Beginning,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    InspectRequest,
    NextRequest,
    TokenizeRequest,
)
from jaxgpt.serve.scoring import Scorer
from jaxgpt.serve.tokenizing import detokenize, tokenize, tokenizer_info

PAGE = Path(__file__).parent / "page"
COMPLETION_TOKENS = 16  # OpenAI's default
WAITING_LOOKS = 16
STREAM: dict[int | str, Any] = {200: {"description": "whole, or events", "content": {"text/event-stream": {}}}}


def make_app(engine: Engine, inspector: Inspector, served: Served, access: Access) -> ASGIApp:
    """Returns the ASGI app that serves a model to those who have access."""
    errors: Any = {"4XX": {"model": Refusal}, "5XX": {"model": Refusal}}
    app = FastAPI(title="jaxgpt", docs_url=None, redoc_url=None, responses=errors)
    app.add_exception_handler(ApiError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)
    app.add_exception_handler(HTTPException, _refuse_unknown)
    app.add_exception_handler(Exception, _fail)
    meters = make_meters(engine)
    scorer = Scorer(inspector.params, inspector.config, served.tokenizer, engine.max_waiting)
    _tell_of_the_server(app, engine, served, meters)
    _write(app, Backend(engine, scorer, served, meters))
    _look_inside(app, inspector, served)
    _tokenize(app, served)
    paths = frozenset(route.path for route in app.routes if isinstance(route, APIRoute))
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return Metered(Middleware(app, access), meters, paths)


def _tell_of_the_server(app: FastAPI, engine: Engine, served: Served, meters: Meters) -> None:
    """Adds what is there, and how busy it is."""
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

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(generate_latest(meters.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models() -> Response:
        return JsonResponse({"object": "list", "data": [card]})

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> Response:
        check_model(model, served)
        return JsonResponse(card)


def _write(app: FastAPI, backend: Backend) -> None:
    """Adds what the model writes: OpenAI's completions, of texts and of chats."""
    served, slots = backend.served, backend.engine.slots

    @app.post("/v1/completions", responses=STREAM)
    async def completions(asked: CompletionRequest, request: Request) -> Response:
        check_model(asked.model, served)
        check_number(asked, len(asked.prompts), slots)
        prompts = [await aside(len(given), completion_prompt, given, served) for given in asked.prompts]
        max_tokens = COMPLETION_TOKENS if asked.max_tokens is None else asked.max_tokens
        reply = CompletionReply(asked.candidates, len(prompts) * (asked.n or 1))
        texts = [given for given in asked.prompts if isinstance(given, str)]
        about = {"unknown_words": served.tokenizer.unknown("\n".join(texts))}
        # Where lines go on from one to the next, "stop": "\n" ends with the first of them.
        stop_id = engines.NEVER if served.stop_id is None else served.stop_id
        return await answer(backend, asked, reply, prompts, stop_id, max_tokens, about, request.receive)

    @app.post("/v1/chat/completions", responses=STREAM)
    async def chat_completions(asked: ChatRequest, request: Request) -> Response:
        check_model(asked.model, served)
        check_number(asked, 1, slots)
        size = sum(len(message.plain()["content"]) for message in asked.messages)
        prompt, about = await aside(size, chat_prompt, asked.messages, served)
        max_tokens = asked.max_completion_tokens or asked.max_tokens or min(served.config.context_len, MAX_TOKENS)
        reply = ChatReply(asked.candidates)
        stop_id = served.tokenizer.special.end
        return await answer(backend, asked, reply, [prompt], stop_id, max_tokens, about, request.receive)


def _look_inside(app: FastAPI, inspector: Inspector, served: Served) -> None:
    """Adds what the page shows: a look inside, what may come next, how long a text is."""
    turns = Turns(WAITING_LOOKS)

    @app.post("/v1/inspect")
    async def inspect_token(asked: InspectRequest) -> Response:
        check_model(asked.model, served)
        size = len(asked.written) + asked.text_size
        prompt, written = await aside(size, text_to_inspect, asked, served)
        seen = await turns.take(
            inspect,
            inspector,
            [*prompt, *written],
            len(prompt) + min(asked.given, len(written)),
            stop_of(asked, served),
        )
        places = await aside(size, prompt_places, asked, served.tokenizer, served.config.context_len)
        told = [*places, *[None] * len(written)][seen["out_of_sight"] :]
        return JsonResponse({"object": "jaxgpt.inspection", "model": served.name} | seen | {"places": told})

    @app.post("/v1/next")
    async def next_token(asked: NextRequest) -> Response:
        check_model(asked.model, served)
        prompt, written = await aside(len(asked.written) + asked.text_size, text_to_inspect, asked, served)
        sampling = Sampling(asked.temperature, asked.top_k or None, asked.top_p, asked.min_p)
        read = len(prompt) + min(asked.given, len(written))
        told = await turns.take(next_tokens, inspector, [*prompt, *written], read, stop_of(asked, served), sampling)
        return JsonResponse({"object": "jaxgpt.next", "model": served.name} | told)

    @app.post("/v1/lengths")
    async def prompt_lengths(asked: Beginning) -> Response:
        check_model(asked.model, served)
        told = await aside(asked.text_size, lengths, asked, served.tokenizer, served.config.context_len)
        return JsonResponse({"object": "jaxgpt.lengths", "model": served.name} | told)


def _tokenize(app: FastAPI, served: Served) -> None:
    """Adds text to tokens and back."""

    @app.post("/tokenize")
    async def tokens_of(asked: TokenizeRequest) -> Response:
        check_model(asked.model or served.name, served)
        return JsonResponse(await aside(len(asked.prompt), tokenize, asked, served))

    @app.post("/detokenize")
    async def text_of(asked: DetokenizeRequest) -> Response:
        check_model(asked.model or served.name, served)
        return JsonResponse(await aside(len(asked.tokens), detokenize, asked, served))

    @app.get("/tokenizer_info")
    async def about_the_tokenizer() -> Response:
        return JsonResponse(tokenizer_info(served))


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _refuse_invalid(_: Request, error: Exception) -> Response:
    """Says what is wrong with a body first, with the field it is in."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    first = next((each for each in found if each["type"] == "value_error"), found[0])  # what is wrong, not which kind
    if first["type"] == "json_invalid":
        why, place = first.get("ctx", {}).get("error", ""), first["loc"][-1]
        example = """curl URL -H 'content-type: application/json' -d '{"model": "NAME", "prompt": "The"}'"""
        return ApiError(400, f"the request is not JSON: {why} (character {place}); for example {example}").response()
    path = [str(part) for part in first["loc"][1:] if isinstance(part, int) or (part.islower() and part.isidentifier())]
    path = [part for part in path if part != "str"]  # of what may be of several kinds
    message = first["msg"].removeprefix("Value error, ")
    param = path[0] if path else message.partition(":")[0] if first["type"] == "value_error" else None
    where = f"{'.'.join(path)}: " if path else ""
    return ApiError(400, f"{where}{message}"[:1000], param and param[:100]).response()


async def _refuse_unknown(request: Request, error: Exception) -> Response:
    """Says what is not there; the page's files, which are looked for last, know of no other method than GET."""
    assert isinstance(error, HTTPException)
    path, status = request.url.path, error.status_code
    routes = [route for route in request.app.routes if isinstance(route, APIRoute) and route.path == path]
    if routes and status in (404, 405):
        takes = " or ".join(sorted(method for route in routes for method in route.methods or ()))
        return ApiError(405, f"{path}: {request.method} was used; it takes {takes}").response()
    if status in (404, 405):
        return ApiError(404, f"{path[:200]}: there is nothing here; /openapi.json lists what there is").response()
    return ApiError(status, str(error.detail)).response()


async def _fail(_: Request, error: Exception) -> Response:
    return ApiError(500, "the server has made a mistake; its output says which").response()
