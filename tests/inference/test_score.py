"""Scores of texts: the evaluation's own probabilities, however texts stand together; and what is drawn after them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgpt.config import ModelConfig
from jaxgpt.inference.decode import padded
from jaxgpt.inference.generate import banned_tokens, generate
from jaxgpt.inference.score import score, score_sorted
from jaxgpt.inference.slots import SequenceState
from jaxgpt.model.gpt import GPT, logits, unembedding
from jaxgpt.ops.sampling import GREEDY
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

TOKENIZER = WordTokenizer(SPECIAL + tuple(f"w{i}" for i in range(60 - len(SPECIAL))))
CONFIG = ModelConfig(vocab_size=60, context_len=64, embed_dim=32, num_heads=4, num_layers=2)
BANNED = banned_tokens(TOKENIZER, TOKENIZER.special.eos)
TEXTS = [[1 + (7 * i + j * j) % 59 for j in range(length)] for i, length in enumerate((64, 1, 33, 2, 17))]


@pytest.fixture(scope="module")
def params():
    initial = nn.unbox(GPT(CONFIG).init(jax.random.key(3), jnp.zeros((1, 2), jnp.int32)))["params"]
    return jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, initial)


def scored(params, candidates, texts=TEXTS):
    key = np.asarray(jax.random.key_data(jax.random.key(0)))
    states = [SequenceState(list(text), key, TOKENIZER.special.eos, 0.0, candidates=candidates) for text in texts]
    return score(params, CONFIG, padded(BANNED, CONFIG), states)


def plain_log_p(params, text) -> np.ndarray:
    """Log-probabilities of every next token of one text, by the model alone."""
    hidden, _ = GPT(CONFIG).apply({"params": params}, jnp.asarray([text + [0] * (64 - len(text))]))
    return np.asarray(jax.nn.log_softmax(logits(unembedding(params), hidden[0], 60)[:, :60]))[: len(text)]


@pytest.mark.parametrize("candidates", [1, 5])
def test_scores_are_the_models_probabilities_and_no_token_is_ruled_out(params, candidates):
    for text, found in zip(TEXTS, scored(params, candidates), strict=True):
        log_p_TV = plain_log_p(params, text)
        assert [output.token for output in found.outputs] == text[1:]
        expected = [log_p_V[token] for log_p_V, token in zip(log_p_TV, text[1:], strict=False)]
        np.testing.assert_allclose([output.logprob for output in found.outputs], expected, atol=1e-5)
        for output, log_p_V in zip(found.outputs, log_p_TV, strict=False):
            assert [id for id, _ in output.candidates] == np.argsort(-log_p_V)[:candidates].tolist()
            np.testing.assert_allclose(
                [p for _, p in output.candidates], np.sort(log_p_V)[::-1][:candidates], atol=1e-5
            )
            assert (output.token == output.candidates[0][0]) == (output.logprob == output.candidates[0][1])


def test_the_token_that_follows_is_the_decoders(params):
    stop = TOKENIZER.special.eos
    for text, found in zip(TEXTS[1:], scored(params, 1)[1:], strict=True):
        expected = generate(params, CONFIG, [text], jax.random.key(0), GREEDY, BANNED, None, 1)[0]
        assert [found.following.token] == expected
        log_p_V = np.where(BANNED, -np.inf, plain_log_p(params, text)[-1])
        log_p_V -= np.logaddexp.reduce(log_p_V)
        np.testing.assert_allclose(found.following.logprob, log_p_V[found.following.token], atol=1e-5)
        assert not BANNED[stop]


def test_many_texts_are_scored_in_any_order(params):
    texts = [text for text in TEXTS * 5 if len(text) > 1]
    found = dict(score_sorted(params, CONFIG, padded(BANNED, CONFIG), texts))
    assert sorted(found) == list(range(len(texts)))
    for number, text in enumerate(texts):
        assert [output.token for output in found[number]] == text[1:]
        for one, other in zip(found[number], found[number % 4], strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-5)


def test_a_text_longer_than_the_context_is_refused(params):
    with pytest.raises(ValueError, match="65 tokens"):
        scored(params, 1, [[1] * 65])
