"""A mixture: which window comes from which corpus, what is kept, and what is said of each part."""

import dataclasses
import json

import numpy as np
import pytest

from jaxgpt.config import DataConfig
from jaxgpt.data import mixture, prepare
from jaxgpt.data.manifest import manifest_from_dict
from jaxgpt.data.mixture import open_mixed, open_parts, prepare_corpus, shares_of
from jaxgpt.data.sources import BLOCK, EMPTY, Mixture, Windows, batch_at, indices_at
from jaxgpt.errors import UserError

LENGTHS, SHARES = (100, 30, 5), (0.7, 0.29, 0.01)
MIXED = Mixture({f"s{i}": Windows(np.full(10 * n, i), 10, 9) for i, n in enumerate(LENGTHS)}, SHARES)
PLACES = np.arange(100 * BLOCK)


@pytest.fixture(scope="module", name="chosen")
def _chosen() -> np.ndarray:
    return MIXED.indices(PLACES, seed=3)


def sources_of(indices: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.cumsum(LENGTHS), indices % sum(LENGTHS), side="right")


def test_shares_hold_within_every_few_hundred_windows(chosen):
    for source, share in enumerate(SHARES):
        taken = (sources_of(chosen) == source).reshape(-1, BLOCK).sum(axis=1)
        assert abs(taken - share * BLOCK).max() <= 2


def test_sources_do_not_alternate(chosen):
    of_first = sources_of(chosen) == 0
    runs = np.diff(np.flatnonzero(np.diff(of_first)))
    assert len(np.unique(runs)) > 5


def test_each_source_gives_all_its_samples_before_any_again(chosen):
    first = 0
    for source, length in enumerate(LENGTHS):
        mine = chosen[sources_of(chosen) == source]
        seen = np.bincount(mine % sum(LENGTHS) - first, minlength=length)
        assert seen.max() - seen.min() <= 1
        assert len(set(mine.tolist())) == len(mine)  # another epoch's have numbers of their own
        first += length


def test_a_window_is_a_function_of_seed_and_place(chosen):
    for start in (0, 7, 20_000):
        np.testing.assert_array_equal(MIXED.indices(PLACES[start : start + 300], 3), chosen[start : start + 300])
    assert (MIXED.indices(PLACES, 4) != chosen).mean() > 0.5


def test_a_step_far_on_is_as_quick_as_the_first():
    far = MIXED.indices(np.arange(512) + 2**43, seed=0)
    assert (np.bincount(sources_of(far), minlength=3) >= [350, 140, 3]).all()


def test_a_batch_has_its_sources_rows_until_the_last_epoch():
    steps = -(-sum(LENGTHS) * 2 // 32)
    assert (indices_at(MIXED, 0, steps - 1, 32, 2) == EMPTY).sum() == steps * 32 - 2 * sum(LENGTHS)
    batch = batch_at(MIXED, 0, 5, 32, 2)
    np.testing.assert_array_equal(batch.targets[:, 0], sources_of(indices_at(MIXED, 0, 5, 32, 2)))
    assert batch.weights.all()
    last = batch_at(MIXED, 0, steps - 1, 32, 2)
    np.testing.assert_array_equal(last.weights[:, 0] == 0, indices_at(MIXED, 0, steps - 1, 32, 2) == EMPTY)


@pytest.mark.parametrize(
    ("corpus", "shares"),
    [
        ("a.txt", None),
        ("hub:owner/name:config", None),
        ("a.jsonl:0.7,b/:0.3", {"a.jsonl": 0.7, "b/": 0.3}),
        ("a:3, b:1", {"a": 0.75, "b": 0.25}),
        ("hub:owner/name:config:1,C:\\text:1", {"hub:owner/name:config": 0.5, "C:\\text": 0.5}),
    ],
)
def test_how_a_mixture_is_written(corpus, shares):
    assert shares_of(corpus) == shares


@pytest.mark.parametrize(
    "corpus", ["a,b", "a:0.5,b", "a:0.5,b:0", "a:0.5,b:-1", "a:nan,b:1", "a:1,:1", "a:1,", "a:1,a:2"]
)
def test_what_is_no_mixture_is_refused(corpus):
    with pytest.raises(UserError, match=r"^data\.corpus: "):
        shares_of(corpus)


def test_a_path_with_a_comma_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b:1").write_text("x")
    assert shares_of("a,b:1") is None


@pytest.fixture(name="config")
def _config(tmp_path, monkeypatch) -> DataConfig:
    monkeypatch.chdir(tmp_path)
    for name, word, count in (("a.jsonl", "alpha", 60), ("b.txt", "beta", 400)):
        lines = [f"{word} {n} is {word} {n % 7}" for n in range(count)]
        text = "\n".join(json.dumps({"text": line}) for line in lines) if name.endswith("l") else "\n".join(lines)
        (tmp_path / name).write_text(text)
    return DataConfig(
        corpus="a.jsonl:0.25,b.txt:0.75", tokenizer="bpe", seq_len=16, batch_size=2, cache_dir=str(tmp_path / "cache")
    )


def test_a_mixture_is_read_and_its_manifest_names_the_parts(config):
    data = prepare_corpus(config, vocab_size=300)
    parts = data.manifest.parts
    assert [(part.share, part.manifest.name) for part in parts] == [(0.25, "a.jsonl"), (0.75, "b.txt")]
    assert data.manifest.name == "0.25 of a.jsonl and 0.75 of b.txt"
    for split in ("train", "valid", "test"):
        assert data.manifest.splits[split].tokens == sum(part.manifest.splits[split].tokens for part in parts)
    assert data.manifest.bits_per_byte("valid", 1.0) is None
    assert parts[0].manifest.bits_per_byte("valid", 1.0) is not None
    assert manifest_from_dict(json.loads(json.dumps(data.manifest.to_dict()))) == data.manifest


def test_other_shares_encode_nothing_anew(config, monkeypatch):
    first = prepare_corpus(config, vocab_size=300)
    monkeypatch.setattr(prepare, "encode_split", None)
    monkeypatch.setattr(mixture, "make_tokenizer", None)
    again = prepare_corpus(dataclasses.replace(config, corpus="a.jsonl:1,b.txt:1"), vocab_size=300)
    assert again.tokenizer.fingerprint == first.tokenizer.fingerprint
    assert again.manifest.fingerprint != first.manifest.fingerprint
    assert again.sources["train"].shares == (0.5, 0.5)


def test_parts_are_opened_without_reading_any_text(config, tmp_path):
    data = prepare_corpus(config, vocab_size=300)
    for file in (tmp_path / "a.jsonl", tmp_path / "b.txt"):
        file.unlink()
    opened = list(open_parts(data.manifest, data.tokenizer, config, "valid"))
    assert [(share, part.name) for share, part, _ in opened] == [(0.25, "a.jsonl"), (0.75, "b.txt")]
    manifest, source = open_mixed(data.manifest, data.tokenizer, config, "valid")
    assert manifest.is_of_same_data(data.manifest)
    np.testing.assert_array_equal(
        source.gather(np.arange(len(source))).targets,
        np.concatenate([part.gather(np.arange(len(part))).targets for _, _, part in opened]),
    )


def test_files_of_one_name_are_told_apart(config, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.txt").write_text((tmp_path / "b.txt").read_text())
    data = prepare_corpus(dataclasses.replace(config, corpus="b.txt:1,other/b.txt:1"), vocab_size=300)
    assert len(data.sources["train"].sources) == 2


def test_a_missing_part_is_named(config):
    with pytest.raises(UserError, match="'nowhere'"):
        prepare_corpus(dataclasses.replace(config, corpus="b.txt:1,nowhere:1", fallback="tinyworld"))
