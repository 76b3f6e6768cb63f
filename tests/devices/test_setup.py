import dataclasses
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxgpt.config import Config, ModelConfig, RunConfig
from jaxgpt.devices import setup
from jaxgpt.training import plan

AUTO = Config(model=ModelConfig(dtype="auto"), run=RunConfig(name="mine"))


@pytest.fixture
def _on_this_cpu(monkeypatch, tmp_path):
    """No run is there, and products of float32 are done at 100 GFLOP/s."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(setup.jax, "default_backend", lambda: "cpu")


@pytest.mark.usefixtures("_on_this_cpu")
@pytest.mark.parametrize(("bfloat16", "dtype"), [(2e11, "mixed"), (1.1e11, "float32"), (0.6e11, "float32")])
def test_auto_takes_bfloat16_where_it_is_faster(monkeypatch, capsys, bfloat16, dtype):
    monkeypatch.setattr(setup, "product_flops", lambda factors, size: bfloat16 if factors == "bfloat16" else 1e11)
    assert plan.settle_dtype(AUTO) == dataclasses.replace(AUTO, model=ModelConfig(dtype=dtype))
    said = capsys.readouterr().out
    assert f"model.dtype: {dtype} (" in said
    assert f"{bfloat16 / 1e9:,.0f} GFLOP/s in bfloat16, 100 in float32" in said


@pytest.mark.usefixtures("_on_this_cpu")
def test_auto_measures_this_machine():
    assert plan.settle_dtype(AUTO).model.dtype in ("mixed", "float32")


@pytest.mark.usefixtures("_on_this_cpu")
def test_a_run_that_goes_on_keeps_its_dtype(monkeypatch, tmp_path, capsys):
    began = dataclasses.replace(AUTO, model=ModelConfig(dtype="mixed"))
    monkeypatch.setattr(setup, "product_flops", lambda factors, size: 1e11)
    monkeypatch.setattr(plan, "latest_step", lambda path: 7)
    monkeypatch.setattr(plan, "read_run", lambda path: SimpleNamespace(config=began))
    assert plan.settle_dtype(AUTO) == began
    assert f"as {Path('runs') / 'mine'} began" in capsys.readouterr().out
    again = dataclasses.replace(AUTO, run=dataclasses.replace(AUTO.run, restart=True))
    assert plan.settle_dtype(again).model.dtype == "float32"


def test_auto_takes_bfloat16_on_an_accelerator(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(setup.jax, "default_backend", lambda: "gpu")
    assert plan.settle_dtype(AUTO).model.dtype == "bfloat16"


def test_a_dtype_that_was_asked_for_stays(capsys):
    asked = Config(model=ModelConfig(dtype="float32"))
    assert plan.settle_dtype(asked) is asked
    assert capsys.readouterr().out == ""


TOUCH_AGAIN = """
import resource, sys
from jaxgpt.devices.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
bytes([7]) * 2**27  # written, and freed at once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    bytes([7]) * 2**27
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_used_again_without_new_pages():
    def new_pages(how: str) -> int:
        return int(subprocess.run([sys.executable, "-c", TOUCH_AGAIN, how], capture_output=True, check=True).stdout)

    kept, given_back = new_pages("keep"), new_pages("give back")
    assert kept <= given_back
    if sys.platform == "linux":
        assert kept < 1_000 < given_back
