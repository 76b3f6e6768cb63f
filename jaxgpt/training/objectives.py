"""What training makes small: a loss of parameters and a batch, an argument of the step."""

from collections.abc import Callable

import jax

from jaxgpt.config import Config
from jaxgpt.data.batch import Batch
from jaxgpt.model.gpt import GPT, Params, unembedding, variables
from jaxgpt.ops.cross_entropy import cross_entropy
from jaxgpt.ops.matmul import precision

Objective = Callable[[Params, Batch, Config, jax.Array | None], tuple[jax.Array, jax.Array]]
"""(params, batch, config, key) -> (summed loss, summed weights); dropout is on when a key is given."""


def next_token(params: Params, batch: Batch, config: Config, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns (summed loss in nats, summed weights): how unlikely each next token was (Bengio et al. 2003)."""
    hidden_BTD, _ = GPT(config.model).apply(
        variables(params),
        batch.tokens,
        batch.segments,
        batch.positions,
        rngs=None if key is None else {"dropout": key},
    )
    return cross_entropy(
        hidden_BTD,
        unembedding(params),
        batch.targets,
        batch.weights,
        config.model.vocab_size,
        precision(config.model.dtype).compute_dtype,
    )
