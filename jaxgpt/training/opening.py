"""A run opened for training: its folder made or checked, its state drawn or restored, what is known of it read."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from jaxgpt.config_json import to_json
from jaxgpt.devices.distributed import failing_together, is_primary, on_primary, require_same
from jaxgpt.errors import UserError
from jaxgpt.run.checkpoint import Best, open_checkpoints, restore_state
from jaxgpt.run.folder import Run, locked, open_run
from jaxgpt.run.load import Origin, base_step, record_base, restore_origin
from jaxgpt.run.metrics import MetricsFile, evaluated_steps, open_metrics
from jaxgpt.run.resume import best_so_far, find_start, skipped_at_the_end
from jaxgpt.run.saver import Saver, saves_behind, saving
from jaxgpt.run.state import TrainState
from jaxgpt.run.trackers import open_trackers
from jaxgpt.training.step import Compiled


@dataclass
class Opened:
    """An open run, and how far it has come."""

    state: TrainState
    start: int
    saver: Saver
    metrics: MetricsFile | None
    """None in all processes but the primary one."""
    best: Best | None
    skipped_in_a_row: int
    evaluated: list[int]


@contextlib.contextmanager
def opened(run: Run, compiled: Compiled, num_steps: int, origin: Origin | None) -> Iterator[Opened]:
    """Opens a run for training to `num_steps`: from its latest whole checkpoint, or from its origin, or drawn anew.

    Nothing is written before all that could be wrong was looked at. Several processes restore and save together; the
    primary one looks after the folder, and the others take its word for what is there. Raises UserError where the run
    may not be trained so, RunError where it is damaged.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(failing_together())
        read = [corpus.fingerprint for corpus in run.data.corpora]
        require_same(f"{to_json(run.config)} {run.tokenizer.fingerprint} {run.data.fingerprint} {read}")
        behind = saves_behind(run.config.run.async_saves)
        on_primary(lambda: stack.enter_context(locked(run.path)))
        frozen, base = compiled.abstract_state.frozen, origin
        compared = run.config.objective.name == "dpo"
        needs_base = origin is not None and (frozen is not None or compared)
        if origin is not None and needs_base:
            base = Origin(origin.run, on_primary(lambda: base_step(run, origin)))
            if compared and base.step != origin.step:
                raise UserError(
                    f"{run.path}: its pairs are compared with {origin.run.path}, step {base.step}, and step "
                    f"{origin.step} is the best there now; start over with --run.restart"
                )
        if moved := on_primary(lambda: open_run(run, num_steps)):
            print(f"the run that was there is now {moved}")
        if base is not None and needs_base:
            on_primary(lambda: record_base(run, base))
        start = on_primary(lambda: find_start(run))
        checkpoints = stack.enter_context(open_checkpoints(run.checkpoints, in_thread=behind))
        if start:
            state = restore_state(checkpoints, start, compiled.abstract_state)
            if frozen is not None and base is not None:
                state = state._replace(frozen=restore_origin(base, frozen))
            print(f"resuming from step {start} of {num_steps}")
        elif base is not None:
            model = compiled.abstract_state.params if frozen is None else frozen
            state = compiled.start_from(restore_origin(base, model))
        else:
            state = compiled.init()
        saver = stack.enter_context(saving(checkpoints, run.documents, behind))
        metrics = None
        if is_primary():
            trackers = stack.enter_context(open_trackers(run, start))
            metrics = stack.enter_context(open_metrics(run.path, start, trackers))
        best = on_primary(lambda: best_so_far(run.path, checkpoints.all_steps()))
        yield Opened(
            state,
            start,
            saver,
            metrics,
            best=Best(*best) if best else None,
            skipped_in_a_row=on_primary(lambda: skipped_at_the_end(run.path)),
            evaluated=on_primary(lambda: evaluated_steps(run.path)),
        )
