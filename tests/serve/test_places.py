"""Where the tokens of a prompt stand in its text, whatever the tokenizer makes of it."""

import pytest

from jaxgpt.serve.places import text_places
from jaxgpt.text.bpe_tokenizer import byte_tokenizer
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

WORDS = WordTokenizer((*SPECIAL, "the", "cow", "'s", '"', "-", "hat", ",", ".", "don", "'t", "ate", "a"))


def told(text, tokenizer):
    return [place and text[slice(*place)] for place in text_places(text, tokenizer.encode(text), tokenizer)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("the cow's hat", ["the", "cow", "'s", "hat"]),
        ("  the\n\n cow ", ["the", None, None, "cow"]),
        ("the xylophagous a ate the a", ["the", "xylophagous", "a", "ate", "the", "a"]),
        ("a aa a", ["a", "aa", "a"]),
        ("“the hat”, a cow", [None, "the", "hat", None, ",", "a", "cow"]),  # rewritten quotation marks
        ("don't", ["don", "'t"]),
        ("<user> the", ["<", "user", ">", "the"]),
        ("", []),
    ],
)
def test_words_are_found_where_they_were_typed(text, parts):
    assert told(text, WORDS) == parts


def test_the_last_byte_of_a_character_stands_for_it():
    assert told("é b", byte_tokenizer()) == [None, "é", None, "b"]
