"""Kept tokens are verified to the last byte, and a text that has changed is told from one that has not."""

import dataclasses
import json

import pytest

from jaxgpt.config import DataConfig
from jaxgpt.data import kept
from jaxgpt.data.mixture import prepare_corpus
from jaxgpt.data.recheck import check_kept, check_source
from jaxgpt.data.reopen import kept_name


@pytest.fixture(name="config")
def _config(tmp_path, monkeypatch) -> DataConfig:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{name} {n} is {name} {n % 7}" for n in range(400)))
    return DataConfig(
        corpus="a.txt:1,b.txt:1", tokenizer="byte", seq_len=16, batch_size=2, cache_dir=str(tmp_path / "c")
    )


def test_all_that_is_kept_of_a_mixture_is_read(config):
    data = prepare_corpus(config)
    checked = list(check_kept(data.manifest, data.tokenizer, config))
    assert {file.rsplit("/")[-1] for file, _ in checked} >= {"train-00000.bin", "valid-00000.bin", "tokenizer.json"}
    assert len({file for file, _ in checked}) == len(checked)
    assert [wrong for _, wrong in checked] == [None] * len(checked)


def test_a_changed_byte_is_found_by_the_digest_alone(config, monkeypatch):
    monkeypatch.setattr(kept, "SMALL", 0)  # as if every file were large
    config = dataclasses.replace(config, corpus="a.txt")
    data = prepare_corpus(config)
    name = kept_name(data.manifest, data.tokenizer, config)
    opened = kept.open_kept(config.cache_dir, name)
    assert opened is not None
    shard = opened.folder / "train-00000.bin"
    content = bytearray(shard.read_bytes())
    content[7] ^= 1
    shard.write_bytes(content)
    assert kept.open_kept(config.cache_dir, name) is not None
    wrong = {file: why for file, why in check_kept(data.manifest, data.tokenizer, config) if why}
    assert list(wrong) == [str(shard)]
    assert "its bytes are not those that were written; delete" in wrong[str(shard)]
    shard.write_bytes(content[:-2])
    assert any("bytes of" in (why or "") for _, why in check_kept(data.manifest, data.tokenizer, config))
    shard.unlink()
    assert any((why or "").startswith("it is missing") for _, why in check_kept(data.manifest, data.tokenizer, config))
    (opened.folder / kept.RECORD).write_text(json.dumps([]))
    assert "cannot be read" in (next(check_kept(data.manifest, data.tokenizer, config))[1] or "")


def test_a_text_that_changed_is_named(config, tmp_path):
    data = prepare_corpus(config)
    assert [wrong for _, wrong in check_source(data.manifest, config)] == [None, None]
    text = (tmp_path / "b.txt").read_text()
    (tmp_path / "b.txt").write_text(text.replace("b 3 is", "b 4 is"))
    (first, first_wrong), (second, second_wrong) = check_source(data.manifest, config)
    assert (first.rsplit("/")[-1], first_wrong) == ("a.txt", None)
    assert (second.rsplit("/")[-1], second_wrong) == ("b.txt", "its contents have changed since it was encoded")
    (tmp_path / "a.txt").unlink()
    assert "no path that exists" in (next(check_source(data.manifest, config))[1] or "")
