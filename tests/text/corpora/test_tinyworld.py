"""The embedded world: known entropy, stable text, and conversations that stay inside its vocabulary."""

import math
import re
from collections import Counter
from itertools import islice

import pytest

from jaxgpt.text.corpora.tinyworld import dialogues, facts, log_prob, questions, stories
from jaxgpt.text.corpora.tinyworld.stories import PLOTS
from jaxgpt.text.corpora.tinyworld.talk import MAX_WORDS
from jaxgpt.text.corpora.tinyworld.teller import Teller
from jaxgpt.text.corpora.tinyworld.teller import log_prob as log_prob_of

WORD = re.compile(r"'?\w+|[^\w\s]")


@pytest.fixture(scope="module")
def train_counts():
    return Counter(word for story in stories("train") for word in WORD.findall(story.text))


def test_scorer_finds_the_recorded_probability():
    # equal totals over all derivations: no text can be written in two ways
    for story in islice(stories("valid"), 200):
        assert log_prob(story.text) == pytest.approx(story.log_prob, abs=1e-9), story.text


def test_scorer_adds_up_every_way_of_telling():
    def tell(t):
        t.say("[a|b] [x|x y]", "b [y|x]")

    assert log_prob_of("a x", tell) == pytest.approx(math.log(1 / 8))
    assert log_prob_of("b x", tell) == pytest.approx(math.log(1 / 8 + 1 / 4))
    assert log_prob_of("b", tell) == log_prob_of("a x y z", tell) == -math.inf


def test_probabilities_of_all_texts_add_up_to_one():
    def tell(t):
        name = t.pick(("Mia", "Tom", "Ben"), (5, 3, 2))
        t.say(f"{name} [ran|sat].", f"{name} sat[| down| up].")

    texts = {f"{name} {end}." for name in ("Mia", "Tom", "Ben") for end in ("ran", "sat", "sat down", "sat up")}
    assert math.fsum(math.exp(log_prob_of(text, tell)) for text in texts) == pytest.approx(1)


def test_weights_set_the_shares():
    draws = iter([0.0, 0.49, 0.51, 0.79, 0.81, 0.99])
    t = Teller(lambda: next(draws))
    assert [t.pick("abc", (5, 3, 2)) for _ in range(6)] == list("aabbcc")
    assert t.log_prob == pytest.approx(2 * math.log(0.5 * 0.3 * 0.2))


def test_text_the_world_cannot_write():
    story = next(stories("valid")).text
    assert log_prob("") == log_prob(story[:-1]) == log_prob(story + " ") == log_prob(story + " The end.") == -math.inf


def test_stories_are_the_same_every_time():
    assert list(islice(stories("test"), 50)) == list(islice(stories("test"), 50))
    assert next(stories("train")) != next(stories("valid")) != next(stories("test"))


def test_stories_are_plain_lines():
    for story in stories("valid"):
        assert re.fullmatch(r"[A-Za-z.,!?\"' ]+", story.text), story.text
        assert story.text.count('"') % 2 == 0, story.text
        assert "  " not in story.text, story.text
        assert story.text == story.text.strip()
        assert story.text[-1] in '.!?"', story.text
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", story.text), story.text


def test_size_of_the_train_split(train_counts):
    assert 900 <= len(train_counts) <= 1100
    assert 1_400_000 <= train_counts.total() <= 1_700_000
    assert min(train_counts.values()) >= 20


def test_stories_fit_a_window():
    lengths = [len(WORD.findall(story.text)) for story in stories("valid")]
    assert max(lengths) <= 110
    assert 40 <= sum(lengths) / len(lengths) <= 70


def test_every_plot_notes_what_can_be_asked():
    for plot in PLOTS:
        for seed in range(20):
            values = iter([(seed * 0.6180339 + step * 0.7548776) % 1 for step in range(200)])
            t = Teller(lambda values=values: next(values))
            plot(t)
            for fact, answer in t.facts.items():
                for question in questions.wordings(fact):
                    assert "{" not in question
                    assert question[-1] in "?."
                assert answer[-1] == "."
                assert answer[0].isupper()


def test_conversations_use_only_words_of_the_stories(train_counts):
    for split in ("train", "valid", "test"):
        words = {
            word
            for dialogue in dialogues(split)
            for message in dialogue.messages
            for word in WORD.findall(message["content"])
        }
        assert not words - set(train_counts)


def test_conversations_alternate_and_fit():
    for dialogue in dialogues("test"):
        roles = [message["role"] for message in dialogue.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert sum(len(WORD.findall(message["content"])) + 3 for message in dialogue.messages) <= MAX_WORDS
        assert dialogue.exact


@pytest.mark.long
def test_splits_share_no_story_and_no_wording_of_a_fact():
    def openings(split):
        return {re.sub(r"\W", "", dialogue.messages[0]["content"]).lower() for dialogue in dialogues(split)}

    assert len(list(dialogues("test"))) >= 500
    assert not openings("train") & openings("test")
    assert not openings("train") & openings("valid")
    for train, valid, test in zip(*map(facts.wordings, ("train", "valid", "test")), strict=True):
        assert (len(train), len(valid), len(test)) == (3, 1, 1)
        assert len({*train, *valid, *test}) == 5
