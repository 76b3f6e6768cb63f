"""What a server counts, for GET /metrics in Prometheus' format."""

import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxgpt.inference.engine import Engine

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # upper ends of the histograms' steps
OTHER = "other"


@dataclass(frozen=True)
class Meters:
    """The counters of one server; each is safe to use from any thread."""

    registry: CollectorRegistry
    requests: Counter
    """By path and status."""
    request_seconds: Histogram
    """By path, from the request to the last byte of its answer."""
    first_token_seconds: Histogram
    """From a request's acceptance to the first token of each of its texts, waiting for a slot included."""
    token_seconds: Histogram
    """Of each text, the mean of the tokens after those that came first; none where all came at once."""
    prompt_tokens: Counter
    written_tokens: Counter


def make_meters(engine: Engine) -> Meters:
    """Returns counters at zero, and gauges of the engine's slots and queue."""
    registry = CollectorRegistry()
    for name, about, value in (
        ("slots", "Texts that can be written at once.", lambda: engine.slots),
        ("running_texts", "Texts being written.", lambda: engine.load()[0]),
        ("waiting_texts", "Texts that wait for a slot.", lambda: engine.load()[1]),
    ):
        Gauge(f"jaxgpt_{name}", about, registry=registry).set_function(value)

    def seconds(name: str, about: str, *labels: str) -> Histogram:
        return Histogram(f"jaxgpt_{name}_seconds", about, labels, buckets=SECONDS, registry=registry)

    return Meters(
        registry,
        Counter("jaxgpt_requests", "Requests, by path and status.", ["path", "status"], registry=registry),
        seconds("request", "From a request to the end of its answer.", "path"),
        seconds("first_token", "From a request to the first token of a text."),
        seconds("token", "Between two tokens of a text, its mean."),
        Counter("jaxgpt_prompt_tokens", "Tokens of prompts.", registry=registry),
        Counter("jaxgpt_written_tokens", "Tokens written.", registry=registry),
    )


class Metered:
    """Wraps an app, and counts what it is asked; paths that are none of these are one."""

    def __init__(self, app: ASGIApp, meters: Meters, paths: frozenset[str]) -> None:
        self._app, self._meters, self._paths = app, meters, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else OTHER
        began, status = time.perf_counter(), 499  # what it is called elsewhere where the client goes first

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            self._meters.requests.labels(path, str(status)).inc()
            self._meters.request_seconds.labels(path).observe(time.perf_counter() - began)
