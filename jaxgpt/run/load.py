"""A run's parameters, from disk straight onto the devices: for finetuning, sampling, chat and evaluation."""

import contextlib
import dataclasses
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgpt.buckets import is_there, path_of
from jaxgpt.config import Config, LoraConfig, ModelConfig
from jaxgpt.devices.mesh import inference_mesh, shardings_of
from jaxgpt.errors import RunError, UserError
from jaxgpt.files import parse_json, read_text, write_text
from jaxgpt.model.gpt import Params
from jaxgpt.model.lora import Adapters, init_adapters, merged
from jaxgpt.model.parameters import abstract_params, in_int8
from jaxgpt.run.checkpoint import apart, open_checkpoints, read_best, restore_params
from jaxgpt.run.folder import BASE, Run, latest_step, load_run
from jaxgpt.run.integrity import DIGESTS, damage, newest_whole


@dataclass(frozen=True)
class Origin:
    """A run whose parameters at a step are to be used, and are not read yet."""

    run: Run
    step: int

    @property
    def model(self) -> ModelConfig:
        """Its network; how the machine it was trained on went about it is left to the one at hand."""
        return dataclasses.replace(self.run.config.model, attention="auto", scan_layers=None)

    @property
    def talking_model(self) -> ModelConfig:
        """Its network, which predicts the tokens around messages too: imported weights may have come without them."""
        model = self.model
        if model.embedding_rows is None:
            return model
        return dataclasses.replace(model, vocab_size=max(model.vocab_size, self.run.tokenizer.vocab_size))


@dataclass(frozen=True)
class Trained:
    """A run with the parameters of its best checkpoint (the latest, where none was evaluated yet)."""

    run: Run
    config: Config
    params: Params
    step: int


def find_origin(path: str | Path) -> Origin:
    """Returns a run's best checkpoint; raises UserError where there is no run, or not of this model.

    A damaged checkpoint is named on stderr, and another one taken; RunError where none is whole.
    """
    run = load_run(path)
    return Origin(run, _step_to_use(run))


def restore_origin(origin: Origin, abstract: Params, alone: bool = False) -> Params:
    """Returns the parameters, laid out as `abstract` says; several processes restore together, but for `alone`.

    A run's adapters are merged into those of the run that they were trained beside.
    """
    run = origin.run
    if run.config.lora.rank is None:
        return _restore(origin, abstract, alone)
    params = restore_origin(_base_of(run), abstract, alone)
    adapters = restore_adapters(origin, abstract, alone)
    merge = jax.jit(
        lambda params, adapters: merged(params, adapters, run.config.lora),
        out_shardings=jax.tree.map(lambda x: x.sharding, abstract),
        donate_argnums=0,
    )
    return merge(params, adapters)


def restore_adapters(origin: Origin, abstract: Params, alone: bool = False) -> Adapters:
    """Returns the adapters of a run with lora.rank, whole on each device; `abstract` is its network's parameters."""
    anywhere = jax.tree.leaves(abstract)[0].sharding
    if isinstance(anywhere, NamedSharding):
        anywhere = NamedSharding(anywhere.mesh, PartitionSpec())
    shapes = jax.eval_shape(lambda: init_adapters(abstract, origin.run.config.lora, jax.random.key(0)))
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=anywhere), shapes)
    return _restore(origin, wanted, alone)


def base_step(run: Run, origin: Origin) -> int:
    """Returns the step of the checkpoint that a run is trained beside or compared with: on record, or the origin's.

    Of a run that has saved nothing none is on record. Raises UserError where the one that is has gone.
    """
    resumes = latest_step(run.path) is not None and not run.config.run.restart
    return _base_of(run).step if resumes and is_there(run.path / BASE) else origin.step


def record_base(run: Run, origin: Origin) -> None:
    """Records which checkpoint a run is trained beside or compared with, if that is not on record yet."""
    if not is_there(run.path / BASE):
        base = {"run": str(origin.run.path), "step": origin.step, "digest": checkpoint_digest(origin)}
        write_text(run.path / BASE, json.dumps(base, indent=2) + "\n")


def _base_of(run: Run) -> Origin:
    """Returns the checkpoint that a run was trained beside or is compared with, where it was or beside the run.

    Raises UserError where it is gone or another one: adapters mean nothing beside other parameters.
    """
    try:
        record = parse_json(read_text(run.path / BASE))
        named, step, digest = str(record["run"]), int(record["step"]), record["digest"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run.path / BASE}: it does not say which run this one was trained beside ({error})") from None
    beside = run.path.parent / Path(named).name
    places = [beside]
    with contextlib.suppress(UserError):  # a bucket that is out of reach, when both runs were copied from there
        places = [path_of(named), beside]
    what = f"{run.path}: it was trained beside {named}, step {step}"
    others = []
    for place in dict.fromkeys(place for place in places if is_there(place / "config.json")):
        origin = Origin(load_run(place), step)
        found = damage(origin.run.checkpoints / str(step))
        if found is None and checkpoint_digest(origin) == digest:
            return origin
        others.append(f"{place} has another one there ({found or 'trained anew'})")
    if not others:
        raise UserError(
            f"{what}, which is not there; bring it back, as {' or '.join(dict.fromkeys(map(str, (named, beside))))}"
        )
    raise UserError(f"{what}, and {'; '.join(others)}; bring the first back")


def checkpoint_digest(origin: Origin) -> str:
    """Returns what tells a checkpoint from every other one."""
    return hashlib.sha256((origin.run.checkpoints / str(origin.step) / DIGESTS).read_bytes()).hexdigest()


def _restore(origin: Origin, abstract: Params, alone: bool) -> Params:
    run, step = origin.run, origin.step
    with open_checkpoints(run.checkpoints, alone=alone, create=False) as checkpoints:
        saved = checkpoints.item_metadata(step)["params"]
        _check_shapes(apart(abstract), saved, run.checkpoints / str(step))
        return restore_params(checkpoints, step, abstract)


def load_trained(path: str | Path, int8: bool = False) -> Trained:
    """Returns a run with its parameters, sharded as its training had them, as far as there are devices here.

    `int8` puts its weights into eight bits. Raises as `find_origin` does.
    """
    origin = find_origin(path)
    config = origin.run.sized
    params = restore_origin(origin, abstract_on(inference_mesh(config.mesh), config), alone=True)
    if int8:
        params = jax.jit(in_int8)(params)
    # A kernel of where it was trained may not be here, and what is generated has every block apart.
    model = dataclasses.replace(config.model, attention="xla", scan_layers=False)
    config = dataclasses.replace(config, model=model, lora=LoraConfig())  # its adapters are merged
    return Trained(origin.run, config, params, origin.step)


def abstract_on(mesh: Mesh, config: Config) -> Params:
    """Returns shapes, types and shardings of a model's parameters on a mesh, every block's apart."""
    model = dataclasses.replace(config.model, scan_layers=False)
    abstract = abstract_params(model)
    shardings = shardings_of(abstract_params(model, boxed=True), mesh)
    if mesh.size == 1:
        alone = jax.sharding.SingleDeviceSharding(mesh.devices.flat[0])
        shardings = jax.tree.map(lambda _: alone, shardings)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings)


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
