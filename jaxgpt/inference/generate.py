"""Generation: prompts in, their continuations out, token by token; what may come, and where a text ends."""

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import jax
import numpy as np

from jaxgpt.config import ModelConfig, Sampling
from jaxgpt.errors import UserError
from jaxgpt.inference.slots import TOGETHER, SequenceState, Slots
from jaxgpt.model.gpt import Params
from jaxgpt.text.tokenizer import Tokenizer

CHUNK = 16  # tokens made by one call of the scan, and so the grain of streaming
MANY, SHORT_CHUNK = 128, 4  # of so many texts fewer tokens: a call costs little beside them, and what has ended goes
NARROWEST = 32  # rows that many texts are packed into at last


def banned_tokens(tokenizer: Tokenizer, stop_id: int | None) -> np.ndarray:
    """Returns banned_V, true for <unk> and the special tokens other than the stop token and the line break."""
    banned_V = np.zeros(tokenizer.vocab_size, bool)
    banned_V[tokenizer.special.ids] = True
    banned_V[[id for id in (stop_id, tokenizer.special.newline) if id is not None]] = False
    return banned_V


def text_stop(tokenizer: Tokenizer, lines_are_documents: bool) -> int | None:
    """Returns the token that ends a text; None where it is that of every line, and texts have more than one."""
    special = tokenizer.special
    return special.eos if lines_are_documents or special.newline != special.eos else None


def encode_prompt(prompt: str, tokenizer: Tokenizer, config: ModelConfig) -> list[int]:
    """Returns the ids of a prompt; raises UserError when it is empty or leaves no room in the context."""
    return check_prompt(tokenizer.encode(prompt), config)


def check_prompt(ids: list[int], config: ModelConfig) -> list[int]:
    """Returns the ids; raises UserError where there are none or they leave no room in the context."""
    if not ids:
        raise UserError("prompt: it is empty; give it some text")
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
    """Yields the prompt and what the model writes after it, piece by piece, to the end of its document or of its line.

    Where the end of a document is that of a line, the next line follows unless `stop_at_line_end`.
    """
    special = tokenizer.special
    banned_V = banned_tokens(tokenizer, special.eos)
    stop_id = text_stop(tokenizer, stop_at_line_end)
    tokens = stream(params, config, [[special.bos, *prompt]], key, sampling, banned_V, stop_id, max_tokens)
    pieces = tokenizer.decode_stream(chain(prompt, (token for (token,) in tokens if token is not None)))
    if special.newline is not None or not stop_at_line_end:
        return pieces
    return chain(islice(pieces, len(prompt)), _to_line_end(pieces))


def _to_line_end(pieces: Iterable[str]) -> Iterator[str]:
    """Yields a text up to its first line break, where that is text and no token of its own."""
    for piece in pieces:
        line, line_break, _ = piece.partition("\n")
        yield line
        if line_break:
            return


def generate(
    params: Params,
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    key: jax.Array,
    sampling: Sampling,
    banned_V: np.ndarray,
    stop_id: int | None,
    max_tokens: int,
    copies: int = 1,
) -> list[list[int]]:
    """Returns the new tokens of every prompt, each up to and without its stop token; arguments as `stream` has them."""
    replies: list[list[int]] = [[] for _ in range(len(prompts) * copies)]
    for tokens_B in stream(params, config, prompts, key, sampling, banned_V, stop_id, max_tokens, copies):
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
    copies: int = 1,
) -> Iterator[list[int | None]]:
    """Yields the next token of every prompt, None once a prompt has come to its stop token; ends when all have.

    With `copies` each prompt is continued so many times and read once; its rows follow one another, with keys of their
    own.

    Prompts may differ in length; none may be empty. A row that outgrows the context loses its oldest tokens: its newer
    half is read again and it grows on. The row's key and its tokens' numbers decide its draws; `key` is one for each
    row, or one that serves all. So each row's text is the one it would have alone.
    """
    if not all(prompts):
        raise ValueError("a prompt is empty")
    prompts = [prompt for prompt in prompts for _ in range(copies)]
    B = len(prompts)
    slots = Slots(params, in_full_precision(config), banned_V, _widths(B))
    keys_B2 = np.broadcast_to(np.asarray(jax.random.key_data(key)), (len(prompts), 2))
    stop = -1 if stop_id is None else stop_id
    top_k = min(sampling.top_k or 0, config.vocab_size)  # however large it was given, it fits an int32
    settings = sampling.temperature, top_k, sampling.top_p or 1.0, sampling.min_p or 0.0
    for row, prompt in enumerate(prompts):
        slots.sequences[row] = SequenceState(list(prompt), keys_B2[row], stop, *settings)
    fresh: list[deque[int]] = [deque() for _ in prompts]  # tokens that are not yielded yet
    rows = list(range(B))  # of the slots, which move together when many texts have ended
    grown = slots.begin(copies)
    done = [False] * B
    for _ in range(max_tokens):
        while True:
            for slot, outputs in grown:
                fresh[rows[slot]].extend(output.token for output in outputs)
                if outputs[-1].token == stop:
                    slots.sequences[slot] = None
            if all(row_done or tokens for row_done, tokens in zip(done, fresh, strict=True)):
                grown = []
                break
            if outgrown := slots.outgrown():
                together = len(outgrown) if len(outgrown) == B else min(len(outgrown), TOGETHER)
                grown = slots.read(outgrown[: together if together >= TOGETHER else 1], is_new=False)
            else:
                if moved := slots.pack():
                    rows = [rows[slot] for slot in moved]
                grown = slots.grow(CHUNK if B < MANY else SHORT_CHUNK)
        step: list[int | None] = []
        for row, tokens in enumerate(fresh):
            token = None if done[row] else tokens.popleft()
            done[row] = done[row] or token == stop_id
            step.append(None if done[row] else token)
        yield step
        if all(done):
            return


def _widths(texts: int) -> list[int]:
    """Returns the numbers of rows that may grow, rising: of many texts half of them, a quarter and so on as well."""
    widths = [texts]
    while texts >= MANY and widths[-1] // 2 >= NARROWEST:
        widths.append(widths[-1] // 2)
    return widths[::-1]
