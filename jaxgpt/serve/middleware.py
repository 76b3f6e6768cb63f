"""What stands before the API: who may ask, from where, how much and how slowly; and the headers of every answer."""

import asyncio
import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxgpt.serve.errors import ApiError

MAX_BODY = 256 * 1024
BODY_SECONDS = 20.0
FORM = "application/x-www-form-urlencoded"
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
WITH_KEY = ("/v1/", "/tokenize", "/detokenize")  # paths that an API key is needed for: they use the model
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
PREFLIGHT = {
    "access-control-allow-methods": "GET, POST",
    "access-control-max-age": "600",
}


@dataclass(frozen=True)
class Access:
    """Who may ask a server, and from where."""

    api_key: str | None = None
    names: tuple[str, ...] | None = LOCAL_NAMES
    """Hosts that requests may name; None: any."""
    origins: tuple[str, ...] = ()
    """Sites whose pages may ask (CORS), beside the server's own; "*" is any."""


class Middleware:
    """Wraps an app. Refuses, in OpenAI's shape, what must not come to it; bodies are read whole before it is called."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        shared = self._shared_with(headers)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS | shared)
            await send(message)

        if shared and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            wanted = headers.get("access-control-request-headers", "authorization, content-type")
            allowed = PREFLIGHT | {"access-control-allow-headers": wanted}
            await Response(status_code=204, headers=allowed)(scope, receive, send_guarded)
            return
        try:
            self._check(scope["path"], headers)
            body = await _read_body(headers, receive)
        except ApiError as error:
            response = error.response()
            response.headers["connection"] = "close"  # the rest of the body may still be on its way
            await response(scope, receive, send_guarded)
            return
        if body is not None:
            kind = headers.get("content-type", FORM)
            if body and kind.startswith(FORM):  # curl's own, or none: there is nothing here that it could be but JSON
                others = [header for header in scope["headers"] if header[0] != b"content-type"]
                scope = {**scope, "headers": [*others, (b"content-type", b"application/json")]}
            await self._app(scope, _replay(body, receive), send_guarded)

    def _check(self, path: str, headers: Headers) -> None:
        """Raises ApiError where the one who asks may not.

        A page from elsewhere can make a browser ask a server on its own machine, under a name that leads there (DNS
        rebinding) or across origins; the headers Host and Origin give it away.
        """
        host, names, api_key = headers.get("host", ""), self._access.names, self._access.api_key
        if names is not None and _host_name(host) not in names:
            known = f"this server answers under the names {', '.join(names)} only; --public-name adds one"
            raise ApiError(403, known, code="wrong_host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host and not self._shared_with(headers):
            known = "pages of other sites may not use this server; --allow-origin lets one"
            raise ApiError(403, known, code="wrong_origin")
        if api_key is not None and path.startswith(WITH_KEY):
            scheme, _, key = headers.get("authorization", "").partition(" ")
            given = key if scheme.lower() == "bearer" else ""
            if not hmac.compare_digest(given.encode("utf-8", "replace"), api_key.encode("utf-8", "replace")):
                raise ApiError(401, "this server wants an API key: Authorization: Bearer KEY", code="invalid_api_key")

    def _shared_with(self, headers: Headers) -> dict[str, str]:
        """Returns the headers that let a page of another site read an answer; none where it may not."""
        origin, origins = headers.get("origin"), self._access.origins
        if origin is None or not ("*" in origins or origin in origins):
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": "retry-after",
            "cross-origin-resource-policy": "cross-origin",
            "vary": "origin",
        }


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
