"""An encoding that is killed at any moment, and started again, ends with the same bytes."""

import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.workplace import ROOT

pytestmark = pytest.mark.long

PROGRAM = """
import sys
from functools import partial
from jaxgpt.config import DataConfig
from jaxgpt.data import encode, prepare
encode.BATCH = 20_000
prepare.encode_split = partial(encode.encode_split, size=50_000)  # many shards
config = DataConfig(corpus="text.txt", tokenizer="bpe", cache_dir=sys.argv[1])
prepare.prepare_text(prepare.find_text_of(config), config, vocab_size=400)
"""


def start(folder: Path, cache: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, cache], cwd=folder, env={"PYTHONPATH": str(ROOT)})


def contents(cache: Path) -> dict[str, bytes]:
    """All that counts in a folder of kept tokens."""
    files = (file for file in cache.rglob("*") if file.is_file() and file.suffix != ".lock")
    return {str(file.relative_to(cache)): file.read_bytes() for file in sorted(files)}


def count(cache: Path) -> int:
    """How many shards there are, whole or not."""
    return sum(1 for _ in cache.rglob("*.bin*"))


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path, request):
    seeded = random.Random(0)
    words = [f"w{seeded.randrange(9_999)}é" for _ in range(400_000)]
    (tmp_path / "text.txt").write_text("\n".join(" ".join(words[n : n + 12]) for n in range(0, len(words), 12)))
    assert start(tmp_path, "whole").wait(120) == 0
    whole = contents(tmp_path / "whole")
    assert sum(name.endswith(".bin") for name in whole) > 8
    for number in range(request.config.getoption("kills")):
        cache = f"cache{number}"
        for _ in range(3):  # killed three times, at a shard of its own each time
            shards = seeded.randrange(1, 4) + count(tmp_path / cache)
            child = start(tmp_path, cache)
            while count(tmp_path / cache) < shards and child.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(0.001)
            assert child.poll() is None, "it ended before it could be killed"
            with suppress(subprocess.TimeoutExpired):
                child.wait(seeded.uniform(0, 0.02))
            child.kill()
            child.wait()
        assert start(tmp_path, cache).wait(120) == 0
        assert contents(tmp_path / cache) == whole
