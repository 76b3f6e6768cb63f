"""Text of the hub: what is streamed is kept, an interrupted start goes on, and what cannot be is said at once.

`datasets` streams files of this machine in the hub's place; they are read by the same class.
"""

import json

import datasets
import pytest

from jaxgpt.config import DataConfig
from jaxgpt.data.prepare import find_text_of, prepare_text
from jaxgpt.errors import RunError, UserError
from jaxgpt.text.corpora import Download, open_chat, open_text, streamed
from jaxgpt.text.corpora.streamed import _parse, find_streamed

NAME, COMMIT = "hub:owner/name:config", "c" * 40
TEXTS = {"train": [f"document {n} says {n * n}\nand ends" for n in range(90)], "validation": ["one", "two"]}
load_dataset = datasets.load_dataset


@pytest.fixture(name="asked", autouse=True)
def _hub(tmp_path, monkeypatch):
    """A hub with one dataset, train in three files; returns what it was asked for."""
    files: dict[str, list[str]] = {}
    for split, texts in TEXTS.items():
        for number in range(3 if split == "train" else 1):
            part = texts[number * 30 : (number + 1) * 30]
            file = tmp_path / f"{split}{number}.jsonl"
            file.write_text("\n".join(json.dumps({"text": text, "n": {"a": 1}}) for text in part))
            files.setdefault(split, []).append(str(file))
    asked = []

    def load(repository, config, revision, streaming):
        asked.append((repository, config, revision, streaming))
        return load_dataset("json", data_files=files, streaming=streaming)

    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(streamed, "probe", lambda url, seconds: None)
    monkeypatch.setattr(streamed, "_commit", lambda repository, revision: COMMIT)
    monkeypatch.setattr(streamed, "PART_BYTES", 300)
    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def kept(folder, split="train"):
    """Returns the documents of a split that were kept, in their order."""
    files = sorted(folder.glob(f"{split}-*.jsonl.gz"))
    lines = (line for file in files for line in streamed.gzip.open(file, "rt", encoding="utf-8"))
    return [json.loads(line)["text"] for line in lines]


def test_every_document_is_kept_in_its_order(tmp_path, asked):
    folder, source, notes = find_streamed(NAME, "text", Download(tmp_path))
    assert kept(folder) == TEXTS["train"]
    assert kept(folder, "valid") == TEXTS["validation"]
    assert len(list(folder.glob("train-*"))) > 5
    assert asked == [("owner/name", "config", COMMIT, True)]
    assert f"revision {COMMIT[:12]}" in source
    assert notes == ["train: all of it, 0.0 MB", "valid: all of it, 0.0 MB"]


def test_a_second_start_asks_nobody(tmp_path, asked, monkeypatch):
    first = find_streamed(NAME, "text", Download(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find_streamed(NAME, "text", Download(tmp_path)) == first
    assert len(asked) == 1


def test_no_more_is_read_than_asked_for(tmp_path):
    folder, _, notes = find_streamed(NAME, "text", Download(tmp_path, 1_000))
    texts = kept(folder)
    assert texts == TEXTS["train"][: len(texts)]
    assert 1_000 <= sum(map(len, texts)) < 1_100
    assert notes[0].startswith("train: the first")
    assert "--data.hub-gb" in notes[0]


@pytest.mark.parametrize("most", [10**10, 1_500])
def test_a_start_interrupted_at_any_write_ends_with_the_same(tmp_path, monkeypatch, most):
    folder, _, notes = find_streamed(NAME, "text", Download(tmp_path / "whole", most))
    whole = kept(folder), kept(folder, "valid")
    write, count = streamed.write_text, 0

    def interrupted(path, text):
        nonlocal count
        count += 1
        if count % 3 == 0:  # the part is there, and the record is not
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(streamed, "write_text", interrupted)
    for _ in range(20):
        try:
            again, _, said = find_streamed(NAME, "text", Download(tmp_path / "again", most))
        except KeyboardInterrupt:
            continue
        break
    assert count > 3
    assert (kept(again), kept(again, "valid")) == whole
    assert said == notes


def test_a_lost_connection_keeps_what_was_read(tmp_path, monkeypatch):
    parts = streamed._parts

    def lost(rows, *arguments):
        for number, part in enumerate(parts(rows, *arguments)):
            if number == 2:
                raise OSError("Server disconnected")
            yield part

    monkeypatch.setattr(streamed, "_parts", lost)
    with pytest.raises(RunError, match=r"Server disconnected.* the same command continues"):
        find_streamed(NAME, "text", Download(tmp_path))
    monkeypatch.setattr(streamed, "_parts", parts)
    folder, _, _ = find_streamed(NAME, "text", Download(tmp_path))
    assert kept(folder) == TEXTS["train"]


def test_it_is_trained_on_like_any_text(tmp_path):
    config = DataConfig(corpus=NAME, tokenizer="bpe", seq_len=16, batch_size=2, cache_dir=str(tmp_path / "cache"))
    data = prepare_text(find_text_of(config), config, vocab_size=300)
    assert data.manifest.splits["train"].documents == 90
    assert data.manifest.splits["valid"].documents == 2
    assert data.manifest.corpus == NAME
    assert data.manifest.source.startswith("Hugging Face hub")


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [("HTTP 404", UserError, "has no dataset owner/name"), ("no answer within 3 s", RunError, "cannot be reached")],
)
def test_a_hub_that_does_not_answer_is_said_at_once(tmp_path, monkeypatch, answer, error, says):
    monkeypatch.setattr(streamed, "probe", lambda url, seconds: answer)
    with pytest.raises(error, match=says):
        find_streamed(NAME, "text", Download(tmp_path))


def test_offline_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RunError, match="HF_HUB_OFFLINE is set"):
        find_streamed(NAME, "text", Download(tmp_path))


def test_a_dataset_that_cannot_be_opened_gives_the_hubs_reason(tmp_path, monkeypatch):
    def load(*_, **__):
        raise ValueError("Config name is missing.\nPlease pick one among: ['a', 'b']")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError, match=r"Config name is missing\. Please pick one among"):
        find_streamed(NAME, "text", Download(tmp_path))


@pytest.mark.parametrize(("field", "says"), [("body", "has no field body; it has text, n"), ("n", "n .* is an object")])
def test_a_field_that_is_no_text_is_named(tmp_path, field, says):
    with pytest.raises(UserError, match=says):
        find_streamed(NAME, field, Download(tmp_path))


def test_a_dataset_without_a_training_split_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"all": None})
    with pytest.raises(UserError, match="no split train, but all"):
        find_streamed(NAME, "text", Download(tmp_path))


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("hub:owner/name", ("owner/name", None, None)),
        ("hub:wikitext", ("wikitext", None, None)),
        ("hub:owner/name:sample-10BT", ("owner/name", "sample-10BT", None)),
        ("hub:owner/na.me@v1.0:conf", ("owner/na.me", "conf", "v1.0")),
    ],
)
def test_how_a_dataset_is_named(name, address):
    assert _parse(name) == address


@pytest.mark.parametrize("name", ["hub:", "hub:a/b/c", "hub:/b", "hub:a b", "hub:../x/y", "hub:a/b:"])
def test_what_names_no_dataset_is_refused(name):
    with pytest.raises(UserError, match="names no dataset"):
        open_text(name, None)


def test_conversations_are_not_read_from_it():
    with pytest.raises(UserError, match=r"^data\.corpus: 'hub:owner/name'"):
        open_chat("hub:owner/name", None)
