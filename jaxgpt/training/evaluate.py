"""Loss over a whole split, every token once."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import numpy as np

from jaxgpt.config import Config
from jaxgpt.data.batch import Batch
from jaxgpt.data.sources import EMPTY, Source, in_order
from jaxgpt.model.gpt import Params
from jaxgpt.training.step import Compiled


@dataclass(frozen=True)
class Score:
    """Summed loss in nats and the number of tokens it was summed over; or of pairs, where those are what is scored."""

    nats: float
    tokens: int
    measures: dict[str, float] = field(default_factory=dict)
    """The objective's own, by name."""

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the loss: as unsure as a fair choice among this many tokens; infinite where no number can hold it."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    @property
    def perplexity_in_words(self) -> str:
        """The perplexity as people read it, however large."""
        return f"{self.perplexity:,.2f}" if self.perplexity < 1e9 else f"{self.perplexity:.2e}"


AHEAD = 4  # batches that may wait for the devices

MOST_TOKENS = 2**18
"""Targets that an evaluation during training scores at most. All of WikiText-2's validation split are fewer; of a
larger one as many are spread evenly over it, so that validation does not grow with the corpus."""


@dataclass(frozen=True)
class Spread:
    """Some samples of a source, evenly spread over it."""

    source: Source
    chosen: np.ndarray

    def __len__(self) -> int:
        return len(self.chosen)

    def gather(self, indices: np.ndarray) -> Batch:
        """Returns the rows of the chosen samples with these indices."""
        return self.source.gather(np.where(indices == EMPTY, EMPTY, self.chosen[np.maximum(indices, 0)]))


def some_of(source: Source, seq_len: int, most_tokens: int = MOST_TOKENS) -> Source:
    """Returns the source itself, or as many of its samples as have at most so many tokens."""
    most = max(1, most_tokens // seq_len)
    if len(source) <= most:
        return source
    return Spread(source, np.linspace(0, len(source) - 1, most).round().astype(np.int64))


def rows_at_once(config: Config) -> int:
    """Returns the rows that fit on the devices together: those of a micro-batch, as training has them."""
    return config.data.batch_size // config.optimizer.grad_accumulation_steps


def num_batches(source: Source, batch_size: int) -> int:
    """Returns the batches that `evaluate` scores."""
    return -(-len(source) // batch_size)


def evaluate(
    compiled: Compiled, params: Params, source: Source, batch_size: int, before_batch: Callable[[], None] | None = None
) -> Score:
    """Returns the score of a source's weighted tokens; sums are added in float64 on the host.

    `before_batch` is called before each batch: it may raise, to leave early.
    """
    sums = []
    for indices in in_order(source, batch_size):
        if before_batch is not None:
            before_batch()
        batch = compiled.place(batch_size, lambda rows, indices=indices: source.gather(indices[rows]))
        sums.append(compiled.eval_step(params, batch))
        if len(sums) > AHEAD:
            jax.block_until_ready(sums[-AHEAD - 1])  # or every batch of a large split would wait in the devices' memory
    _, _, measures = jax.tree.map(lambda *parts: np.sum(np.asarray(parts, np.float64), axis=0), *sums)
    nats, tokens = measures.pop("loss")
    return Score(float(nats), round(float(tokens)), {name: float(x / of) for name, (x, of) in measures.items()})
