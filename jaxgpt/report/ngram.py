"""The loss of a model that only counts: how often a token followed the two before it. A yardstick for those that learn.

Interpolated counts (Jelinek and Mercer 1980): the probabilities that the last two tokens, the last one and none of them
give to the next are mixed, with weights that depend on how often the two were seen, fitted on text not counted.
"""

import numpy as np

from jaxgpt.data.reopen import kept_streams
from jaxgpt.run.folder import Run

GROUPS = 16  # of contexts, by the logarithm of how often they were seen
ROUNDS = 20  # of fitting the weights
HELD_OUT = 10  # the last tenth of the training text is what they are fitted on
MOST_TOKENS = 5_000_000  # of training text: with more, counting would hold up a report


def yardstick(run: Run) -> float | None:
    """Returns the validation loss of counting, in nats per token, for the tokens of a run on text.

    None where the run's encoded text is not in its cache, or there is so much of it that counting takes long.
    """
    streams = kept_streams(run.data, run.tokenizer, run.config.data)
    if "train" not in streams or "valid" not in streams:
        return None
    train, valid = streams["train"], streams["valid"]
    if not HELD_OUT <= len(train) <= MOST_TOKENS or not len(valid):
        return None
    return ngram_loss(train.all(), valid.all(), run.tokenizer.vocab_size, run.tokenizer.special.bos)


def ngram_loss(train_N: np.ndarray, valid_N: np.ndarray, vocab_size: int, start: int) -> float:
    """Returns the mean loss, in nats, of the tokens of one text by the counts of another; `start` precedes both."""
    cut = len(train_N) - len(train_N) // HELD_OUT
    weights_GK = fit(*components(train_N[:cut], train_N[cut:], vocab_size, start))
    p_NK, group_N = components(train_N, valid_N, vocab_size, start)
    return float(-np.mean(np.log(np.sum(weights_GK[group_N] * p_NK, axis=1))))


def components(train_N: np.ndarray, text_N: np.ndarray, vocab_size: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (p_NK, group_N): each token's probability by K = 4 counts, and the group of the two tokens before it.

    Any token alike; the token's frequency; after the last token; after the last two. A context that was never seen
    gives what the shorter one gives, so each of the four adds up to 1 over all tokens.
    """
    counted, asked = _keys(train_N, vocab_size, start), _keys(text_N, vocab_size, start)
    p = [np.full(len(text_N), 1 / vocab_size)]
    seen_N = np.full(len(text_N), len(train_N))
    for order, (context_N, gram_N) in enumerate(asked):
        if order:
            seen_N = _times(counted[order][0], context_N)
        p.append(np.where(seen_N > 0, _times(counted[order][1], gram_N) / np.maximum(seen_N, 1), p[-1]))
    return np.stack(p, axis=1), np.minimum(np.log2(seen_N + 1).astype(int), GROUPS - 1)


def fit(p_NK: np.ndarray, group_N: np.ndarray) -> np.ndarray:
    """Returns the weights_GK that make the tokens likeliest, by expectation maximisation; each row adds up to 1."""
    weights_GK = np.full((GROUPS, p_NK.shape[1]), 1 / p_NK.shape[1])
    for _ in range(ROUNDS):
        share_NK = weights_GK[group_N] * p_NK
        share_NK /= share_NK.sum(axis=1, keepdims=True)
        # One more token, shared alike: a group without tokens has weights too, and no weight is 0.
        sums_GK = np.stack([np.bincount(group_N, share_N, GROUPS) for share_N in share_NK.T], axis=1)
        weights_GK = sums_GK + 1 / p_NK.shape[1]
        weights_GK /= weights_GK.sum(axis=1, keepdims=True)
    return weights_GK


def _keys(text_N: np.ndarray, vocab_size: int, start: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns for each order (a number for the context of each token, a number for the context with the token)."""
    token_N = np.asarray(text_N, np.int64)
    before_N, earlier_N = (np.concatenate([np.full(n, start), token_N])[: len(token_N)] for n in (1, 2))
    pair_N = before_N * vocab_size + token_N
    two_N = earlier_N * vocab_size + before_N
    return [(np.zeros_like(token_N), token_N), (before_N, pair_N), (two_N, two_N * vocab_size + token_N)]


def _times(among_N: np.ndarray, keys_M: np.ndarray) -> np.ndarray:
    """Returns how often each key is among the others."""
    sorted_N = np.sort(among_N)
    return np.searchsorted(sorted_N, keys_M, "right") - np.searchsorted(sorted_N, keys_M, "left")
