"""What training makes small: a loss of parameters and a batch, an argument of the step.

next_token   how unlikely the text was
dpo          how unlikely it is, by the model's own probabilities, that the better of two answers is the better one
grpo         minus the reward to be expected of answers that the model draws itself
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jaxgpt.config import Config, ObjectiveConfig
from jaxgpt.data.batch import BRANCHES, Batch
from jaxgpt.model.gpt import GPT, Params, unembedding, variables
from jaxgpt.ops.cross_entropy import cross_entropy, token_losses
from jaxgpt.ops.matmul import precision

Sums = tuple[jax.Array, jax.Array, dict[str, jax.Array]]
"""What a step reduces, summed, and what that is divided by; and by name what is told of it, the loss too, each as [its
sum, what that is divided by]."""
Objective = Callable[[Params, Batch, Config, jax.Array | None], Sums]
"""(params, batch, config, key) -> sums; dropout is on when a key is given and the objective has any."""

LEAST_PAIR = 4  # tokens of a row that a pair takes: a role, an end, and two answers of which each is an end


def next_token(params: Params, batch: Batch, config: Config, key: jax.Array | None) -> Sums:
    """Returns the loss in nats over weighted tokens: how unlikely each next token was (Bengio et al. 2003).

    Text that is rehearsed counts as replies do, token by token; what it costs is told apart, as text_loss.
    """
    weights_BT = batch.weights if batch.rehearsed is None else batch.weights + batch.rehearsed
    total, losses_BT = cross_entropy(
        _hidden(params, batch, config, key),
        unembedding(params),
        batch.targets,
        weights_BT,
        config.model.vocab_size,
        precision(config.model.dtype).compute_dtype,
    )
    count = jnp.sum(weights_BT)
    if batch.rehearsed is None:
        return total, count, {"loss": jnp.stack([total, count])}
    text = _text_loss(losses_BT, batch.rehearsed)
    return total, count, {"loss": jnp.stack([total, count]) - text, "text_loss": text}


def dpo(params: Params, batch: Batch, config: Config, key: jax.Array | None) -> Sums:
    """Returns `preference_loss` of the model's probabilities; without dropout, as the reference had none."""
    log_p_BT = log_probs(params, batch, config)
    return _with_text_loss(preference_loss(log_p_BT, batch, config.objective), log_p_BT, batch)


def preference_loss(log_p_BT: jax.Array, batch: Batch, config: ObjectiveConfig) -> Sums:
    """Returns the loss in nats over pairs: direct preference optimization (Rafailov et al. 2023, equation 7).

    A row's n-th prompt is segment n * BRANCHES, the better answer to it the segment after that, the worse the next one.
    An answer's reward is beta times the log of how much likelier it is than in the reference. With label smoothing a
    pair may be the wrong way round (Mitchell 2023). Beside it next_token_weight holds the better answer itself likely,
    which the loss alone does not: it asks for a difference only (Pang et al. 2024). Measures: preferred, the share of
    pairs whose better answer has the higher reward; margin, by how much.
    """
    segments_BT, reference_BT = batch.segments, batch.reference
    assert segments_BT is not None, "pairs are packed"
    assert reference_BT is not None, "pairs come with their reference"
    chex.assert_equal_shape([log_p_BT, batch.weights, segments_BT, reference_BT])
    pair_BT, is_better_BT = segments_BT // BRANCHES, segments_BT % BRANCHES == 1  # pair 0 is padding
    is_of_BTP = batch.weights[..., None] * (pair_BT[..., None] == 1 + jnp.arange(pair_BT.shape[1] // LEAST_PAIR))
    reward_BT = config.beta * jnp.where(is_better_BT, 1.0, -1.0) * (log_p_BT - reference_BT)
    margin_BP = jnp.einsum("BT,BTP->BP", reward_BT, is_of_BTP)
    there_BP = jnp.any(is_of_BTP > 0, axis=1)
    right_BP, wrong_BP = -jax.nn.log_sigmoid(margin_BP), -jax.nn.log_sigmoid(-margin_BP)
    loss_BP = (1 - config.label_smoothing) * right_BP + config.label_smoothing * wrong_BP
    unlikely = -jnp.sum(jnp.where(is_better_BT, batch.weights * log_p_BT, 0.0))
    loss = jnp.sum(there_BP * loss_BP) + config.next_token_weight * unlikely
    pairs = jnp.sum(there_BP, dtype=jnp.float32)
    measures = {"loss": loss, "preferred": jnp.sum(there_BP & (margin_BP > 0)), "margin": jnp.sum(margin_BP)}
    return loss, pairs, {name: jnp.stack([x, pairs]) for name, x in measures.items()}


def grpo(params: Params, batch: Batch, config: Config, key: jax.Array | None) -> Sums:
    """Returns `reward_loss` of the model's probabilities; without dropout, as answers are drawn without it."""
    log_p_BT = log_probs(params, batch, config, config.objective.temperature)
    return _with_text_loss(reward_loss(log_p_BT, batch, config.objective), log_p_BT, batch)


def reward_loss(log_p_BT: jax.Array, batch: Batch, config: ObjectiveConfig) -> Sums:
    """Returns the loss over answers: group relative policy optimization (Shao et al. 2024, equation 3).

    An answer's weight is how often it was drawn; before it lies its question, without weight. A token's gain is its
    advantage times the ratio of its probability to that it was drawn with, clipped where going further would pay
    (Schulman et al. 2017). It is summed over an answer, not averaged, and an advantage is not divided by its group's
    spread: the first would let wrong answers off the lighter the longer they are, the second favours what is almost
    always right or wrong (Liu et al. 2025). With one update per draw and beta 0 this is REINFORCE (Williams 1992): its
    gradient is that of advantage times log p. Measures: kl, nats per token from the reference (Schulman 2020, k3);
    entropy, nats per token of what was drawn; clipped, the share of tokens.
    """
    advantages_BT, reference_BT = batch.advantages, batch.reference
    assert advantages_BT is not None, "answers come with their advantages"
    assert reference_BT is not None, "answers come with their reference"
    chex.assert_equal_shape([log_p_BT, batch.weights, advantages_BT, reference_BT])
    drawn_BT = jax.lax.stop_gradient(log_p_BT) if batch.drawn is None else batch.drawn
    ratio_BT = jnp.exp(log_p_BT - drawn_BT)
    within_BT = jnp.clip(ratio_BT, 1 - config.clip, 1 + config.clip)
    gain_BT = jnp.minimum(ratio_BT * advantages_BT, within_BT * advantages_BT)
    lead_BT = reference_BT - log_p_BT
    kl_BT = jnp.exp(lead_BT) - lead_BT - 1
    loss = jnp.sum(batch.weights * (config.beta * kl_BT - gain_BT))
    answers, tokens = jnp.sum(jnp.where(_begins(batch), batch.weights, 0.0)), jnp.sum(batch.weights)
    of_tokens = {"kl": kl_BT, "entropy": -log_p_BT, "clipped": gain_BT < ratio_BT * advantages_BT}
    measures = {name: jnp.stack([jnp.sum(batch.weights * x), tokens]) for name, x in of_tokens.items()}
    return loss, answers, {"loss": jnp.stack([loss, answers])} | measures


def _begins(batch: Batch) -> jax.Array:
    """Returns where an answer begins: what counts after what does not, or a segment after another."""

    def before(x_BT: jax.Array) -> jax.Array:
        return jnp.pad(x_BT, ((0, 0), (1, 0)))[:, :-1]

    begins_BT = before(batch.weights) == 0
    return begins_BT if batch.segments is None else begins_BT | (before(batch.segments) != batch.segments)


def _with_text_loss(sums: Sums, log_p_BT: jax.Array, batch: Batch) -> Sums:
    """Returns an objective's sums with rehearsed text in what is reduced (Ouyang et al. 2022), and as text_loss.

    So a token of text weighs as much as one of an answer that is one better than the mean of its group.
    """
    if batch.rehearsed is None:
        return sums
    loss, count, measures = sums
    text = _text_loss(-log_p_BT, batch.rehearsed)
    return loss + text[0], count, measures | {"text_loss": text}


def _text_loss(losses_BT: jax.Array, rehearsed_BT: jax.Array) -> jax.Array:
    """Returns [nats, tokens] of the text that is rehearsed."""
    return jnp.stack([jnp.sum(rehearsed_BT * losses_BT), jnp.sum(rehearsed_BT)])


OBJECTIVES: dict[str, Objective] = {"next_token": next_token, "dpo": dpo, "grpo": grpo}


def log_probs(params: Params, batch: Batch, config: Config, temperature: float = 1.0) -> jax.Array:
    """Returns log_p_BT of the targets, in nats and without dropout; 0 where nothing counts.

    Those of answers are at a temperature; text that is rehearsed has none.
    """
    hidden_BTD = _hidden(params, batch, config, None)
    counts_BT = batch.weights if batch.rehearsed is None else batch.weights + batch.rehearsed
    if temperature != 1:
        temperature_BT = jnp.where(batch.weights > 0, temperature, 1.0)
        hidden_BTD = hidden_BTD / temperature_BT[..., None]  # and so all logits
    losses_BT = token_losses(
        hidden_BTD,
        unembedding(params),
        batch.targets,
        config.model.vocab_size,
        precision(config.model.dtype).compute_dtype,
    )
    return jnp.where(counts_BT > 0, -losses_BT, 0.0)


def _hidden(params: Params, batch: Batch, config: Config, key: jax.Array | None) -> jax.Array:
    """Returns the network's hidden_BTD, from which tokens are predicted."""
    hidden_BTD, _ = GPT(config.model).apply(
        variables(params),
        batch.tokens,
        batch.segments,
        batch.positions,
        rngs=None if key is None else {"dropout": key},
    )
    return hidden_BTD
