"""Generation: one prefill of the prompt, then a scan over a KV cache that adds a token at a time."""

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import ModelConfig, Sampling
from jaxgpt.errors import UserError
from jaxgpt.model.gpt import GPT, Params, logits, padded_vocab_size, unembedding
from jaxgpt.model.kv_cache import KVCache, init_cache
from jaxgpt.ops.matmul import precision
from jaxgpt.ops.sampling import sample
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


def in_full_precision(config: ModelConfig) -> ModelConfig:
    """Returns the config with "mixed", which is a CPU's way to train quickly, made float32.

    Rows that are generated alone and rows that are generated together are rounded differently; in float32 by so little
    that a greedy text does not depend on what is generated beside it.
    """
    return dataclasses.replace(config, dtype="float32") if config.dtype == "mixed" else config


def continue_text(
    params: Params,
    config: ModelConfig,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    key: jax.Array,
    sampling: Sampling,
    max_tokens: int,
    stop_at_line_end: bool = True,
) -> Iterator[str]:
    """Yields the prompt and what the model writes after it, piece by piece.

    It ends with the line, or goes on with the next ones where lines are no documents of their own.
    """
    eos_id = tokenizer.eos_id
    banned_V = banned_tokens(tokenizer, eos_id)
    stop_id = eos_id if stop_at_line_end else None
    tokens = stream(params, config, [[eos_id, *prompt]], key, sampling, banned_V, stop_id, max_tokens)
    return tokenizer.decode_stream(chain(prompt, (token for (token,) in tokens if token is not None)))


def generate(
    params: Params,
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    key: jax.Array,
    sampling: Sampling,
    banned_V: np.ndarray,
    stop_id: int | None,
    max_tokens: int,
) -> list[list[int]]:
    """Returns the new tokens of every prompt, each up to and without its stop token; arguments as `stream` has them."""
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
    stop_id: int | None,
    max_tokens: int,
) -> Iterator[list[int | None]]:
    """Yields the next token of every prompt, None once a prompt has come to its stop token; ends when all have.

    Prompts may differ in length; none may be empty. A row that outgrows the context loses its oldest tokens: its newer
    half is read again and it goes on. The row's key and its tokens' numbers decide its draws; `key` is one for each
    row, or one that serves all. So each row's text is the one it would have alone.
    """
    if not all(prompts):
        raise ValueError("a prompt is empty")
    config = in_full_precision(config)
    rows = _Rows(params, config, prompts, Draws.of(key, banned_V, len(prompts), padded_vocab_size(config)), sampling)
    done = [False] * len(prompts)
    for _ in range(max_tokens):
        while not all(row_done or fresh for row_done, fresh in zip(done, rows.fresh, strict=True)):
            rows.go_on(done)
        step: list[int | None] = []
        for row, fresh in enumerate(rows.fresh):
            token = None if done[row] else fresh.popleft()
            done[row] = done[row] or token == stop_id
            step.append(None if done[row] else token)
        yield step
        if all(done):
            return


class Draws(NamedTuple):
    """What decides each draw beside the model: a key for each row, and the banned words."""

    keys_B: jax.Array
    banned_V: jax.Array

    @classmethod
    def of(cls, key: jax.Array, banned_V: np.ndarray, rows: int, padded_vocab: int) -> "Draws":
        """Returns the draws of so many rows; the rows of the head beyond the vocabulary are banned as well."""
        padded_V = np.pad(banned_V, (0, padded_vocab - len(banned_V)), constant_values=True)
        return cls(jnp.broadcast_to(key, (rows,)), jnp.asarray(padded_V))


class _Rows:
    """Texts that grow side by side in one cache, each at its own pace; `fresh` are their tokens not taken yet."""

    def __init__(
        self,
        params: Params,
        config: ModelConfig,
        prompts: Sequence[Sequence[int]],
        draws: Draws,
        sampling: Sampling,
    ):
        self.params, self.config, self.draws, self.sampling = params, config, draws, sampling
        self.texts = [list(prompt) for prompt in prompts]
        self.fresh: list[deque[int]] = [deque() for _ in prompts]
        self.made = np.zeros(len(prompts), np.int32)  # tokens drawn so far: the number of the next draw
        self.cached = np.zeros(len(prompts), np.int32)  # tokens that the cache holds
        self.layers: Any = None

    def go_on(self, done: Sequence[bool]) -> None:
        """Reads the rows that are new or have outgrown the context, if there are any, else adds a chunk to all."""
        context_len = self.config.context_len
        if self.layers is None:
            self._read(np.ones(len(self.texts), bool), keep=context_len - 1)
            return
        outgrown_B = (self.cached >= context_len) & ~np.asarray(done)
        if outgrown_B.any():
            self._read(outgrown_B, keep=context_len // 2)
            return
        last_B = np.array([text[-1] for text in self.texts], np.int32)
        places = Places(last_B, self.cached, self.made)
        tokens_BC, self.layers = _extend(
            self.params, self.config, self.layers, places, self.draws, CHUNK, self.sampling
        )
        for row, tokens in enumerate(np.asarray(tokens_BC).tolist()):
            if done[row]:
                continue
            count = min(CHUNK, context_len - int(self.cached[row]))  # those after have no meaning
            self._grow(row, tokens[:count])
            self.cached[row] += count

    def _read(self, chosen_B: np.ndarray, keep: int) -> None:
        """Reads the newest tokens of the chosen rows anew; the others stay as they are."""
        kept = [text[-keep:] if chosen else [0] for text, chosen in zip(self.texts, chosen_B, strict=True)]
        tokens_BT, lengths_B = _padded(kept, self.config.context_len)
        token_B, layers = prefill(self.params, self.config, tokens_BT, lengths_B, self.draws, self.made, self.sampling)
        self.layers = layers if self.layers is None else _replace_rows(self.layers, layers, chosen_B)
        for row in map(int, np.flatnonzero(chosen_B)):
            self.cached[row] = len(kept[row])
            self._grow(row, [int(token_B[row])])

    def _grow(self, row: int, tokens: list[int]) -> None:
        self.texts[row] += tokens
        self.fresh[row].extend(tokens)
        self.made[row] += len(tokens)


def _padded(prompts: list[list[int]], context_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (tokens_BT, lengths_B) of prompts padded on the right to a multiple of BUCKET, or the whole context."""
    lengths = [len(prompt) for prompt in prompts]
    width = min(-(-max(lengths) // BUCKET) * BUCKET, context_len)
    tokens_BT = np.zeros((len(prompts), width), np.int32)
    for row, prompt in zip(tokens_BT, prompts, strict=True):
        row[: len(prompt)] = prompt
    return tokens_BT, np.asarray(lengths, np.int32)


@partial(jax.jit, static_argnums=(1, 6))
def prefill(
    params: Params,
    config: ModelConfig,
    tokens_BT: jax.Array | np.ndarray,
    lengths_B: jax.Array | np.ndarray,
    draws: Draws,
    numbers_B: jax.Array | np.ndarray,
    sampling: Sampling,
) -> tuple[jax.Array, Any]:
    """Returns (token_B that comes after prompts of these lengths, the layers of a cache that holds the prompts)."""
    B = tokens_BT.shape[0]
    outputs: Any = GPT(config).apply({"params": params}, jnp.asarray(tokens_BT), None, None, init_cache(config, B))
    hidden_BTD, cache = outputs
    hidden_BD = hidden_BTD[jnp.arange(B), jnp.asarray(lengths_B) - 1]
    token_B = _draw_next(inference_head(params, config), hidden_BD, config, draws, jnp.asarray(numbers_B), sampling)
    return token_B, cache.layers


class Places(NamedTuple):
    """Where each row is: its newest token, how many before it the cache holds, and the number of its next draw."""

    last_B: jax.Array | np.ndarray
    lengths_B: jax.Array | np.ndarray
    numbers_B: jax.Array | np.ndarray


@partial(jax.jit, static_argnums=(1, 5, 6), donate_argnums=2)
def _extend(
    params: Params, config: ModelConfig, layers: Any, places: Places, draws: Draws, count: int, sampling: Sampling
) -> tuple[jax.Array, Any]:
    """Returns (tokens_BC, layers): C = count tokens drawn one after the other, each read before the next."""
    last_B, lengths_B, numbers_B = map(jnp.asarray, places)
    head_VD = inference_head(params, config)

    def step(carry, i):
        token_B, cache = carry
        outputs: Any = GPT(config).apply({"params": params}, token_B[:, None], None, None, cache)
        hidden_B1D, cache = outputs
        token_B = _draw_next(head_VD, hidden_B1D[:, 0], config, draws, numbers_B + i, sampling)
        return (token_B, cache), token_B

    (_, cache), tokens_CB = jax.lax.scan(step, (last_B, KVCache(layers, lengths_B)), jnp.arange(count))
    return tokens_CB.T, cache.layers


@partial(jax.jit, donate_argnums=0)
def _replace_rows(layers: Any, fresh: Any, chosen_B: jax.Array | np.ndarray) -> Any:
    """Returns the cache's layers with the chosen rows taken from the fresh ones."""
    chosen_B111 = jnp.asarray(chosen_B)[:, None, None, None]
    return jax.tree.map(lambda old, new: jnp.where(chosen_B111, new, old), layers, fresh)


def inference_head(params: Params, config: ModelConfig) -> jax.Array:
    """Returns the head as it is multiplied with, cast once for many tokens."""
    return unembedding(params).astype(precision(config.dtype).compute_dtype)


def _draw_next(
    head_VD: jax.Array,
    hidden_BD: jax.Array,
    config: ModelConfig,
    draws: Draws,
    numbers_B: jax.Array,
    sampling: Sampling,
) -> jax.Array:
    """Returns the tokens_B that follow, drawn with each row's key of its number."""
    logits_BV = logits(head_VD, hidden_BD, config.vocab_size)
    keys_B = jax.vmap(jax.random.fold_in)(draws.keys_B, numbers_B)
    return sample(keys_B, jnp.where(draws.banned_V, -jnp.inf, logits_BV), sampling)
