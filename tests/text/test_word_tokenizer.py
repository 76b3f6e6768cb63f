"""The vocabulary: which words get which ids, text to ids and back, and files that are whole or refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgpt.errors import UserError
from jaxgpt.text.vocabulary import load_tokenizer, save_tokenizer, tokenizer_from_dict
from jaxgpt.text.word_tokenizer import (
    SPECIAL,
    WordTokenizer,
    count_words,
    leave_unknown,
    tokenizer_from_counts,
    train_word_tokenizer,
)

LINES = [
    " = The dog = ",
    " ",
    " The dog saw the <unk> dog . ",
    "The well-known cat didn't see the dog.",
    "<user> < user >",
]


def built(lines: list[str], vocab_size: int) -> WordTokenizer:
    return tokenizer_from_counts(count_words(lines), vocab_size)


TOKENIZER = built(LINES, 1000)


def test_special_words_come_first_and_then_the_frequent_ones() -> None:
    tokenizer = built(["b b c", "c a e d"], len(SPECIAL) + 3)
    assert tokenizer.words == (*SPECIAL, "b", "c", "a")
    assert tokenizer.vocab_size == len(SPECIAL) + 3
    ids = (tokenizer.special.unk, tokenizer.special.eos, tokenizer.special.pad, *tokenizer.special.system)
    assert (*ids, *tokenizer.special.user, *tokenizer.special.assistant, tokenizer.special.end) == tuple(range(7))


def test_vocabulary_smaller_than_allowed_when_the_corpus_is() -> None:
    assert built(["a"], 1000).vocab_size == len(SPECIAL) + 1


def test_vocabulary_without_room_is_refused() -> None:
    with pytest.raises(UserError, match="vocab_size: 7 given"):
        built(["a"], len(SPECIAL))


def test_counts_hold_one_eos_for_each_line() -> None:
    counts = count_words(LINES)
    assert counts["<eos>"] == len(LINES)
    assert counts["<unk>"] == 1
    assert counts["dog"] == 4
    assert tokenizer_from_counts(counts, 1000) == TOKENIZER


def test_a_batch_has_the_ids_of_each_text() -> None:
    tokenizer = built(["a b", "a"], 100)
    ids = tokenizer.encode_batch(["a b \n", "", "zebra <unk> a"]).ids
    assert [part.dtype for part in ids] == [np.int32] * 3
    assert [part.tolist() for part in ids] == [[7, 8, 1], [], [0, 0, 7]]


def test_encode_puts_eos_only_between_lines() -> None:
    tokenizer = built(["a b", "a"], 100)
    assert tokenizer.encode("a b") == [7, 8]
    assert tokenizer.encode("a\r\nb\n") == [7, 1, 8, 1]
    assert tokenizer.encode("a\x0bb\x1ca\u2028b") == [7, 8, 7, 8]
    assert tokenizer.encode("") == []


def test_control_words_in_text_are_text() -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("<user>")) == "< user >"
    controls = "".join(f" , {word} . {word}" for word in SPECIAL if word != "<unk>")
    assert not {id for id in TOKENIZER.encode(controls) if 1 <= id < len(SPECIAL)}


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from([*SPECIAL, " ", ",", " , ", "\n", "a", "<", ">"])).map("".join))
def test_no_text_encodes_to_a_control_id(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert all(id in (TOKENIZER.special.unk, TOKENIZER.special.eos) or id >= len(SPECIAL) for id in ids)
    assert ids.count(TOKENIZER.special.eos) == text.count("\n")


@pytest.mark.parametrize(
    "text",
    ["The well-known cat didn't see the dog.", "The dog\n\nsaw the dog.\n", "\nThe <unk> dog", ""],
)
def test_decode_gives_readable_text_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_decode_shows_control_words_as_written() -> None:
    ids = [*TOKENIZER.special.user, *TOKENIZER.encode("the dog."), TOKENIZER.special.end]
    assert TOKENIZER.decode(np.array(ids, np.int32)) == "<user> the dog. <end>"


def test_decode_stream_reads_no_id_ahead() -> None:
    text = "The dog.\nThe cat didn't."
    ids = TOKENIZER.encode(text)
    taken: list[int] = []

    def source() -> Iterator[int]:
        for id in ids:
            taken.append(id)
            yield id

    pieces: list[str] = []
    for piece in TOKENIZER.decode_stream(source()):
        pieces.append(piece)
        assert len(taken) == len(pieces)
    assert "".join(pieces) == text


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    save_tokenizer(TOKENIZER, path)
    assert load_tokenizer(path) == TOKENIZER
    assert [entry.name for entry in tmp_path.iterdir()] == ["tokenizer.json"]
    assert tokenizer_from_dict(TOKENIZER.to_dict()) == TOKENIZER


def test_fingerprint_is_of_the_content() -> None:
    same = WordTokenizer(tuple(TOKENIZER.words))
    other = WordTokenizer(TOKENIZER.words[:-1])
    assert same.fingerprint == TOKENIZER.fingerprint != other.fingerprint
    assert WordTokenizer(SPECIAL).fingerprint.startswith("8a404c1936a93ecf")


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokenizer.json"
    save_tokenizer(TOKENIZER, path)

    def full_disk(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_tokenizer(WordTokenizer(SPECIAL), path)
    assert load_tokenizer(path) == TOKENIZER
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_words_are_named_once() -> None:
    assert WordTokenizer((*SPECIAL, "a", "b")).unknown("a b c\nc <end> <unk>") == ["c", "<", "end", ">"]


def changed(**fields: Any) -> str:
    return json.dumps({**TOKENIZER.to_dict(), **fields})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a tokenizer file"),
        ("[]", "kind is a list"),
        (changed(format=99), r"format and kind are \(99, 'word'\)"),
        (changed(kind="syllables"), "kind is syllables; this version reads word"),
        (changed(words=[*SPECIAL, 5]), "must be a list of words"),
        (changed(words=["the", *SPECIAL]), "must begin with <unk> <eos>"),
        (changed(words=[*SPECIAL, "a", "b", "a"]), "'a' is more than once"),
        (changed(words=[*SPECIAL, "a"]), "do not match `fingerprint`"),
    ],
)
def test_damaged_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=rf"tokenizer\.json: .*{message}"):
        load_tokenizer(path)


def test_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load_tokenizer(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="binary: not a tokenizer file"):
        load_tokenizer(tmp_path / "binary")


def test_words_seen_once_become_unk_where_there_is_room():
    counts = count_words(["a a b", "c a b"])
    assert leave_unknown(counts, 100).keys() == {"a", "b", "<eos>"}
    tokenizer, told = train_word_tokenizer(["a a b", "c a b"], 100)
    assert tokenizer.words == (*SPECIAL, "a", "b")
    assert tokenizer.special.unk in tokenizer.encode("c a b")
    assert told.startswith("4 types of words in train, <eos> counted; vocabulary of 9, 7 of them special tokens")
    assert "1 words that are seen once are encoded as <unk>" in told


@pytest.mark.parametrize(("lines", "vocab_size"), [(["a a b", "c"], 9), (["a a <unk>", "c"], 100), (["a a"], 100)])
def test_words_seen_once_stay_where_unk_is_trained_already(lines, vocab_size):
    counts = count_words(lines)
    assert leave_unknown(counts, vocab_size) == counts


def test_what_is_lost_in_unk_is_counted():
    tokenizer = WordTokenizer((*SPECIAL, "a"))
    encoded = tokenizer.encode_batch(["a é <unk>", "dog"])
    assert [part.tolist() for part in encoded.ids] == [[7, 0, 0], [0]]
    assert (encoded.unknown, encoded.unknown_bytes) == (2, len("é".encode()) + len("dog"))


def test_tokenized_lines_are_encoded_by_their_blanks():
    tokenizer = WordTokenizer((*SPECIAL, "does", "n't", "mr."))
    assert tokenizer.encode_batch(["mr. does n't"], tokenized=True).ids[0].tolist() == [9, 7, 8]
    assert count_words(["mr. does n't"], tokenized=True).keys() == {"mr.", "does", "n't", "<eos>"}
