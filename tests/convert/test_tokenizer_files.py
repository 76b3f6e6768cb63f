"""Tokenizers that go out: the ids are ours, and so is the text that they become again."""

import json

import pytest
from tokenizers import Tokenizer

from jaxgpt.convert.tokenizer_files import _words
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


def test_a_word_may_begin_like_a_piece():
    theirs = Tokenizer.from_str(json.dumps(_words(WORDS)))
    assert theirs.decode([WORDS.words.index(word) for word in ("##x", "##x", "The")]) == "##x ##x The"
