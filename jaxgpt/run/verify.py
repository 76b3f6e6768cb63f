"""Verifies a run at rest: its documents, its records, its kept tokens, and every checkpoint, to the last byte."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from jaxgpt.buckets import entries, is_there
from jaxgpt.config_json import from_json
from jaxgpt.data.manifest import manifest_from_dict
from jaxgpt.data.recheck import check_kept, check_source
from jaxgpt.devices.mesh import inference_mesh
from jaxgpt.errors import RunError, UserError, first_line
from jaxgpt.files import parse_json, read_text
from jaxgpt.run.checkpoint import read_best
from jaxgpt.run.folder import load_run, require_folder
from jaxgpt.run.integrity import committed_steps, damage, step_of
from jaxgpt.run.load import Origin, abstract_on, restore_origin
from jaxgpt.run.metrics import evaluated_steps
from jaxgpt.text.vocabulary import load_tokenizer


def verify_run(path: Path, source: bool = False) -> Iterator[tuple[str, str | None]]:
    """Yields (what was looked at, what is wrong with it or None) for everything a run folder holds.

    Beside it what data.cache_dir keeps of its data; with `source` also the text that was read. Raises UserError where
    there is no run folder at all.
    """
    require_folder(path)
    yield "config.json", _complaint(lambda: from_json((path / "config.json").read_text(encoding="utf-8"), "it"))
    yield "tokenizer.json", _complaint(lambda: load_tokenizer(path / "tokenizer.json"))
    yield "data.json", _complaint(lambda: manifest_from_dict(parse_json(read_text(path / "data.json"))))
    answers = ["answers.jsonl"] if is_there(path / "answers.jsonl") else []
    evaluated = evaluated_steps(path)  # before the first there may be neither a sample nor a checkpoint
    samples = ["samples.jsonl"] if evaluated or is_there(path / "samples.jsonl") else []
    for name in ("metrics.jsonl", *samples, *answers):
        yield name, _complaint(lambda name=name: _check_records(path / name))
    yield from _check_data(path, source)
    checkpoints = path / "checkpoints"
    for step in sorted(step for entry in entries(checkpoints) if (step := step_of(entry)) is not None):
        yield (
            f"checkpoints/{step}",
            damage(checkpoints / str(step)) or _complaint(lambda s=step: _check_arrays(path, s)),
        )
    yield "checkpoints/best.json", _check_best(checkpoints)
    if not committed_steps(checkpoints):
        missed = any(evaluated)  # step 0 has none
        yield ("checkpoints", "there is no finished one") if missed else ("checkpoints: there is none yet", None)


def _check_data(path: Path, source: bool) -> Iterator[tuple[str, str | None]]:
    try:
        run = load_run(path)
    except (UserError, RunError):
        return  # what is wrong was said
    yield from check_kept(run.data, run.tokenizer, run.config.data)
    if source:
        yield from check_source(run.data, run.config.data)


def _complaint(look) -> str | None:
    try:
        look()
    except FileNotFoundError:
        return "it is missing"
    except (OSError, ValueError, KeyError, TypeError, UserError, RunError) as error:
        return first_line(error)
    return None


def _check_records(path: Path) -> None:
    steps = []
    lines = path.read_text(encoding="utf-8").split("\n")  # other line breaks may be in texts
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
        try:
            steps.append(parse_json(line)["step"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"line {number} is no record") from None
    if steps != sorted(steps):
        raise ValueError("its steps are not in order")


def _check_arrays(path: Path, step: int) -> None:
    run = load_run(path)
    mesh = inference_mesh(run.config.mesh)
    params = restore_origin(Origin(run, step), abstract_on(mesh, run.sized), alone=True)
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(params)):
        raise ValueError("it holds parameters that are not finite")


def _check_best(checkpoints: Path) -> str | None:
    best = read_best(checkpoints)
    if best is None:
        return "it cannot be read, or its loss is not finite" if is_there(checkpoints / "best.json") else None
    there = best.step in committed_steps(checkpoints)
    return None if there else f"it names step {best.step}, and there is no such checkpoint"
