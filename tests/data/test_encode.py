"""Text to shards: whatever the batches, the processes and the interruptions, the same bytes."""

import random

import numpy as np
import pytest

from jaxgpt.data import encode
from jaxgpt.data.encode import encode_batch, encode_split, encoder, progress
from jaxgpt.data.manifest import TextCounts
from jaxgpt.data.shards import Tokens, read_shards, shard_file
from jaxgpt.errors import RunError
from jaxgpt.text.bpe_tokenizer import byte_tokenizer
from jaxgpt.text.corpora.documents import Piece
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

WORDS = WordTokenizer((*SPECIAL, "a", "b"))
RANDOM = random.Random(0)
PIECES = [Piece("a b é " * RANDOM.randrange(9) + "\n" * RANDOM.randrange(3), RANDOM.random() < 0.7) for _ in range(200)]
PIECES[-1] = Piece("a", True)


def write(folder, pieces=PIECES, tokenizer=WORDS, size=100):
    """Encodes in this process; returns the counts and the digest."""
    with encoder(tokenizer, False, 0) as each, progress("it", 0) as advance:
        return encode_split(folder, "train", lambda: iter(pieces), each, "uint16", advance, size)


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(encode, "BATCH", 60)


@pytest.mark.parametrize("tokenizer", [WORDS, byte_tokenizer()])
def test_shards_hold_every_document_with_its_end(tmp_path, tokenizer):
    counts, _ = write(tmp_path, tokenizer=tokenizer)
    ids = read_shards(tmp_path, "train", "uint16").all()
    special = tokenizer.special
    documents = "".join(piece.text + ("\0" if piece.ends else "\n") for piece in PIECES).split("\0")[:-1]
    expected = [id for text in documents for id in [*tokenizer.encode(text), special.eos]]
    assert ids.tolist() == expected
    assert counts.documents == len(documents)
    assert (counts.tokens, counts.lines) == (len(ids), sum(text.count("\n") + 1 for text in documents))
    assert counts.bytes == sum(len(text.encode()) + 1 for text in documents)
    unknown = sum(text.count("é") for text in documents) if tokenizer is WORDS else 0
    assert (counts.unk, counts.unknown, counts.unknown_bytes) == (unknown, unknown, 2 * unknown)
    assert len(list(tmp_path.glob("*.bin"))) > 5


def test_interrupted_anywhere_it_ends_with_the_same_bytes(tmp_path):
    whole = write(tmp_path / "whole") if (tmp_path / "whole").mkdir() is None else None
    part = tmp_path / "part"
    part.mkdir()
    for stop in [*range(0, 200, 17), 199]:

        def until(stop=stop):
            yield from PIECES[:stop]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), encoder(WORDS, False, 0) as each, progress("it", 0) as advance:
            encode_split(part, "train", until, each, "uint16", advance, 100)
    assert write(part) == whole
    assert contents(part) == contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["no record", "cut shard", "broken record", "half shard"])
def test_a_shard_that_is_not_whole_is_made_again(tmp_path, damage):
    result, before = write(tmp_path), contents(tmp_path)
    last = shard_file(tmp_path, "train", len(list(tmp_path.glob("*.bin"))) - 1)
    if damage == "no record":
        last.with_suffix(".json").unlink()
    elif damage == "cut shard":
        last.write_bytes(last.read_bytes()[:-2])
    elif damage == "broken record":
        last.with_suffix(".json").write_text("{")
    else:
        last.with_suffix(".json").unlink()
        last.write_bytes(b"x")
    assert write(tmp_path) == result
    assert contents(tmp_path) == before


def test_processes_give_the_same_bytes(tmp_path, monkeypatch):
    result, alone = write(tmp_path), contents(tmp_path)
    (tmp_path / "together").mkdir()
    monkeypatch.setattr(encode, "WORTH_PROCESSES", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    with encoder(WORDS, False, 1) as each, progress("it", 0) as advance:
        folder = tmp_path / "together"
        assert encode_split(folder, "train", lambda: iter(PIECES), each, "uint16", advance, 100) == result
    assert contents(folder) == alone


def test_nothing_is_no_shard(tmp_path):
    assert write(tmp_path, pieces=[]) == (TextCounts(), "")
    assert len(read_shards(tmp_path, "train", "uint16")) == 0


def test_a_stream_over_shards_is_one_array():
    whole = np.arange(100, dtype=np.uint16)
    tokens = Tokens([whole[:10], whole[10:70], whole[70:]])
    places = np.array([[0, 9, 10], [69, 70, 99]])
    assert tokens[places].tolist() == places.tolist()
    assert (len(tokens), tokens.all().tolist()) == (100, list(range(100)))


def test_a_batch_has_line_breaks_where_documents_go_on():
    pieces = [Piece("a", ends=False), Piece("b")]
    assert encode_batch(WORDS, pieces, False).ids.tolist() == [7, 1, 8, 1]
    by_bytes = byte_tokenizer()
    assert encode_batch(by_bytes, pieces, False).ids.tolist() == [97, 10, 98, by_bytes.special.eos]


def test_an_id_beyond_the_vocabulary_is_never_written(monkeypatch):
    monkeypatch.setattr(WordTokenizer, "vocab_size", 8)
    with pytest.raises(RunError, match="the tokenizer gave id 8, and has 8 tokens"):
        encode_batch(WORDS, [Piece("a b")], False)


def test_progress_tells_size_tokens_speed_and_time_left(capsys, monkeypatch):
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(encode.time, "monotonic", lambda: next(clock))
    with encode.progress("text.txt", 100_000_000) as advance:
        advance(20_000_000, 0)  # from an earlier start
        advance(40_000_000, 9_000_000)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "text.txt: 60 of 100 MB encoded, 9,000,000 tokens, 2.0 MB/s, 20 s left"
    )
