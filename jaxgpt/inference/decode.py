"""The one decoder, on a device: texts are read into rows of a KV cache, and grow there side by side.

A prompt is read in one pass (prefill); then all rows grow together by a few tokens at a time, a scan over the cache.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import ModelConfig
from jaxgpt.model.gpt import GPT, Params, logits, padded_vocab_size, unembedding
from jaxgpt.model.kv_cache import KVCache, init_cache
from jaxgpt.ops.int8 import Int8
from jaxgpt.ops.matmul import precision
from jaxgpt.ops.sampling import Settings, Shaping, after_token, sample_each, shape_logits

CANDIDATES = 20  # likeliest tokens given beside the one drawn
NO_TOKEN = -1  # is drawn where the scores are no numbers
Layers = tuple[tuple[jax.Array, jax.Array], ...]  # of a KVCache; the lengths are in SlotState


class SlotState(NamedTuple):
    """What decides each row's next tokens beside the model and its cache, packed by type: each array is a transfer.

    All are values, so no setting recompiles. A row without a sequence has length 0, and what it draws has no meaning.
    """

    keys_B2: np.ndarray
    whole_6B: np.ndarray
    """The newest token, which is not read yet; how many tokens the cache holds; how many were drawn, the number that is
    folded into the next draw's key; top_k; the stop token; whether log-probabilities are wanted."""
    real_3B: np.ndarray
    """Temperature, top_p, min_p."""
    shaping: Shaping | None
    """None where no row has penalties: a program of its own, which knows of none."""


class Drawn(NamedTuple):
    """Tokens and their log-probabilities at temperature 1, banned ones ruled out; all zero where none is wanted."""

    token_B: jax.Array
    logprob_B: jax.Array
    candidate_BK: jax.Array
    candidate_logprob_BK: jax.Array


def padded(banned_V: np.ndarray, config: ModelConfig) -> jax.Array:
    """Returns which tokens may not come, those included that stand for nothing."""
    return jnp.asarray(np.pad(banned_V, (0, padded_vocab_size(config) - len(banned_V)), constant_values=True))


@partial(jax.jit, static_argnums=(0, 1))
def empty_layers(config: ModelConfig, rows: int) -> Layers:
    return init_cache(config, rows).layers


@partial(jax.jit, donate_argnums=0)
def moved(layers: Layers, slots_N: np.ndarray) -> Layers:
    """Returns the cache with what these slots hold in its first N rows."""
    return jax.tree.map(lambda x_BKSH: x_BKSH.at[: len(slots_N)].set(x_BKSH[slots_N]), layers)


@partial(jax.jit, static_argnums=1)
def read_texts(
    params: Params, config: ModelConfig, tokens_PT: np.ndarray, state: SlotState, banned_V: jax.Array
) -> tuple[Drawn, Layers]:
    """Returns (the tokens after texts of the state's lengths, padded to T; a cache of P rows with them).

    Each of the P texts is for as many rows of the state as go into B, which follow one another.
    """
    P, B = tokens_PT.shape[0], state.whole_6B.shape[1]
    outputs: Any = GPT(config).apply({"params": params}, jnp.asarray(tokens_PT), None, None, init_cache(config, P))
    hidden_PTD, cache = outputs
    hidden_BD = hidden_PTD[jnp.arange(B) // (B // P), jnp.asarray(state.whole_6B)[1] - 1]
    return draw(inference_head(params, config), hidden_BD, config, state, 0, banned_V), cache.layers


@partial(jax.jit, static_argnums=1, donate_argnums=2)
def prefill(
    params: Params,
    config: ModelConfig,
    layers: Layers,
    slots_B: np.ndarray,
    tokens_BT: np.ndarray,
    state: SlotState,
    banned_V: jax.Array,
) -> tuple[Drawn, Layers]:
    """Returns (the tokens after prompts of the state's lengths, padded to T; the cache with them in these slots)."""
    drawn, read = read_texts(params, config, tokens_BT, state, banned_V)
    return drawn, jax.tree.map(lambda all_BKSH, new_BKSH: all_BKSH.at[slots_B].set(new_BKSH), layers, read)


@jax.jit
def spread(caches: list[Layers], place_B: np.ndarray) -> Layers:
    """Returns the cache whose row b is the row place_B[b] of all of these, one after the other."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[place_B], *caches)


_Carry = tuple[jax.Array, KVCache, Shaping | None]


@partial(jax.jit, static_argnums=(1, 4), donate_argnums=2)
def decode(
    params: Params, config: ModelConfig, layers: Layers, state: SlotState, count: int, banned_V: jax.Array
) -> tuple[Drawn, Layers]:
    """Returns (the next `count` tokens of the first B rows, [count, B, ...] each; the cache, all but the last read).

    A row that comes to the context's end on the way makes tokens without meaning from there on.
    """
    last_B, lengths_B, *_ = jnp.asarray(state.whole_6B)
    B = last_B.shape[0]
    head_VD = inference_head(params, config)
    part = layers if layers[0][0].shape[0] == B else jax.tree.map(lambda x: x[:B], layers)

    def step(carry: _Carry, i: jax.Array) -> tuple[_Carry, Drawn]:
        token_B, cache, shaping = carry
        outputs: Any = GPT(config).apply({"params": params}, token_B[:, None], None, None, cache)
        hidden_B1D, cache = outputs
        drawn = draw(head_VD, hidden_B1D[:, 0], config, state._replace(shaping=shaping), i, banned_V)
        return (drawn.token_B, cache, shaping and after_token(shaping, drawn.token_B)), drawn

    start = last_B, KVCache(part, lengths_B), state.shaping and Shaping(*map(jnp.asarray, state.shaping))
    (_, cache, _), drawn = jax.lax.scan(step, start, jnp.arange(count))
    if part is layers:
        return drawn, cache.layers
    return drawn, jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, 0, axis=0), layers, cache.layers)


def inference_head(params: Params, config: ModelConfig) -> jax.Array | Int8:
    """Returns the head as it is multiplied with: cast once for many tokens, but for one of eight bits."""
    head_VD: Any = unembedding(params)
    return head_VD if isinstance(head_VD, Int8) else head_VD.astype(precision(config.dtype).compute_dtype)


def draw(
    head_VD: jax.Array | Int8,
    hidden_BD: jax.Array,
    config: ModelConfig,
    state: SlotState,
    later: jax.Array | int,
    banned_V: jax.Array,
) -> Drawn:
    """Returns what is drawn so many tokens later than the state's next ones."""
    _, _, numbers_B, top_k_B, stop_B, want_B = jnp.asarray(state.whole_6B)
    temperature_B, top_p_B, min_p_B = jnp.asarray(state.real_3B)
    logits_BV = logits(head_VD, hidden_BD, config.vocab_size)
    B, V = logits_BV.shape
    logits_BV = jnp.where(banned_V & (jnp.arange(V) != stop_B[:, None]), -jnp.inf, logits_BV)
    keys_B = jax.random.wrap_key_data(jnp.asarray(state.keys_B2))
    settings = Settings(temperature_B, top_k_B, top_p_B, min_p_B)
    shaped_BV = logits_BV if state.shaping is None else shape_logits(logits_BV, state.shaping)
    token_B = sample_each(keys_B, numbers_B + later, shaped_BV, settings)
    drawn_B = jnp.take_along_axis(logits_BV, token_B[:, None], axis=1, mode="clip")[:, 0]
    token_B = jnp.where(jnp.isfinite(drawn_B), token_B, NO_TOKEN)
    K = min(CANDIDATES, config.vocab_size)

    def wanted() -> tuple[jax.Array, jax.Array, jax.Array]:
        logprob_BV = jax.nn.log_softmax(logits_BV, axis=-1)
        candidate_logprob_BK, candidate_BK = jax.lax.top_k(logprob_BV, K)
        return jnp.take_along_axis(logprob_BV, token_B[:, None], axis=1)[:, 0], candidate_BK, candidate_logprob_BK

    def unwanted() -> tuple[jax.Array, jax.Array, jax.Array]:
        return jnp.zeros(B), jnp.zeros((B, K), jnp.int32), jnp.zeros((B, K))

    return Drawn(token_B, *jax.lax.cond(jnp.any(want_B > 0), wanted, unwanted))
