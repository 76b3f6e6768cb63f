"""A look inside for one token: where each head looks, its vector's way through the blocks, its nearest tokens."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from starlette.concurrency import run_in_threadpool

from jaxgpt.config import ModelConfig, Sampling
from jaxgpt.inference.generate import banned_tokens
from jaxgpt.inference.introspect import (
    LastActivations,
    directions,
    last_activations,
    likeliest,
    neighbours,
    ordinary_tokens,
    turned,
)
from jaxgpt.model.gpt import Params
from jaxgpt.model.parameters import embedding, position_embedding
from jaxgpt.ops.sampling import COLDEST, filter_row
from jaxgpt.serve.errors import ApiError
from jaxgpt.serve.responses import Json
from jaxgpt.text.tokenizer import Tokenizer

NEIGHBOURS, LIKELIEST, NEXT = 8, 5, 8
NUMBERS = 256  # of a vector that are told


@dataclass(frozen=True)
class Inspector:
    """A model to look into, with what of it is looked up on the host: every token has its row, every place too.

    `frequent_ND` are the directions of `frequent_N`, the most frequent tokens, special ones left out.
    """

    params: Params
    config: ModelConfig
    tokenizer: Tokenizer
    tokens_VD: np.ndarray
    places_TD: np.ndarray | None
    frequent_N: np.ndarray
    frequent_ND: np.ndarray


def make_inspector(
    params: Params, config: ModelConfig, tokenizer: Tokenizer, counts_V: np.ndarray | None = None
) -> Inspector:
    """Returns an inspector whose programs are compiled, so that no look waits for it, nor a stream for a look."""
    tokens_VD = np.asarray(embedding(params), np.float32)[: tokenizer.vocab_size]
    places = position_embedding(params)
    places_TD = None if places is None else np.asarray(places, np.float32)
    frequent_N = ordinary_tokens(tokenizer, counts_V)
    frequent_ND = directions(tokens_VD[frequent_N])
    inspector = Inspector(params, config, tokenizer, tokens_VD, places_TD, frequent_N, frequent_ND)
    inspect(inspector, [tokenizer.special.bos], 1, tokenizer.special.eos)
    next_tokens(inspector, [tokenizer.special.bos], 1, tokenizer.special.eos, Sampling())
    return inspector


def inspect(inspector: Inspector, ids: Sequence[int], prompt_length: int, stop_id: int) -> Json:
    """Returns what the model does with the last token of a text whose first `prompt_length` ids were given to it.

    Probabilities are those of the API's log-probabilities: at temperature 1, tokens that are never said ruled out.
    """
    tokenizer, places_TD = inspector.tokenizer, inspector.places_TD
    seen_T, seen, log_p_KV = _seen(inspector, ids, prompt_length, stop_id)
    stages = []
    for k, (x_D, log_p_V) in enumerate(zip(seen.residual_KD, log_p_KV, strict=True)):
        said = [_named(tokenizer, id) | {"probability": _short(p, 6)} for id, p in likeliest(log_p_V, LIKELIEST)]
        angle = _short(turned(seen.residual_KD[k - 1], x_D)) if k else None
        stages.append(_vector(x_D) | {"turned": angle, "likeliest": said})
    return {
        "tokens": [tokenizer.token_text(id) for id in seen_T],
        "out_of_sight": len(ids) - len(seen_T),
        "attention": np.round(seen.weights_LNS.astype(float), 3).tolist(),
        "token_vector": _vector(inspector.tokens_VD[ids[-1]]),
        "position_vector": None if places_TD is None else _vector(places_TD[len(seen_T) - 1]),
        "stages": stages,
        "neighbours": _neighbours(inspector, ids[-1]),
    }


def next_tokens(inspector: Inspector, ids: Sequence[int], prompt_length: int, stop_id: int, sampling: Sampling) -> Json:
    """Returns the likeliest next tokens with the probability that a draw with these settings gives each.

    Their `model_probability` is the model's own; `left` is how many tokens can still be drawn.
    """
    _, _, log_p_KV = _seen(inspector, ids, prompt_length, stop_id)
    log_p_V = log_p_KV[-1]
    if sampling.temperature == 0:
        left_V = np.where(np.arange(len(log_p_V)) == np.argmax(log_p_V), 0.0, -np.inf)
    else:
        scaled_V = (log_p_V / max(sampling.temperature, COLDEST)).astype(np.float32)
        top_k = min(sampling.top_k or 0, len(log_p_V))  # however large it was given, it fits an int32
        left_V = np.asarray(_left(scaled_V, top_k, sampling.top_p or 1.0, sampling.min_p or 0.0))
    tokens = [
        _named(inspector.tokenizer, id)
        | {"model_probability": _short(p, 6), "probability": _short(float(np.exp(left_V[id])), 6)}
        for id, p in likeliest(log_p_V, NEXT)
    ]
    return {"likeliest": tokens, "left": int(np.sum(np.isfinite(left_V)))}


@jax.jit
def _left(logits_V: jax.Array, top_k: Any, top_p: Any, min_p: Any) -> jax.Array:
    """Returns the log-probabilities with which a draw gives each token; the settings are values, one program does."""
    return jax.nn.log_softmax(filter_row((logits_V, top_k, top_p, min_p)))


def _seen(
    inspector: Inspector, ids: Sequence[int], prompt_length: int, stop_id: int
) -> tuple[Sequence[int], LastActivations, np.ndarray]:
    """Returns (the ids that the model saw, what it did with the last, log_p_KV with what is never said ruled out)."""
    tokenizer = inspector.tokenizer
    seen_T = ids[_start(len(ids), prompt_length, inspector.config.context_len) :]
    seen = last_activations(inspector.params, inspector.config, seen_T)
    vocab_size = inspector.config.vocab_size  # imported weights may have more tokens than their tokenizer, or fewer
    banned_V = np.ones(max(vocab_size, tokenizer.vocab_size), bool)
    banned_V[: tokenizer.vocab_size] = banned_tokens(tokenizer, stop_id)
    log_p_KV = np.where(banned_V[:vocab_size], -np.inf, seen.log_p_KV)
    log_p_KV -= np.logaddexp.reduce(log_p_KV, axis=1, keepdims=True)
    return seen_T, seen, log_p_KV


def _start(length: int, prompt_length: int, context_len: int) -> int:
    """Returns where that begins which the model saw when it read the last of so many tokens.

    As the engine does it: of a prompt the newest that leave room for a token; each time that the context is full, the
    newer half.
    """
    start = max(0, prompt_length - (context_len - 1))
    while length - start > context_len:
        start += context_len + 1 - context_len // 2
    return start


def _neighbours(inspector: Inspector, id: int) -> list[Json]:
    """Returns the frequent tokens whose vectors point most nearly where this one's points."""
    own_1D = directions(inspector.tokens_VD[id : id + 1])
    nearest = neighbours(np.concatenate([own_1D, inspector.frequent_ND]), 0, NEIGHBOURS + 1)
    others = [(int(inspector.frequent_N[row - 1]), cosine) for row, cosine in nearest]
    found = [(other, cosine) for other, cosine in others if other != id][:NEIGHBOURS]
    return [_named(inspector.tokenizer, other) | {"cosine": _short(cosine)} for other, cosine in found]


def _named(tokenizer: Tokenizer, id: int) -> Json:
    """Returns a token as its id, and as it is shown to people."""
    return {"id": id, "token": tokenizer.token_text(id)}


def _vector(x_D: np.ndarray) -> Json:
    """Returns a vector's length, and its first numbers."""
    return {"length": _short(float(np.linalg.norm(x_D))), "values": [_short(x) for x in x_D[:NUMBERS].tolist()]}


def _short(value: float, digits: int = 3) -> float:
    return float(f"{value:.{digits}g}")


class Turns:
    """Work on another thread, one at a time, so that it takes no more than one core from generation."""

    def __init__(self, most: int) -> None:
        self._most, self._waiting, self._free = most, 0, asyncio.Lock()

    async def take(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what the work comes to; raises ApiError where too many wait already."""
        if self._waiting >= self._most:
            raise ApiError(429, "too many looks inside wait already; try again soon", code="queue_full")
        self._waiting += 1
        try:
            async with self._free:
                return await run_in_threadpool(work, *arguments)
        finally:
            self._waiting -= 1
