"""The one training loop, of pretraining and finetuning: they differ in parameters, batches and weights only."""

import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import Config
from jaxgpt.data.prefetch import prefetch
from jaxgpt.data.prepare import data_name
from jaxgpt.data.sources import Source, batch_at, num_steps
from jaxgpt.errors import INTERRUPTED, RunError
from jaxgpt.files import write_text
from jaxgpt.model.gpt import Params
from jaxgpt.training.checkpoint import Best, open_checkpoints, read_best, restore_state, save, write_best
from jaxgpt.training.cost import flops_per_token, out_of_memory, peak_flops
from jaxgpt.training.evaluate import Score, evaluate
from jaxgpt.training.mesh import make_mesh
from jaxgpt.training.metrics import append_sample, open_metrics, read_records
from jaxgpt.training.optimizer import learning_rate_schedule, make_optimizer
from jaxgpt.training.progress import TrainingProgress, clock
from jaxgpt.training.run import Run, machine, open_run, sized
from jaxgpt.training.step import TrainState, compile_steps

FIRST_PROFILED, LAST_PROFILED = 5, 8  # steps of this process: the first ones compile and warm up


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    step: int
    best: Best
    seconds: float


def total_steps(config: Config, train: Source) -> tuple[int, int]:
    """Returns (the steps of all epochs, which the schedule is laid out over; those until the run stops)."""
    steps = num_steps(train, config.data.batch_size, config.run.epochs)
    return steps, min(steps, config.run.max_steps or steps)


def fit(
    run: Run,
    train: Source,
    valid: Source,
    sample: Callable[[Params], str],
    init_params: Params | None = None,
) -> Result:
    """Trains a run to its end, from its latest checkpoint if it has one, and returns how it ended.

    Checkpoints come before evaluations. `init_params` (finetuning) are where a new run starts; their validation loss
    is measured first. Ctrl-C saves, says how to go on and exits.
    """
    config = sized(run.config, run.tokenizer)
    planned, steps = total_steps(config, train)
    batch_size, epochs = config.data.batch_size, config.run.epochs
    mesh = make_mesh(config)
    optimizer = make_optimizer(config.optimizer, planned)
    schedule = learning_rate_schedule(config.optimizer, planned, config.optimizer.learning_rate)
    learning_rates = np.broadcast_to(np.asarray(schedule(jnp.arange(steps))), steps)
    compiled = compile_steps(config, optimizer, mesh)
    moved = open_run(run, steps)  # nothing is written before all that could be wrong was looked at
    if moved:
        print(f"the run that was there is now {moved}")
    write_text(run.path / "run.json", json.dumps(machine(), indent=2) + "\n")
    began = time.perf_counter()
    peak = peak_flops(config.model) / flops_per_token(config.model, config.data.seq_len)

    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(open_checkpoints(run.checkpoints))
        start = checkpoints.latest_step() or 0
        best = read_best(run.checkpoints) if start else None
        if start:
            state = restore_state(checkpoints, start, compiled.abstract_state)
            print(f"going on from step {start} of {steps}")
        else:
            state = compiled.init()
            if init_params is not None:
                state = state._replace(params=jax.device_put(init_params, compiled.state_shardings.params))
        metrics = stack.enter_context(open_metrics(run.path, start))
        progress = stack.enter_context(
            TrainingProgress(steps, start, batch_size * config.data.seq_len, config.run.log_every, peak)
        )
        tracing = stack.enter_context(contextlib.ExitStack())
        stopping = stack.enter_context(stop_on_interrupt())

        def look_up(state: TrainState, step: int) -> None:
            """Measures the validation loss, remembers the best checkpoint, and lets the model speak."""
            nonlocal best
            score = evaluate(compiled, state.params, valid, batch_size)
            if step and (best is None or score.loss < best.valid_loss):
                best = Best(step, score.loss)
                write_best(run.checkpoints, best)
            metrics.write(step, {"valid_loss": score.loss})  # last: what is on record was judged
            progress.say(f"step {step}: {describe(score, run.data, 'valid')}")
            text = sample(state.params)
            append_sample(run.path, step, text)
            progress.say(indent(text))
            progress.skip()

        def due(step: int) -> bool:
            return step % config.run.eval_every == 0 or step == steps

        def report(step: int, values: dict[str, jax.Array]) -> None:
            """Fetches and records the metrics of a step that has been dispatched before the one now running."""
            fetched = {name: float(value) for name, value in values.items()}
            if not all(map(math.isfinite, fetched.values())):
                raise RunError(
                    f"step {step}: the loss is {fetched['loss']} and the gradient's norm {fetched['grad_norm']}. "
                    "The last checkpoint is from before. A lower learning rate may help"
                )
            rate = float(learning_rates[step - 1])
            progress.step(step, fetched["loss"], rate)
            speed = {"tokens_per_second": progress.tokens_per_second, "utilisation": progress.utilisation}
            metrics.write(step, fetched | {"learning_rate": rate} | speed)

        evaluated = {record["step"] for record in read_records(run.path / "metrics.jsonl") if "valid_loss" in record}
        if (init_params is not None if start == 0 else due(start)) and start not in evaluated:
            look_up(state, start)  # before finetuning; or the run was stopped between a checkpoint and its evaluation

        def make(step: int) -> Any:
            return compiled.put(batch_at(train, config.run.seed, step, batch_size, epochs))

        batches = stack.enter_context(contextlib.closing(prefetch(make, start, steps)))
        pending: tuple[int, dict[str, jax.Array]] | None = None
        for step, batch in enumerate(batches, start=start + 1):
            if config.run.profile and step - start == FIRST_PROFILED:
                tracing.enter_context(jax.profiler.trace(run.path / "tensorboard"))
            try:
                state, values = compiled.train_step(state, batch)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" in str(error):
                    raise RunError(out_of_memory(config, error)) from error
                raise
            if pending is not None:
                report(*pending)
            pending = step, values
            if step - start == LAST_PROFILED:
                jax.block_until_ready(values)
                tracing.close()
            if stopping() or due(step):
                report(*pending)
                pending = None
            if stopping():
                save(checkpoints, state, run.documents)
                progress.say(
                    f"stopped at step {step} and saved; the same command{without_restart(config)} goes on from there"
                )
                raise SystemExit(INTERRUPTED)
            if due(step):
                save(checkpoints, state, run.documents)  # before the evaluation: if that fails, nothing is lost
                look_up(state, step)

    assert best is not None, "the last step is always evaluated"
    return Result(steps, best, time.perf_counter() - began)


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether Ctrl-C was pressed; a second one interrupts at once."""
    pressed = False

    def note(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        os.write(2, b"\nstopping after this step; press Ctrl-C again to leave without saving\n")  # print may be busy

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def describe(score: Score, manifest: dict[str, Any], split: str) -> str:
    """Returns a score in words, with the data it was measured on and, where it is known, the floor."""
    tokens = "assistant tokens" if manifest["kind"] == "chat" else "tokens"
    text = (
        f"{split} loss {score.loss:.4f} nats per token, perplexity {score.perplexity:,.2f} "
        f"over {score.tokens:,} {tokens} of {data_name(manifest)}"
    )
    floor = manifest["splits"][split].get("floor_nats")
    if floor is None:
        return text
    gap = score.loss - floor / score.tokens
    return f"{text}; {gap:+.4f} from the entropy floor of {floor / score.tokens:.4f}{below_floor(gap)}"


FLOOR_NOISE = 0.01  # nats per token by which a finite text may be easier than its source


def below_floor(gap: float) -> str:
    """Returns a warning when a loss lies under the entropy floor by more than chance, else nothing."""
    return " (BELOW the floor: no model can do that, so something is wrong)" if gap < -FLOOR_NOISE else ""


def without_restart(config: Config) -> str:
    """Returns what must be left out of the command that goes on with this run, if anything."""
    return " without --run.restart" if config.run.restart else ""


def indent(text: str) -> str:
    """Returns text set off from the lines around it."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def summary(run: Run, result: Result, made: str, report: str, next_commands: list[str]) -> str:
    """Returns the last words of a stage: what it made, what it measured, where its report is, what to do next."""
    best = Score(result.best.valid_loss, 1)
    lines = [
        f"{run.path}: {made}, {result.step:,} steps in {clock(result.seconds)}",
        f"  best checkpoint: step {result.best.step}, valid loss {best.loss:.4f} nats per token, "
        f"perplexity {best.perplexity:,.2f} on {data_name(run.data)}",
        f"  report: {report}",
        "next:",
        *(f"  {command}" for command in next_commands),
    ]
    return "\n".join(lines)
