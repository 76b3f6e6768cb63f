import dataclasses
import subprocess
import sys

import pytest

from jaxgpt.config import Config, ModelConfig
from jaxgpt.training import start

AUTO = Config(model=ModelConfig(dtype="auto"))


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        ({"avx512f", "avx512_bf16"}, "mixed"),
        ({"amx_bf16"}, "mixed"),
        ({"avx512f", "avx2"}, "float32"),
        (set(), "float32"),
    ],
)
def test_auto_takes_bfloat16_where_the_cpu_has_it_and_says_so(monkeypatch, capsys, features, dtype):
    monkeypatch.setattr(start.jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(start, "_cpu_features", lambda: features)
    assert start.settle_dtype(AUTO) == dataclasses.replace(AUTO, model=ModelConfig(dtype=dtype))
    assert dtype in capsys.readouterr().out


def test_auto_takes_bfloat16_on_an_accelerator(monkeypatch):
    monkeypatch.setattr(start.jax, "default_backend", lambda: "gpu")
    assert start.settle_dtype(AUTO).model.dtype == "bfloat16"


def test_a_dtype_that_was_asked_for_stays(capsys):
    asked = Config(model=ModelConfig(dtype="float32"))
    assert start.settle_dtype(asked) is asked
    assert capsys.readouterr().out == ""


TOUCH_AGAIN = """
import resource, sys
from jaxgpt.training.memory import keep_freed_memory
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
