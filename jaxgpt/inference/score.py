"""Log-probabilities of texts that are given: one pass over many of them, as evaluation does it."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import ModelConfig
from jaxgpt.inference.decode import CANDIDATES, TokenOutput, inference_head, padded_size
from jaxgpt.model.gpt import GPT, Params, logits
from jaxgpt.ops.sampling import likeliest

ROWS = (1, 4, 16)  # texts that are scored in one pass, each number a program; fewer are filled up
TILE = 256  # tokens whose logits exist at once


def score(
    params: Params, config: ModelConfig, texts: Sequence[Sequence[int]], candidates: int = 1
) -> list[list[TokenOutput]]:
    """Returns for each text what the model gives to its tokens, all but the first, with so many of the likeliest.

    A text has 2 to context_len + 1 tokens. No token is ruled out: these are the probabilities of the evaluation's loss.
    """
    longest, most = max(map(len, texts)) - 1, ROWS[-1]
    if min(map(len, texts)) < 2 or longest > config.context_len:
        raise ValueError(f"texts of {min(map(len, texts))} to {longest + 1} tokens")
    count = 1 if candidates <= 1 else min(CANDIDATES, config.vocab_size)
    scored: list[list[TokenOutput]] = []
    for first in range(0, len(texts), most):
        part = texts[first : first + most]
        rows = next(rows for rows in ROWS if rows >= len(part))
        tokens_BS = np.zeros((rows, padded_size(longest, config.context_len) + 1), np.int32)
        for row, text in enumerate(part):
            tokens_BS[row, : len(text)] = text
        arrays = [np.asarray(x) for x in _score(params, config, tokens_BS[:, :-1], tokens_BS[:, 1:], count)]
        scored += [_outputs(text, [x[row] for x in arrays], candidates) for row, text in enumerate(part)]
    return scored


def score_sorted(
    params: Params, config: ModelConfig, texts: Sequence[Sequence[int]]
) -> Iterator[tuple[int, list[TokenOutput]]]:
    """Yields (number, what `score` gives) of many texts, longest first: those of about one length together."""
    order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
    for first in range(0, len(order), ROWS[-1]):
        part = order[first : first + ROWS[-1]]
        yield from zip(part, score(params, config, [texts[number] for number in part]), strict=True)


def _outputs(text: Sequence[int], arrays: Sequence[np.ndarray], candidates: int) -> list[TokenOutput]:
    """Returns the outputs of one text, from its row of what was computed."""
    size = len(text) - 1
    logprobs_T, ids_TK, logprobs_TK = (x[:size].tolist() for x in arrays)
    likeliest_TK = [
        list(zip(ids_K[:candidates], logprobs_K[:candidates], strict=True))
        for ids_K, logprobs_K in zip(ids_TK, logprobs_TK, strict=True)
    ]
    return list(map(TokenOutput, text[1:], logprobs_T, likeliest_TK))


@partial(jax.jit, static_argnums=(1, 4))
def _score(
    params: Params, config: ModelConfig, tokens_BT: jax.Array, targets_BT: jax.Array, count: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns (logprob_BT of the targets, candidate_BTK, candidate_logprob_BTK), K = count."""
    outputs: Any = GPT(config).apply({"params": params}, tokens_BT)
    head_VD = inference_head(params, config)

    def tile(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        hidden_nD, targets_n = inputs
        logits_nV = logits(head_VD, hidden_nD, config.vocab_size)
        total_n1 = jax.nn.logsumexp(logits_nV, axis=-1, keepdims=True)
        if count == 1:
            candidate_nK = likeliest(logits_nV)[:, None]
        else:
            _, candidate_nK = jax.lax.top_k(logits_nV, count)
        target_n1 = jnp.take_along_axis(logits_nV, targets_n[:, None], axis=-1)
        of_candidates_nK = jnp.take_along_axis(logits_nV, candidate_nK, axis=-1)
        return (target_n1 - total_n1)[:, 0], candidate_nK, of_candidates_nK - total_n1

    B, T = tokens_BT.shape
    size = min(TILE, B * T)

    def cut(x_BTx: jax.Array) -> jax.Array:
        x_Nx = x_BTx.reshape(B * T, *x_BTx.shape[2:])
        x_Nx = jnp.pad(x_Nx, [(0, -(B * T) % size)] + [(0, 0)] * (x_Nx.ndim - 1))
        return x_Nx.reshape(-1, size, *x_Nx.shape[1:])

    tiles = jax.lax.map(tile, (cut(outputs[0]), cut(jnp.asarray(targets_BT))))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: B * T].reshape(B, T, *x.shape[2:]), tiles)
