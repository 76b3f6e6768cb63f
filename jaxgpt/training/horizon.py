"""How many steps a run has, by its epochs or its tokens: what the schedule is laid out over, and where it stops."""

import math
from collections.abc import Sized

from jaxgpt.config import Config
from jaxgpt.data.sources import num_steps
from jaxgpt.errors import UserError
from jaxgpt.training.rollouts import questions_at_once

MOST_STEPS = 2**31  # they are counted in int32


def total_steps(config: Config, train: Sized) -> tuple[int, int]:
    """Returns (the steps of all epochs, which the schedule is laid out over; those until the run stops)."""
    objective = config.objective
    if objective.name == "grpo":
        steps = num_steps(train, questions_at_once(config), config.run.epochs) * objective.updates
    else:
        steps = num_steps(train, config.data.batch_size, config.run.epochs)
    if config.run.train_tokens is not None:
        steps = _steps_of_tokens(config, config.run.train_tokens, steps)
    if steps >= MOST_STEPS:
        raise UserError(
            f"run.epochs: {config.run.epochs} was given, which makes {steps:,} steps; give fewer than 2**31"
        )
    return steps, min(steps, config.run.max_steps or steps)


def _steps_of_tokens(config: Config, tokens: float, steps: int) -> int:
    """Returns the steps of a run of so many tokens; raises UserError where the epochs have fewer."""
    step_tokens = config.data.batch_size * config.data.seq_len
    together = config.objective.updates if config.objective.name == "grpo" else 1  # on the same answers
    wanted = together * max(1, round(tokens / step_tokens / together))
    if wanted > steps:
        passes = f"{config.run.epochs} pass{'es' * (config.run.epochs > 1)}"
        raise UserError(
            f"run.train_tokens: {tokens:,.0f} was given; {passes} over the training data, run.epochs, "
            f"are {steps * step_tokens:,}. Give --run.epochs {math.ceil(wanted / steps * config.run.epochs)}, more "
            "text, or --run.train-tokens None for all epochs and no more"
        )
    return wanted
