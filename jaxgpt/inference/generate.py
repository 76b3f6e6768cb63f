"""Generation: one prefill of the prompt, then a scan over a KV cache that adds a token at a time."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import ModelConfig, Sampling
from jaxgpt.errors import UserError
from jaxgpt.inference.sampling import draw
from jaxgpt.model.cache import KVCache, init_cache
from jaxgpt.model.gpt import GPT, Params, head_matrix, logits, padded_vocab_size
from jaxgpt.model.layers import precision
from jaxgpt.text.tokenizer import SPECIAL, Tokenizer

CHUNK = 16  # tokens made by one call of the scan, and so the grain of streaming
BUCKET = 32  # prompts are padded to a multiple of this, so that few lengths are compiled


def banned_tokens(tokenizer: Tokenizer, stop_id: int) -> np.ndarray:
    """Returns banned_V, true for <unk> and the special tokens other than the stop token and the line end."""
    banned_V = np.zeros(tokenizer.vocab_size, bool)
    banned_V[: len(SPECIAL)] = True
    banned_V[[stop_id, tokenizer.eos_id]] = False
    return banned_V


def encode_prompt(prompt: str, tokenizer: Tokenizer, config: ModelConfig) -> list[int]:
    """Returns the ids of a prompt; raises UserError when it is empty or leaves no room in the context."""
    ids = tokenizer.encode(prompt)
    if not ids:
        raise UserError("prompt: it is empty; write a word or more for the model to go on from")
    if len(ids) >= config.context_len:
        raise UserError(
            f"prompt: it is {len(ids)} tokens long; this model's context is {config.context_len} tokens, so write at "
            f"most {config.context_len - 1}"
        )
    return ids


def continue_text(
    params: Params,
    config: ModelConfig,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    key: jax.Array,
    sampling: Sampling,
    max_tokens: int,
) -> Iterator[str]:
    """Yields the prompt and what the model writes after it, piece by piece, up to the end of the line."""
    eos_id = tokenizer.eos_id
    banned_V = banned_tokens(tokenizer, eos_id)
    tokens = stream(params, config, [[eos_id, *prompt]], key, sampling, banned_V, eos_id, max_tokens)
    return tokenizer.decode_stream(chain(prompt, (token for (token,) in tokens if token is not None)))


def generate(
    params: Params,
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    key: jax.Array,
    sampling: Sampling,
    banned_V: np.ndarray,
    stop_id: int,
    max_tokens: int,
) -> list[list[int]]:
    """Returns the new tokens of every prompt, each up to and without its stop token."""
    replies: list[list[int]] = [[] for _ in prompts]
    for tokens_B in stream(params, config, prompts, key, sampling, banned_V, stop_id, max_tokens):
        for reply, token in zip(replies, tokens_B, strict=True):
            if token is not None:
                reply.append(token)
    return replies


def stream(
    params: Params,
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    key: jax.Array,
    sampling: Sampling,
    banned_V: np.ndarray,
    stop_id: int,
    max_tokens: int,
) -> Iterator[list[int | None]]:
    """Yields the next token of every prompt, None once a prompt has come to its stop token; ends when all have.

    Prompts may differ in length; none may be empty. What grows past the context loses its oldest tokens: the newer half
    is read again and generation goes on. `key` and the tokens' number decide every draw.
    """
    if not all(prompts):
        raise ValueError("a prompt is empty")
    texts = [list(prompt) for prompt in prompts]
    done = [False] * len(texts)
    padding = padded_vocab_size(config) - len(banned_V)
    draws = Draws(key, jnp.asarray(np.pad(banned_V, (0, padding), constant_values=True)))
    cache, last_B, room = None, None, 0
    made = 0
    while made < max_tokens and not all(done):
        if room == 0:
            keep = config.context_len - 1 if cache is None else config.context_len // 2
            kept = [text[-keep:] for text in texts]
            last_B, cache = prefill(params, config, *_padded(kept, config.context_len), draws, made, sampling)
            room = config.context_len - max(map(len, kept))
            tokens_BC = last_B[:, None]
        else:
            size = min(CHUNK, room)
            tokens_BC, cache = _extend(params, config, cache, last_B, draws, made, size, sampling)
            last_B = tokens_BC[:, -1]
            room -= size
        for tokens_B in np.asarray(tokens_BC).T.tolist():
            made += 1
            step: list[int | None] = []
            for row, token in enumerate(tokens_B):
                texts[row].append(token)
                done[row] = done[row] or token == stop_id
                step.append(None if done[row] else token)
            yield step
            if made == max_tokens or all(done):
                return


class Draws(NamedTuple):
    """What decides each draw beside the model: a key, into which the token's number is folded, and the banned words."""

    key: jax.Array
    banned_V: jax.Array


def _padded(prompts: list[list[int]], context_len: int) -> tuple[jax.Array, jax.Array]:
    """Returns (tokens_BT, lengths_B) of prompts padded on the right to a multiple of BUCKET, or the whole context."""
    lengths = [len(prompt) for prompt in prompts]
    width = min(-(-max(lengths) // BUCKET) * BUCKET, context_len)
    tokens_BT = np.zeros((len(prompts), width), np.int32)
    for row, prompt in zip(tokens_BT, prompts, strict=True):
        row[: len(prompt)] = prompt
    return jnp.asarray(tokens_BT), jnp.asarray(lengths, jnp.int32)


@partial(jax.jit, static_argnums=(1, 6))
def prefill(
    params: Params,
    config: ModelConfig,
    tokens_BT: jax.Array,
    lengths_B: jax.Array,
    draws: Draws,
    number: jax.Array | int,
    sampling: Sampling,
) -> tuple[jax.Array, KVCache]:
    """Returns (token_B that comes after prompts of these lengths, a cache that holds the prompts)."""
    B = tokens_BT.shape[0]
    outputs: Any = GPT(config).apply({"params": params}, tokens_BT, None, None, init_cache(config, B))
    hidden_BTD, cache = outputs
    hidden_BD = hidden_BTD[jnp.arange(B), lengths_B - 1]
    token_B = _draw_next(inference_head(params, decoding_config(config, B)), hidden_BD, config, draws, number, sampling)
    return token_B, cache._replace(lengths_B=lengths_B)


@partial(jax.jit, static_argnums=(1, 6, 7), donate_argnums=2)
def _extend(
    params: Params,
    config: ModelConfig,
    cache: KVCache,
    last_B: jax.Array,
    draws: Draws,
    number: jax.Array | int,
    count: int,
    sampling: Sampling,
) -> tuple[jax.Array, KVCache]:
    """Returns (tokens_BC, cache): C = count tokens drawn one after the other, each read before the next."""
    config = decoding_config(config, last_B.shape[0])
    head_VD = inference_head(params, config)

    def step(carry, i):
        token_B, cache = carry
        outputs: Any = GPT(config).apply({"params": params}, token_B[:, None], None, None, cache)
        hidden_B1D, cache = outputs
        token_B = _draw_next(head_VD, hidden_B1D[:, 0], config, draws, i, sampling)
        return (token_B, cache), token_B

    (_, cache), tokens_CB = jax.lax.scan(step, (last_B, cache), number + jnp.arange(count))
    return tokens_CB.T, cache


def decoding_config(config: ModelConfig, batch_size: int) -> ModelConfig:
    """Returns the config a new token's step works with: "mixed" becomes float32 for one row.

    A matrix times a vector is no work for a CPU's bfloat16 units; XLA would only cast the matrices back and forth.
    """
    one_vector = batch_size == 1 and config.dtype == "mixed"
    return dataclasses.replace(config, dtype="float32") if one_vector else config


def inference_head(params: Params, config: ModelConfig) -> jax.Array:
    """Returns the head as it is multiplied with, cast once for many tokens."""
    return head_matrix(params).astype(precision(config.dtype).products)


def _draw_next(
    head_VD: jax.Array,
    hidden_BD: jax.Array,
    config: ModelConfig,
    draws: Draws,
    number: jax.Array | int,
    sampling: Sampling,
) -> jax.Array:
    """Returns the tokens_B that follow, drawn with the key of this number."""
    logits_BV = logits(head_VD, hidden_BD, config.vocab_size)
    key = jax.random.fold_in(draws.key, number)
    return draw(key, jnp.where(draws.banned_V, -jnp.inf, logits_BV), sampling)
