"""What is answered: OpenAI's shapes of a chat completion and a completion, whole or in chunks."""

import math
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from jaxgpt.inference.writer import Piece

Json = dict[str, Any]


class ChatReply:
    """POST /v1/chat/completions"""

    kind, prefix = ("chat.completion", "chat.completion.chunk"), "chatcmpl"

    def __init__(self, candidates: int | None) -> None:
        """How many of the likeliest tokens are told beside each; None: no log-probabilities at all."""
        self._candidates = candidates

    def start(self, index: int, echo: Sequence[Piece]) -> Json | None:
        """Returns the first chunk's choice, which says who speaks."""
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def part(self, index: int, pieces: Sequence[Piece], finish: str | None) -> Json:
        """Returns a chunk's choice."""
        delta = {"content": _text(pieces)} if pieces else {}
        return {"index": index, "delta": delta, "finish_reason": finish} | self._told(pieces)

    def whole(self, index: int, pieces: Sequence[Piece], finish: str | None) -> Json:
        """Returns a reply's choice."""
        message = {"role": "assistant", "content": _text(pieces), "refusal": None}
        return {"index": index, "message": message, "finish_reason": finish} | self._told(pieces)

    def _told(self, pieces: Sequence[Piece]) -> Json:
        if self._candidates is None:
            return {"logprobs": None}
        content = [
            _token(piece) | {"top_logprobs": list(map(_token, piece.candidates[: self._candidates]))}
            for piece in pieces
        ]
        told = {"logprobs": {"content": content, "refusal": None}}
        return told | _ids(pieces, [piece.candidates[: self._candidates] for piece in pieces])


class CompletionReply:
    """POST /v1/completions"""

    kind, prefix = ("text_completion", "text_completion"), "cmpl"

    def __init__(self, candidates: int | None, count: int) -> None:
        """As ChatReply has it, for `count` texts."""
        self._candidates = candidates
        self._offsets = [0] * count

    def start(self, index: int, echo: Sequence[Piece]) -> Json | None:
        """Returns a chunk's choice with the prompt where it is echoed; elsewhere the first chunk has text already."""
        return self.part(index, echo, None) if echo else None

    def part(self, index: int, pieces: Sequence[Piece], finish: str | None) -> Json:
        """Returns a chunk's choice, which is a reply's choice too."""
        text = _text(pieces)
        told = self._told(index, pieces) if self._candidates is not None else {"logprobs": None}
        self._offsets[index] += len(text)
        return {"index": index, "text": text, "finish_reason": finish} | told

    whole = part

    def _told(self, index: int, pieces: Sequence[Piece]) -> Json:
        offsets = [self._offsets[index]]
        for piece in pieces[:-1]:
            offsets.append(offsets[-1] + len(piece.text))
        others = [_by_name(piece, self._candidates or 0) for piece in pieces]
        top = [None if each is None else {name: other.logprob for name, other in each.items()} for each in others]
        told = {
            "tokens": [piece.name for piece in pieces],
            "token_logprobs": [piece.logprob for piece in pieces],
            "top_logprobs": top,
            "text_offset": offsets[: len(pieces)],
        }
        told_of = [list((each or {}).values()) for each in others]
        # Objects of JSON have no order: to JavaScript "1" comes before "a".
        candidates = [[[other.token, other.name, other.logprob] for other in each] for each in told_of]
        return {"logprobs": told, "candidates": candidates} | _ids(pieces, told_of)


def _by_name(piece: Piece, count: int) -> dict[str, Piece] | None:
    """Returns the likeliest tokens by their names; of two with one name the likelier. None for the first token."""
    if piece.logprob is None:
        return None
    return {other.name: other for other in reversed(piece.candidates[:count])}


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


def _token(piece: Piece) -> Json:
    assert piece.logprob is not None
    assert math.isfinite(piece.logprob)
    return {"token": piece.name, "logprob": piece.logprob, "bytes": list(piece.text.encode("utf-8", "replace"))}


def _ids(pieces: Sequence[Piece], candidates: Sequence[Iterable[Piece]]) -> Json:
    """Returns which tokens they are, and their `top_logprobs`, in the order of these.

    Text alone does not tell how it was cut, nor where a character was.
    """
    return {
        "token_ids": [piece.token for piece in pieces],
        "candidate_ids": [[other.token for other in each] for each in candidates],
    }
