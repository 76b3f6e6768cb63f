"""What can be seen inside a model: attention, the residual stream, each token's loss, the geometry of its tokens."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import ModelConfig
from jaxgpt.data.batch import Batch
from jaxgpt.model.gpt import GPT, Params, logits, unembedding
from jaxgpt.model.layers import apply_rope
from jaxgpt.model.parameters import final_norm, position_embedding
from jaxgpt.text.tokenizer import Tokenizer

AMONG = 5_000  # neighbours are looked for among the most frequent tokens: rarer ones were hardly seen


def is_by_frequency(tokenizer: Tokenizer) -> bool:
    """Returns whether the ids of a vocabulary go from frequent to rare, as those of words do."""
    return tokenizer.kind == "word"


def ordinary_tokens(tokenizer: Tokenizer, counts_V: np.ndarray | None = None, most: int = AMONG) -> np.ndarray:
    """Returns the most frequent tokens that are not special, by how often each was counted in training text.

    A vocabulary that is in that order itself is taken as it is, and so is one of which nothing was counted.
    """
    ids = np.arange(tokenizer.vocab_size)
    if counts_V is not None and not is_by_frequency(tokenizer):
        ids = np.argsort(-counts_V, kind="stable")[: np.count_nonzero(counts_V)]
    ids = ids[:most]
    return ids[~np.isin(ids, tokenizer.special.ids)]


class Activations(NamedTuple):
    """One text on its way through the model, L blocks of N heads each; float32 on the host."""

    weights_LNTS: np.ndarray
    """How much of its attention query t gives to key s; rows add up to 1."""
    residual_KTD: np.ndarray
    """The residual stream: as it enters the first block, then after each block; K = L + 1."""
    log_p_KTV: np.ndarray
    """Log-probabilities of the next token, were the model to end there (the logit lens, nostalgebraist 2020)."""


class LastActivations(NamedTuple):
    """The same of a text's last token alone."""

    weights_LNS: np.ndarray
    residual_KD: np.ndarray
    log_p_KV: np.ndarray


def activations(params: Params, config: ModelConfig, tokens_T: Sequence[int]) -> Activations:
    """Returns what the model does with one text, no longer than its context."""
    kept = _activations(params, config, jnp.asarray(tokens_T, jnp.int32))
    return Activations(*(np.asarray(x) for x in kept))


def last_activations(params: Params, config: ModelConfig, tokens_T: Sequence[int]) -> LastActivations:
    """Returns what the model does with the last token of a text; one program serves texts of all lengths."""
    T = len(tokens_T)
    padded_T = np.zeros(config.context_len, np.int32)  # what comes after a token changes nothing for it
    padded_T[:T] = tokens_T
    weights_LNS, *others = (np.asarray(x) for x in _last_activations(params, config, padded_T, T - 1))
    return LastActivations(weights_LNS[..., :T], *others)


@partial(jax.jit, static_argnums=1)
def _activations(params: Params, config: ModelConfig, tokens_T: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    weights, residual_KTD = _kept(params, config, tokens_T)
    return jnp.stack(weights).astype(jnp.float32), residual_KTD, _lens(params, config, residual_KTD)


@partial(jax.jit, static_argnums=1)
def _last_activations(
    params: Params, config: ModelConfig, tokens_T: jax.Array | np.ndarray, place: jax.Array | int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    weights, residual_KTD = _kept(params, config, jnp.asarray(tokens_T))
    weights_LNS = jnp.stack([weights_NTS[:, place] for weights_NTS in weights]).astype(jnp.float32)
    residual_KD = residual_KTD[:, place]
    return weights_LNS, residual_KD, _lens(params, config, residual_KD)


def _kept(params: Params, config: ModelConfig, tokens_T: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """Returns (weights_NTS of each block, residual_KTD in float32)."""
    outputs: Any = GPT(config).apply({"params": params}, tokens_T[None], mutable="intermediates")
    kept = outputs[1]["intermediates"]
    T = len(tokens_T)
    weights = [kept[f"block_{i}"]["attention"]["weights_BKGTS"][0] for i in range(config.num_layers)]
    residual_KTD = jnp.concatenate(kept["residual_BTD"]).astype(jnp.float32)
    return [x.reshape(config.num_heads, T, T) for x in weights], residual_KTD


def _lens(params: Params, config: ModelConfig, residual_KxD: jax.Array) -> jax.Array:
    """Returns log_p_KxV: the head's answer to each vector of the residual stream."""
    normed_KxD = final_norm(params, config, residual_KxD)
    log_p = jax.nn.log_softmax(logits(unembedding(params), normed_KxD, config.vocab_size))
    return log_p[..., : config.vocab_size]


def likeliest(log_p_V: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Returns (id, probability) of the likeliest tokens."""
    return [(int(id), float(np.exp(log_p_V[id]))) for id in np.argsort(-log_p_V, kind="stable")[:count]]


def turned(before_D: np.ndarray, after_D: np.ndarray) -> float:
    """Returns the angle between two vectors, in degrees."""
    cosine = float(before_D @ after_D) / max(float(np.linalg.norm(before_D) * np.linalg.norm(after_D)), 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


class Losses(NamedTuple):
    """For every token of a batch: its loss in nats, and the token the model thought likeliest instead or too."""

    nats_BT: np.ndarray
    guess_BT: np.ndarray


def losses(params: Params, config: ModelConfig, batch: Batch) -> Losses:
    """Returns what each target of a batch costs; tokens without weight are scored too."""
    return Losses(*(np.asarray(x) for x in _losses(params, config, batch)))


@partial(jax.jit, static_argnums=1)
def _losses(params: Params, config: ModelConfig, batch: Batch) -> tuple[jax.Array, jax.Array]:
    outputs: Any = GPT(config).apply({"params": params}, batch.tokens, batch.segments, batch.positions)
    head_VD = unembedding(params)

    def row(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden_TD, targets_T = inputs
        scores_TV = logits(head_VD, hidden_TD, config.vocab_size)
        target_T = jnp.take_along_axis(scores_TV, targets_T[:, None], axis=-1)[:, 0]
        return jax.nn.logsumexp(scores_TV, axis=-1) - target_T, jnp.argmax(scores_TV, axis=-1)

    return jax.lax.map(row, (outputs[0], jnp.asarray(batch.targets)))  # a row at a time: logits are large


def directions(table_VD: np.ndarray) -> np.ndarray:
    """Returns the rows at length 1: what is left of a token's vector when its size is set aside."""
    table_VD = np.asarray(table_VD, np.float32)
    return table_VD / np.maximum(np.linalg.norm(table_VD, axis=1, keepdims=True), 1e-12)


def project(rows_ND: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns (xy_N2, share of the variance they keep): the plane in which the rows differ most (PCA).

    By the eigenvectors of D x D products: for many rows far faster than their singular vectors, which are the same.
    """
    centred_ND = np.asarray(rows_ND - rows_ND.mean(axis=0), np.float64)
    variance_D, axes_DD = np.linalg.eigh(centred_ND.T @ centred_ND)  # in rising order
    total = float(np.sum(variance_D))
    return centred_ND @ axes_DD[:, :-3:-1], float(np.sum(variance_D[-2:])) / total if total > 0 else 0.0


def clusters(directions_ND: np.ndarray, count: int, rounds: int = 25) -> np.ndarray:
    """Returns the cluster_N, below `count`, of rows of length 1: spherical k-means (Dhillon and Modha 2001).

    It starts from the first row and, one after the other, the row farthest from those it has: no chance is in it.
    """
    centres_KD = directions_ND[:1]
    for _ in range(min(count, len(directions_ND)) - 1):
        farthest = int(np.argmin(np.max(directions_ND @ centres_KD.T, axis=1)))
        centres_KD = np.concatenate([centres_KD, directions_ND[farthest : farthest + 1]])
    for _ in range(rounds):
        cluster_N = np.argmax(directions_ND @ centres_KD.T, axis=1)
        sums_KD = np.stack([directions_ND[cluster_N == k].sum(axis=0) for k in range(len(centres_KD))])
        centres_KD = directions(sums_KD)
    return np.argmax(directions_ND @ centres_KD.T, axis=1)


def neighbours(directions_VD: np.ndarray, token: int, count: int) -> list[tuple[int, float]]:
    """Returns (id, cosine) of the `count` tokens whose vectors point most nearly where this one's points."""
    return neighbours_of_each(directions_VD, [token], count)[0]


def neighbours_of_each(directions_VD: np.ndarray, tokens: Sequence[int], count: int) -> list[list[tuple[int, float]]]:
    """Returns the `neighbours` of each of some tokens, in a fraction of the time."""
    cosine_NV = directions_VD[list(tokens)] @ directions_VD.T
    cosine_NV[np.arange(len(tokens)), list(tokens)] = -np.inf  # itself
    count = min(count, len(directions_VD) - 1)
    found_NK = np.argpartition(-cosine_NV, np.arange(count), axis=1)[:, :count]
    return [[(int(i), float(cosine_V[i])) for i in ids] for ids, cosine_V in zip(found_NK, cosine_NV, strict=True)]


def position_similarity(params: Params, config: ModelConfig, most: int = 64) -> np.ndarray:
    """Returns similarity_PP of positions, at most `most` of them evenly spread: 1 on the diagonal.

    Learned positions: the cosine of their vectors. Rotary ones: of the same query or key, rotated to two places.
    """
    places = np.unique(np.linspace(0, config.context_len - 1, min(most, config.context_len)).round().astype(int))
    if (learned_TD := position_embedding(params)) is not None:
        rows_PD = directions(np.asarray(learned_TD))[places]
    else:
        same_BTNH = jnp.ones((1, len(places), 1, config.head_size))
        rows_PD = directions(np.asarray(apply_rope(same_BTNH, jnp.asarray(places)[None], config))[0, :, 0])
    return rows_PD @ rows_PD.T


class Habit(NamedTuple):
    """Where a head looks in one text, as shares of its attention, the first two tokens' queries left out."""

    itself: float
    before: float
    first: float


def habit(weights_TS: np.ndarray) -> Habit:
    """Returns the shares of attention given to the token itself, the one before it, and the first of all."""
    later = range(min(2, len(weights_TS) - 1), len(weights_TS))
    return Habit(
        float(np.mean([weights_TS[t, t] for t in later])),
        float(np.mean([weights_TS[t, max(0, t - 1)] for t in later])),
        float(np.mean([weights_TS[t, 0] for t in later])),
    )


REPEATED = 16  # random tokens that are shown twice


def copying(params: Params, config: ModelConfig, ids_V: np.ndarray) -> np.ndarray:
    """Returns copying_LN of every head: its prefix matching score (Olsson et al. 2022), from 0 to 1.

    Random tokens of `ids_V` are shown twice in a row; a token of the second time should look at the one that came after
    it the first time. Heads that do are induction heads: what followed then is what they say comes next.
    """
    length = min(REPEATED, config.context_len // 2)
    half_T = np.random.default_rng(0).choice(ids_V, length, replace=len(ids_V) < length)
    weights_LNTS = np.asarray(_attention_weights(params, config, jnp.asarray(np.tile(half_T, 2), jnp.int32)))
    later_T = np.arange(length, 2 * length)
    return weights_LNTS[:, :, later_T, later_T - length + 1].mean(axis=-1)


@partial(jax.jit, static_argnums=1)
def _attention_weights(params: Params, config: ModelConfig, tokens_T: jax.Array) -> jax.Array:
    return jnp.stack(_kept(params, config, tokens_T)[0]).astype(jnp.float32)
