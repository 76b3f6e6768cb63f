"""Byte-level BPE: exact to the last byte, with the ids of those who made it known; its files are whole or refused."""

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgpt.errors import UserError
from jaxgpt.text.bpe_tokenizer import (
    NAMES,
    PATTERNS,
    BpeTokenizer,
    byte_tokenizer,
    train_bpe_tokenizer,
    written,
)
from jaxgpt.text.tokenizer import for_terminal, visible
from jaxgpt.text.vocabulary import load_tokenizer, save_tokenizer, tokenizer_from_dict

WORDS = ["the cat", "The", "don't", "hello  world", "12345", "naïve", "l'été", "你好", "👩‍👩‍👧", "\n\n", "x\r\ny"]
TEXTS = [f"{a} {b} {a}" for a in WORDS for b in WORDS]
TRAINED = {pattern: train_bpe_tokenizer(TEXTS, 400, pattern)[0] for pattern in PATTERNS}
HARD = [
    "👩‍👩‍👧",
    "\u202eעברית\u202c",
    "\x00",
    "a\r\nb\r",
    "e\u0301\u0302",
    "﷽",
    "\ufeff",
    "  \t\n \n",
    "",
    "\U0010ffff",
]


@pytest.mark.parametrize("tokenizer", [*TRAINED.values(), byte_tokenizer()])
@pytest.mark.parametrize("text", [*HARD, "".join(HARD), " ".join(TEXTS)])
def test_every_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "".join(tokenizer.decode_stream(tokenizer.encode(text))) == text


@settings(deadline=None)
@given(st.lists(st.text(), max_size=4))
def test_any_text_comes_back_and_has_no_special_token(texts):
    for tokenizer in (*TRAINED.values(), byte_tokenizer()):
        encoded = tokenizer.encode_batch(texts)
        assert [tokenizer.decode(ids.tolist()) for ids in encoded.ids] == texts
        assert [ids.tolist() for ids in encoded.ids] == list(map(tokenizer.encode, texts))
        assert (encoded.unknown, encoded.unknown_bytes) == (0, 0)
        assert not {int(id) for ids in encoded.ids for id in ids} & set(tokenizer.special.ids)


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("the catdon'l 12\n")))
@pytest.mark.parametrize("pattern", PATTERNS)
def test_ids_are_those_of_the_library_that_learned_them(pattern, text):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    ours = TRAINED[pattern]
    vocab = {written(token): id for id, token in enumerate(ours.tokens)}
    theirs = LIBRARY.get(pattern)
    if theirs is None:
        theirs = Tokenizer(models.BPE(vocab, merges_of(ours)))
        split = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        theirs.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
        LIBRARY[pattern] = theirs
    assert ours.encode(text) == theirs.encode(text).ids


LIBRARY: dict = {}


def merges_of(tokenizer: BpeTokenizer) -> list[tuple[str, str]]:
    """The pair that each token was merged from, found by merging its bytes with the tokens before it."""
    ranks = {token: rank for rank, token in enumerate(tokenizer.tokens)}
    merges = []
    for rank, token in enumerate(tokenizer.tokens[256:], start=256):
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            pairs = [ranks.get(a + b, rank) for a, b in pairwise(parts)]
            at = pairs.index(min(pairs))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        merges.append((written(parts[0]), written(parts[1])))
    return merges


def test_control_words_in_text_are_text():
    for tokenizer in TRAINED.values():
        text = " ".join(NAMES)
        assert not set(tokenizer.encode(text)) & set(tokenizer.special.ids)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_stream_shows_no_half_character():
    tokenizer = byte_tokenizer()
    taken = []

    def source() -> Iterator[int]:
        for id in tokenizer.encode("é👩x"):
            taken.append(id)
            yield id

    pieces = []
    for piece in tokenizer.decode_stream(source()):
        pieces.append(piece)
        assert len(taken) == len(pieces)
    assert pieces == ["", "é", "", "", "", "👩", "x"]


def test_bytes_that_are_no_text_are_marked():
    tokenizer = byte_tokenizer()
    assert tokenizer.decode([0xC3, 0x41]) == "\ufffdA"
    assert tokenizer.decode([0x41, 0xC3]) == "A\ufffd"
    assert tokenizer.decode([0xC3, tokenizer.special.end, 0x41]) == "\ufffd<|end|>A"


def test_tokens_are_shown_with_marks_and_never_as_nothing():
    assert visible(b" the") == "␣the"
    assert visible(b"\n\t\r") == "⏎⇥␍"
    assert visible("é".encode()[:1]) == "⟨c3⟩"
    assert visible("\u200b".encode()) == "⟨U+200B⟩"
    assert visible("\u00a0".encode()) != visible(b"\xa0")
    assert visible("\u0301\ufe0f".encode()).startswith("◌")
    assert for_terminal("a\tb\n\x1b[2J\x9b é") == "a\tb\n⟨U+001B⟩[2J⟨U+009B⟩ é"
    for tokenizer in (*TRAINED.values(), byte_tokenizer()):
        assert all(tokenizer.token_text(id).strip() for id in range(tokenizer.vocab_size))


def test_the_vocabulary_has_the_size_that_was_asked_for():
    tokenizer, told = train_bpe_tokenizer(TEXTS, 300)
    assert (tokenizer.vocab_size, tokenizer.kind, byte_tokenizer().kind) == (300, "bpe", "byte")
    assert told == "vocabulary of 300 learned from train: 256 bytes, 39 merges, 5 special tokens"
    assert train_bpe_tokenizer(["aaaa"], 300)[0].vocab_size < 300
    with pytest.raises(UserError, match=r"model\.vocab_size: 261 was given; byte-level BPE needs 262 or more"):
        train_bpe_tokenizer(TEXTS, 261)


def test_saved_and_loaded(tmp_path):
    for tokenizer in (*TRAINED.values(), byte_tokenizer()):
        save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
        assert load_tokenizer(tmp_path / "tokenizer.json") == tokenizer
    prints = {tokenizer.fingerprint for tokenizer in (*TRAINED.values(), byte_tokenizer())}
    assert len(prints) == 3
    assert byte_tokenizer().fingerprint.startswith("8376b275")


def changed(**fields):
    return TRAINED["gpt4"].to_dict() | fields


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(format=9), "format is 9, this version reads 1"),
        (changed(pattern="gpt9"), "pattern is gpt9, not gpt2 or gpt4"),
        (changed(tokens=None), "must be a list of tokens"),
        (changed(tokens=["a", 5]), "must be a list of tokens"),
        (changed(tokens=["\n"]), "must be a list of tokens"),
        (changed(tokens=["a", "a"]), "a token is there twice"),
        (changed(tokens=["a", "b"]), "the first 256 tokens must be the bytes"),
        (changed(tokens=TRAINED["gpt2"].to_dict()["tokens"][:-1]), "do not match `fingerprint`"),
    ],
)
def test_a_damaged_file_is_refused(content, message):
    with pytest.raises(UserError, match=message):
        tokenizer_from_dict(json.loads(json.dumps(content)))
