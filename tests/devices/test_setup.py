import dataclasses
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from jaxgpt.config import Config, DataConfig, ModelConfig, ObjectiveConfig, RunConfig
from jaxgpt.devices import setup
from jaxgpt.errors import UserError
from jaxgpt.ops import attention
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
    assert plan.settle_dtype(AUTO)[0] == dataclasses.replace(AUTO, model=ModelConfig(dtype=dtype))
    said = capsys.readouterr().out
    assert f"model.dtype: {dtype} (" in said
    assert f"{bfloat16 / 1e9:,.0f} GFLOP/s in bfloat16, 100 in float32" in said


@pytest.mark.usefixtures("_on_this_cpu")
def test_auto_measures_this_machine():
    assert plan.settle_dtype(AUTO)[0].model.dtype in ("mixed", "float32")


@pytest.mark.usefixtures("_on_this_cpu")
def test_a_run_that_goes_on_keeps_its_dtype(monkeypatch, tmp_path, capsys):
    began = dataclasses.replace(AUTO, model=ModelConfig(dtype="mixed"))
    monkeypatch.setattr(setup, "product_flops", lambda factors, size: 1e11)
    monkeypatch.setattr(plan, "latest_step", lambda path: 7)
    monkeypatch.setattr(plan, "read_run", lambda path: SimpleNamespace(config=began))
    assert plan.settle_dtype(AUTO)[0] == began
    assert f"as {Path('runs') / 'mine'} began" in capsys.readouterr().out
    again = dataclasses.replace(AUTO, run=dataclasses.replace(AUTO.run, restart=True))
    assert plan.settle_dtype(again)[0].model.dtype == "float32"


@pytest.mark.parametrize(
    ("platform", "capability", "dtype"),
    [("tpu", None, "bfloat16"), ("gpu", "9.0", "bfloat16"), ("gpu", "8.0", "bfloat16"), ("gpu", "7.5", "float32")],
)
def test_auto_goes_by_what_the_accelerator_has(monkeypatch, tmp_path, platform, capability, dtype):
    monkeypatch.chdir(tmp_path)
    chip = SimpleNamespace(device_kind="chip", compute_capability=capability)
    monkeypatch.setattr(setup.jax, "default_backend", lambda: platform)
    monkeypatch.setattr(setup.jax, "devices", lambda: [chip])
    assert plan.settle_dtype(AUTO)[0].model.dtype == dtype


class TestAttention:
    """Which kernel "auto" takes; no GPU is here, so what one would answer is put in its place."""

    @staticmethod
    def config(**model) -> Config:
        model = {"dtype": "mixed", "dropout": 0.0, "embed_dim": 16, "num_heads": 2} | model
        return Config(model=ModelConfig(**model), data=DataConfig(seq_len=8))

    def test_cpu_takes_our_own_and_says_nothing(self, capsys):
        assert plan.settle_attention(self.config())[0].model.attention == "xla"
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize(
        ("model", "why"),
        [({"dropout": 0.1}, "model.dropout is 0.1"), ({"dtype": "float32"}, "model.dtype is float32")],
    )
    def test_gpu_says_why_it_is_not_cudnn(self, monkeypatch, capsys, model, why):
        monkeypatch.setattr(setup.jax, "default_backend", lambda: "gpu")
        assert plan.settle_attention(self.config(**model))[0].model.attention == "xla"
        assert why in capsys.readouterr().out

    @pytest.mark.parametrize("spoil", [lambda y: y * 1.1, lambda y: y * jnp.nan, None])
    def test_gpu_tries_the_kernel_and_falls_back_loudly(self, monkeypatch, capsys, spoil):
        def fused(q, k, v, mask, precision):
            if spoil is None:
                raise RuntimeError("no kernel image\nand more")
            return spoil(attention.causal_attention(q, k, v, mask, "xla", precision))

        monkeypatch.setattr(setup.jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(attention, "cudnn", fused)
        assert plan.settle_attention(self.config())[0].model.attention == "xla"
        said = capsys.readouterr().out
        assert "NOT cudnn" in said
        assert ("no kernel image" if spoil is None else "of its scale") in said
        assert "and more" not in said

    def test_gpu_takes_the_kernel_that_agrees(self, monkeypatch, capsys):
        def fused(q, k, v, mask, precision):
            return attention.causal_attention(q, k, v, mask, "xla", precision)

        monkeypatch.setattr(setup.jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(attention, "cudnn", fused)
        assert plan.settle_attention(self.config())[0].model.attention == "cudnn"
        assert "cudnn (fused" in capsys.readouterr().out

    @pytest.mark.parametrize("kernel", ["cudnn", "splash"])
    @pytest.mark.parametrize(("model", "why"), [({}, "on a CPU"), ({"dropout": 0.1}, "model.dropout is 0.1")])
    def test_asked_for_where_it_cannot_be_it_is_refused(self, kernel, model, why):
        with pytest.raises(UserError, match=why):
            plan.settle_attention(self.config(attention=kernel, **model))

    def test_tpu_needs_whole_rows_of_registers(self, monkeypatch):
        monkeypatch.setattr(setup.jax, "default_backend", lambda: "tpu")
        config, why = plan.settle_attention(self.config())
        assert config.model.attention == "xla"
        assert "multiples of 128 tokens" in why["model.attention"]

    @pytest.mark.parametrize(("name", "kernel"), [("next_token", "splash"), ("dpo", "xla"), ("grpo", "xla")])
    def test_answers_to_one_question_need_a_mask_that_splash_has_not(self, monkeypatch, name, kernel):
        def fused(q, k, v, segments, precision):
            return attention.causal_attention(q, k, v, segments, "xla", precision)

        monkeypatch.setattr(setup.jax, "default_backend", lambda: "tpu")
        monkeypatch.setattr(attention, "splash", fused)
        config = self.config()
        config = dataclasses.replace(config, data=DataConfig(seq_len=128), objective=ObjectiveConfig(name=name))
        settled, why = plan.settle_attention(config)
        assert settled.model.attention == kernel
        assert ("one question" in why["model.attention"]) == (name != "next_token")


def test_many_blocks_are_trained_as_a_loop():
    few, many, asked = (
        plan.settle_layers(Config(model=ModelConfig(num_layers=number, scan_layers=scan))).model.scan_layers
        for number, scan in ((4, None), (24, None), (24, False))
    )
    assert (few, many, asked) == (False, True, False)


def test_a_dtype_that_was_asked_for_stays(capsys):
    asked = Config(model=ModelConfig(dtype="float32"))
    assert plan.settle_dtype(asked)[0] is asked
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
