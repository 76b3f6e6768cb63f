"""Errors as a client receives them, in the shape of OpenAI's API."""

import json
from collections.abc import Mapping

from fastapi.responses import JSONResponse
from pydantic import BaseModel


class Refusal(BaseModel):
    """The body of an answer that is an error, as the API's description has it."""

    class Error(BaseModel):
        message: str
        type: str
        param: str | None
        code: str | None

    error: Error


class ApiError(Exception):
    """A request that cannot be served, with the HTTP status that says so."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict[str, object]:
        """Returns {"error": ...} as OpenAI's API has it."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else kinds.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> "JsonResponse":
        """Returns the HTTP response; one who came too often is told when to come again."""
        return JsonResponse(self.body(), self.status, {"retry-after": "1"} if self.status == 429 else None)


class JsonResponse(JSONResponse):
    """JSON in ASCII: whatever a client sent, half a surrogate pair too, can be sent back to it."""

    def __init__(self, content: object, status_code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(content, status_code, headers)

    def render(self, content: object) -> bytes:
        return to_json(content).encode("ascii")


def to_json(content: object) -> str:
    """Returns compact JSON, all of it ASCII."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
