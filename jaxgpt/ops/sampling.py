"""From the scores of the next token to a token.

`filter_logits` and `sample` are the plain definition, for one setting; `sample_each` does the same for rows that each
have their own, without sorting.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgpt.config import Sampling

GROUP = 128  # words that are summed or compared together when drawing
COLDEST = 1e-6  # a temperature below this is taken as this: scores over a smaller one are infinite, or not numbers
GREEDY = Sampling(temperature=0.0)  # the likeliest word each time


def filter_logits(logits_BV: jax.Array, sampling: Sampling) -> jax.Array:
    """Returns the logits with -inf at every word that top_k, top_p or min_p rule out; the likeliest always stays."""
    if sampling.top_k is not None and sampling.top_k < logits_BV.shape[-1]:
        kth_B1 = jax.lax.top_k(logits_BV, sampling.top_k)[0][:, -1:]
        logits_BV = jnp.where(logits_BV >= kth_B1, logits_BV, -jnp.inf)
    if sampling.top_p is not None and sampling.top_p < 1:
        sorted_BV = -jnp.sort(-logits_BV, axis=-1)
        p_BV = jax.nn.softmax(sorted_BV, axis=-1)
        before_BV = jnp.cumsum(p_BV, axis=-1) - p_BV  # probability of all likelier words
        least_B1 = jnp.min(jnp.where(before_BV < sampling.top_p, sorted_BV, jnp.inf), axis=-1, keepdims=True)
        least_B1 = jnp.minimum(least_B1, sorted_BV[:, :1])  # a share may be so small that it is rounded to nothing
        logits_BV = jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)
    if sampling.min_p is not None and sampling.min_p > 0:
        peak_B1 = jnp.max(logits_BV, axis=-1, keepdims=True)
        logits_BV = jnp.where(logits_BV >= peak_B1 + jnp.log(sampling.min_p), logits_BV, -jnp.inf)
    return logits_BV


def sample(key: jax.Array, logits_BV: jax.Array, sampling: Sampling) -> jax.Array:
    """Returns the next tokens_B; `key` is one for all rows, or one for each."""
    if sampling.temperature == 0:
        return likeliest(logits_BV)
    return categorical(key, filter_logits(logits_BV / max(sampling.temperature, COLDEST), sampling))


def likeliest(logits_BV: jax.Array) -> jax.Array:
    """Returns the first token of the highest logit in each row: its group is found first, then the word in the group.

    The logits are passed over once. An argmax over all of them does not vectorize, and takes four times as long.
    """
    logits_BGI = _groups(logits_BV, -jnp.inf)
    group_B = jnp.argmax(jnp.max(logits_BGI, axis=-1), axis=-1).astype(jnp.int32)
    logits_BI = jnp.take_along_axis(logits_BGI, group_B[:, None, None], axis=1)[:, 0]
    return group_B * GROUP + jnp.argmax(logits_BI, axis=-1).astype(jnp.int32)


class Shaping(NamedTuple):
    """What changes each row's scores by what its text has already: as values, which change nothing at 1, 0, 0 and 0."""

    repetition_B: Any
    """Of a token in the text, the prompt too, a positive score is divided by it, another multiplied (CTRL, Keskar et
    al. 2019)."""
    frequency_B: Any
    """Is taken off a token's score for each time that it was written."""
    presence_B: Any
    """Is taken off the score of a token that was written."""
    bias_BV: Any
    """Is added to the scores."""
    seen_BV: Any
    """Whether a token is in the text."""
    written_BV: Any
    """How often it was written after the prompt."""


def shape_logits(logits_BV: jax.Array, shaping: Shaping) -> jax.Array:
    """Returns the scores that tokens are drawn by; what is ruled out stays so."""
    repetition_B1, frequency_B1, presence_B1 = (jnp.asarray(x)[:, None] for x in shaping[:3])
    repeated_BV = jnp.where(logits_BV > 0, logits_BV / repetition_B1, logits_BV * repetition_B1)
    logits_BV = jnp.where(shaping.seen_BV, repeated_BV, logits_BV)
    logits_BV = logits_BV - frequency_B1 * shaping.written_BV - presence_B1 * (shaping.written_BV > 0)
    return logits_BV + shaping.bias_BV


def after_token(shaping: Shaping, token_B: jax.Array) -> Shaping:
    """Returns the shaping of texts that have grown by a token."""
    rows_B = jnp.arange(token_B.shape[0])
    seen_BV = jnp.asarray(shaping.seen_BV).at[rows_B, token_B].set(True)
    return shaping._replace(seen_BV=seen_BV, written_BV=jnp.asarray(shaping.written_BV).at[rows_B, token_B].add(1))


class Settings(NamedTuple):
    """Each row's Sampling as values, so that no setting compiles anew: top_k 0, top_p 1 and min_p 0 keep all tokens."""

    temperature_B: Any
    top_k_B: Any
    top_p_B: Any
    min_p_B: Any


def sample_each(keys_B: jax.Array, numbers_B: jax.Array, logits_BV: jax.Array, settings: Settings) -> jax.Array:
    """Returns the next tokens_B of rows that each have settings and a key of their own; the number is folded into it.

    A row gets the token that `sample` gives it alone. What no row asks for is not computed.
    """
    temperature_B = settings.temperature_B

    def drawn() -> jax.Array:
        scaled_BV = logits_BV / jnp.where(temperature_B > 0, jnp.maximum(temperature_B, COLDEST), 1.0)[:, None]
        cuts_B = (settings.top_k_B > 0) | (settings.top_p_B < 1) | (settings.min_p_B > 0)
        rows = (
            scaled_BV,
            *(jnp.where(temperature_B > 0, x, none) for x, none in zip(settings[1:], (0, 1, 0), strict=True)),
        )
        cut = jnp.any(cuts_B & (temperature_B > 0))
        scaled_BV = jax.lax.cond(cut, lambda: jax.lax.map(filter_row, rows), lambda: scaled_BV)
        tokens_B = categorical(jax.vmap(jax.random.fold_in)(keys_B, numbers_B), scaled_BV)
        return jnp.where(temperature_B > 0, tokens_B, likeliest(logits_BV))

    return jax.lax.cond(jnp.any(temperature_B > 0), drawn, lambda: likeliest(logits_BV))


def filter_row(row: tuple[Any, Any, Any, Any]) -> jax.Array:
    """Returns what `filter_logits` does for one row (logits_V, top_k, top_p, min_p).

    The least probability that stays is found by bisection: on a CPU that takes a twentieth of the time of sorting.
    """
    logits_V, top_k, top_p, min_p = row
    p_V = jax.nn.softmax(logits_V)
    bits_V = jax.lax.bitcast_convert_type(p_V, jnp.int32)  # floats that are not negative are ordered as their bits

    def keep_k(kept_V: jax.Array) -> jax.Array:
        return kept_V & (bits_V >= _bisect(lambda bound: jnp.sum(bits_V > bound) < top_k))

    def keep_p(kept_V: jax.Array) -> jax.Array:
        q_V = jnp.where(kept_V, p_V, 0.0)
        share = top_p * jnp.where(top_k > 0, jnp.sum(q_V), 1.0)
        least = _bisect(lambda bound: jnp.sum(jnp.where(bits_V > bound, q_V, 0.0)) < share)
        return kept_V & (bits_V >= jnp.minimum(least, jnp.max(bits_V)))  # the likeliest stays, however small the share

    kept_V = jax.lax.cond(top_k > 0, keep_k, lambda kept_V: kept_V, jnp.ones(p_V.shape, bool))
    kept_V = jax.lax.cond(top_p < 1, keep_p, lambda kept_V: kept_V, kept_V)
    least_logit = jnp.where(min_p > 0, jnp.max(logits_V) + jnp.log(min_p), -jnp.inf)
    return jnp.where(kept_V & (logits_V >= least_logit), logits_V, -jnp.inf)


def _bisect(stays: Any) -> jax.Array:
    """Returns the least bits of a probability for which `stays` holds, which holds for all larger ones too."""

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) // 2
        found = stays(middle)
        return jnp.where(found, low, middle + 1), jnp.where(found, middle, high)

    certain = jnp.int32(0x3F800000)  # the bits of 1.0, less than 2 ** 30
    return jax.lax.fori_loop(0, 30, halve, (jnp.int32(0), certain))[0]


def categorical(key: jax.Array, logits_BV: jax.Array) -> jax.Array:
    """Returns tokens_B drawn with probability softmax(logits_BV); `key` is one for all rows, or one for each."""
    if key.ndim:
        share_B1 = jax.vmap(lambda key: jax.random.uniform(key, (1,)))(key)
    else:
        share_B1 = jax.random.uniform(key, (logits_BV.shape[0], 1))
    return inverse_cdf_sample(share_B1, logits_BV)


def inverse_cdf_sample(share_B1: jax.Array, logits_BV: jax.Array) -> jax.Array:
    """Returns tokens_B: where the running sum of softmax(logits_BV) first passes a random share of it.

    One random number a row, where jax.random.categorical takes one a word, and ten times as long. The sum runs over
    groups of words first, then inside the group it ends in.
    """
    p_BGI = _groups(jnp.exp(logits_BV - jnp.max(logits_BV, axis=-1, keepdims=True)), 0.0)
    upto_BG = jnp.cumsum(jnp.sum(p_BGI, axis=-1), axis=-1)
    # Just under 1, so that rounding never takes the share past the last word that has a probability.
    share_B1 = share_B1 * (1 - 1e-6)
    passed_B1 = share_B1 * upto_BG[:, -1:]
    group_B1 = _first_true(upto_BG > passed_B1)[:, None]
    p_BI = jnp.take_along_axis(p_BGI, group_B1[..., None], axis=1)[:, 0]
    upto_BI = jnp.cumsum(p_BI, axis=-1)
    before_B1 = jnp.take_along_axis(jnp.pad(upto_BG, ((0, 0), (1, 0))), group_B1, axis=1)
    passed_B1 = jnp.minimum(passed_B1 - before_B1, upto_BI[:, -1:] * (1 - 1e-6))
    return group_B1[:, 0] * GROUP + _first_true(upto_BI > passed_B1)


def _groups(x_BV: jax.Array, filler: float) -> jax.Array:
    """Returns the rows as [B, groups, GROUP], the last group filled up."""
    B, V = x_BV.shape
    return jnp.pad(x_BV, ((0, 0), (0, -V % GROUP)), constant_values=filler).reshape(B, -1, GROUP)


def _first_true(found_BV: jax.Array) -> jax.Array:
    """Returns the first index at which each row is true: a minimum, which compiles to faster code than argmax."""
    V = found_BV.shape[-1]
    return jnp.min(jnp.where(found_BV, jnp.arange(V, dtype=jnp.int32), V - 1), axis=-1)
