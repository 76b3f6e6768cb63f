"""Log-probabilities of texts that are given: one pass over many of them, as evaluation does it."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import ModelConfig
from jaxgpt.inference.decode import CANDIDATES, Drawn, SlotState, draw, inference_head
from jaxgpt.inference.slots import SequenceState, TokenOutput, outputs_of, padded_size, slot_state
from jaxgpt.model.gpt import GPT, Params, logits
from jaxgpt.ops.sampling import likeliest

ROWS = (1, 4, 16)  # texts that are scored in one pass, each number a program; fewer are filled up
TILE = 256  # tokens whose logits exist at once


class Scored(NamedTuple):
    """A text as the model reads it."""

    outputs: list[TokenOutput]
    """Its tokens, all but the first. No token is ruled out: these are the probabilities of the evaluation's loss."""
    following: TokenOutput
    """The token that comes after it, drawn as the decoder draws it."""


def score(params: Params, config: ModelConfig, banned_V: jax.Array, texts: Sequence[SequenceState]) -> list[Scored]:
    """Returns what the model makes of texts of 1 to context_len tokens, each with as many candidates as it asks for."""
    longest = max(len(text.tokens) for text in texts)
    if longest > config.context_len:
        raise ValueError(f"a text of {longest} tokens; the model sees {config.context_len}")
    count = 1 if max(text.candidates for text in texts) <= 1 else min(CANDIDATES, config.vocab_size)
    scored: list[Scored] = []
    for first in range(0, len(texts), ROWS[-1]):
        part = texts[first : first + ROWS[-1]]
        rows = next(rows for rows in ROWS if rows >= len(part))
        tokens_BT = np.zeros((rows, padded_size(longest, config.context_len)), np.int32)
        for row, text in enumerate(part):
            tokens_BT[row, : len(text.tokens)] = text.tokens
            text.cached = len(text.tokens)
        state = slot_state([*part, *[None] * (rows - len(part))], len(banned_V))
        of_targets, drawn = _score(params, config, tokens_BT, state, banned_V, count)
        given, after = ([np.asarray(x) for x in arrays] for arrays in (of_targets, drawn))
        for row, text in enumerate(part):
            size = len(text.tokens) - 1
            targets = [np.asarray(text.tokens[1:]), *(x[row, :size] for x in given)]
            (following,) = outputs_of([x[row : row + 1] for x in after], 1, text.candidates)
            scored.append(Scored(outputs_of(targets, size, text.candidates), following))
    return scored


def score_sorted(
    params: Params, config: ModelConfig, banned_V: jax.Array, texts: Sequence[Sequence[int]]
) -> Iterator[tuple[int, list[TokenOutput]]]:
    """Yields (number, the outputs of its tokens, each with the likeliest) of many texts, those of a length together."""
    order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
    key = np.zeros(2, np.uint32)  # nothing is drawn that anybody looks at
    for first in range(0, len(order), ROWS[-1]):
        part = order[first : first + ROWS[-1]]
        states = [SequenceState(list(texts[number]), key, -1, 0.0, candidates=1) for number in part]
        for number, scored in zip(part, score(params, config, banned_V, states), strict=True):
            yield number, scored.outputs


@partial(jax.jit, static_argnums=(1, 5))
def _score(
    params: Params, config: ModelConfig, tokens_BT: jax.Array, state: SlotState, banned_V: jax.Array, count: int
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Drawn]:
    """Returns ((logprob_BT of the next tokens, candidate_BTK, candidate_logprob_BTK), what follows); K is count."""
    outputs: Any = GPT(config).apply({"params": params}, tokens_BT)
    hidden_BTD = outputs[0]
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

    tiles = jax.lax.map(tile, (cut(hidden_BTD), cut(jnp.roll(tokens_BT, -1, axis=1))))
    of_targets = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: B * T].reshape(B, T, *x.shape[2:]), tiles)
    hidden_BD = hidden_BTD[jnp.arange(B), jnp.maximum(jnp.asarray(state.whole_6B)[1] - 1, 0)]
    return of_targets, draw(head_VD, hidden_BD, config, state, 0, banned_V)
