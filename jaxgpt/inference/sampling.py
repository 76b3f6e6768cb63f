"""From the scores of the next word to a word."""

import jax
import jax.numpy as jnp

from jaxgpt.config import Sampling

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
        logits_BV = jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)
    if sampling.min_p is not None and sampling.min_p > 0:
        peak_B1 = jnp.max(logits_BV, axis=-1, keepdims=True)
        logits_BV = jnp.where(logits_BV >= peak_B1 + jnp.log(sampling.min_p), logits_BV, -jnp.inf)
    return logits_BV


def draw(key: jax.Array, logits_BV: jax.Array, sampling: Sampling) -> jax.Array:
    """Returns the next tokens_B."""
    if sampling.temperature == 0:
        return jnp.argmax(logits_BV, axis=-1)
    logits_BV = filter_logits(logits_BV / sampling.temperature, sampling)
    return jax.random.categorical(key, logits_BV, axis=-1)
