"""Adapters by the commands: trained, stopped, resumed to the last bit, used, trained beside; never beside another."""

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest

from jaxgpt.errors import UserError
from jaxgpt.run.load import load_trained
from tests.commands.miniature import shell

pytestmark = pytest.mark.long

LORA = ("--lora.rank", "4", "--optimizer.learning-rate", "2e-2")


@pytest.fixture(scope="module")
def lora(workplace, finetuned) -> str:
    return shell(workplace, "finetune.py", "--config", "mini_talk.py", "--run.name", "thin", *LORA).stdout


def bits(path) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(load_trained(path).params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def valid_losses(workplace, run: str) -> list[float]:
    records = map(json.loads, (workplace / "runs" / run / "metrics.jsonl").read_text().splitlines())
    return [record["valid_loss"] for record in records if "valid_loss" in record]


def test_says_what_is_trained_and_saves_no_more(workplace, lora):
    assert "adapters of rank 4, alpha 32, projections all: 4,608 numbers are trained beside" in lora

    folders = [workplace / "runs" / name / "checkpoints" for name in ("thin", "mini_talk")]
    thin, whole = (
        min(sum(f.stat().st_size for f in step.rglob("d/*") if f.is_file()) for step in folder.glob("[0-9]*"))
        for folder in folders
    )
    assert thin < 0.6 * whole


def test_learns_and_is_used_like_any_run(workplace, lora):
    losses = valid_losses(workplace, "thin")
    assert losses[-1] < 0.6 * losses[0]
    asked = ("The ball of Ann is red. The ball?", "--temperature", "0")
    said = shell(workplace, "-m", "jaxgpt", "chat", "runs/thin", "--prompt", *asked).stdout
    assert said.startswith("The ")
    assert said.endswith(".\n")
    assert "replies end" in shell(workplace, "-m", "jaxgpt", "evaluate", "runs/thin", "--split", "valid").stdout
    shell(workplace, "-m", "jaxgpt", "check", "runs/thin")


def test_stopped_and_resumed_ends_bit_for_bit_the_same(workplace, lora):
    command = ("finetune.py", "--config", "mini_talk.py", "--run.name", "thin_again", *LORA)
    shell(workplace, *command, "--run.max-steps", "20")
    assert "resuming from step 20" in shell(workplace, *command).stdout
    assert bits(workplace / "runs" / "thin_again") == bits(workplace / "runs" / "thin")


def test_adapters_beside_adapters(workplace, lora):
    command = ("finetune.py", "--config", "mini_talk.py", "--run.name", "third", "--run.init-from", "runs/thin")
    said = shell(workplace, *command, *LORA, "--run.max-steps", "5").stdout
    first, *_ = valid_losses(workplace, "third")
    assert first == pytest.approx(min(valid_losses(workplace, "thin")), abs=1e-4), said  # it goes on from the best


def test_a_start_that_saved_nothing_does_not_say_what_the_next_is_beside(workplace, lora):
    dead = workplace / "runs" / "dead"
    shutil.copytree(workplace / "runs" / "thin", dead)
    shutil.rmtree(dead / "checkpoints")
    record = json.loads((dead / "base.json").read_text())
    (dead / "base.json").write_text(json.dumps(record | {"run": "runs/mini_talk", "digest": "0" * 64}))
    shell(workplace, "finetune.py", "--config", "mini_talk.py", "--run.name", "dead", *LORA, "--run.max-steps", "5")
    assert json.loads((dead / "base.json").read_text()) == record


def test_never_beside_other_parameters(workplace, lora, tmp_path):
    there = tmp_path / "runs"
    for name in ("mini", "thin"):
        shutil.copytree(workplace / "runs" / name, there / name)
    base = there / "thin" / "base.json"
    base.write_text(base.read_text().replace("runs/mini", "elsewhere/mini"))
    assert bits(there / "thin") == bits(workplace / "runs" / "thin")  # moved together
    other = shutil.copytree(workplace / "runs" / "mini_talk", tmp_path / "other" / "mini")
    base.write_text(base.read_text().replace("elsewhere/mini", str(other)))
    assert bits(there / "thin") == bits(workplace / "runs" / "thin")  # another run stands where the base was
    shutil.rmtree(other)
    step = json.loads(base.read_text())["step"]
    sealed = there / "mini" / "checkpoints" / str(step) / "digests.json"
    sealed.write_text(sealed.read_text() + "\n")
    with pytest.raises(UserError, match="has another one there"):
        load_trained(there / "thin")
    shutil.rmtree(there / "mini")
    with pytest.raises(UserError, match="which is not there; bring it back"):
        load_trained(there / "thin")
    base.write_text("{}")
    with pytest.raises(UserError, match="does not say which run"):
        load_trained(there / "thin")
