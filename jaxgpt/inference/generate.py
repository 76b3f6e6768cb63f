"""Generation: one prefill of the prompt, then a scan over a KV cache that adds a token at a time."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import ModelConfig, Sampling
from jaxgpt.errors import UserError
from jaxgpt.inference.sampling import draw
from jaxgpt.model.cache import KVCache, init_cache
from jaxgpt.model.gpt import GPT, Params, logits, padded_vocab_size
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
    banned = jnp.asarray(np.pad(banned_V, (0, padded_vocab_size(config) - len(banned_V)), constant_values=True))
    cache, last_logits, room = None, None, 0
    made = 0
    while made < max_tokens and not all(done):
        if room == 0:
            keep = config.context_len - 1 if cache is None else config.context_len // 2
            cache, last_logits, room = _read(params, config, [text[-keep:] for text in texts])
        size = min(CHUNK, room)
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(made, made + size))
        tokens_BC, cache, last_logits = _extend(params, config, cache, last_logits, keys, sampling, banned)
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


def _read(params: Params, config: ModelConfig, prompts: list[list[int]]) -> tuple[KVCache, jax.Array, int]:
    """Returns (cache, logits_BV after the last token, tokens that may follow) of prompts padded on the left."""
    longest = max(map(len, prompts))
    width = -(-longest // BUCKET) * BUCKET
    tokens_BT = np.zeros((len(prompts), width), np.int32)
    segments_BT = np.zeros((len(prompts), width), np.int32)
    for row, prompt in enumerate(prompts):
        tokens_BT[row, width - len(prompt) :] = prompt
        segments_BT[row, width - len(prompt) :] = 1
    cache, last_logits_BV = prefill(params, config, jnp.asarray(tokens_BT), jnp.asarray(segments_BT))
    return cache, last_logits_BV, config.context_len - longest


@partial(jax.jit, static_argnums=1)
def prefill(
    params: Params, config: ModelConfig, tokens_BT: jax.Array, segments_BT: jax.Array
) -> tuple[KVCache, jax.Array]:
    """Returns (a cache that holds the prompts, logits_BV of what comes next)."""
    slots = config.context_len + BUCKET  # padding takes slots, but no positions
    return _advance(params, config, tokens_BT, segments_BT, init_cache(config, tokens_BT.shape[0], slots))


def _advance(
    params: Params, config: ModelConfig, tokens_BT: jax.Array, segments_BT: jax.Array | None, cache: KVCache
) -> tuple[KVCache, jax.Array]:
    outputs: Any = GPT(config).apply({"params": params}, tokens_BT, segments_BT, None, cache)
    hidden_BTD, cache = outputs
    return cache, logits(params, hidden_BTD[:, -1], config.vocab_size)


@partial(jax.jit, static_argnums=(1, 5), donate_argnums=2)
def _extend(
    params: Params,
    config: ModelConfig,
    cache: KVCache,
    logits_BV: jax.Array,
    keys_C: jax.Array,
    sampling: Sampling,
    banned_V: jax.Array,
) -> tuple[jax.Array, KVCache, jax.Array]:
    """Returns (tokens_BC, cache, logits_BV): C tokens drawn one after the other, each read before the next."""

    def step(carry, key):
        cache, logits_BV = carry
        token_B = draw(key, jnp.where(banned_V, -jnp.inf, logits_BV), sampling)
        return _advance(params, config, token_B[:, None], None, cache), token_B

    (cache, logits_BV), tokens_CB = jax.lax.scan(step, (cache, logits_BV), keys_C)
    return tokens_CB.T, cache, logits_BV
