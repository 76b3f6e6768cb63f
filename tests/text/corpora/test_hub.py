"""The places a corpus is looked for, in their order, and what is said when it is in none."""

import json
import sys
import threading
import urllib.request
from urllib.error import HTTPError, URLError

import pytest

from jaxgpt.errors import UserError
from jaxgpt.text.corpora import hub, open_chat, open_text
from jaxgpt.text.corpora.hub import UnavailableError, cache_folder, find, probe
from jaxgpt.text.corpora.wikitext import WIKITEXT_2

ROWS = {split: ["", f" = {split} = \n", "", f" The {split} . \n"] for split in ("train", "validation", "test")}
LINES = {
    split: [" ", f" = {hub} = ", " ", f" The {hub} . "]
    for split, hub in (("train", "train"), ("valid", "validation"), ("test", "test"))
}
VARIABLES = ("JAXGPT_DATA", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_CACHE")


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data folder, an empty cache, and a hub that does not answer: each test brings what it needs."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(hub, "probe", lambda url, seconds: "no network")


def lines_of(corpus):
    documents = corpus.read().documents
    return {split: [line for piece in documents[split]() for line in piece.text.split("\n")] for split in documents}


def fill_data_folder(folder, monkeypatch):
    monkeypatch.setenv("JAXGPT_DATA", str(folder))
    (folder / "wikitext-2").mkdir(parents=True)
    for split, lines in LINES.items():
        text = "".join(f"{line}\n" for line in lines)
        (folder / "wikitext-2" / f"wiki.{split}.tokens").write_text(text, encoding="utf-8")


def make_repository(folder):
    """Writes the hub's repository in small: a card that names the config, and a parquet file a split."""
    import datasets

    (folder / "wikitext-2-v1").mkdir(parents=True)
    for split, texts in ROWS.items():
        table = datasets.Dataset.from_dict({"text": texts, "more": texts})
        table.to_parquet(folder / "wikitext-2-v1" / f"{split}-00000-of-00001.parquet")
    files = "".join(f"  - split: {split}\n    path: wikitext-2-v1/{split}-*\n" for split in ROWS)
    card = f"---\nconfigs:\n- config_name: wikitext-2-v1\n  data_files:\n{files}---\n"
    (folder / "README.md").write_text(card, encoding="utf-8")


def fill_cache(tmp_path):
    """Fills the cache as load_dataset does; from the hub it would prefix the folder with the owner's name."""
    import datasets

    make_repository(tmp_path / "repository" / "wikitext")
    datasets.load_dataset(str(tmp_path / "repository" / "wikitext"), "wikitext-2-v1", cache_dir=str(cache_folder()))
    return (cache_folder() / "wikitext").rename(cache_folder() / "Salesforce___wikitext")


def test_the_data_folder_comes_first(tmp_path, monkeypatch):
    fill_data_folder(tmp_path / "data", monkeypatch)
    monkeypatch.setattr(hub, "_in_cache", lambda corpus: pytest.fail("the cache was read"))
    monkeypatch.setitem(sys.modules, "datasets", None)  # an import of it would fail
    corpus = open_text("wikitext-2", fallback=None)
    assert (corpus.name, corpus.source, corpus.fallback_for) == (
        "wikitext-2",
        "$JAXGPT_DATA/wikitext-2",
        None,
    )
    assert lines_of(corpus) == LINES
    assert corpus.notes == []


@pytest.mark.parametrize("left", [["wiki.train.tokens", "wiki.test.tokens"], []])
def test_a_data_folder_that_lacks_files_is_an_error(tmp_path, monkeypatch, left):
    fill_data_folder(tmp_path / "data", monkeypatch)
    for file in (tmp_path / "data" / "wikitext-2").iterdir():
        if file.name not in left:
            file.unlink()
    missing = ", ".join(name for name in WIKITEXT_2.files.values() if name not in left)
    with pytest.raises(UserError, match=rf"wikitext-2: {missing} missing; .* must have wiki\.train\.tokens"):
        open_text("wikitext-2", fallback=str(tmp_path))


def test_oasst1_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGPT_DATA", str(tmp_path))
    (tmp_path / "oasst1").mkdir()
    for file, name in (("train.jsonl", "t"), ("validation.jsonl", "v")):
        turn = {"message_tree_id": name, "lang": "en", "deleted": False, "tree_state": "ready_for_export"}
        rows = [{**turn, "message_id": name, "parent_id": None, "role": "prompter", "text": f"question {name}"}]
        for rank in (1, 0):
            answer = {"message_id": f"{name}{rank}", "parent_id": name, "role": "assistant", "rank": rank}
            rows.append({**turn, **answer, "text": f"answer {name}{rank}"})
        (tmp_path / "oasst1" / file).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    corpus = open_chat("oasst1", fallback=None)
    assert corpus.source == "$JAXGPT_DATA/oasst1"
    assert list(corpus.read().documents["valid"]()) == [
        [{"role": "user", "content": "question v"}, {"role": "assistant", "content": "answer v0"}]
    ]
    assert corpus.notes == []
    every = open_chat("oasst1", fallback=None, oasst_all_paths=True)
    assert every.identity != corpus.identity
    assert len(list(every.read().documents["train"]())) == 2


def test_the_cache_comes_second_and_gives_the_same_lines(tmp_path, monkeypatch):
    fill_cache(tmp_path)
    monkeypatch.setattr(hub, "_on_hub", lambda corpus: pytest.fail("the hub was asked"))
    cached = open_text("wikitext-2", fallback=None)
    assert cached.source == "Hugging Face cache"
    assert lines_of(cached) == LINES

    monkeypatch.setenv("JAXGPT_DATA", str(tmp_path / "elsewhere"))
    assert open_text("wikitext-2", fallback=None).notes[0] == (
        f"JAXGPT_DATA is set to {tmp_path / 'elsewhere'}, which has no folder wikitext-2"
    )
    fill_data_folder(tmp_path / "data", monkeypatch)
    assert lines_of(open_text("wikitext-2", fallback=None)) == lines_of(cached)


def test_a_broken_cache_is_passed_over_with_the_reason(tmp_path):
    broken = fill_cache(tmp_path)
    (build,) = (info.parent for info in broken.glob("*/*/*/dataset_info.json"))
    (build / "wikitext-test.arrow").write_bytes(b"broken")
    with pytest.raises(UnavailableError, match=r"the copy in the Hugging Face cache .* cannot be read"):
        find(WIKITEXT_2)
    (build / "wikitext-test.arrow").unlink()
    with pytest.raises(UnavailableError, match=r"has no test split"):
        find(WIKITEXT_2)
    build.rename(build.with_suffix(".incomplete"))
    with pytest.raises(UnavailableError, match=r"Salesforce/wikitext is not in the Hugging Face cache"):
        find(WIKITEXT_2)


def test_the_hub_comes_third(tmp_path, monkeypatch):
    import datasets

    make_repository(tmp_path / "wikitext")
    load_dataset = datasets.load_dataset

    def from_disk(repository, config):
        assert (repository, config) == ("Salesforce/wikitext", "wikitext-2-v1")
        return load_dataset(str(tmp_path / "wikitext"), config, cache_dir=tmp_path / "hub")

    asked = []
    monkeypatch.setattr(datasets, "load_dataset", from_disk)
    monkeypatch.setattr(hub, "probe", lambda url, seconds: asked.append(url))
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example/")
    corpus = open_text("wikitext-2", fallback=None)
    assert corpus.source == "Hugging Face hub"
    assert lines_of(corpus) == LINES
    assert asked == ["http://mirror.example/api/datasets/Salesforce/wikitext"]


def test_a_download_that_dies_is_as_good_as_no_network(tmp_path, monkeypatch):
    def die(corpus):
        raise ConnectionResetError("the line\nwent dead")

    monkeypatch.setattr(hub, "probe", lambda url, seconds: None)
    monkeypatch.setattr(hub, "_load_dataset", die)
    (tmp_path / "own.txt").write_text("own words\n", encoding="utf-8")
    corpus = open_text("wikitext-2", fallback=str(tmp_path / "own.txt"))
    assert (corpus.name, corpus.fallback_for) == ("own.txt", "wikitext-2")
    assert lines_of(corpus) == {"train": ["own words"]}
    assert corpus.notes[0] == (
        "wikitext-2 was not found: JAXGPT_DATA is not set; "
        f"Salesforce/wikitext is not in the Hugging Face cache ({tmp_path / 'hf' / 'datasets'}); "
        "the download from the hub (https://huggingface.co) failed (the line went dead)"
    )


def test_without_network_and_fallback_there_are_three_ways_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # seconds to import, and of no use here
    with pytest.raises(UserError) as raised:
        open_text("wikitext-2", fallback=None)
    said = str(raised.value)
    assert "the hub (https://huggingface.co) cannot be reached (no network)" in said
    assert "set JAXGPT_DATA to a folder with wikitext-2/{wiki.train.tokens," in said
    assert "connect to the network once" in said
    assert "choose another corpus, or a data.fallback such as tinyworld" in said
    assert "\n" not in said
    with pytest.raises(UserError, match=r"oasst1/\{train\.jsonl,validation\.jsonl\}.*such as tinyworld-chat"):
        open_chat("oasst1", fallback=None)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_offline_mode_is_respected(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(hub, "probe", lambda url, seconds: pytest.fail("the hub was asked"))
    with pytest.raises(UserError, match=f"the hub was not asked, as {variable} is set"):
        open_text("wikitext-2", fallback=None)


def test_the_cache_is_where_datasets_keeps_it(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "hf" / "datasets"
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("HF_DATASETS_CACHE")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "huggingface" / "datasets"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (URLError(OSError(-2, "Name or service not known")), "Name or service not known"),
        (URLError("unknown url type"), "unknown url type"),
        (TimeoutError("timed out"), "timed out"),
        (HTTPError("http://hub", 403, "forbidden", None, None), "HTTP 403"),  # pyright: ignore[reportArgumentType]
        (HTTPError("http://hub", 401, "unauthorized", None, None), None),  # pyright: ignore[reportArgumentType]
    ],
)
def test_the_probe_says_why_a_server_does_not_answer(monkeypatch, error, outcome):
    def fail(request, timeout):
        assert request.get_method() == "HEAD"
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    assert probe("http://hub", 5.0) == outcome


def test_the_probe_does_not_wait_for_a_name_server_that_hangs(monkeypatch):
    answer = threading.Event()

    def hang(request, timeout):
        answer.wait(60)
        raise URLError("too late")

    monkeypatch.setattr(urllib.request, "urlopen", hang)
    assert probe("http://hub", 0.01) == "no answer within 0.01 s"
    answer.set()
