"""What is answered: OpenAI's shapes of a chat completion and a completion, whole or in chunks."""

import math
import time
import uuid
from collections.abc import Sequence
from typing import Any

from jaxgpt.serve.streaming import Piece

Json = dict[str, Any]


class ChatReply:
    """POST /v1/chat/completions"""

    kind, prefix = ("chat.completion", "chat.completion.chunk"), "chatcmpl"

    def __init__(self, logprobs: bool) -> None:
        self._logprobs = logprobs

    def start(self, index: int) -> Json | None:
        """Returns the first chunk's choice, which says who speaks."""
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def part(self, index: int, pieces: Sequence[Piece], finish: str | None) -> Json:
        """Returns a chunk's choice."""
        delta = {"content": _text(pieces)} if pieces else {}
        return {"index": index, "delta": delta, "logprobs": self._told(pieces), "finish_reason": finish}

    def whole(self, index: int, pieces: Sequence[Piece], finish: str | None) -> Json:
        """Returns a reply's choice."""
        message = {"role": "assistant", "content": _text(pieces), "refusal": None}
        return {"index": index, "message": message, "logprobs": self._told(pieces), "finish_reason": finish}

    def _told(self, pieces: Sequence[Piece]) -> Json | None:
        if not self._logprobs:
            return None
        content = [
            _word(piece.text, piece.logprob) | {"top_logprobs": [_word(*candidate) for candidate in piece.candidates]}
            for piece in pieces
        ]
        return {"content": content, "refusal": None}


class CompletionReply:
    """POST /v1/completions"""

    kind, prefix = ("text_completion", "text_completion"), "cmpl"

    def __init__(self, logprobs: bool, count: int) -> None:
        self._logprobs = logprobs
        self._offsets = [0] * count

    def start(self, index: int) -> Json | None:
        """Returns None: the first chunk has text already."""
        return None

    def part(self, index: int, pieces: Sequence[Piece], finish: str | None) -> Json:
        """Returns a chunk's choice, which is a reply's choice too."""
        text = _text(pieces)
        told = self._told(index, pieces) if self._logprobs else None
        self._offsets[index] += len(text)
        return {"index": index, "text": text, "logprobs": told, "finish_reason": finish}

    whole = part

    def _told(self, index: int, pieces: Sequence[Piece]) -> Json:
        offsets = [self._offsets[index]]
        for piece in pieces[:-1]:
            offsets.append(offsets[-1] + len(piece.text))
        return {
            "tokens": [piece.text for piece in pieces],
            "token_logprobs": [piece.logprob for piece in pieces],
            "top_logprobs": [dict(reversed(piece.candidates)) for piece in pieces],
            "text_offset": offsets[: len(pieces)],
        }


Reply = ChatReply | CompletionReply


def envelope(reply: Reply, model: str, streamed: bool) -> Json:
    """Returns what surrounds the choices of a reply, or of all its chunks."""
    return {
        "id": f"{reply.prefix}-{uuid.uuid4().hex}",
        "object": reply.kind[streamed],
        "created": int(time.time()),
        "model": model,
    }


def usage(prompt_tokens: int, completion_tokens: int) -> Json:
    """Returns what was read and written, in tokens."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _word(text: str, logprob: float) -> Json:
    assert math.isfinite(logprob)
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}
