"""The character tokenizer: what it does not know is counted, all else comes back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgpt.errors import UserError
from jaxgpt.text.char_tokenizer import NAMES, CharTokenizer, train_char_tokenizer
from jaxgpt.text.vocabulary import load_tokenizer, save_tokenizer, tokenizer_from_dict

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak. é 👩‍👩‍👧"
TOKENIZER, TOLD = train_char_tokenizer([TEXT], 100)


def test_every_character_is_a_token():
    assert TOKENIZER.vocab_size == len(set(TEXT)) + len(NAMES)
    assert (
        f"{len(set(TEXT))} characters in train; vocabulary of {TOKENIZER.vocab_size}, 6 of them special tokens" == TOLD
    )
    assert TOKENIZER.decode(TOKENIZER.encode(TEXT)) == TEXT
    assert list(TOKENIZER.decode_stream(TOKENIZER.encode("é 👩"))) == ["é", " ", "👩"]
    assert len(TOKENIZER.encode("hear")) == 4


@given(st.text())
def test_what_is_unknown_is_counted_and_named(text):
    (ids,), unknown, unknown_bytes = TOKENIZER.encode_batch([text])
    lost = [character for character in text if character not in TEXT]
    assert TOKENIZER.unknown(text) == list(dict.fromkeys(lost))
    assert (unknown, unknown_bytes) == (len(lost), len("".join(lost).encode()))
    assert ids.tolist() == TOKENIZER.encode(text)
    assert ids.tolist().count(0) == len(lost)
    assert all(id == 0 or id >= len(NAMES) for id in ids)
    if not lost:
        assert TOKENIZER.decode(ids.tolist()) == text


def test_where_there_is_no_room_the_frequent_characters_stay():
    tokenizer, told = train_char_tokenizer(["aaabbc"], len(NAMES) + 2)
    assert tokenizer.characters == ("a", "b")
    assert told.startswith("4 characters in train")  # and the line break, which prompts may have


def test_characters_are_shown_with_marks():
    assert [TOKENIZER.token_text(id) for id in TOKENIZER.encode("e \n\u200d")] == ["e", "␣", "⏎", "⟨U+200D⟩"]
    assert TOKENIZER.token_text(TOKENIZER.special.end) == "<end>"


def test_saved_and_loaded(tmp_path):
    save_tokenizer(TOKENIZER, tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path / "tokenizer.json") == TOKENIZER
    assert CharTokenizer(("a",)).fingerprint != CharTokenizer(("b",)).fingerprint


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 9}, "format is 9, this version reads 1"),
        ({"characters": None}, "must be a list of characters"),
        ({"characters": ["ab"]}, "must be a list of characters"),
        ({"characters": ["a", "a"]}, "a character is there twice"),
        ({"characters": ["a", "b"]}, "do not match `fingerprint`"),
    ],
)
def test_a_damaged_file_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        tokenizer_from_dict(json.loads(json.dumps(TOKENIZER.to_dict() | fields)))
