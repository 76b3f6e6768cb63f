"""The corpora by name: which there are, the embedded ones, and what makes two of them the same."""

import math
from types import SimpleNamespace

import pytest

from jaxgpt.errors import UserError
from jaxgpt.text.corpora import hub, open_chat, open_text, tinyworld


@pytest.mark.parametrize(
    ("load", "corpus", "fallback", "says"),
    [
        (
            open_text,
            "wikitext2",
            None,
            r"data\.corpus: 'wikitext2' is no .*; perhaps you meant wikitext-2; allowed: ",
        ),
        (
            open_text,
            "no/such.txt",
            None,
            r"'no/such\.txt' is no known corpus and no path that exists; allowed: ",
        ),
        (open_text, "", None, r"data\.corpus: '' is no known corpus"),
        (
            open_chat,
            "a.jsonl:0.7,b/:0.3",
            None,
            r"names text, which train\.py reads, from the hub or as a mixture; fine",
        ),
        (open_chat, "hub:someone/something", None, r"'hub:someone/something' names text, which train\.py reads"),
        (
            open_text,
            "oasst1",
            None,
            r"oasst1 holds conversations, which finetune\.py reads; train\.py reads text",
        ),
        (
            open_chat,
            "tinyworld",
            None,
            r"tinyworld holds text, which train\.py reads; finetune\.py reads conv",
        ),
        (open_text, "wikitext-2", "tinywurld", r"data\.fallback: 'tinywurld' is no .* meant tinyworld;"),
        (open_text, "wikitext-2", "tinyworld-chat", r"data\.fallback: tinyworld-chat holds conversations"),
    ],
)
def test_a_name_that_cannot_be(load, corpus, fallback, says):
    with pytest.raises(UserError, match=says):
        load(corpus, fallback)


def test_the_embedded_stories_stand_in(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXGPT_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub, "cache_folder", lambda: tmp_path)
    corpus = open_text("wikitext-2", fallback="tinyworld")
    assert (corpus.name, corpus.source, corpus.fallback_for) == ("tinyworld", "embedded", "wikitext-2")
    assert corpus.notes[0].startswith("wikitext-2 was not found: JAXGPT_DATA is not set; ")
    assert corpus.notes[0].endswith("; the hub was not asked, as HF_HUB_OFFLINE is set")

    told = list(tinyworld.stories("valid"))
    splits = corpus.read()
    assert [piece.text for piece in splits.documents["valid"]()] == [story.text for story in told]
    assert splits.floor is not None
    assert math.isclose(splits.floor["valid"], sum(-story.log_prob for story in told))
    assert set(splits.floor) == set(splits.documents) == {"train", "valid", "test"}
    assert min(splits.floor.values()) > 0


def test_the_embedded_conversations_say_which_answers_are_exact(monkeypatch):
    def dialogues(split):
        for number, exact in enumerate([True, False]):
            asked = {"role": "user", "content": f"{split} {number}?"}
            yield SimpleNamespace(messages=(asked, {"role": "assistant", "content": "Yes."}), exact=exact, kind="yes")

    monkeypatch.setattr(tinyworld, "dialogues", dialogues)
    corpus = open_chat("tinyworld-chat", fallback=None)
    assert (corpus.name, corpus.source, corpus.fallback_for) == ("tinyworld-chat", "embedded", None)
    splits = corpus.read()
    assert splits.exact == {split: [True, False] for split in ("train", "valid", "test")}
    assert list(splits.documents["test"]())[1] == [
        {"role": "user", "content": "test 1?"},
        {"role": "assistant", "content": "Yes."},
    ]
    assert (corpus.notes, splits.notes) == ([], [])
