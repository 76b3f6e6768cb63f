"""What training changes, and checkpoints keep."""

from typing import NamedTuple

import jax
import optax

from jaxgpt.model.gpt import Params


class TrainState(NamedTuple):
    """Everything a step changes. With the config and the data it decides all that follows."""

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    frozen: Params = None
    """Parameters that stay as they are: those beside which `params` are adapters (`model.lora`), or the reference that
    grpo stays near. None: neither."""
