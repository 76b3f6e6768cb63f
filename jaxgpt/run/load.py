"""A run's parameters, ready to use: what finetuning starts from and what sampling, chat and evaluation load."""

import sys
from dataclasses import dataclass
from pathlib import Path

import jax

from jaxgpt.config import Config
from jaxgpt.errors import RunError, UserError
from jaxgpt.model.gpt import Params
from jaxgpt.model.parameters import abstract_params
from jaxgpt.run.checkpoint import abstract_on, open_checkpoints, read_best, restore_params
from jaxgpt.run.folder import Run, load_run, sized
from jaxgpt.run.integrity import damage, newest_whole


@dataclass(frozen=True)
class Trained:
    """A run with the parameters of its best checkpoint (the latest, where none was evaluated yet)."""

    run: Run
    config: Config
    params: Params
    step: int


def load_trained(path: str | Path) -> Trained:
    """Returns a run's parameters on the first device; raises UserError where there is no run, or not of this model.

    A damaged checkpoint is named on stderr, and another one taken; RunError where none is whole.
    """
    run = load_run(path)
    config = sized(run.config, run.tokenizer)
    step = _step_to_use(run)
    with open_checkpoints(run.checkpoints, alone=True) as checkpoints:
        expected = abstract_params(config.model)
        _check_shapes(expected, checkpoints.item_metadata(step)["params"], run.checkpoints / str(step))
        params = restore_params(checkpoints, step, abstract_on(jax.local_devices()[0], expected))
    return Trained(run, config, params, step)


def _step_to_use(run: Run) -> int:
    """Returns the best step if its checkpoint is whole, else the newest one that is."""
    best, damaged = read_best(run.checkpoints), []
    if best is not None:
        found = damage(run.checkpoints / str(best.step))
        if found is None:
            return best.step
        damaged.append(f"{run.checkpoints / str(best.step)} is damaged: {found}")
    newest, newer = newest_whole(run.checkpoints)
    damaged += [text for text in newer if text not in damaged]
    if newest is None:
        raise RunError(f"{'; '.join(damaged)}. No whole checkpoint is left: bring one back from a copy, or train again")
    for text in damaged:
        print(f"WARNING: {text}. Using step {newest} in its place", file=sys.stderr, flush=True)
    return newest


def _check_shapes(expected: Params, saved: object, where: Path) -> None:
    def shapes(tree: object) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]
        return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}

    want, have = shapes(expected), shapes(saved)
    for name in sorted(want.keys() | have.keys()):
        if want.get(name) != have.get(name):
            raise UserError(
                f"{where}: a checkpoint of another model than config.json describes: {name} is "
                f"{have.get(name, 'missing')} there, and {want.get(name, 'absent')} in the config"
            )
