"""Adapters in and out: a run with lora.rank becomes a folder that PEFT loads, and such a folder becomes a run.

Theirs are lora_A [rank, inputs] and lora_B [outputs, rank] for each module. Where one module of theirs holds several
linear maps of ours (GPT-2's c_attn), each of ours has a part of its rank, and zeros stand between the parts.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.allowed import validate
from jaxgpt.config import LoraConfig, OptimizerConfig, Projections, RunConfig
from jaxgpt.convert.families import Family, tensors_of
from jaxgpt.convert.folder import Folder, open_file, read_json
from jaxgpt.convert.layout import Tensor, sizes_of, to_ours, to_theirs
from jaxgpt.convert.settings import choose_family
from jaxgpt.data.manifest import manifest_from_dict
from jaxgpt.devices.mesh import inference_mesh
from jaxgpt.errors import UserError, clipped, shown
from jaxgpt.files import folder_made_whole, write_text
from jaxgpt.model.lora import PROJECTIONS, Adapters, init_adapters
from jaxgpt.run.folder import Run, locked
from jaxgpt.run.load import abstract_on, find_origin, record_base, restore_adapters
from jaxgpt.run.write import write_run

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
DATA = "jaxgpt_data.json"  # what adapters of ours were trained on: whether they talk, too
OFF = ("use_dora", "use_rslora", "modules_to_save", "lora_bias", "layer_replication", "alora_invocation_tokens")
"""Keys that change what adapters do, and are refused where they are on."""
BESIDE_THE_BASE = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin that leave the base as it is; PiSSA, OLoRA and others take from it what adapters begin with."""


class _Module(NamedTuple):
    """A linear map of theirs, and the linear maps of ours that it holds."""

    theirs: str
    layout: str
    ours: tuple[tuple[str, str, str], ...]
    """(block, attention or mlp, name) of each."""


def export_adapters(path: str | Path, out: Path) -> tuple[Family, int]:
    """Writes the adapters of a run's best checkpoint as a PEFT folder; returns its base's family and their rank.

    Raises UserError where the run has none, no family can express its model, or `out` is in the way.
    """
    from safetensors.numpy import save_file

    if out.exists():
        raise UserError(f"{out}: it is there already; give a folder that is not")
    origin = find_origin(path)
    run, lora = origin.run, origin.run.config.lora
    if lora.rank is None:
        raise UserError(f"{path}: it has no adapters, lora.rank is None; leave out --adapters to export all of it")
    model = run.sized.model
    family = choose_family(model, None)
    adapters = restore_adapters(origin, abstract_on(inference_mesh(run.config.mesh), run.sized), alone=True)
    sizes, tensors, targets, parts = sizes_of(model, model.vocab_size), {}, {}, {}
    for module in _modules(tensors_of(family, model)):
        pairs = [_pair(adapters, *of_ours) for of_ours in module.ours]
        if not any(pairs):
            continue
        target = _target(module.theirs)
        targets[target], parts[target] = None, sum(pair is not None for pair in pairs)
        a = np.concatenate([pair[0].reshape(-1, lora.rank).T for pair in pairs if pair])
        b = np.concatenate([_their_b(pairs, i, module, sizes, lora.rank) for i, pair in enumerate(pairs) if pair], 1)
        tensors[f"{PREFIX}{module.theirs}.lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"{PREFIX}{module.theirs}.lora_B.weight"] = np.ascontiguousarray(b)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": run.config.run.init_from,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "target_modules": list(targets),
        "rank_pattern": {target: n * lora.rank for target, n in parts.items() if n > 1},
        "alpha_pattern": {target: n * lora.alpha for target, n in parts.items() if n > 1},
        "fan_in_fan_out": family.name == "gpt2",
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }
    out.mkdir(parents=True)
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    (out / WEIGHTS).chmod(0o644)
    write_text(out / CONFIG, json.dumps(config, indent=2) + "\n")
    write_text(out / DATA, json.dumps(run.data.to_dict(), indent=2, ensure_ascii=False) + "\n")
    return family, lora.rank


def import_adapters(folder: Path, base: str | Path, path: Path) -> Run:
    """Makes the run `path` of a PEFT folder's adapters, beside the run `base` that they were trained for.

    It talks where `base` does, or where adapters of ours say that they were trained to.

    Raises UserError where the folder is not what can be imported or is of another model; no run is left then.
    """
    if path.exists():
        raise UserError(f"{path}: it is there already; choose another --run.name")
    origin = find_origin(base)
    model = origin.run.sized.model
    settings, data = _settings(folder), origin.run.data
    if (folder / DATA).is_file():
        try:
            data = manifest_from_dict(read_json(folder / DATA))
        except ValueError as error:
            raise UserError(f"{folder / DATA}: not a data manifest ({clipped(str(error))})") from None
        if data.tokenizer != origin.run.tokenizer.fingerprint:
            raise UserError(
                f"{folder}: its adapters were trained with another tokenizer than {base} has; give their base"
            )
    opened = open_file(folder / WEIGHTS)
    family = choose_family(model, None)
    ours = _read(opened, settings, list(_modules(tensors_of(family, model))), sizes_of(model, model.vocab_size))
    rank = max(a.shape[-1] for a, _, _ in ours.values())
    same = {scale for _, _, scale in ours.values()}
    alpha = same.pop() * rank if len(same) == 1 else float(rank)
    used = {name for _, _, name in ours}
    covering: list[Projections] = [p for p in PROJECTIONS if used <= PROJECTIONS[p]]
    projections = min(covering, key=lambda p: len(PROJECTIONS[p]))
    lora = LoraConfig(rank, alpha, projections)
    run_config = RunConfig(name=path.name, folder=str(path.parent), init_from=str(base))
    config = validate(dataclasses.replace(origin.run.config, optimizer=OptimizerConfig(), lora=lora, run=run_config))

    drawn = init_adapters(abstract_on(inference_mesh(config.mesh), origin.run.sized), lora, jax.random.key(0))
    for (block, part, name), (a, b, scale) in ours.items():
        here = drawn[block][part][name]
        a_all, b_all = np.array(here["lora_a"]), np.zeros(here["lora_b"].shape, np.float32)
        a_all[..., : a.shape[-1]] = a
        b_all[: b.shape[0]] = b * np.float32(scale * rank / alpha)
        here |= {"lora_a": jnp.asarray(a_all), "lora_b": jnp.asarray(b_all)}
    with locked(path), folder_made_whole(path) as building:
        run = Run(building, config, origin.run.tokenizer, data)
        write_run(run, drawn)
        record_base(run, origin)
    return dataclasses.replace(run, path=path)


def _modules(tensors: list[Tensor]) -> Iterator[_Module]:
    for tensor in tensors:
        if all(path.endswith(".kernel") for path in tensor.ours):
            block_part_name = tuple(tuple(path.split(".")[:3]) for path in tensor.ours)
            yield _Module(tensor.theirs.removesuffix(".weight"), tensor.layout, block_part_name)  # type: ignore[arg-type]


def _target(module: str) -> str:
    """Returns what adapter_config.json calls the module of every block: the last two parts, as "mlp.c_proj"."""
    return ".".join(module.split(".")[-2:])


def _pair(adapters: Adapters, block: str, part: str, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    found = adapters.get(block, {}).get(part, {}).get(name)
    return None if found is None else (np.asarray(found["lora_a"]), np.asarray(found["lora_b"]))


def _their_b(pairs: list, own: int, module: _Module, sizes: dict[str, int], rank: int) -> np.ndarray:
    """Returns lora_B [outputs, rank] of one of a module's linear maps, with zeros where the others' outputs are."""
    b = pairs[own][1]
    if len(pairs) == 1:
        return b.reshape(rank, -1).T
    kernels = [b if i == own else np.zeros_like(b) for i in range(len(pairs))]
    theirs = to_theirs(kernels, module.layout, sizes | {"D": rank})
    return theirs.T if module.layout.startswith("D") else theirs


def _settings(folder: Path) -> dict[str, Any]:
    """Returns a PEFT folder's settings; raises UserError, naming the key, where they are not plain LoRA's."""
    where = folder / CONFIG
    settings = read_json(where)
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise UserError(f"{where}: not LoRA; only adapters of peft_type LORA can be imported")
    for key in OFF:
        if settings.get(key):
            raise UserError(f"{where}: {key} is {shown(settings[key])}, which is not supported")
    if (how := settings.get("init_lora_weights")) not in BESIDE_THE_BASE:
        raise UserError(
            f"{where}: init_lora_weights is {shown(how)}, which changes the base; save the adapters with "
            "path_initial_model_for_weight_conversion, which makes them plain LoRA"
        )
    if settings.get("bias", "none") != "none":
        raise UserError(f"{where}: bias is {shown(settings['bias'])}; biases that are trained are not supported")
    alpha = settings.get("lora_alpha")
    patterns = settings.get("alpha_pattern") or {}
    if not isinstance(alpha, int | float) or not isinstance(patterns, dict) or alpha <= 0:
        raise UserError(f"{where}: lora_alpha is {shown(alpha)}; it must be a number above 0")
    for pattern, value in patterns.items():
        if not _is_pattern(pattern) or not isinstance(value, int | float) or value <= 0:
            raise UserError(f"{where}: alpha_pattern has {shown(pattern)}: {shown(value)}, which says nothing")
    return settings


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _alpha(settings: dict[str, Any], module: str) -> float:
    """Returns a module's alpha: that of the first pattern which its name ends with, as PEFT does, or the folder's."""
    for pattern, alpha in (settings.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(alpha)
    return float(settings["lora_alpha"])


def _read(
    opened: Folder, settings: dict[str, Any], modules: list[_Module], sizes: dict[str, int]
) -> dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray, float]]:
    """Returns (lora_a, lora_b, alpha / rank) of each linear map of ours that the folder has adapters for."""
    left, found = set(opened.shapes), {}
    for module in modules:
        names = [f"{PREFIX}{module.theirs}.lora_{x}.weight" for x in "AB"]
        there = [name for name in names if name in left]
        if not there:
            continue
        if len(there) == 1:
            raise UserError(f"{opened.files[there[0]]}: {there[0]} is there without its other half")
        left -= set(names)
        a, b = (opened.read(name).astype(np.float32) for name in names)
        for name, theirs_to_ours in zip(module.ours, _ours(a, b, module, sizes, opened.path), strict=True):
            found[name] = (*theirs_to_ours, _alpha(settings, module.theirs) / a.shape[0])
    if left or not found:
        what = f"{clipped(min(left))} is of no linear map in it" if left else "there are no adapters"
        raise UserError(f"{opened.path}: not adapters of this model: {what}")
    return found


def _ours(
    a: np.ndarray, b: np.ndarray, module: _Module, sizes: dict[str, int], where: Path
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns our (lora_a, lora_b) of each linear map in a module; all share its lora_A."""
    axes = module.layout.split(" -> ")[1].split()
    inputs = axes[:2] if axes[-1] == "D" and len(axes) == 3 else axes[:1]
    own = [sizes[axis] for axis in axes]
    rank, count = a.shape[0], len(module.ours)
    outputs = count * int(np.prod(own[len(inputs) :]))
    if a.shape != (rank, np.prod(own[: len(inputs)])) or b.shape != (outputs, rank):
        asked = f"({rank}, {np.prod(own[: len(inputs)])}) and ({outputs}, {rank})"
        raise UserError(f"{where}: {module.theirs} has adapters of {a.shape} and {b.shape}; the run's are {asked}")
    a_ours = a.T.reshape(*own[: len(inputs)], rank)
    if count == 1:
        return [(a_ours, b.T.reshape(rank, *own[len(inputs) :]))]
    kernels = to_ours(b.T if module.layout.startswith("D") else b, module.layout, sizes | {"D": rank})
    return [(a_ours, kernel) for kernel in kernels]
