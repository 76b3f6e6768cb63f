"""Loss over a whole split, every token once."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxgpt.data.sources import Source, in_order
from jaxgpt.model.gpt import Params
from jaxgpt.training.step import Compiled


@dataclass(frozen=True)
class Score:
    """Summed loss in nats and the number of tokens it was summed over."""

    nats: float
    tokens: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the loss: as unsure as a fair choice among this many words."""
        return math.exp(min(self.loss, 700.0))


def evaluate(
    compiled: Compiled, params: Params, source: Source, batch_size: int, before_batch: Callable[[], None] | None = None
) -> Score:
    """Returns the score of a source's weighted tokens; sums are added in float64 on the host.

    `before_batch` is called before each batch: it may raise, to leave early.
    """
    sums = []
    for batch in in_order(source, batch_size):
        if before_batch is not None:
            before_batch()
        sums.append(compiled.eval_step(params, compiled.put(batch)))
    nats = float(np.sum([np.float64(loss) for loss, _ in sums]))
    tokens = round(float(np.sum([np.float64(weight) for _, weight in sums])))
    return Score(nats, tokens)
