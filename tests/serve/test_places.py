"""Where the tokens of a prompt stand in its text, whatever the tokenizer makes of it."""

import pytest

from jaxgpt.config import ModelConfig
from jaxgpt.serve.places import prompt_places, text_places
from jaxgpt.serve.prompts import Served, chat_prompt
from jaxgpt.serve.schemas import Beginning
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


@pytest.mark.parametrize("ends", [[], [{"role": "assistant", "content": "a hat"}]])
def test_every_token_of_a_conversation_has_a_place_or_none(ends):
    messages = [{"role": "user", "content": "the cow"}, *ends]
    served = Served("m", ModelConfig(vocab_size=WORDS.vocab_size, context_len=64), WORDS, True, None, 0, {})
    asked = Beginning.model_validate({"model": "m", "messages": messages})
    prompt, _ = chat_prompt(asked.messages or [], served)
    places = prompt_places(asked, WORDS, 64)
    said = [place and messages[place[0]]["content"][place[1] : place[2]] for place in places]
    assert [name and WORDS.encode(name) for name in said] == [
        None if id in WORDS.special.ids else [id] for id in prompt.ids
    ]
