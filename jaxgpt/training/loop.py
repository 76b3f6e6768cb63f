"""The one training loop, of pretraining and finetuning: they differ in parameters, batches and weights only."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.config import Config, to_json
from jaxgpt.data.manifest import data_name
from jaxgpt.data.prefetch import prefetch
from jaxgpt.data.sources import Source, batch_at, num_steps, sample_indices
from jaxgpt.errors import RunError, UserError
from jaxgpt.model.gpt import Params
from jaxgpt.training.checkpoint import Best, open_checkpoints, restore_state, save, write_best
from jaxgpt.training.cost import flops_per_token, out_of_memory, peak_flops
from jaxgpt.training.evaluate import Score, evaluate, num_batches, some_of
from jaxgpt.training.mesh import make_mesh
from jaxgpt.training.metrics import append_sample, evaluated_steps, open_metrics
from jaxgpt.training.optimizer import learning_rate_schedule, make_optimizer
from jaxgpt.training.processes import failing_together, from_first, here, highest_of_all, is_first, require_same
from jaxgpt.training.progress import TrainingProgress, clock
from jaxgpt.training.resume import best_so_far, find_start, skipped_at_the_end
from jaxgpt.training.run import Run, locked, open_run, sized
from jaxgpt.training.signals import stop_on_signal
from jaxgpt.training.step import TrainState, compile_steps

MOST_STEPS = 2**31  # they are counted in int32
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
    if steps >= MOST_STEPS:
        raise UserError(
            f"run.epochs: {config.run.epochs} was given, which makes {steps:,} steps; give fewer than 2**31"
        )
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
    is measured first. Ctrl-C and SIGTERM save, say how to go on and exit. Several processes compute and save together;
    the first of them looks after the folder, and the others take its word for what is there.
    """
    config = sized(run.config, run.tokenizer)
    planned, steps = total_steps(config, train)
    batch_size, epochs = config.data.batch_size, config.run.epochs
    some_valid = some_of(valid, config.data.seq_len)
    mesh = make_mesh(config)
    optimizer = make_optimizer(config.optimizer, planned)
    schedule = learning_rate_schedule(config.optimizer, planned, config.optimizer.learning_rate)
    learning_rates = np.broadcast_to(np.asarray(schedule(jnp.arange(steps))), steps)
    compiled = compile_steps(config, optimizer, mesh)
    began = time.perf_counter()
    peak = peak_flops(config.model) / flops_per_token(config.model, config.data.seq_len)

    with contextlib.ExitStack() as stack:
        stack.enter_context(failing_together())
        require_same(f"{to_json(run.config)} {run.tokenizer.fingerprint} {run.data['fingerprint']}")
        from_first(lambda: stack.enter_context(locked(run.path)))
        moved = from_first(lambda: open_run(run, steps))  # it writes after all that could be wrong was looked at
        if moved:
            print(f"the run that was there is now {moved}")
        start = from_first(lambda: find_start(run))
        checkpoints = stack.enter_context(open_checkpoints(run.checkpoints))
        if start:
            state = restore_state(checkpoints, start, compiled.abstract_state)
            print(f"going on from step {start} of {steps}")
        else:
            state = compiled.init()
            if init_params is not None:
                given = jax.device_get(init_params)  # each process has all of them
                state = state._replace(params=jax.device_put(given, compiled.state_shardings.params))
        stopping = highest_of_all(stack.enter_context(stop_on_signal()))
        metrics = stack.enter_context(open_metrics(run.path, start)) if is_first() else None
        known = from_first(lambda: best_so_far(run.path, checkpoints.all_steps()))
        best = Best(*known) if known else None
        skipped_in_a_row = from_first(lambda: skipped_at_the_end(run.path))
        progress = stack.enter_context(
            TrainingProgress(steps, start, batch_size * config.data.seq_len, config.run.log_every, peak)
        )
        tracing = stack.enter_context(contextlib.ExitStack())
        saved_at = time.monotonic()

        def save_now(state: TrainState) -> None:
            nonlocal saved_at
            save(checkpoints, state, run.documents)
            saved_at = time.monotonic()

        def leave(step: int) -> None:
            """Ends the process where a signal asked for it; the state of this step is saved."""
            number = stopping()
            if number:
                go_on = f"the same command{without_restart(config)} goes on from there"
                progress.say(f"stopped at step {step} and saved; {go_on}")
                raise SystemExit(128 + number)

        def record(step: int, values: dict[str, float]) -> None:
            if metrics is not None:
                metrics.write(step, values)

        def score_of(state: TrainState, step: int, source: Source, what: str) -> Score:
            with progress.evaluating(what, num_batches(source, batch_size)) as advance:

                def before_batch() -> None:
                    leave(step)
                    advance()

                return evaluate(compiled, state.params, source, batch_size, before_batch)

        def look_up(state: TrainState, step: int) -> None:
            """Measures the validation loss, remembers the best checkpoint, and lets the model speak."""
            nonlocal best
            score = score_of(state, step, some_valid, "validation")
            measured, told = {"valid_loss": score.loss}, [describe(score, run.data, "valid", "valid")]
            if some_valid is not valid:
                told = [describe(score, run.data, "valid", "part of valid")]
            if some_valid is not valid and step == steps:
                whole = score_of(state, step, valid, "all of the validation split")
                measured["whole_valid_loss"] = whole.loss
                told.append(describe(whole, run.data, "valid", "all of valid"))
            if step and math.isfinite(score.loss) and (best is None or score.loss < best.valid_loss):
                best = Best(step, score.loss)
                if is_first():
                    write_best(run.checkpoints, best)
            params = here(state.params)
            if is_first():
                text = sample(params)
                append_sample(run.path, step, text)
                record(step, measured)  # last: what is on record was judged, and has its sample
                for line in told:
                    progress.say(f"step {step}: {line}")
                progress.say(indent(text))
            progress.skip()

        def due(step: int) -> bool:
            return step % config.run.eval_every == 0 or step == steps

        def late() -> bool:
            """Whether it is time to save again; processes' clocks differ, so several of them save at fixed steps."""
            minutes = (time.monotonic() - saved_at) / 60
            return minutes >= config.run.save_every_minutes and jax.process_count() == 1

        def report(step: int, values: dict[str, jax.Array]) -> None:
            """Fetches and records the metrics of a step that has been dispatched before the one now running."""
            nonlocal skipped_in_a_row
            fetched = {name: float(value) for name, value in values.items()}
            if fetched.pop("skipped"):
                skipped_in_a_row += 1
                record(step, {"skipped": 1.0})
                windows = sample_indices(len(train), epochs, config.run.seed, step - 1, batch_size)
                what = f"step {step}: the loss is {fetched['loss']} and the gradient's norm {fetched['grad_norm']}"
                if skipped_in_a_row == config.optimizer.max_skipped:
                    raise RunError(
                        f"{what}, number {skipped_in_a_row} of such steps in a row, on windows {summarize(windows)}. "
                        "None of them changed anything, and the same command would come to them again. Start over with "
                        "--run.restart and a lower --optimizer.learning-rate; or go on past them with a larger "
                        "--optimizer.max-skipped"
                    )
                progress.say(f"{what}. Skipped: it changes nothing ({skipped_in_a_row} in a row)")
                return
            skipped_in_a_row = 0
            rate = float(learning_rates[step - 1])
            progress.step(step, fetched["loss"], rate)
            speed = {"tokens_per_second": progress.tokens_per_second, "utilisation": progress.utilisation}
            known = {name: value for name, value in speed.items() if value is not None}
            record(step, fetched | {"learning_rate": rate} | known)

        evaluated = from_first(lambda: evaluated_steps(run.path))
        if (init_params is not None if start == 0 else due(start)) and start not in evaluated:
            look_up(state, start)  # before finetuning; or the run was stopped between a checkpoint and its evaluation

        def make(step: int) -> Any:
            return compiled.put(batch_at(train, config.run.seed, step, batch_size, epochs))

        batches = stack.enter_context(contextlib.closing(prefetch(make, start, steps)))
        pending: tuple[int, dict[str, jax.Array]] | None = None
        for step, batch in enumerate(batches, start=start + 1):
            if config.run.profile and step - start == FIRST_PROFILED and is_first():
                tracing.enter_context(jax.profiler.trace(run.path / "tensorboard"))
            try:
                state, values = compiled.train_step(state, batch)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" in str(error):
                    raise RunError(out_of_memory(config, error)) from error
                raise
            if pending is not None:
                report(*pending)
            progress.tick()
            pending = step, values
            if step - start == LAST_PROFILED:
                jax.block_until_ready(values)
                tracing.close()
            if stopping() or due(step) or late():
                report(*pending)
                pending = None
                save_now(state)  # before the evaluation: if that fails, nothing is lost
                progress.skip()
                leave(step)
                if due(step):
                    look_up(state, step)

    if best is None:
        raise RunError(
            f"{run.path}: no evaluation gave a finite loss, so no checkpoint is the best. Start over with "
            "--run.restart and a lower --optimizer.learning-rate"
        )
    return Result(steps, best, time.perf_counter() - began)


def summarize(windows: np.ndarray) -> str:
    """Returns the first of a batch's windows by number."""
    first = ", ".join(map(str, windows[:8].tolist()))
    return first if len(windows) <= 8 else f"{first} and {len(windows) - 8} more"


def describe(score: Score, manifest: dict[str, Any], split: str, part: str) -> str:
    """Returns a score in words, with the data it was measured on and, where it is known, the floor.

    `part` says how much of the split that is; the floor is known of all of it only.
    """
    tokens = "assistant tokens" if manifest["kind"] == "chat" else "tokens"
    over = f"over {score.tokens:,} {tokens} of {data_name(manifest)}"
    if not math.isfinite(score.loss):
        return f"{part} loss {score.loss} {over}: not finite, so this checkpoint is not the best"
    text = f"{part} loss {score.loss:.4f} nats per token, perplexity {score.perplexity_in_words} {over}"
    floor = manifest["splits"][split].get("floor_nats")
    if floor is None or part.startswith("part"):
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
        f"perplexity {best.perplexity_in_words} on {data_name(run.data)}",
        f"  report: {report}",
        "next:",
        *(f"  {command}" for command in next_commands),
    ]
    return "\n".join(lines)
