"""From a corpus to sources and a manifest: counted, cut where it must be, refused where it makes no sense."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from jaxgpt.config import DataConfig
from jaxgpt.data import prepare
from jaxgpt.data.cache import cached_array
from jaxgpt.data.manifest import data_name
from jaxgpt.data.prepare import (
    open_split,
    prepare_chat,
    prepare_text,
    require_enough,
    require_known,
    require_text,
    stream_key,
)
from jaxgpt.errors import RunError, UserError
from jaxgpt.text.corpora import ChatCorpus, TextCorpus, fingerprint
from jaxgpt.text.tokenizer import build_tokenizer
from jaxgpt.training.plan import announce

LINES = {"train": ["a b c", "", "b c d"], "valid": ["a x"], "test": ["b"]}
TEXT = TextCorpus("mine", "files", LINES, None, None, [])
TOKENIZER = build_tokenizer(LINES["train"] + ["? !"], 100)


@pytest.fixture
def config(tmp_path) -> DataConfig:
    return DataConfig(corpus="mine.txt", seq_len=8, batch_size=2, cache_dir=str(tmp_path))


def said(role, size):
    return {"role": role, "content": " ".join(["a"] * size)}


def talk(*sizes):
    return [said(role, size) for role, size in zip(["user", "assistant"] * len(sizes), sizes, strict=False)]


def test_text_is_counted_and_encoded_once(config, tmp_path):
    data = prepare_text(TEXT, TOKENIZER, config)
    known = {"unk": 0, "unknown": 0, "unknown_bytes": 0}
    assert data.manifest["splits"]["train"] == {"lines": 3, "tokens": 9, **known, "bytes": 13, "floor_nats": None}
    assert data.manifest["splits"]["valid"]["unk"] == 1
    train = data.sources["train"].gather(np.array([0]))
    a, b, c, d = (TOKENIZER.encode(word)[0] for word in "abcd")
    assert train.targets[0].tolist() == [a, b, c, 1, 1, b, c, d]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    prepare_text(TEXT, TOKENIZER, config)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_changed_text_is_never_served_stale(config):
    prepare_text(TEXT, TOKENIZER, config)
    changed = dataclasses.replace(TEXT, splits=LINES | {"train": ["d d d"]})
    assert prepare_text(changed, TOKENIZER, config).manifest["splits"]["train"]["tokens"] == 4
    other = build_tokenizer(["d c b a"], 100)
    batch = prepare_text(TEXT, other, config).sources["train"].gather(np.array([0]))
    assert batch.targets[0, 0] == other.encode("a")[0]


def test_an_id_without_a_word_is_never_served(config):
    key = stream_key(fingerprint(TEXT), "train", TOKENIZER, tokenized=False)
    cached_array(config.cache_dir, key, lambda: np.array([0, TOKENIZER.vocab_size], np.int32))
    with pytest.raises(RunError, match=r"mine, train: ids from 0 to \d+ for a vocabulary of \d+"):
        prepare_text(TEXT, TOKENIZER, config)


def test_conversations_are_cut_at_turns_and_every_cut_is_counted(config):
    corpus = ChatCorpus(
        "mine",
        "files",
        {"train": [talk(1, 2), talk(2, 2, 1, 1), talk(20, 20), talk(1, 1, 9, 9)], "valid": [talk(1, 1)]},
        None,
        None,
        [],
    )
    data = prepare_chat(corpus, TOKENIZER, config)
    train = data.manifest["splits"]["train"]
    assert (train["conversations"], train["kept"], train["cut"], train["dropped"]) == (4, 3, 2, 1)
    assert train["messages_cut"] == 2 + 2 + 2
    assert train["supervised"] == 3 + 2 + 2
    rows = data.sources["train"].gather(np.arange(len(data.sources["train"])))
    assert rows.weights.sum() == train["supervised"]
    assert data.example == talk(1, 2)


def test_a_conversation_without_anything_to_learn_is_dropped(config):
    talks = [[said("user", 2), said("user", 2), said("assistant", 20)], talk(1, 1)]
    data = prepare_chat(ChatCorpus("mine", "files", {"train": talks}, None, None, []), TOKENIZER, config)
    assert (data.manifest["splits"]["train"]["kept"], data.manifest["splits"]["train"]["dropped"]) == (1, 1)


@pytest.mark.parametrize("size", [1, 5, 7, 30])
def test_a_conversation_that_ends_with_the_user_is_kept(config, size):
    talks = [[*talk(1, 2), said("user", size)]]
    data = prepare_chat(ChatCorpus("mine", "files", {"train": talks}, None, None, []), TOKENIZER, config)
    train = data.manifest["splits"]["train"]
    assert (train["kept"], train["dropped"], train["supervised"], train["messages_cut"]) == (1, 0, 3, 1)


def test_conversations_the_tokenizer_does_not_know_are_refused(config):
    strange = [[said("user", 3), {"role": "assistant", "content": "u v w a"}]] * 3
    corpus = ChatCorpus("strange", "files", {"train": strange}, None, None, [])
    with pytest.raises(UserError, match=r"75% of the words in the replies of strange are unknown .*at most 30%"):
        prepare_chat(corpus, TOKENIZER, config)


def test_conversations_that_never_fit_are_refused(config):
    corpus = ChatCorpus("long", "files", {"train": [talk(9, 9)]}, None, None, [])
    with pytest.raises(UserError, match=r"data\.seq_len: no conversation of long has an exchange that fits in 8"):
        prepare_chat(corpus, TOKENIZER, config)


def test_less_than_a_batch_is_refused(config):
    data = prepare_text(TEXT, TOKENIZER, config)
    require_enough(data, 2)
    with pytest.raises(UserError, match=r"data\.batch_size: 3 was given, but mine makes only 2 training windows"):
        require_enough(data, 3)
    alone = prepare_text(dataclasses.replace(TEXT, splits={"train": LINES["train"]}), TOKENIZER, config)
    with pytest.raises(UserError, match=r"mine leaves nothing to validate on"):
        require_enough(alone, 2)


def test_a_stand_in_is_announced_and_named(config, capsys):
    standing_in = dataclasses.replace(
        TEXT, source="embedded", fallback_for="wikitext-2", notes=["wikitext-2 was not found: no network"]
    )
    data = prepare_text(standing_in, TOKENIZER, config)
    assert data_name(data.manifest) == "mine, standing in for wikitext-2"
    assert data.manifest["corpus"] == "mine"
    announce(data)
    out = capsys.readouterr().out
    assert re.search(r"^!+\n!! wikitext-2 could not be had. Going on with mine in its place.\n!! .*no network\n", out)
    assert "data: mine, standing in for wikitext-2 (embedded)" in out
    asked = prepare_text(TEXT, TOKENIZER, config)
    assert asked.manifest["corpus"] == str(Path("mine.txt").resolve())  # found again from any folder
    announce(asked)
    assert "!!" not in capsys.readouterr().out


def held_out(unknown: int):
    """A corpus of which so many in a hundred held-out words are not in train."""
    return dataclasses.replace(TEXT, splits={"train": ["a b c d"], "valid": ["a " * (100 - unknown) + "x " * unknown]})


def test_pretraining_warns_of_unknown_words_and_then_stops(config):
    assert require_known(prepare_text(held_out(5), TOKENIZER, config)) is None
    assert "6.0% of the words of the validation split of mine" in require_known(
        prepare_text(held_out(6), TOKENIZER, config)
    )
    with pytest.raises(UserError, match=r"31\.0% of the words of the validation split of mine .*at most 30%"):
        require_known(prepare_text(held_out(31), TOKENIZER, config))


def test_unk_that_the_text_itself_has_is_not_unknown(config):
    text = dataclasses.replace(TEXT, splits={"train": ["a b"], "valid": ["a <unk> <unk> <unk>"]})
    assert require_known(prepare_text(text, TOKENIZER, config)) is None


@pytest.mark.parametrize(("asked", "tokenized"), [("auto", True), ("true", True), ("false", False)])
def test_whether_a_corpus_is_tokenized_is_decided_once(config, asked, tokenized):
    lines = {"train": ["mr. x does n't know", "it is n't so"], "valid": ["it 's so"]}
    text = dataclasses.replace(TEXT, splits=lines)
    data = prepare_text(text, TOKENIZER, dataclasses.replace(config, tokenized=asked))
    assert data.manifest["tokenized"] == tokenized
    assert data.manifest["splits"]["train"]["tokens"] == (5 + 4 + 2 if tokenized else 7 + 5 + 2)


def test_what_can_be_known_from_sizes_is_said_before_the_work(config, monkeypatch):
    monkeypatch.setattr(prepare, "prepare_text", None)
    with pytest.raises(UserError, match=r"mine leaves nothing to validate on"):
        require_text(dataclasses.replace(TEXT, splits={"train": ["a b"] * 99}), config)
    with pytest.raises(UserError, match=r"9 was given, but mine makes only 2 training windows at most"):
        require_text(TEXT, dataclasses.replace(config, batch_size=9))
    require_text(TEXT, config)


@pytest.mark.parametrize("pack_lines", [False, True])
def test_a_split_is_opened_without_reading_text(config, monkeypatch, pack_lines):
    config = dataclasses.replace(config, pack_lines=pack_lines)
    data = prepare_text(TEXT, TOKENIZER, config)
    monkeypatch.setattr(prepare, "load_text", None)
    manifest, source = open_split(data.manifest, TOKENIZER, config, "valid")
    assert manifest is data.manifest
    for one, other in zip(source.gather(np.arange(1)), data.sources["valid"].gather(np.arange(1)), strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(UserError, match="split: other was asked for, but mine has train, valid, test"):
        open_split(data.manifest, TOKENIZER, config, "other")


def test_conversations_are_opened_without_reading_them(config, monkeypatch):
    data = prepare_chat(ChatCorpus("mine", "files", {"train": [talk(1, 2)] * 3}, None, None, []), TOKENIZER, config)
    monkeypatch.setattr(prepare, "load_chat", None)
    _, source = open_split(data.manifest, TOKENIZER, config, "train")
    assert np.array_equal(source.gather(np.arange(1)).tokens, data.sources["train"].gather(np.arange(1)).tokens)
