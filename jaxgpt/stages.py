"""A stage: where parameters come from, what they are trained on, and what the model is afterwards; and its run."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax

from jaxgpt.allowed import check_window
from jaxgpt.buckets import is_in_bucket
from jaxgpt.config import TOKENIZER_FIELDS, Config, ModelConfig, run_dir
from jaxgpt.data.prepare import Prepared
from jaxgpt.data.rehearsal import Rehearsal
from jaxgpt.data.require import require_enough
from jaxgpt.devices.distributed import join_processes, on_primary
from jaxgpt.devices.mesh import mesh_shape
from jaxgpt.devices.setup import start_jax
from jaxgpt.errors import UserError
from jaxgpt.model.gpt import Params
from jaxgpt.report.build import report_after
from jaxgpt.run.folder import Run
from jaxgpt.run.load import Origin, find_origin
from jaxgpt.run.trackers import require_installed
from jaxgpt.training.objectives import Objective, next_token
from jaxgpt.training.plan import adapters_in_words, plan, settle
from jaxgpt.training.rollouts import Rollouts
from jaxgpt.training.summary import summary
from jaxgpt.training.trainer import fit


@dataclass(frozen=True)
class Stage:
    """One run of training: pretraining and finetuning differ in nothing else."""

    config: Config
    data: Prepared
    origin: Origin | None
    """The run whose parameters it starts from; None: they are drawn."""
    sample: Callable[[Params], str]
    """What the model says at each evaluation, and some times between."""
    makes: str
    """What a model is after it, in words."""
    next_commands: Sequence[str]
    objective: Objective = next_token
    rollouts: Rollouts | None = None
    """What the model writes to be trained on, where it learns from a reward."""
    rehearsal: Rehearsal | None = None
    """Text that is learned beside."""


def begin(
    config: Config, model_of: Callable[[Origin, Config], ModelConfig]
) -> tuple[Config, Origin | None, dict[str, str]]:
    """Starts JAX, and returns (the config, with its run's model and tokenizer where training continues one; that run;
    what this machine decided of the config and why, by field).

    Raises UserError for what can be told to fail before any data is read: trackers, the place of the run, the one it
    starts from, the mesh.
    """
    start_jax(config.data.cache_dir, run_ahead=False, deterministic=config.run.deterministic)
    join_processes()
    on_primary(lambda: require_installed(config.run.track))
    place = run_dir(config)  # raises where a bucket cannot be reached
    for folder in (place, place.parent):
        if not is_in_bucket(folder) and folder.is_file():
            raise UserError(f"run.folder, run.name: {folder} is a file, and runs are folders; name another")
    origin = None
    if config.run.init_from is not None:
        try:
            origin = find_origin(config.run.init_from)
        except UserError as error:
            raise UserError(f"run.init_from: {error}") from None
        if os.path.realpath(origin.run.path) == os.path.realpath(run_dir(config)):
            raise UserError(f"run.init_from: {origin.run.path} is the run to be made; choose another --run.name")
        print(f"from: {origin.run.path}, step {origin.step}, trained on {origin.run.data.full_name}")
        own = {name: getattr(origin.run.config.data, name) for name in TOKENIZER_FIELDS}
        data = dataclasses.replace(config.data, **own)
        config = dataclasses.replace(config, model=model_of(origin, config), data=data)
    check_window(config)
    mesh_shape(config, jax.device_count())  # the vocabulary, which must divide too, is known with the data
    config, settled = settle(config)
    return config, origin, settled


def run_of(config: Config, data: Prepared, settled: dict[str, str]) -> Run:
    """Returns the run that a stage starts or resumes; raises UserError where there is less than a batch of data.

    Of questions that are answered there must be enough, too, which is seen where they are read.
    """
    if config.objective.name != "grpo":
        require_enough(data.manifest.name, data.sources, config.data.batch_size)
    return Run(run_dir(config), config, data.tokenizer, data.manifest, settled)


def run_stage(stage: Stage, run: Run, dry_run: bool) -> None:
    """Trains to the end, writes the report and says what was made; or, for a dry run, says what would be done."""
    if dry_run:
        print(plan(run, stage.data, stage.objective, stage.rollouts and stage.rollouts.questions))
        return
    if run.config.lora.rank is not None:
        print(adapters_in_words(run.sized))
    train, valid = stage.data.sources["train"], stage.data.sources["valid"]
    if stage.rollouts is not None:
        train = stage.rollouts.questions
    result = fit(run, train, valid, stage.sample, stage.origin, stage.objective, stage.rollouts, stage.rehearsal)
    report = on_primary(lambda: report_after(run.path))
    print(summary(run, result, stage.makes, report, stage.next_commands))
