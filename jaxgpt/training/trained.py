"""A run's parameters, ready to use: what finetuning starts from and what sampling, chat and evaluation load."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgpt.config import Config, ModelConfig
from jaxgpt.errors import UserError
from jaxgpt.model.gpt import GPT, Params
from jaxgpt.training.checkpoint import abstract_on, open_checkpoints, read_best, restore_params
from jaxgpt.training.run import Run, load_run, sized


@dataclass(frozen=True)
class Trained:
    """A run with the parameters of its best checkpoint (the latest, where none was evaluated yet)."""

    run: Run
    config: Config
    params: Params
    step: int


def abstract_params(config: ModelConfig) -> Params:
    """Returns shapes and types of a model's parameters, without computing any."""
    tokens_BT = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    return nn.unbox(jax.eval_shape(GPT(config).init, jax.random.key(0), tokens_BT))["params"]


def load_trained(path: str | Path) -> Trained:
    """Returns a run's parameters on the first device; raises UserError where there is no run, or not of this model."""
    run = load_run(path)
    config = sized(run.config, run.tokenizer)
    with open_checkpoints(run.checkpoints) as checkpoints:
        best, latest = read_best(run.checkpoints), checkpoints.latest_step()
        assert latest is not None, "load_run has seen a checkpoint"
        step = best.step if best is not None and best.step in checkpoints.all_steps() else latest
        expected = abstract_params(config.model)
        _check_shapes(expected, checkpoints.item_metadata(step)["params"], run.checkpoints / str(step))
        params = restore_params(checkpoints, step, abstract_on(jax.local_devices()[0], expected))
    return Trained(run, config, params, step)


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
