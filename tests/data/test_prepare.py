"""From a corpus to sources and a manifest: counted, cut where it must be, refused where it makes no sense."""

import dataclasses
import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from jaxgpt.config import DataConfig
from jaxgpt.data import encode, prepare, reopen
from jaxgpt.data.kept import make_kept
from jaxgpt.data.prepare import prepare_chat, prepare_text
from jaxgpt.data.reopen import encode_file, open_split
from jaxgpt.data.require import require_enough, require_known, require_text
from jaxgpt.errors import RunError, UserError
from jaxgpt.files import parse_json
from jaxgpt.text.corpora import Corpus, Splits, documents
from jaxgpt.text.corpora.documents import in_memory, pieces
from jaxgpt.text.word_tokenizer import count_words, tokenizer_from_counts
from jaxgpt.training.plan import announce


def text_of(lines, name="mine"):
    """A corpus of lines by split."""
    splits = {split: in_memory(list(pieces(part))) for split, part in lines.items()}
    return Corpus(name, "files", 0, str(lines), lambda: Splits(splits, []), [])


def talks_of(conversations, name="mine"):
    """A corpus of conversations by split."""
    splits = {split: in_memory(part) for split, part in conversations.items()}
    return Corpus(name, "files", 0, str(conversations), lambda: Splits(splits, []), [])


def built(lines):
    return tokenizer_from_counts(count_words(lines), 100)


LINES = {"train": ["a b c", "", "b c d"], "valid": ["a x"], "test": ["b"]}
TEXT = text_of(LINES)
TOKENIZER = built(LINES["train"] + ["? !"])


@pytest.fixture
def config(tmp_path) -> DataConfig:
    return DataConfig(corpus="mine.txt", seq_len=8, batch_size=1, cache_dir=str(tmp_path))


def said(role, size):
    return {"role": role, "content": " ".join(["a"] * size)}


def talk(*sizes):
    return [said(role, size) for role, size in zip(["user", "assistant"] * len(sizes), sizes, strict=False)]


def test_text_is_counted_and_encoded_once(config, tmp_path):
    data = prepare_text(TEXT, config, TOKENIZER)
    train = data.manifest.splits["train"]
    assert (train.documents, train.lines, train.tokens, train.bytes, train.floor_nats) == (1, 3, 9, 13, None)
    assert (train.unk, train.unknown, train.unknown_bytes) == (0, 0, 0)
    assert data.manifest.splits["valid"].unk == 1
    first = data.sources["train"].gather(np.array([0]))
    a, b, c, d = (TOKENIZER.encode(word)[0] for word in "abcd")
    assert first.targets[0].tolist() == [a, b, c, 1, 1, b, c, d]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    again = prepare_text(dataclasses.replace(TEXT, read=None), config, TOKENIZER)  # nothing is read
    assert again.manifest == data.manifest
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_the_vocabulary_is_made_once_and_kept(config):
    data = prepare_text(TEXT, config, vocab_size=100)
    assert data.tokenizer.words[7:] == ("b", "c")  # a and d are seen once
    assert data.vocabulary.startswith("5 types of words in train, <eos> counted; vocabulary of 9")
    again = prepare_text(dataclasses.replace(TEXT, read=None), config, vocab_size=100)
    assert (again.tokenizer, again.vocabulary, again.manifest) == (data.tokenizer, data.vocabulary, data.manifest)
    assert prepare_text(TEXT, config, vocab_size=8).tokenizer.vocab_size == 8


def test_large_text_is_encoded_in_pieces_as_in_one(config, monkeypatch):
    lines = {"train": [f"a b{'c' * (n % 7)} ." for n in range(500)], "valid": ["a b"]}
    whole = prepare_text(text_of(lines), config, TOKENIZER)
    monkeypatch.setattr(documents, "PIECE", 100)
    monkeypatch.setattr(encode, "BATCH", 300)
    monkeypatch.setattr(prepare, "encode_split", partial(encode.encode_split, size=64))
    corpus = dataclasses.replace(text_of(lines), identity="cut")
    cut = prepare_text(corpus, dataclasses.replace(config, cache_dir=f"{config.cache_dir}/cut"), TOKENIZER)
    assert cut.manifest.splits == whole.manifest.splits
    assert len(cut.sources["train"].stream.shards) > 10
    places = np.arange(len(whole.sources["train"]))
    for one, other in zip(cut.sources["train"].gather(places), whole.sources["train"].gather(places), strict=True):
        assert np.array_equal(one, other)


def test_changed_text_is_never_served_stale(config):
    prepare_text(TEXT, config, TOKENIZER)
    changed = text_of(LINES | {"train": ["d d d"]})
    assert prepare_text(changed, config, TOKENIZER).manifest.splits["train"].tokens == 4
    other = built(["d c b a"])
    batch = prepare_text(TEXT, config, other).sources["train"].gather(np.array([0]))
    assert batch.targets[0, 0] == other.encode("a")[0]


def test_the_fingerprint_is_of_the_content_alone(config):
    same, other, moved = (
        prepare_text(dataclasses.replace(text_of(lines, name), identity=name), config, TOKENIZER).manifest
        for name, lines in (
            ("same", LINES),
            ("other", LINES | {"test": ["c"]}),
            ("moved", LINES | {"valid": ["b"], "test": ["a x"]}),
        )
    )
    assert same.fingerprint == prepare_text(TEXT, config, TOKENIZER).manifest.fingerprint
    assert len({same.fingerprint, other.fingerprint, moved.fingerprint}) == 3


def test_an_id_without_a_token_is_never_served(config):
    prepare_text(TEXT, config, TOKENIZER)
    small = built(["a"])
    record = next(Path(config.cache_dir).rglob("record.json"))
    kept = make_kept(config.cache_dir, "x", lambda folder: ("other", parse_json(record.read_text())["facts"]))
    with pytest.raises(RunError, match=r"train: ids from 1 to \d+ for a vocabulary of 8"):
        prepare.text_source(dataclasses.replace(kept, folder=record.parent), "train", small, config)


def test_conversations_are_cut_at_turns_and_every_cut_is_counted(config):
    train = [talk(1, 2), talk(2, 2, 1, 1), talk(20, 20), talk(1, 1, 9, 9)]
    corpus = talks_of({"train": train, "valid": [talk(1, 1)]})
    data = prepare_chat(corpus, config, TOKENIZER)
    train = data.manifest.splits["train"]
    assert (train.conversations, train.kept, train.cut, train.dropped) == (4, 3, 2, 1)
    assert train.messages_cut == 2 + 2 + 2
    assert train.supervised == 3 + 2 + 2
    rows = data.sources["train"].gather(np.arange(len(data.sources["train"])))
    assert rows.weights.sum() == train.supervised
    assert data.example == talk(1, 2)


def test_a_conversation_without_anything_to_learn_is_dropped(config):
    talks = [[said("user", 2), said("user", 2), said("assistant", 20)], talk(1, 1)]
    data = prepare_chat(talks_of({"train": talks}, "mine"), config, TOKENIZER)
    assert (data.manifest.splits["train"].kept, data.manifest.splits["train"].dropped) == (1, 1)


@pytest.mark.parametrize("size", [1, 5, 7, 30])
def test_a_conversation_that_ends_with_the_user_is_kept(config, size):
    talks = [[*talk(1, 2), said("user", size)]]
    data = prepare_chat(talks_of({"train": talks}, "mine"), config, TOKENIZER)
    train = data.manifest.splits["train"]
    assert (train.kept, train.dropped, train.supervised, train.messages_cut) == (1, 0, 3, 1)


def test_conversations_the_tokenizer_does_not_know_are_refused(config):
    strange = [[said("user", 3), {"role": "assistant", "content": "u v w a"}]] * 3
    corpus = talks_of({"train": strange}, "strange")
    with pytest.raises(UserError, match=r"75% of the words in the replies of strange are unknown .*at most 30%"):
        prepare_chat(corpus, config, TOKENIZER)


def test_conversations_that_never_fit_are_refused(config):
    corpus = talks_of({"train": [talk(9, 9)]}, "long")
    with pytest.raises(UserError, match=r"data\.seq_len: no conversation of long has an exchange that fits in 8"):
        prepare_chat(corpus, config, TOKENIZER)


def test_less_than_a_batch_is_refused(config):
    data = prepare_text(TEXT, config, TOKENIZER)
    require_enough(data.manifest.name, data.sources, 2)
    with pytest.raises(UserError, match=r"data\.batch_size: 3 was given, but mine makes only 2 training windows"):
        require_enough(data.manifest.name, data.sources, 3)
    with pytest.raises(UserError, match=r"mine leaves nothing to validate on"):
        require_enough("mine", {"train": data.sources["train"]}, 2)
    with pytest.raises(UserError, match=r"mine leaves nothing to validate on"):
        prepare_text(text_of({"train": LINES["train"]}), config, TOKENIZER)


def test_a_stand_in_is_announced_and_named(config, capsys):
    standing_in = dataclasses.replace(
        TEXT, source="embedded", fallback_for="wikitext-2", notes=["wikitext-2 was not found: no network"]
    )
    data = prepare_text(standing_in, config, TOKENIZER)
    assert data.manifest.full_name == "mine, standing in for wikitext-2"
    assert data.manifest.corpus == "mine"
    announce(data)
    out = capsys.readouterr().out
    assert re.search(r"^!+\n!! wikitext-2 could not be had. Continuing with mine in its place.\n!! .*no network\n", out)
    assert "data: mine, standing in for wikitext-2 (embedded)" in out
    asked = prepare_text(TEXT, config, TOKENIZER)
    assert asked.manifest.corpus == str(Path("mine.txt").resolve())  # found again from any folder
    announce(asked)
    assert "!!" not in capsys.readouterr().out


def held_out(unknown: int):
    """A corpus of which so many in a hundred held-out words are not in train."""
    return text_of({"train": ["a b c d"], "valid": ["a " * (100 - unknown) + "x " * unknown]})


def test_pretraining_warns_of_unknown_words_and_then_stops(config):
    assert require_known(prepare_text(held_out(5), config, TOKENIZER).manifest, False) is None
    warning = require_known(prepare_text(held_out(6), config, TOKENIZER).manifest, False)
    assert "6.0% of the words of the validation split of mine" in warning
    with pytest.raises(UserError, match=r"31\.0% of the words of the validation split of mine .*at most 30%"):
        require_known(prepare_text(held_out(31), config, TOKENIZER).manifest, False)
    with pytest.raises(UserError, match=r"that of run\.init_from .*leave --run\.init-from out"):
        require_known(prepare_text(held_out(31), config, TOKENIZER).manifest, True)


def test_unk_that_the_text_itself_has_is_not_unknown(config):
    text = text_of({"train": ["a b"], "valid": ["a <unk> <unk> <unk>"]})
    assert require_known(prepare_text(text, config, TOKENIZER).manifest, False) is None


@pytest.mark.parametrize(("asked", "tokenized"), [("auto", True), ("true", True), ("false", False)])
def test_whether_a_corpus_is_tokenized_is_decided_once(config, asked, tokenized):
    lines = {"train": ["mr. x does n't know", "it is n't so"], "valid": ["it 's so"]}
    text = text_of(lines)
    data = prepare_text(text, dataclasses.replace(config, tokenized=asked), TOKENIZER)
    assert data.manifest.tokenized == tokenized
    assert data.manifest.splits["train"].tokens == (5 + 4 + 2 if tokenized else 7 + 5 + 2)


def test_what_can_be_known_from_sizes_is_said_before_the_work(config, monkeypatch):
    monkeypatch.setattr(prepare, "make_tokenizer", None)
    with pytest.raises(UserError, match=r"mine leaves nothing to validate on"):
        prepare_text(text_of({"train": ["a b"] * 99}), config)
    with pytest.raises(UserError, match=r"9 was given, but mine makes only 2 training windows at most"):
        prepare_text(TEXT, dataclasses.replace(config, batch_size=9))
    require_text("mine", TEXT.read(), config)


@pytest.mark.parametrize("pack_lines", [False, True])
def test_a_split_is_opened_without_reading_text(config, monkeypatch, pack_lines):
    config = dataclasses.replace(config, pack_lines=pack_lines)
    data = prepare_text(TEXT, config, TOKENIZER)
    monkeypatch.setattr(prepare, "open_text", None)
    manifest, source = open_split(data.manifest, TOKENIZER, config, "valid")
    assert manifest is data.manifest
    for one, other in zip(source.gather(np.arange(1)), data.sources["valid"].gather(np.arange(1)), strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(UserError, match="split: other was asked for, but mine has train, valid, test"):
        open_split(data.manifest, TOKENIZER, config, "other")


def test_conversations_are_opened_without_reading_them(config, monkeypatch):
    data = prepare_chat(talks_of({"train": [talk(1, 2)] * 3}, "mine"), config, TOKENIZER)
    monkeypatch.setattr(reopen, "open_chat", None)
    _, source = open_split(data.manifest, TOKENIZER, config, "train")
    assert np.array_equal(source.gather(np.arange(1)).tokens, data.sources["train"].gather(np.arange(1)).tokens)


def test_a_file_has_its_lines_whole_where_a_run_has(config, tmp_path):
    """Each token after those of its line only; a line longer than the window in pieces, each token once."""
    config = dataclasses.replace(config, pack_lines=True, seq_len=6)
    (tmp_path / "a.txt").write_text("a b c\nb\nc a b c a b c a\n")
    counts, source = encode_file(tmp_path / "a.txt", config, TOKENIZER)
    batch = source.gather(np.arange(len(source)))
    targets = batch.targets[batch.weights > 0]
    eos = TOKENIZER.special.eos
    expected = [id for line in ("a b c", "b", "c a b c a b c a") for id in [*TOKENIZER.encode(line), eos]]
    assert sorted(targets.tolist()) == sorted(expected)
    assert counts.tokens == len(expected)
    begins = (batch.positions == 0) & (batch.weights > 0)
    assert sorted(batch.tokens[begins].tolist()) == sorted([eos] * 3 + TOKENIZER.encode("b"))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_file_is_encoded_as_a_corpus_of_it_would_be(config, tmp_path, name):
    text = "a b c\nx d"
    content = text if name == "a.txt" else json.dumps({"text": text}) + "\n"
    (tmp_path / name).write_text(content)
    counts, source = encode_file(tmp_path / name, config, TOKENIZER)
    assert (counts.documents, counts.lines, counts.tokens, counts.unk, counts.bytes) == (1, 2, 7, 1, 10)
    expected = [*TOKENIZER.encode(text), TOKENIZER.special.eos]
    assert source.gather(np.array([0])).targets[0, :7].tolist() == expected


def test_more_held_out_than_trained_on_is_warned_of(config, capsys):
    announce(prepare_text(text_of({"train": ["a b"], "valid": ["a b c"]}), config, TOKENIZER))
    assert "WARNING: more is held out than trained on, 4 tokens of valid and 3 of train" in capsys.readouterr().out
