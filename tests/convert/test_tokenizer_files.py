"""Tokenizers that go out: the ids are ours, and so is the text that they become again."""

import json

import pytest
from tokenizers import Tokenizer

from jaxgpt.convert.tokenizer_files import _chars, _words, is_of_words, merges_of
from jaxgpt.text.bpe_tokenizer import train_bpe_tokenizer, written
from jaxgpt.text.char_tokenizer import CharTokenizer
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

WORDS = WordTokenizer((*SPECIAL, "The", "end", ".", "##x", "@-@", "café"))


@pytest.mark.parametrize("text", ["The end .", "The end .\n", "café @-@ end \n The end", "unknown end"])
def test_words_keep_their_blanks(text):
    theirs = Tokenizer.from_str(json.dumps(_words(WORDS)))
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ids == WORDS.encode(text)
    told = theirs.decode(ids, skip_special_tokens=False)
    assert theirs.encode(told, add_special_tokens=False).ids == ids
    if "unknown" not in text:
        assert told.split() == text.split()
        assert told.count("\n") == text.count("\n")


def test_characters_are_not_taken_for_words():
    assert is_of_words(_words(WORDS))
    assert not is_of_words(_chars(CharTokenizer(tuple("abc"))))


def test_a_word_may_begin_like_a_piece():
    theirs = Tokenizer.from_str(json.dumps(_words(WORDS)))
    assert theirs.decode([WORDS.words.index(word) for word in ("##x", "##x", "The")]) == "##x ##x The"


def test_merges_make_the_tokens():
    tokenizer, _ = train_bpe_tokenizer(["the cat sat on the mat, the rat that sat at the hat; thethe"] * 3, 290)
    made = [left + right for left, right in merges_of(tokenizer)]
    assert made == list(map(written, tokenizer.tokens[256:]))
