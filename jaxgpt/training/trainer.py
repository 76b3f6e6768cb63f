"""The one training loop, of pretraining and finetuning: they differ in parameters, batches and weights only."""

import contextlib
import math
import time
from collections.abc import Callable, Generator, Sized
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax

from jaxgpt.config import Config
from jaxgpt.data.batch import Batch
from jaxgpt.data.prefetch import prefetch
from jaxgpt.data.rehearsal import Rehearsal
from jaxgpt.data.sources import Source, indices_at
from jaxgpt.devices.distributed import gather_replicated, highest_of_all, is_primary, on_primary
from jaxgpt.devices.mesh import make_mesh
from jaxgpt.errors import RunError
from jaxgpt.model.gpt import Params
from jaxgpt.model.parameters import each_block_apart
from jaxgpt.run.checkpoint import Best, write_best
from jaxgpt.run.folder import Run
from jaxgpt.run.load import Origin
from jaxgpt.run.metrics import append_answers, append_sample, read_records, seconds_so_far
from jaxgpt.training.evaluate import Score, evaluate, num_batches, rows_at_once
from jaxgpt.training.flops import out_of_memory, peak_tokens_per_second
from jaxgpt.training.horizon import total_steps
from jaxgpt.training.objectives import Objective, next_token
from jaxgpt.training.opening import Opened, opened
from jaxgpt.training.optimizer import learning_rates, make_optimizer
from jaxgpt.training.progress import TrainingProgress
from jaxgpt.training.rollouts import Rollouts, written_batches
from jaxgpt.training.signals import stop_on_signal
from jaxgpt.training.step import Compiled, Metrics, compile_steps
from jaxgpt.training.step_log import StepLog, Told
from jaxgpt.training.summary import Result, indent, without_restart
from jaxgpt.training.validation import Measured, judged, measure, measure_text

SAMPLES, MOST_OFTEN = 6, 20  # that a run prints at least, evenly spread; steps from one to the next
FIRST_PROFILED, LAST_PROFILED = 5, 8  # steps of this process: the first ones compile and warm up


def fit(
    run: Run,
    train: Sized,
    valid: Sized,
    sample: Callable[[Params], str],
    origin: Origin | None = None,
    objective: Objective = next_token,
    rollouts: Rollouts | None = None,
    rehearsal: Rehearsal | None = None,
) -> Result:
    """Trains a run to its end, from its latest checkpoint if it has one, and returns how it ended.

    A new run starts from the parameters of its origin, whose validation loss is measured first, or from random ones.
    With `rollouts` its batches are what it writes itself, and train and valid only say how many questions there are.
    Of a `rehearsal` each evaluation says what its text costs; its rows are in the batches already.
    Ctrl-C and SIGTERM save, say how to continue and exit. Raises UserError and RunError as `opened` does, and RunError
    where steps or evaluations give no finite number.
    """
    config = run.sized
    planned, steps = total_steps(config, train)
    mesh = make_mesh(config)
    optimizer = make_optimizer(config.optimizer, planned)
    compiled = compile_steps(config, optimizer, mesh, objective)
    of_text = compiled  # its steps that score text
    if rehearsal is not None and objective is not next_token:
        of_text = compile_steps(config, optimizer, mesh)
    began = time.perf_counter()
    peak = None  # of answering the arithmetic is not counted
    if rollouts is None:
        peak = peak_tokens_per_second(config.model, config.data.seq_len, frozen=config.lora.rank is not None)
    step_tokens = config.data.batch_size * config.data.seq_len
    windows = partial(indices_at, train, config.run.seed, batch_size=config.data.batch_size, epochs=config.run.epochs)
    with contextlib.ExitStack() as stack:
        open_run = stack.enter_context(opened(run, compiled, steps, origin))
        stopping = highest_of_all(stack.enter_context(stop_on_signal()))
        progress = TrainingProgress(steps, open_run.start, step_tokens, config.run.log_every, peak)
        stack.enter_context(progress)
        log = StepLog(
            config,
            windows,
            learning_rates(config.optimizer, planned, steps),
            open_run,
            progress,
            answered=None if rollouts is None else [*on_primary(lambda: read_records(run.path / "metrics.jsonl"))],
        )
        trainer = Trainer(
            run,
            config,
            train,
            valid,
            sample,
            compiled,
            steps,
            open_run,
            progress,
            log,
            stopping,
            rollouts,
            rehearsal and Rehearsed(rehearsal, of_text),
        )
        trainer.evaluate_start(is_new=origin is not None)
        trainer.loop()
    seconds = on_primary(lambda: seconds_so_far(run.path))
    return Result(steps, _best_of(trainer), time.perf_counter() - began if seconds is None else seconds)


def _best_of(trainer: "Trainer") -> Best:
    if trainer.opened.best is None:
        raise RunError(
            f"{trainer.run.path}: no evaluation gave a finite loss, so no checkpoint is the best. Start over with "
            "--run.restart and a lower --optimizer.learning-rate"
        )
    return trainer.opened.best


class Rehearsed(NamedTuple):
    """Text that is learned beside, and the steps that score it: its loss is not the run's objective."""

    rehearsal: Rehearsal
    compiled: Compiled


@dataclass
class Trainer:
    """A run being trained: what it is trained with, how far it is, and the parts of its loop."""

    run: Run
    config: Config
    train: Any
    valid: Any
    sample: Callable[[Params], str]
    compiled: Compiled
    steps: int
    opened: Opened
    progress: TrainingProgress
    log: StepLog
    stopping: Callable[[], int]
    """Returns the signal that asked the run to stop, or 0."""
    rollouts: Rollouts | None = None
    rehearsed: Rehearsed | None = None
    saves: int = 0
    """How often this process has saved, which all processes do equally often."""
    saved_at: float = field(default_factory=time.monotonic)

    def loop(self) -> None:
        """Trains to the last step. A step's metrics are fetched when the next one has been dispatched."""
        start = self.opened.start
        pending: tuple[int, Told] | None = None
        saves_wanted = highest_of_all(self._saves_wanted)
        with (
            contextlib.closing(self._batches(start)) as batches,
            contextlib.ExitStack() as tracing,
        ):
            for step, (batch, told) in enumerate(batches, start=start + 1):
                self._trace(step - start, pending, tracing)
                metrics = self._step(batch)
                if pending is not None:
                    self.log.step(*pending)
                self.progress.tick()
                pending = step, {**metrics, **told}
                if self._may_save(step) and (self.stopping() or self._due(step) or saves_wanted() > self.saves):
                    self.log.step(*pending)
                    pending = None
                    self._save()  # before the evaluation: if that fails, nothing is lost
                    self._leave_if_asked(step)
                    if self._due(step):
                        self._evaluate(step)
                if self._speaks(step):
                    if pending is not None:
                        self.log.step(*pending)
                        pending = None
                    self._speak(step)

    def evaluate_start(self, is_new: bool) -> None:
        """Measures the state the run starts from, where that is to be measured and is not on record; or lets it speak.

        That is the case before given parameters are trained (`is_new`), and when the run was stopped between a
        checkpoint and its evaluation or sample.
        """
        start = self.opened.start
        if (is_new if start == 0 else self._due(start)) and start not in self.opened.evaluated:
            self._evaluate(start)
        elif start and self._speaks(start):
            self._speak(start)

    def _batches(self, start: int) -> Generator[tuple[Batch, dict[str, float]], None, None]:
        """Yields each step's batch on the devices, and what is told of the answers that it is made of."""
        if self.rollouts is None:
            return prefetch(lambda step: (self._batch(step), {}), start, self.steps)
        steps, updates = range(start, self.steps), self.config.objective.updates
        return written_batches(self.rollouts, self.compiled, lambda: self.opened.state, steps, updates)

    def _batch(self, step: int) -> Batch:
        """Returns a step's batch on the devices; each process reads its own rows."""
        indices = self.log.windows(step)
        return self.compiled.place(len(indices), lambda rows: self.train.gather(indices[rows]))

    def _step(self, batch: Batch) -> Metrics:
        """Dispatches a training step; raises RunError with advice where memory runs out."""
        try:
            self.opened.state, metrics = self.compiled.train_step(self.opened.state, batch)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise RunError(out_of_memory(self.config, error)) from error
            raise
        return metrics

    def _evaluate(self, step: int) -> None:
        """Measures the validation loss, remembers the best checkpoint, and prints a sample."""
        params = self.compiled.model_params(self.opened.state)
        measured, said, answers = self._measure(step, params)
        loss = measured["valid_loss"]
        best = self.opened.best
        if step and math.isfinite(loss) and (best is None or loss < best.valid_loss):
            self.opened.best = Best(step, loss)
            self.opened.saver.wait()  # what is named the best is there
            if is_primary():
                write_best(self.run.checkpoints, self.opened.best)
        text = self._sample(step, params)
        if text is not None:
            append_answers(self.run.path, step, answers)
            self.log.record(step, measured)  # last: what is on record was judged, and has its sample
            self.log.sync()
            for line in said:
                self.progress.say(f"step {step}: {line}")
            self.progress.say(indent(text))
        self.progress.skip()

    def _speak(self, step: int) -> None:
        """Prints a sample between evaluations."""
        text = self._sample(step, self.compiled.model_params(self.opened.state))
        if text is not None:
            self.progress.say(f"step {step}:\n{indent(text)}")
        self.progress.skip()

    def _sample(self, step: int, params: Params) -> str | None:
        """Returns and records what the model says; None in all processes but the primary one."""
        params = each_block_apart(gather_replicated(params))
        if not is_primary():
            return None
        try:
            text = self.sample(params)
        except RunError as error:  # training itself says more about it
            text = f"({error})"
        append_sample(self.run.path, step, text)
        return text

    def _measure(self, step: int, params: Params) -> Measured:
        """Returns what held-out data says, and what is held out of the text that is learned beside."""
        if self.rollouts is not None:
            whole = each_block_apart(gather_replicated(params))
            found = judged(self.rollouts.judge(whole, lambda: self._leave_if_asked(step)))
        else:
            score = partial(self._score, step, params, self.compiled)
            found = measure(self.valid, self.run, score, whole=step == self.steps)
        if self.rehearsed is None:
            return found
        text, score = self.rehearsed.rehearsal, partial(self._score, step, params, self.rehearsed.compiled)
        beside = measure_text(text.valid, text.manifest, self.config.data.seq_len, score)
        return found._replace(values=found.values | beside.values, said=found.said + beside.said)

    def _score(self, step: int, params: Params, compiled: Compiled, source: Source, what: str) -> Score:
        batch_size = rows_at_once(self.config)
        with self.progress.evaluating(what, num_batches(source, batch_size)) as advance:

            def before_batch() -> None:
                self._leave_if_asked(step)
                advance()

            return evaluate(compiled, params, source, batch_size, before_batch)

    def _save(self) -> None:
        self.log.sync()  # a run resumes from this step, and what is on record of those up to it stays
        self.opened.saver.save(self.opened.state)
        self.saves, self.saved_at = self.saves + 1, time.monotonic()
        self.progress.skip()

    def _leave_if_asked(self, step: int) -> None:
        """Ends the process where a signal asked for it; the state of this step is saved."""
        if number := self.stopping():
            self.opened.saver.wait()
            continues = f"the same command{without_restart(self.config)} continues from there"
            self.progress.say(f"stopped at step {step} and saved; {continues}")
            raise SystemExit(128 + number)

    def _may_save(self, step: int) -> bool:
        """Whether all that follows can be computed from the state alone: not between steps on the same answers."""
        return self.rollouts is None or step % self.config.objective.updates == 0

    def _due(self, step: int) -> bool:
        return step % self.config.run.eval_every == 0 or step == self.steps

    def _speaks(self, step: int) -> bool:
        """Whether a sample is due between evaluations, each of which has its own."""
        return step % max(math.ceil(self.steps / SAMPLES), MOST_OFTEN) == 0 and not self._due(step)

    def _saves_wanted(self) -> int:
        """Returns how many saves there should be by this process's clock: one more than there were, or as many."""
        minutes = (time.monotonic() - self.saved_at) / 60
        return self.saves + (minutes >= self.config.run.save_every_minutes)

    def _trace(self, count: int, pending: Any, tracing: contextlib.ExitStack) -> None:
        """Traces a few steps of this process, where run.profile asks for it."""
        if self.config.run.profile and count == FIRST_PROFILED and is_primary():
            tracing.enter_context(jax.profiler.trace(self.run.path / "tensorboard"))
        if count == LAST_PROFILED + 1:
            jax.block_until_ready(pending)
            tracing.close()
