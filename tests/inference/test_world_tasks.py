"""Tasks of the world: what is asked is exact, and a model that knows the world's probabilities is always right."""

import math
import re

import pytest

from jaxgpt.config import Config, ModelConfig
from jaxgpt.errors import UserError
from jaxgpt.inference import world_tasks
from jaxgpt.inference.slots import TokenOutput
from jaxgpt.inference.world_tasks import MOST, make_clozes, make_pairs
from jaxgpt.text.corpora.tinyworld import log_prob, stories


@pytest.fixture(scope="module")
def made():
    return make_pairs()


def test_one_of_a_pair_is_told_and_the_other_never(made):
    held_out = {story.text for story in stories("test")}
    assert {pair.kind for pair in made} == {"article", "order", "pronoun", "verb"}
    assert len(made) == 4 * MOST
    for pair in made[::10]:
        assert pair.told in held_out
        assert log_prob(pair.told) > -math.inf == log_prob(pair.never)
        before, after = pair.told.split(" "), pair.never.split(" ")
        differ = [place for place, words in enumerate(zip(before, after, strict=True)) if words[0] != words[1]]
        assert len(differ) == (2 if pair.kind == "order" else 1)


def test_pairs_are_always_the_same(monkeypatch):
    monkeypatch.setattr(world_tasks, "MOST", 3)
    assert make_pairs() == make_pairs()


def test_the_last_word_stood_in_the_story():
    made = make_clozes()
    assert 150 < len(made) <= MOST
    told = {story.text for story in stories("test")}
    for beginning, word in made:
        assert f'{beginning} {word}."' in told
        assert re.search(rf"\b{word}\b", beginning.rpartition("?")[0])


class Run:
    """As much of a run as a task asks for; its words are the characters' numbers."""

    class tokenizer:  # noqa: N801
        encode = staticmethod(lambda text: text.split(" "))

    step, path = 7, "runs/mine"
    config = Config(model=ModelConfig(context_len=512))

    class data:  # noqa: N801
        is_chat = False

    @property
    def run(self):
        return self


def test_shares_and_their_errors(monkeypatch, made):
    """A model that gives each text the world's own probability, and one that gives all texts the same."""

    def scored(of):
        def _scored(_, texts):
            return [[TokenOutput("w", of(text), [("w", 0.0)])] for text in texts]

        return _scored

    monkeypatch.setattr(world_tasks, "make_pairs", lambda: made[::25])
    monkeypatch.setattr(world_tasks, "_scored", scored(log_prob))
    known = world_tasks.pairs(Run())
    assert known.metrics["acc"] == 1.0
    assert known.metrics["acc_stderr"] == 0.0
    assert (known.step, known.examples, known.task) == (7, len(made[::25]), "tinyworld-pairs")
    monkeypatch.setattr(world_tasks, "_scored", scored(lambda text: -float(len(text))))
    by_length = world_tasks.pairs(Run()).metrics
    share = sum(len(pair.told) < len(pair.never) for pair in made[::25]) / len(made[::25])
    assert by_length["acc"] == share
    assert by_length["acc_stderr"] == pytest.approx(math.sqrt(share * (1 - share) / len(made[::25])))
    assert by_length["acc,order"] == 0.0

    asked = [("the cat sat on the", "mat"), ("a dog ran", "home")]
    monkeypatch.setattr(world_tasks, "make_clozes", lambda: asked)
    monkeypatch.setattr(
        world_tasks,
        "_scored",
        lambda _, texts: [[TokenOutput(w, -1.0, [("mat", -0.5)]) for w in text.split(" ")] for text in texts],
    )
    assert world_tasks.cloze(Run()).metrics == {"acc": 0.5, "acc_stderr": pytest.approx(math.sqrt(0.25 / 2))}


def test_answers_are_of_models_that_talk():
    with pytest.raises(UserError, match="tinyworld-answers are of models that talk"):
        world_tasks.answers(Run())
