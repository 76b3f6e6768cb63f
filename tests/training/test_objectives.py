"""What preferences and rewards make small: by hand, from probabilities alone, and through a model."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgpt.config import Config, DataConfig, ModelConfig, ObjectiveConfig
from jaxgpt.data.batch import BRANCHES, Batch
from jaxgpt.data.packing import Answered, answered_rows
from jaxgpt.model.gpt import GPT, logits, unembedding
from jaxgpt.training.objectives import (
    LEAST_PAIR,
    OBJECTIVES,
    log_probs,
    next_token,
    preference_loss,
    reward_loss,
)

# Two pairs in the first row, one in the second; 0 is padding.
ONE, OTHER = BRANCHES, 2 * BRANCHES
SEGMENTS = np.array(
    [
        [ONE] * 4 + [ONE + 1] * 2 + [ONE + 2] * 2 + [OTHER] * 6 + [OTHER + 1] * 2 + [OTHER + 2] * 3 + [0] * 5,
        [ONE] * 10 + [ONE + 1] * 4 + [ONE + 2] * 3 + [0] * 7,
    ]
)
B, T = SEGMENTS.shape
ANSWERS = (SEGMENTS % BRANCHES > 0).astype(int)


def random(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pairs_batch() -> tuple[jax.Array, Batch]:
    """Returns (log-probabilities, a batch of three pairs)."""
    weights = ANSWERS.astype(np.float32)
    log_p, reference = (-np.abs(random(B, T, seed=seed)) * weights for seed in (0, 1))
    empty = np.zeros((B, T), np.int32)
    return jnp.asarray(log_p), Batch(empty, empty, weights, SEGMENTS, None, reference)


def margins(log_p, batch: Batch, beta: float) -> list[float]:
    """Returns the margin of each pair, as the paper has it."""
    found = []
    for row, first in ((0, ONE + 1), (0, OTHER + 1), (1, ONE + 1)):
        better, worse = (batch.segments[row] == first), (batch.segments[row] == first + 1)
        ahead = (np.asarray(log_p) - batch.reference)[row]
        found.append(beta * (ahead[better].sum() - ahead[worse].sum()))
    return found


@pytest.mark.parametrize(("beta", "smoothing"), [(0.1, 0.0), (0.5, 0.2)])
def test_a_pair_costs_what_the_paper_says(beta, smoothing):
    log_p, batch = pairs_batch()
    loss, pairs, measures = preference_loss(log_p, batch, ObjectiveConfig(beta=beta, label_smoothing=smoothing))
    wanted = margins(log_p, batch, beta)
    sigmoid = 1 / (1 + np.exp(-np.array(wanted)))
    expected = -(1 - smoothing) * np.log(sigmoid) - smoothing * np.log(1 - sigmoid)
    np.testing.assert_allclose(loss, expected.sum(), rtol=1e-5)
    assert float(pairs) == 3
    np.testing.assert_allclose(measures["margin"], [sum(wanted), 3], rtol=1e-5)
    np.testing.assert_allclose(measures["preferred"], [sum(margin > 0 for margin in wanted), 3])


def test_what_equals_its_reference_costs_log_2_and_the_better_answer_can_be_held():
    _, batch = pairs_batch()
    loss, pairs, _ = preference_loss(jnp.asarray(batch.reference), batch, ObjectiveConfig(beta=0.1))
    np.testing.assert_allclose(loss / pairs, np.log(2), rtol=1e-6)
    held, _, _ = preference_loss(jnp.asarray(batch.reference), batch, ObjectiveConfig(beta=0.1, next_token_weight=0.5))
    of_better = -(batch.reference * (batch.segments % BRANCHES == 1)).sum()
    np.testing.assert_allclose(held - loss, 0.5 * of_better, rtol=1e-5)


def test_every_pair_that_a_row_can_hold_is_counted():
    pair = Answered([0, 1, 2], [([3], 1), ([4], 1)])  # a role, an end, a role; and an end each
    assert pair.size == LEAST_PAIR
    tokens, targets, weights, segments, positions = np.moveaxis(answered_rows([[pair] * 5], (1, 5 * LEAST_PAIR)), 1, 0)
    batch = Batch(tokens, targets, weights, segments, positions, np.zeros(weights.shape, np.float32))
    _, pairs, _ = preference_loss(jnp.zeros(weights.shape), batch, ObjectiveConfig())
    assert float(pairs) == 5


def answers_batch(drawn: bool) -> tuple[jax.Array, Batch]:
    """Returns (log-probabilities, a batch of four answers, the last one drawn three times)."""
    weights = np.zeros((4, 6), np.float32)
    for row, (first, last) in enumerate([(1, 3), (2, 6), (0, 4), (3, 5)]):
        weights[row, first:last] = 3 if row == 3 else 1
    is_there = weights > 0
    log_p, reference, before = (-np.abs(random(4, 6, seed=seed)) * is_there for seed in (2, 3, 4))
    advantages = np.array([0.75, -0.25, 0.5, -0.25], np.float32)[:, None] * is_there
    empty = np.zeros((4, 6), np.int32)
    return jnp.asarray(log_p), Batch(
        empty, empty, weights, reference=reference, drawn=before if drawn else None, advantages=advantages
    )


def test_an_answer_gains_its_clipped_advantage_and_pays_for_leaving_the_reference():
    log_p, batch = answers_batch(drawn=True)
    config = ObjectiveConfig(beta=0.3, clip=0.2)
    loss, answers, measures = reward_loss(log_p, batch, config)
    expected = kl = clipped = 0.0
    for row, t in zip(*np.nonzero(batch.weights), strict=True):
        ratio = np.exp(log_p[row, t] - batch.drawn[row, t])
        advantage, lead = batch.advantages[row, t], batch.reference[row, t] - log_p[row, t]
        gain = min(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
        times = batch.weights[row, t]
        kl += times * (np.exp(lead) - lead - 1)
        clipped += times * (gain != ratio * advantage)
        expected += times * (0.3 * (np.exp(lead) - lead - 1) - gain)
    tokens = batch.weights.sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert float(answers) == 6  # three, and one three times
    np.testing.assert_allclose(measures["kl"], [kl, tokens], rtol=1e-5)
    np.testing.assert_allclose(measures["clipped"], [clipped, tokens])
    np.testing.assert_allclose(measures["entropy"], [-(batch.weights * log_p).sum(), tokens], rtol=1e-5)


def test_answers_that_share_a_row_count_as_answers_with_rows_of_their_own():
    log_p, batch = answers_batch(drawn=True)
    config = ObjectiveConfig(beta=0.3, clip=0.2)

    def side_by_side(x_BT: np.ndarray) -> np.ndarray:
        return np.pad(x_BT, ((0, 0), (1, 0))).reshape(2, -1)  # the end of one answer does not touch the next one

    together = reward_loss(side_by_side(np.asarray(log_p)), jax.tree.map(side_by_side, batch), config)
    chex.assert_trees_all_close(together, reward_loss(log_p, batch, config), rtol=1e-6)


def test_answers_side_by_side_are_told_apart_by_their_segments():
    zeros = np.zeros((1, 6), np.float32)
    weights, segments = np.array([[0, 1, 1, 3, 3, 0]], np.float32), np.array([[8, 9, 9, 10, 10, 0]])
    batch = Batch(zeros, zeros, weights, segments, reference=zeros, advantages=zeros)
    _, answers, _ = reward_loss(jnp.asarray(zeros), batch, ObjectiveConfig())
    assert float(answers) == 4


def test_one_update_without_a_reference_is_reinforce():
    log_p, batch = answers_batch(drawn=False)
    config = ObjectiveConfig(beta=0.0)
    grads = jax.grad(lambda log_p: reward_loss(log_p, batch, config)[0])(log_p)
    chex.assert_trees_all_close(grads, -batch.weights * batch.advantages)


@pytest.mark.parametrize("name", [pytest.param("dpo", marks=pytest.mark.long), "grpo"])
def test_text_beside_has_a_loss_of_its_own_at_no_temperature_and_leaves_the_rest(name):
    model = ModelConfig(vocab_size=50, context_len=16, embed_dim=16, num_heads=2, num_layers=1, dropout=0.0)
    config = Config(model, DataConfig(seq_len=16), objective=ObjectiveConfig(name=name, temperature=0.7))
    tokens, rows = np.random.default_rng(0).integers(0, 50, (3, 17)), np.array([[1.0], [1.0], [0.0]], np.float32)
    segments = np.array([[ONE] * 6 + [ONE + 1] * 5 + [ONE + 2] * 5] * 2 + [[1] * 16])
    weights = (segments % BRANCHES > 0) * rows
    numbers = random(3, 16, seed=5) * weights
    alone = Batch(tokens[:, :-1], tokens[:, 1:], weights, segments, None, numbers, advantages=numbers)
    beside = alone._replace(rehearsed=np.broadcast_to(1 - rows, (3, 16)))
    text = alone._replace(weights=beside.rehearsed)
    params = nn.unbox(GPT(model).init(jax.random.key(0), alone.tokens))["params"]

    def loss(params, batch, objective):
        sums = objective(params, batch, config, None)
        return sums[0], sums

    with_gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=2)
    grads, (loss_beside, count, measures) = with_gradient(params, beside, OBJECTIVES[name])
    of_answers, (loss_alone, answers, _) = with_gradient(params, alone, OBJECTIVES[name])
    of_text, (nats, tokens_of_text, _) = with_gradient(params, text, next_token)
    chex.assert_trees_all_close(grads, jax.tree.map(jnp.add, of_answers, of_text), atol=1e-5)
    np.testing.assert_allclose(loss_beside, loss_alone + nats, rtol=1e-5)
    np.testing.assert_allclose(measures["loss"], [loss_alone, answers], rtol=1e-5)
    np.testing.assert_allclose(measures["text_loss"], [nats, tokens_of_text], rtol=1e-5)
    assert float(count) == float(answers)


def test_beside_conversations_text_counts_token_by_token():
    model = ModelConfig(vocab_size=50, context_len=16, embed_dim=16, num_heads=2, num_layers=1, dropout=0.0)
    config = Config(model, DataConfig(seq_len=16))
    tokens, rows = np.random.default_rng(0).integers(0, 50, (2, 17)), np.array([[1.0], [0.0]], np.float32)
    whole = Batch(tokens[:, :-1], tokens[:, 1:], np.ones((2, 16), np.float32))
    beside = whole._replace(weights=whole.weights * rows, rehearsed=whole.weights * (1 - rows))
    parts = [beside._replace(weights=weights, rehearsed=None) for weights in (beside.weights, beside.rehearsed)]
    params = nn.unbox(GPT(model).init(jax.random.key(0), whole.tokens))["params"]

    @jax.jit
    def with_gradient(params, batch):
        return jax.grad(lambda params: next_token(params, batch, config, None)[::2], has_aux=True)(params)

    (grads, measures), (expected, _) = with_gradient(params, beside), with_gradient(params, whole)
    chex.assert_trees_all_close(grads, expected, atol=1e-6)
    of_replies, of_text = (with_gradient(params, part)[1]["loss"] for part in parts)
    np.testing.assert_allclose(measures["loss"], of_replies, rtol=1e-5)
    np.testing.assert_allclose(measures["text_loss"], of_text, rtol=1e-5)


def test_probabilities_are_those_of_the_logits_at_a_temperature_and_differentiable():
    model = ModelConfig(vocab_size=50, context_len=16, embed_dim=16, num_heads=2, num_layers=1, dropout=0.5)
    config = Config(model=model, data=DataConfig(seq_len=16))
    tokens = np.random.default_rng(0).integers(0, 50, (2, 17))
    weights = np.ones((2, 16), np.float32)
    weights[0, :5] = 0
    batch = Batch(tokens[:, :-1], tokens[:, 1:], weights)
    params = GPT(model).init(jax.random.key(0), batch.tokens)["params"]
    params = jax.tree.map(
        lambda x: x.value if hasattr(x, "value") else x, params, is_leaf=lambda x: hasattr(x, "value")
    )

    def by_logits(params):
        hidden, _ = GPT(model).apply({"params": params}, batch.tokens)
        log_p = jax.nn.log_softmax(logits(unembedding(params), hidden, 50) / 0.7)
        return weights * jnp.take_along_axis(log_p, batch.targets[..., None], axis=-1)[..., 0]

    found = log_probs(params, batch, config, 0.7)
    np.testing.assert_allclose(found, by_logits(params), atol=1e-5)
    grads, expected = (
        jax.grad(lambda p, f=f: jnp.sum(jnp.square(f(p))))(params)
        for f in (lambda p: log_probs(p, batch, config, 0.7), by_logits)
    )
    chex.assert_trees_all_close(grads, expected, rtol=1e-4, atol=1e-4)
