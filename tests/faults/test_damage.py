"""Damage to a checkpoint, one file at a time: each is noticed, named, and survived with the checkpoint before."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgpt.config import MeshConfig
from jaxgpt.devices.mesh import make_mesh
from jaxgpt.errors import RunError
from jaxgpt.run.checkpoint import open_checkpoints, restore_state
from jaxgpt.run.folder import load_run
from jaxgpt.run.integrity import DIGESTS, damage, newest_whole
from jaxgpt.run.load import load_trained
from jaxgpt.run.resume import find_start
from jaxgpt.run.state import TrainState
from jaxgpt.run.verify import verify_run
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import compile_steps
from tests.faults.workplace import finish, outcome

pytestmark = pytest.mark.long


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes()) or bytearray(1)
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if content else b"more")  # an empty one can only grow


DAMAGES = (flip, cut, Path.unlink)


@pytest.fixture
def run(place, tmp_path) -> Path:
    """A copy of a finished run; its checkpoints are those of steps 24, 36 and 40, or two of them."""
    return Path(shutil.copytree(place / "runs/pretrain", tmp_path / "run"))


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("harm", DAMAGES)
def test_every_file_and_every_damage_is_noticed(run, harm):
    folder = newest(run)
    assert damage(folder) is None
    for path in files(folder):
        before = path.read_bytes()
        harm(path)
        found = damage(folder)
        assert found is not None, path
        assert path.name in found or path.name == DIGESTS
        path.write_bytes(before)
    assert damage(folder) is None


def test_the_model_is_still_read_whatever_is_damaged(run, capsys):
    """Each file in turn, by flip, cut and removal in turn: the checkpoint before gives the parameters."""
    folder = newest(run)
    (run / "checkpoints/best.json").write_text(json.dumps({"step": int(folder.name), "valid_loss": 0.0}))
    intact = jax.tree.leaves(load_trained(run).params)
    steps = sorted(int(path.name) for path in (run / "checkpoints").glob("[0-9]*"))
    for number, path in enumerate(files(folder)):
        before = path.read_bytes()
        DAMAGES[number % 3](path)
        trained = load_trained(run)
        assert trained.step == steps[-2]
        assert "is damaged" in capsys.readouterr().err
        path.write_bytes(before)
    for got, want in zip(jax.tree.leaves(load_trained(run).params), intact, strict=True):
        np.testing.assert_array_equal(got, want)


def restored(run: Path, step: int) -> TrainState:
    """Returns the state that training goes on with from a step."""
    known = load_run(run)
    config = dataclasses.replace(known.sized, mesh=MeshConfig(4, 1, 2))
    compiled = compile_steps(config, make_optimizer(config.optimizer, 100), make_mesh(config))
    with open_checkpoints(known.checkpoints) as checkpoints:
        return restore_state(checkpoints, step, compiled.abstract_state)


def test_training_finds_the_one_before_whatever_is_damaged(run, request, capsys):
    """Every third file by flip, cut and removal in turn; with --damages each by all three: the state is there."""
    folder, whole = newest(run), run.with_name("whole")
    shutil.copytree(folder, whole)
    *_, before, last = sorted(int(path.name) for path in (run / "checkpoints").glob("[0-9]*"))
    assert last == int(folder.name)
    known, want = load_run(run), jax.tree.leaves(restored(run, before))
    names = [path.relative_to(folder) for path in files(folder)]
    if request.config.getoption("damages"):
        harms = [(name, harm) for name in names for harm in DAMAGES]
    else:
        harms = [(name, DAMAGES[number % 3]) for number, name in enumerate(names[::3])]
    for name, harm in harms:
        harm(folder / name)
        if name.name != DIGESTS or harm is not Path.unlink:  # then it is known for one that was never finished
            assert damage(folder) is not None
        assert find_start(known) == before
        assert f"moved aside: {run}/checkpoints/damaged/{last}" in capsys.readouterr().err
        for got, expected in zip(jax.tree.leaves(restored(run, before)), want, strict=True):
            np.testing.assert_array_equal(got, expected)
        shutil.copytree(whole, folder)
    print(f"recovered from {len(harms)} of {len(harms)} damages")
    assert find_start(known) == last


def test_training_goes_on_from_the_one_before_and_ends_the_same(place, left_alone):
    shutil.copytree(place / "runs/pretrain", place / "runs/hurt")
    folder = newest(place / "runs/hurt")
    flip(max(files(folder / "params"), key=lambda path: path.stat().st_size))
    _, err = finish(place, "pretrain", "hurt")
    assert f"WARNING: runs/hurt/checkpoints/{folder.name} is damaged: params/" in err
    assert "has changed since it was saved. Resuming from the one before, of step " in err
    assert f"moved aside: runs/hurt/checkpoints/damaged/{folder.name}" in err
    assert outcome(place / "runs/hurt") == left_alone["pretrain"]
    assert json.loads((place / "runs/hurt/run.json").read_text())["damaged"]


def test_without_a_whole_checkpoint_it_stops_and_deletes_nothing(place):
    shutil.copytree(place / "runs/pretrain", place / "runs/lost")
    for folder in (place / "runs/lost/checkpoints").glob("[0-9]*"):
        (folder / "params/manifest.ocdbt").unlink()
    before = files(place / "runs/lost/checkpoints")
    _, err = finish(place, "pretrain", "lost", expect=1)
    assert "No whole checkpoint is left" in err
    assert "Traceback" not in err
    assert files(place / "runs/lost/checkpoints") == before
    with pytest.raises(RunError, match="No whole checkpoint is left"):
        load_trained(place / "runs/lost")


def test_nothing_outside_the_run_is_read(run, tmp_path):
    folder = newest(run)
    outside = tmp_path / "outside"
    outside.write_text("mine")
    sealed = json.loads((folder / DIGESTS).read_text())
    sealed["files"]["../../../outside"] = {"bytes": 4, "sha256": "0"}
    (folder / DIGESTS).write_text(json.dumps(sealed))
    assert damage(folder) == "../../../outside is missing"
    del sealed["files"]["../../../outside"]
    (folder / DIGESTS).write_text(json.dumps(sealed))
    assert damage(folder) is None
    metadata = folder / "config/metadata"
    (tmp_path / "copy").write_bytes(metadata.read_bytes())
    metadata.unlink()
    metadata.symlink_to(tmp_path / "copy")
    assert damage(folder) == "config/metadata is a link"


def test_check_names_what_is_damaged(run):
    assert [wrong for _, wrong in verify_run(run)] == [None] * len(list(verify_run(run)))
    flip(newest(run) / "optimizer/_METADATA")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4')
    wrong = {name: complaint for name, complaint in verify_run(run) if complaint}
    assert wrong.keys() == {"metrics.jsonl", f"checkpoints/{newest(run).name}"}
    assert "optimizer/_METADATA has changed" in wrong[f"checkpoints/{newest(run).name}"]


def test_an_unfinished_checkpoint_is_none(run):
    step = newest(run)
    (step / DIGESTS).unlink()
    before = sorted(int(path.name) for path in (run / "checkpoints").glob("[0-9]*"))[-2]
    assert newest_whole(run / "checkpoints") == (before, [])
