"""What is kept is what was asked for, whole, or it is made anew."""

import subprocess
import sys

import numpy as np
import pytest

from jaxgpt.data import kept
from jaxgpt.data.kept import kept_for, key_of, make_kept, open_kept

WANTED = np.arange(1000, dtype=np.int32)


def make_once(name="content"):
    calls = []

    def make(folder):
        calls.append(1)
        np.save(folder / "a.npy", WANTED)
        return name, {"size": 1000}

    return make, calls


def content_of(found):
    assert found.facts == {"size": 1000}
    return np.load(found.folder / "a.npy")


def test_made_once_and_found_by_origin_and_by_content(tmp_path):
    make, calls = make_once()
    assert kept_for(tmp_path, "origin") is None
    for _ in range(2):
        np.testing.assert_array_equal(content_of(make_kept(tmp_path, "origin", make)), WANTED)
    assert len(calls) == 1
    assert kept_for(tmp_path, "origin") == open_kept(tmp_path, "content") == make_kept(tmp_path, "origin", make)


def test_what_is_told_of_an_origin_is_its_own(tmp_path):
    """Where two come to the same content, one of them may have left something out."""

    def saying(note):
        def make(folder):
            np.save(folder / "a.npy", WANTED)
            return "content", {"notes": [note]}

        return make

    notes = {"one": "nothing left out", "other": "3 lines left out"}
    for origin, note in notes.items():
        assert make_kept(tmp_path, origin, saying(note)).facts["notes"] == [note]
    for origin, note in notes.items():
        assert kept_for(tmp_path, origin).facts["notes"] == [note]
    (tmp_path / "tokens" / "other.facts").unlink()  # as kept before there were such
    assert kept_for(tmp_path, "other").facts["notes"] == ["nothing left out"]


def test_the_same_content_from_two_origins_is_kept_once(tmp_path):
    make, calls = make_once()
    assert make_kept(tmp_path, "one", make).folder == make_kept(tmp_path, "other", make).folder
    assert len(calls) == 2
    assert len(list(tmp_path.rglob("a.npy"))) == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "no record", "no data", "broken record", "no folder"])
def test_what_is_not_whole_is_never_served(tmp_path, damage):
    make, calls = make_once()
    found = make_kept(tmp_path, "origin", make)
    data, record = found.folder / "a.npy", found.folder / "record.json"
    content = data.read_bytes()
    if damage == "cut":
        data.write_bytes(content[:-100])
    elif damage == "flip":
        data.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no record":
        record.unlink()
    elif damage == "no data":
        data.unlink()
    elif damage == "broken record":
        record.write_text('{"sha256": ')
    else:
        found.folder.rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(content_of(make_kept(tmp_path, "origin", make)), WANTED)
    assert len(calls) == 2


def test_large_files_are_digested_when_they_are_written_only(tmp_path, monkeypatch):
    make, _ = make_once()
    found = make_kept(tmp_path, "origin", make)
    monkeypatch.setattr(kept, "SMALL", 100)
    monkeypatch.setattr(kept, "digest_of", None)
    assert kept_for(tmp_path, "origin") == found
    with (found.folder / "a.npy").open("ab") as file:
        file.write(b"x")
    assert kept_for(tmp_path, "origin") is None


def test_what_fails_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half.npy").write_bytes(b"half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        make_kept(tmp_path, "origin", fail)
    assert not list(tmp_path.rglob("half.npy"))


def test_what_was_interrupted_goes_on_from_what_is_there(tmp_path):
    def interrupted(folder):
        (folder / "half.npy").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_kept(tmp_path, "origin", interrupted)
    assert kept_for(tmp_path, "origin") is None

    def rest(folder):
        assert (folder / "half.npy").read_bytes() == b"half"
        return "content", {}

    assert (make_kept(tmp_path, "origin", rest).folder / "half.npy").exists()


def test_other_parts_are_another_key():
    assert key_of("a", "b") == key_of("a", "b")
    assert len({key_of("a", "b"), key_of("ab", ""), key_of("b", "a"), key_of("a", "b", "c")}) == 4
    assert key_of("x").isalnum()  # fit for a file name


def test_of_two_processes_one_makes_and_the_other_waits(tmp_path):
    program = (
        "import sys, numpy as np; from jaxgpt.data.kept import make_kept; sys.stdin.read()\n"
        "def make(folder): np.save(folder / 'a.npy', np.arange(1000, dtype=np.int32)); return 'c', {'size': 1000}\n"
        "for i in range(50): make_kept(sys.argv[1], str(i), make)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE) for _ in range(2)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.close()  # now both start
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    make, calls = make_once()
    for index in range(50):
        np.testing.assert_array_equal(content_of(make_kept(tmp_path, str(index), make)), WANTED)
    assert not calls
