"""What stands before the API: who may ask, from where, how much and how slowly; and the headers of every answer."""

import asyncio
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxgpt.serve.errors import ApiError

MAX_BODY = 256 * 1024
BODY_SECONDS = 20.0
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
WITH_KEY = ("/v1/", "/tokenize", "/detokenize")  # paths that an API key is needed for: they use the model
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Middleware:
    """Wraps an app. Refuses, in OpenAI's shape, what must not come to it; bodies are read whole before it is called."""

    def __init__(self, app: ASGIApp, api_key: str | None, local_only: bool) -> None:
        self._app, self._api_key, self._local_only = app, api_key, local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._check(scope["path"], headers)
            body = await _read_body(headers, receive)
        except ApiError as error:
            response = error.response()
            response.headers["connection"] = "close"  # the rest of the body may still be on its way
            await response(scope, receive, send_guarded)
            return
        if body is not None:
            if body and "content-type" not in headers:  # there is nothing here that it could be but JSON
                scope = {**scope, "headers": [*scope["headers"], (b"content-type", b"application/json")]}
            await self._app(scope, _replay(body, receive), send_guarded)

    def _check(self, path: str, headers: Headers) -> None:
        """Raises ApiError where the one who asks may not.

        A page from elsewhere can make a browser ask a server on its own machine, under a name that leads there (DNS
        rebinding) or across origins; the headers Host and Origin give it away.
        """
        host = headers.get("host", "")
        if self._local_only and _host_name(host) not in LOCAL_NAMES:
            raise ApiError(403, "this server answers under the names localhost and 127.0.0.1 only", code="wrong_host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise ApiError(403, "pages of other sites may not use this server", code="wrong_origin")
        if self._api_key is not None and path.startswith(WITH_KEY):
            scheme, _, key = headers.get("authorization", "").partition(" ")
            given = key if scheme.lower() == "bearer" else ""
            if not hmac.compare_digest(given.encode("utf-8", "replace"), self._api_key.encode("utf-8", "replace")):
                raise ApiError(401, "this server wants an API key: Authorization: Bearer KEY", code="invalid_api_key")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _read_body(headers: Headers, receive: Receive) -> bytes | None:
    """Returns the body, or None when the client has gone; raises ApiError when it is too large or takes too long."""
    too_large = ApiError(413, f"the request is too large; at most {MAX_BODY:,} bytes are read", code="too_large")
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and (len(length) > 15 or int(length) > MAX_BODY):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise ApiError(408, f"the request did not come whole in {BODY_SECONDS:.0f} seconds", code="timeout") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that gives the body read already, then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
