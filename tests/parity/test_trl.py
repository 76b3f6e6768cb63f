"""The losses of preferences and rewards, and their gradients, beside trl's on the same log-probabilities."""

import types
from unittest.mock import MagicMock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer

from jaxgpt.config import ObjectiveConfig
from jaxgpt.data.batch import BRANCHES, Batch
from jaxgpt.training.objectives import preference_loss, reward_loss
from tests.training.test_objectives import random

B, T = 6, 9  # answers, and the most tokens of one
LENGTHS = np.array([9, 4, 7, 1, 5, 8])
MASK = (np.arange(T) < LENGTHS[:, None]).astype(np.float32)
LOG_P, REFERENCE, DRAWN = (-np.abs(random(B, T, seed=seed)) * MASK for seed in range(3))


def trainer(**settings) -> MagicMock:
    """A trainer of which only its loss is asked: what it logs goes nowhere."""
    made = MagicMock()
    made.accelerator.device, made.accelerator.num_processes = "cpu", 1
    made.accelerator.gather = made.accelerator.gather_for_metrics = lambda x: x
    made.aux_loss_enabled = made.use_vllm = made.use_weighting = made._entropy_bonus_enabled = False
    made._tp_size, made._total_train_tokens = 1, 0
    for name, value in settings.items():
        setattr(made, name, value)
    return made


def theirs(made: MagicMock, compute, inputs, log_p: torch.Tensor) -> tuple[float, np.ndarray]:
    loss = compute(made, inputs)
    loss.backward()
    assert log_p.grad is not None
    return float(loss.detach()), log_p.grad.numpy()


def test_preferences():
    """Rows 0 to 2 are the better answers of three pairs, 3 to 5 the worse ones; ours lie two in a row."""
    log_p = torch.tensor(LOG_P, requires_grad=True)
    made = trainer(
        beta=0.3,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=["sigmoid"],
        loss_weights=[1.0],
        current_gradient_accumulation_steps=1,
    )
    sums = torch.tensor(REFERENCE.sum(axis=1))
    mask = torch.tensor(np.concatenate([np.zeros((B, 1)), MASK], axis=1)).long()
    inputs = {
        "input_ids": torch.zeros(B, T + 1, dtype=torch.long),
        "attention_mask": mask,
        "completion_mask": mask,
        "ref_chosen_logps": sums[:3],
        "ref_rejected_logps": sums[3:],
    }
    told = dict.fromkeys(("entropy", "mean_logits"), torch.zeros(B, T))

    def model(**_):
        return types.SimpleNamespace(
            log_probs=log_p * torch.tensor(MASK), is_top1=torch.zeros(B, T, dtype=torch.bool), **told
        )

    wanted, grads = theirs(
        made, lambda made, inputs: DPOTrainer._compute_loss(made, model, inputs, False), inputs, log_p
    )

    def beside(x):
        return jnp.concatenate([x[:3], x[3:]], axis=1)

    segments = np.repeat([[BRANCHES + 1, BRANCHES + 2]], T, axis=1).repeat(3, axis=0)
    empty = np.zeros((3, 2 * T), np.int32)
    batch = Batch(empty, empty, beside(MASK), segments, None, beside(REFERENCE))

    def ours(log_p):
        loss, pairs, _ = preference_loss(beside(log_p), batch, ObjectiveConfig(beta=0.3))
        return loss / pairs

    loss, own = jax.value_and_grad(ours)(jnp.asarray(LOG_P))
    np.testing.assert_allclose(loss, wanted, atol=1e-5)
    np.testing.assert_allclose(own, grads, atol=1e-5)


@pytest.mark.parametrize(("beta", "drawn"), [(0.0, False), (0.2, False), (0.2, True)])
def test_rewards(beta, drawn):
    log_p = torch.tensor(LOG_P, requires_grad=True)
    advantages = random(B, seed=5)
    made = trainer(
        beta=beta,
        epsilon_low=0.2,
        epsilon_high=0.2,
        loss_type="dr_grpo",
        max_completion_length=T,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        current_gradient_accumulation_steps=1,
    )
    made.args.delta, made.args.use_bias_correction_kl = None, False
    made._get_per_token_logps_and_entropies.return_value = log_p, torch.zeros(B, T), None
    inputs = {
        "prompt_ids": torch.zeros(B, 1, dtype=torch.long),
        "prompt_mask": torch.ones(B, 1, dtype=torch.long),
        "completion_ids": torch.zeros(B, T, dtype=torch.long),
        "completion_mask": torch.tensor(MASK),
        "advantages": torch.tensor(advantages),
        "ref_per_token_logps": torch.tensor(REFERENCE),
        "old_per_token_logps": torch.tensor(DRAWN) if drawn else None,
    }
    wanted, grads = theirs(made, lambda made, inputs: GRPOTrainer._compute_loss(made, None, inputs), inputs, log_p)
    empty = np.zeros((B, T), np.int32)
    batch = Batch(
        *(empty, empty, MASK),
        reference=REFERENCE,
        drawn=DRAWN if drawn else None,
        advantages=advantages[:, None] * MASK,
    )

    def ours(log_p):
        loss, answers, _ = reward_loss(log_p, batch, ObjectiveConfig(beta=beta, clip=0.2))
        return loss / answers / T  # theirs divides by the most tokens an answer may have

    loss, own = jax.value_and_grad(ours)(jnp.asarray(LOG_P))
    np.testing.assert_allclose(loss, wanted, atol=1e-5)
    np.testing.assert_allclose(own, grads, atol=1e-5)
