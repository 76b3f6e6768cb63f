"""Starters: questions that the model answers wrongly are not among them."""

import jax

from jaxgpt.inference.chat import reply
from jaxgpt.ops.sampling import GREEDY
from jaxgpt.serve.starters import LONGEST, OF_CORPUS, SHOWN, answered, known_of
from jaxgpt.text.conversation import render_each
from tests.serve.conftest import CONFIG, TOKENIZER


def test_only_what_is_answered_rightly_is_shown(engine, params):
    def says(text):
        asked = render_each([{"role": "user", "content": text}], TOKENIZER)
        return "".join(reply(params, CONFIG, TOKENIZER, asked, jax.random.key(0), GREEDY, LONGEST))

    starters = {"w1": says("w1"), "w2": "w3", "w4": None, "w5": says("w5"), "w6": None, "w7": None}
    assert answered(engine, TOKENIZER, starters) == ["w1", "w4", "w5", "w6"]


def test_every_corpus_has_four_and_any_other_its_own_prompt():
    assert all(len(known.starters) >= SHOWN for known in OF_CORPUS.values())
    known = known_of("my.txt", "my.txt", False, "The game")
    assert known.sentence == "It has read my.txt, and writes in its manner."
    assert list(known.starters) == ["The game"]
    assert known_of("my.txt", "my.txt", True, "").starters == {}
