"""The array cache serves what was asked for, whole, or builds it anew."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxgpt.data.cache import cache_key, cached_array

WANTED = np.arange(1000, dtype=np.int32)


def build_once():
    calls = []

    def build():
        calls.append(1)
        return WANTED

    return build, calls


def test_built_once_and_memory_mapped(tmp_path):
    build, calls = build_once()
    for _ in range(2):
        array = cached_array(tmp_path, "key", build)
        assert isinstance(array, np.memmap)
        np.testing.assert_array_equal(array, WANTED)
    assert len(calls) == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "no record", "no data", "broken record"])
def test_what_is_not_whole_is_never_served(tmp_path, damage):
    build, calls = build_once()
    cached_array(tmp_path, "key", build)
    data, record = tmp_path / "key.npy", tmp_path / "key.json"
    content = data.read_bytes()
    if damage == "cut":
        data.write_bytes(content[:-100])
    elif damage == "flip":
        data.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no record":
        record.unlink()
    elif damage == "no data":
        data.unlink()
    else:
        record.write_text('{"sha256": ')
    np.testing.assert_array_equal(cached_array(tmp_path, "key", build), WANTED)
    assert len(calls) == 2


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cached_array(tmp_path, "key", fail)
    assert list(tmp_path.iterdir()) == []


def test_other_parts_are_another_key():
    assert cache_key("a", "b") == cache_key("a", "b")
    assert len({cache_key("a", "b"), cache_key("ab", ""), cache_key("b", "a"), cache_key("a", "b", "c")}) == 4
    assert json.dumps(cache_key("x"))  # plain text, fit for a file name


def test_two_processes_may_build_the_same_at_once(tmp_path):
    """Both write, each whole; whoever comes last, what is served is what was asked for."""
    program = (
        "import sys, numpy as np; from jaxgpt.data.cache import cached_array; sys.stdin.read();"
        "[cached_array(sys.argv[1], str(i), lambda: np.arange(1000, dtype=np.int32)) for i in range(50)]"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE) for _ in range(2)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.close()  # now both start
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    build, calls = build_once()
    for index in range(50):
        np.testing.assert_array_equal(cached_array(tmp_path, str(index), build), WANTED)
    assert not calls
    assert not list(tmp_path.glob(".*"))
