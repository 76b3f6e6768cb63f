"""Reinforcement learning's part of the loop: what the model writes to be trained on, and how it is judged."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence, Sized
from typing import Any, NamedTuple

from jaxgpt.config import Config
from jaxgpt.data.batch import Batch
from jaxgpt.devices.distributed import gather_replicated
from jaxgpt.model.gpt import Params
from jaxgpt.model.parameters import each_block_apart
from jaxgpt.run.state import TrainState
from jaxgpt.training.step import Compiled


class Judged(NamedTuple):
    """Held-out questions, answered and rewarded."""

    reward: float
    """The mean of all answers'."""
    measures: dict[str, float]
    """What else is recorded, by name."""
    said: list[str]
    """The same in words."""
    answers: list[dict[str, object]]
    """Some of the answers, as they are kept in the run."""


class Rollouts(NamedTuple):
    """How a model's own answers become batches, and how it is judged: functions of its parameters."""

    questions: Sized
    """What an epoch answers, each once."""
    write: Callable[[Params, int], tuple[Batch, dict[str, float]]]
    """(parameters, number of this rollout) -> (a batch with advantages, what is told of its answers by name)."""
    judge: Callable[[Params, Callable[[], None]], Judged]
    """(parameters, what to call before each batch) -> what held-out questions tell."""


def questions_at_once(config: Config) -> int:
    """Returns how many questions are asked before a step."""
    return config.data.batch_size // config.objective.group_size * config.objective.oversample


def written_batches(
    rollouts: Rollouts, compiled: Compiled, state: Callable[[], TrainState], steps: range, updates: int
) -> Generator[tuple[Batch, dict[str, float]], None, None]:
    """Yields for each step a batch that the model writes, on the devices, and what is told of its answers.

    It is written by the parameters that the state has at that step, or had at the first of so many `updates`.
    """
    batch, told = None, {}
    for step in steps:
        if step % updates == 0 or batch is None:
            params = compiled.model_params(state())
            written, told = rollouts.write(each_block_apart(gather_replicated(params)), step // updates)
            batch = compiled.put(written)
            drawn = compiled.log_probs(params, batch) if updates > 1 else None
            reference = compiled.log_probs(state().frozen, batch)
            batch = batch._replace(reference=reference, drawn=drawn)
        yield batch, told


FEW = 20  # steps whose mean is compared


def warnings(records: Sequence[Mapping[str, Any]], config: Config) -> list[str]:
    """Returns what goes wrong, with what to change, from the records of a run's steps; nothing where all is well.

    A step that had no answers to learn from tells nothing of them, and is left out of the means.
    """
    told = [record for record in records if "entropy" in record]
    if len(told) < 2 * FEW:
        return []

    def mean(name: str, part: Sequence[Mapping[str, Any]]) -> float:
        known = [record[name] for record in part if record[name] is not None and not math.isnan(record[name])]
        return sum(known) / len(known) if known else math.nan

    found = []
    (entropy, length), (entropy_now, length_now) = (
        (mean("entropy", part), mean("answer_tokens", part)) for part in (told[:FEW], told[-FEW:])
    )
    if entropy_now < entropy / 10:
        found.append(
            f"entropy collapsed: {entropy_now:.4f} nats per token, {entropy:.4f} at first. Answers to a question "
            "hardly differ any more, so there is little left to learn from: stop here, or start over with a higher "
            "--objective.temperature, a higher --objective.beta or a lower learning rate"
        )
    if length_now > 2 * length:
        found.append(
            f"answers run away in length: {length_now:.1f} tokens, {length:.1f} at first. See samples.jsonl whether "
            "the reward pays for length; a negative --objective.length-reward mends it, or a reward that does not"
        )
    if mean("cut", told[-FEW:]) > 0.5:
        found.append(
            f"most answers are cut at objective.answer_tokens = {config.objective.answer_tokens}: they do not end "
            "before. Give room for more tokens, or a reward that wants an end"
        )
    if mean("no_signal", told[-FEW:]) == 1:
        found.append(
            f"nothing is learned: for {FEW} steps all answers to a question were worth the same. Ask what is answered "
            "right at times, reward what differs, or draw with a higher --objective.temperature"
        )
    return found
