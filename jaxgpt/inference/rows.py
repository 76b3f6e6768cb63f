"""Rows of one batch, each a text of its own: read into any slots, advanced together, each drawn by its own settings."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import ModelConfig
from jaxgpt.inference.generate import inference_head
from jaxgpt.model.gpt import GPT, Params, logits
from jaxgpt.model.kv_cache import KVCache, init_cache
from jaxgpt.ops.sampling import sample_each

CANDIDATES = 20  # likeliest words told beside the one drawn

Layers = tuple[tuple[jax.Array, jax.Array], ...]  # of a KVCache; the lengths are in Rows


class SlotState(NamedTuple):
    """What decides each row's next words beside the model and its cache. All are values: no request recompiles.

    A row that nothing is asked of has length 0; what comes out of it has no meaning.
    """

    last_B: np.ndarray  # the newest token, not read yet
    lengths_B: np.ndarray  # tokens in the cache
    numbers_B: np.ndarray  # tokens made so far: the number that the next draw folds into its key
    seeds_B: np.ndarray
    temperature_B: np.ndarray
    top_p_B: np.ndarray
    stop_B: np.ndarray  # the special token that ends the row, and so may come; a line's end may in any case
    want_logprobs_B: np.ndarray  # whether log-probabilities are wanted


def empty_slots(count: int) -> SlotState:
    """Returns that many rows of which nothing is asked."""
    whole, real = np.zeros(count, np.int32), np.zeros(count, np.float32)
    seeds, tell = np.zeros(count, np.uint32), np.zeros(count, bool)
    return SlotState(*(x.copy() for x in (whole, whole, whole, seeds, real, real + 1, whole, tell)))


class Drawn(NamedTuple):
    """Words and their log-probabilities at temperature 1, banned words ruled out; all zero where none was told."""

    token_B: jax.Array
    logprob_B: jax.Array
    candidate_BK: jax.Array
    candidate_logprob_BK: jax.Array


@partial(jax.jit, static_argnums=1, donate_argnums=2)
def read(
    params: Params,
    config: ModelConfig,
    layers: Layers,
    slots_B: np.ndarray,
    tokens_BT: np.ndarray,
    rows: SlotState,
    banned_V: jax.Array,
) -> tuple[Drawn, Layers]:
    """Returns (the words after texts of the rows' lengths, padded to T; the cache with the texts in these slots)."""
    B = tokens_BT.shape[0]
    outputs: Any = GPT(config).apply({"params": params}, jnp.asarray(tokens_BT), None, None, init_cache(config, B))
    hidden_BTD, cache = outputs
    hidden_BD = hidden_BTD[jnp.arange(B), jnp.asarray(rows.lengths_B) - 1]
    drawn = _draw_next(inference_head(params, config), hidden_BD, config, rows, rows.numbers_B, banned_V)
    return drawn, jax.tree.map(lambda all_BKSH, new_BKSH: all_BKSH.at[slots_B].set(new_BKSH), layers, cache.layers)


@partial(jax.jit, static_argnums=(1, 4), donate_argnums=2)
def advance(
    params: Params, config: ModelConfig, layers: Layers, rows: SlotState, count: int, banned_V: jax.Array
) -> tuple[Drawn, Layers]:
    """Returns (the next `count` words of the first B rows, [count, B, ...] each; the cache with all but the last read).

    A row that comes to the context's end on the way makes words without meaning from there on.
    """
    B = rows.last_B.shape[0]
    head_VD = inference_head(params, config)
    part = layers if layers[0][0].shape[0] == B else jax.tree.map(lambda x: x[:B], layers)

    def step(carry: tuple[jax.Array, KVCache], i: jax.Array) -> tuple[tuple[jax.Array, KVCache], Drawn]:
        token_B, cache = carry
        outputs: Any = GPT(config).apply({"params": params}, token_B[:, None], None, None, cache)
        hidden_B1D, cache = outputs
        drawn = _draw_next(head_VD, hidden_B1D[:, 0], config, rows, rows.numbers_B + i, banned_V)
        return (drawn.token_B, cache), drawn

    start = jnp.asarray(rows.last_B), KVCache(part, jnp.asarray(rows.lengths_B))
    (_, cache), drawn = jax.lax.scan(step, start, jnp.arange(count))
    if part is layers:
        return drawn, cache.layers
    return drawn, jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, 0, axis=0), layers, cache.layers)


def _draw_next(
    head_VD: jax.Array,
    hidden_BD: jax.Array,
    config: ModelConfig,
    rows: SlotState,
    numbers_B: jax.Array | np.ndarray,
    banned_V: jax.Array,
) -> Drawn:
    logits_BV = logits(head_VD, hidden_BD, config.vocab_size)
    B, V = logits_BV.shape
    stop_B, want_logprobs_B = jnp.asarray(rows.stop_B), jnp.asarray(rows.want_logprobs_B)
    logits_BV = jnp.where(banned_V & (jnp.arange(V) != stop_B[:, None]), -jnp.inf, logits_BV)
    keys_B = jax.vmap(lambda seed, number: jax.random.fold_in(jax.random.key(seed), number))(rows.seeds_B, numbers_B)
    token_B = sample_each(keys_B, logits_BV, jnp.asarray(rows.temperature_B), jnp.asarray(rows.top_p_B))
    K = min(CANDIDATES, config.vocab_size)

    def told() -> tuple[jax.Array, jax.Array, jax.Array]:
        logprob_BV = jax.nn.log_softmax(logits_BV, axis=-1)
        candidate_logprob_BK, candidate_BK = jax.lax.top_k(logprob_BV, K)
        return jnp.take_along_axis(logprob_BV, token_B[:, None], axis=1)[:, 0], candidate_BK, candidate_logprob_BK

    def untold() -> tuple[jax.Array, jax.Array, jax.Array]:
        return jnp.zeros(B), jnp.zeros((B, K), jnp.int32), jnp.zeros((B, K))

    return Drawn(token_B, *jax.lax.cond(jnp.any(want_logprobs_B), told, untold))
