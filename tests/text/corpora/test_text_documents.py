"""Documents of every form: the same texts however they are packed, held out whole, and bad ones named or skipped."""

import gzip
import json
import random

import pytest

from jaxgpt.errors import UserError
from jaxgpt.text.corpora import held_out
from jaxgpt.text.corpora.documents import Piece, Reading, in_memory
from jaxgpt.text.corpora.held_out import hold_out_documents
from jaxgpt.text.corpora.local import find_text

TEXTS = [f"document {number}\nits second line" for number in range(200)]


def read(path, reading=Reading()):  # noqa: B008
    """The documents of each split, and the splits."""
    splits = find_text(path, reading)[2]()
    return {split: documents_of(splits.documents[split]()) for split in splits.documents}, splits


def documents_of(pieces):
    return "".join(piece.text + ("\0" if piece.ends else "\n") for piece in pieces).split("\0")[:-1]


def json_lines(texts, field="text"):
    return "".join(json.dumps({field: text}) + "\n" for text in texts)


def zstd(content: bytes) -> bytes:
    import pyarrow

    return pyarrow.compress(content, "zstd", asbytes=True)


def write(folder, form):
    """Writes TEXTS in some form; returns its path."""
    import datasets

    plain = json_lines(TEXTS).encode()
    path = folder / f"a.{form}"
    if form == "jsonl":
        path.write_bytes(plain)
    elif form == "jsonl.gz":
        path.write_bytes(gzip.compress(plain))
    elif form == "jsonl.zst":
        path.write_bytes(zstd(plain))
    elif form == "parquet":
        datasets.Dataset.from_dict({"text": TEXTS}).to_parquet(path)
    elif form == "arrow":
        datasets.Dataset.from_dict({"text": TEXTS}).save_to_disk(folder / "saved")
        next((folder / "saved").glob("*.arrow")).rename(path)
    else:
        path = folder / "files"
        for number, text in enumerate(TEXTS):
            file = path / f"{number % 7}" / f"{number:04}.txt{'.gz' if number % 3 == 0 else ''}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet", "arrow", "folder"])
def test_every_form_gives_the_same_documents_and_splits(tmp_path, monkeypatch, form):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "plain").mkdir()
    expected, _ = read(write(tmp_path / "plain", "jsonl"))
    found, splits = read(write(tmp_path, form))
    assert {split: sorted(part) for split, part in found.items()} == {s: sorted(part) for s, part in expected.items()}
    assert sorted(text for part in found.values() for text in part) == sorted(TEXTS)
    assert 5 <= len(found["valid"]) <= 16
    assert splits.notes[0].endswith("counted in whole documents, chosen by a hash of how they begin")


def test_paragraphs_are_documents_where_that_is_asked_for(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n \nthree\n\nfour\n\nfive\n")
    found, _ = read(tmp_path / "a.txt", Reading(paragraphs=True))
    assert sorted(text for part in found.values() for text in part) == ["five", "four", "one\ntwo", "three"]


def test_the_field_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(json_lines(TEXTS, "content"))
    assert sum(map(len, read(tmp_path / "a.jsonl", Reading(field="content"))[0].values())) == len(TEXTS)
    with pytest.raises(
        UserError, match=r"a\.jsonl, line 1: no 'text'; it has 'content'; name it with data\.text_field"
    ):
        read(tmp_path / "a.jsonl")


def split_of(texts, size=0, parts=2):
    read_parts = hold_out_documents(in_memory([Piece(text) for text in texts]), parts, size)
    return {piece.text: number for number, part in enumerate(read_parts) for piece in part()}


def test_held_out_documents_stay_where_they_are_when_others_come():
    before = split_of(TEXTS, size=2**26)
    after = split_of([f"other {number}" for number in range(300)] + TEXTS[::-1], size=2**26)
    assert {text: after[text] for text in TEXTS} == before
    assert set(before.values()) == {0, 1, 2}


def test_of_more_text_less_is_held_out_and_goes_to_train():
    small, large = (split_of(TEXTS, size=size) for size in (2**26, 2**30))
    assert all(large[text] in (small[text], 0) for text in TEXTS)
    assert 0 < sum(number > 0 for number in large.values()) < sum(number > 0 for number in small.values())


def test_equal_documents_are_on_one_side(tmp_path):
    texts = TEXTS * 2
    random.Random(0).shuffle(texts)
    (tmp_path / "a.jsonl").write_text(json_lines(texts))
    found, _ = read(tmp_path / "a.jsonl")
    assert sum(len(set(part)) for part in found.values()) == len(TEXTS)


@pytest.mark.parametrize("count", [3, 4, 10])
def test_of_few_documents_at_least_one_each_is_held_out(count):
    parts = list(split_of(TEXTS[:count]).values())
    assert (parts.count(1), parts.count(2)) == (1, 1)
    assert len(hold_out_documents(in_memory([Piece("a"), Piece("b")]), 2, 0)) == 1


def test_a_large_document_is_held_out_whole():
    pieces = [piece for text in TEXTS for piece in (Piece(text, ends=False), Piece("more"))]
    train, *others = hold_out_documents(in_memory(pieces), 2, 2**26)
    for part in (train, *others):
        assert [piece.ends for piece in part()] == [False, True] * (len(list(part())) // 2)
    assert sum(len(list(part())) for part in (train, *others)) == 400


@pytest.mark.parametrize(("most", "times"), [(10**6, 1), (100, 3)])
def test_documents_are_read_once_for_all_splits(most, times, monkeypatch):
    monkeypatch.setattr(held_out, "MOST_IN_MEMORY", most)
    reads = []

    def documents():
        reads.append(1)
        return map(Piece, TEXTS)

    parts = hold_out_documents(documents, 2, 2**26)
    found = [list(part()) for part in parts]
    assert len(reads) == times
    assert sorted(piece.text for part in found for piece in part) == sorted(TEXTS)
    assert [list(part()) for part in parts] == found


GOOD = json_lines(TEXTS[:30])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", (GOOD + "{\n" + GOOD).encode(), r"a\.jsonl, line 31: not JSON"),
        (
            "a.jsonl",
            (GOOD + '{"text": 5}\n' + GOOD).encode(),
            r"line 31: text is a number; it must be a string of text",
        ),
        ("a.jsonl", (GOOD + '{"text": null}\n' + GOOD).encode(), r"line 31: text is null"),
        ("a.jsonl", (GOOD + '{"text": "\\ud800"}\n' + GOOD).encode(), r"line 31: text has half of a surrogate pair"),
        ("a.jsonl", GOOD.encode() + b'{"text": "\xff"}\n', r"not UTF-8 \(byte 0xff at offset \d+, line 31\)"),
        ("a.jsonl", GOOD.encode() + b'{"text": "' + b"a" * 50_000_000 + b'"}\n', r"line 31: longer than 34 MB"),
        ("a.jsonl.gz", gzip.compress(GOOD.encode())[:-20], r"a\.jsonl\.gz, after line \d+: it cannot be unpacked"),
        ("a.jsonl.gz", b"no gzip", r"a\.jsonl\.gz, after line 0: it cannot be unpacked"),
        ("a.jsonl.zst", zstd(GOOD.encode())[:-20], r"a\.jsonl\.zst, after line \d+: it cannot be unpacked"),
        ("a.jsonl.zst", b"no zstd at all", r"a\.jsonl\.zst, after line 0: it cannot be unpacked"),
        ("a.jsonl", b"", r"a\.jsonl: the file is empty"),
    ],
)
def test_what_is_bad_is_named_on_one_line_or_skipped(tmp_path, name, content, says):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / name).write_bytes(content)
    (tmp_path / "bad" / "good.jsonl").write_text(json_lines(TEXTS[100:]))
    with pytest.raises(UserError, match=says) as raised:
        read(tmp_path / "bad")
    assert "\n" not in str(raised.value)
    found, splits = read(tmp_path / "bad", Reading(skip_bad=True))
    assert set(TEXTS[100:]) <= {text for part in found.values() for text in part}
    assert len(splits.skipped) == 1
    assert str(raised.value) == f"{next(iter(splits.skipped))}; --data.skip-bad leaves out what cannot be read"


def test_one_bad_file_among_many_is_named(tmp_path):
    for number in range(200):
        (tmp_path / f"{number:04}.txt").write_text(f"text {number}")
    (tmp_path / "0100.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"0100\.txt: not UTF-8"):
        read(tmp_path)
    found, splits = read(tmp_path, Reading(skip_bad=True))
    assert sum(map(len, found.values())) == 199
    assert len(splits.skipped) == 1


def test_a_few_files_stay_documents_where_the_end_is_held_out(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("".join(f"file {number} line {line}\n" for line in range(40)))
    found, _ = read(tmp_path)
    assert [text.splitlines()[0] for text in found["train"]] == [f"file {number} line 0" for number in range(3)]
    assert [len(found[split]) for split in ("train", "valid", "test")] == [3, 1, 1]
    lines = [line for split in ("train", "valid", "test") for text in found[split] for line in text.splitlines()]
    assert lines == [f"file {number} line {line}" for number in range(3) for line in range(40)]
