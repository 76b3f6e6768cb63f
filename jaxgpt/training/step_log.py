"""What is shown and recorded of a run's steps: their metrics, those that were skipped, what goes wrong with answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np

from jaxgpt.config import Config
from jaxgpt.errors import RunError
from jaxgpt.training.opening import Opened
from jaxgpt.training.progress import TrainingProgress
from jaxgpt.training.rollouts import warnings
from jaxgpt.training.summary import summarize

Told = Mapping[str, jax.Array | float]


@dataclass
class StepLog:
    """Where the steps of a run are logged: all processes fetch and count, the primary one shows and records."""

    config: Config
    windows: Callable[[int], np.ndarray]
    """Returns the numbers of the windows of train that a step reads, the first step being 0."""
    learning_rates: np.ndarray
    opened: Opened
    progress: TrainingProgress
    answered: list[Mapping[str, float]] | None
    """What is on record of the steps on answers, to see what goes wrong; None where there are none."""
    warned: set[str] = field(default_factory=set)

    def step(self, step: int, metrics: Told) -> None:
        """Fetches, shows and records the metrics of a step; raises RunError after too many that were skipped."""
        fetched = {name: float(value) for name, value in metrics.items()}
        if fetched.pop("skipped"):
            self._skipped(step, fetched)
            return
        self.opened.skipped_in_a_row = 0
        rate = float(self.learning_rates[step - 1])
        shown = "loss" if self.answered is None else "reward"
        self.progress.step(step, shown, fetched[shown], rate)
        speed = {"tokens_per_second": self.progress.tokens_per_second, "mfu": self.progress.mfu}
        known = {name: value for name, value in speed.items() if value is not None}
        self.record(step, fetched | {"learning_rate": rate} | known)
        if self.answered is not None:
            self.answered.append(fetched)
            if step % self.config.run.log_every == 0:
                self._warn(step, self.answered)

    def record(self, step: int, values: dict[str, float]) -> None:
        """Records what was measured at a step, with the tokens that the run had read by then."""
        if self.opened.metrics is not None:
            step_tokens = self.config.data.batch_size * self.config.data.seq_len
            self.opened.metrics.write(step, values | {"tokens": step * step_tokens})

    def sync(self) -> None:
        """Returns when what is recorded is on the disk."""
        if self.opened.metrics is not None:
            self.opened.metrics.sync()

    def _skipped(self, step: int, fetched: dict[str, float]) -> None:
        """Records a step whose loss or gradient is not finite; raises RunError after too many in a row."""
        self.opened.skipped_in_a_row += 1
        count, config = self.opened.skipped_in_a_row, self.config
        self.record(step, {"skipped": 1.0})
        what = f"step {step}: the loss is {fetched['loss']} and the gradient's norm {fetched['grad_norm']}"
        if count == config.optimizer.max_consecutive_skips:
            on = f"questions of rollout {(step - 1) // config.objective.updates}"
            if self.answered is None:
                on = f"windows {summarize(self.windows(step - 1))}"
            raise RunError(
                f"{what}, number {count} of such steps in a row, on {on}. "
                "None of them changed anything, and the same command would come to them again. Start over with "
                "--run.restart and a lower --optimizer.learning-rate; or go on past them with a larger "
                "--optimizer.max-consecutive-skips"
            )
        self.progress.say(f"{what}. Skipped: it changes nothing ({count} in a row)")

    def _warn(self, step: int, answered: list[Mapping[str, float]]) -> None:
        """Says what goes wrong with the answers, each thing once."""
        for text in warnings(answered, self.config):
            if (what := text.split(":")[0]) not in self.warned:
                self.warned.add(what)
                self.progress.say(f"WARNING: step {step}: {text}")
