"""Files and folders of one's own: splits, what is held out, and one clear line for each mistake."""

import gzip
import json
import lzma
import re

import pytest

from jaxgpt.errors import UserError
from jaxgpt.text.corpora import held_out, open_chat, open_text
from jaxgpt.text.corpora.local import find_conversations, find_text


def load_lines(path):
    """The lines of each split, and the notes."""
    _, _, read = find_text(path)
    splits = read()
    lines = {
        split: [line for piece in documents() for line in piece.text.split("\n")]
        for split, documents in splits.documents.items()
    }
    return lines, splits.notes


def load_conversations(path):
    """The conversations of each split, and the notes."""
    _, _, read = find_conversations(path)
    splits = read()
    return {split: list(documents()) for split, documents in splits.documents.items()}, splits.notes


def chat(number):
    return [
        {"role": "user", "content": f"question {number}"},
        {"role": "assistant", "content": f"answer {number}"},
    ]


def write_chats(path, chats):
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats), encoding="utf-8")
    return path


def write_parquet(monkeypatch, path, rows):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", path.parent / "cache")
    datasets.Dataset.from_list(rows).to_parquet(path)
    return path


# Text


def test_one_file_is_cut_into_blocks_in_its_order(tmp_path):
    file = tmp_path / "book.txt"
    lines = [f"line {number}" for number in range(100)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    splits, notes = load_lines(file)
    assert splits == {"train": lines[:90], "valid": lines[90:95], "test": lines[95:]}
    assert notes == ["one file: 90 % train, 5 % valid, 5 % test, blocks of lines in the file's order"]


def test_two_lines_are_too_few_to_hold_any_out(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text("one\ntwo", encoding="utf-8")
    splits, notes = load_lines(file)
    assert splits == {"train": ["one", "two"]}
    assert notes == ["one file with too few lines to hold any out: all of it is train"]


def test_only_newlines_end_lines_and_blank_lines_stay(tmp_path):
    file = tmp_path / "book.txt"
    file.write_bytes("\ufeffone\u2028still one\r\n\r\n three\x0c \n".encode())
    assert load_lines(file)[0] == {"train": ["one\u2028still one"], "valid": [""], "test": [" three\x0c "]}


@pytest.mark.parametrize("names", [("train.txt", "val.txt", "test.txt"), ("wiki.train.tokens", "wiki.valid.tokens")])
def test_a_folder_has_a_file_for_each_split(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text(f"{name}\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("about\n", encoding="utf-8")
    (tmp_path / "extra.jsonl").write_text("{}\n", encoding="utf-8")
    splits, notes = load_lines(tmp_path)
    assert splits == {split: [name] for split, name in zip(("train", "valid", "test"), names, strict=False)}
    assert notes == [
        "not read, as there is text beside them and they may hold conversations: extra.jsonl",
        "not read, as their names say no split: notes.txt",
    ]


def test_parts_of_a_split_are_joined_in_the_order_of_their_names(tmp_path):
    for name in ("train-00001-of-00002.txt", "train-00000-of-00002.txt", "validation.txt"):
        (tmp_path / name).write_text(f"{name}\n", encoding="utf-8")
    assert load_lines(tmp_path)[0]["train"] == ["train-00000-of-00002.txt", "train-00001-of-00002.txt"]


def test_without_valid_the_end_of_train_is_held_out(tmp_path):
    lines = [f"line {number}" for number in range(40)]
    (tmp_path / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "test.txt").write_text("test\n", encoding="utf-8")
    splits, notes = load_lines(tmp_path)
    assert splits == {"train": lines[:38], "valid": lines[38:], "test": ["test"]}
    assert notes == ["no file for valid: 5 % of train is held out as valid, blocks of lines in the file's order"]


def test_the_same_files_as_other_splits_are_another_corpus(tmp_path):
    """What is kept of one must not be taken for the other: which split a file is depends on the folder given."""
    inner = tmp_path / "train"
    inner.mkdir()
    for name in ("a.txt", "b.txt"):
        (inner / name).write_text(f"{name}\n" * 40, encoding="utf-8")
    of_all, of_inner = open_text(str(tmp_path), None), open_text(str(inner), None)
    assert set(of_all.read().documents) != set(of_inner.read().documents)
    assert of_all.identity != of_inner.identity


def test_what_is_not_read_is_told_as_it_is_now(tmp_path):
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_text(f"{name}\n", encoding="utf-8")
    before = open_text(str(tmp_path), None).identity
    (tmp_path / "notes.txt").write_text("about\n", encoding="utf-8")
    assert open_text(str(tmp_path), None).identity != before
    (tmp_path / "notes.txt").unlink()
    assert open_text(str(tmp_path), None).identity == before


def test_a_folder_with_one_file_is_that_file(tmp_path):
    file = tmp_path / "input.txt"
    file.write_text("\n".join(map(str, range(20))), encoding="utf-8")
    assert load_lines(tmp_path) == load_lines(file)


def test_text_from_parquet(tmp_path, monkeypatch):
    file = write_parquet(monkeypatch, tmp_path / "x.parquet", [{"text": "a\nb\n"}, {"text": ""}, {"text": "c"}])
    splits, notes = load_lines(file)
    assert sorted(part for split in splits.values() for part in ["\n".join(split)]) == ["", "a\nb", "c"]
    assert notes == [
        "one file: 90 % train, 5 % valid, 5 % test, counted in whole documents, chosen by a hash of how they begin"
    ]


def test_a_text_corpus_says_what_it_is(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text("\n".join(map(str, range(20))), encoding="utf-8")
    corpus = open_text(str(file), fallback=None)
    splits = corpus.read()
    assert (corpus.name, corpus.source, splits.floor, corpus.fallback_for) == ("book.txt", "files", None, None)
    assert splits.documents.keys() == {"train", "valid", "test"}


def test_one_long_line_is_held_out_by_its_words(tmp_path):
    """text8 is such a file."""
    words = [f"w{number}" for number in range(1_000)]
    (tmp_path / "text8").write_text(" ".join(words), encoding="utf-8")
    splits, _ = load_lines(tmp_path / "text8")
    assert [len(part) for part in splits.values()] == [1, 1, 1]
    assert [len(part[0].split()) for part in splits.values()] == [900, 50, 50]
    assert " ".join(part[0] for part in splits.values()).split() == words


def test_what_is_held_out_of_a_large_text_is_limited(tmp_path, monkeypatch):
    lines = [f"line {number}" for number in range(1_000)]
    (tmp_path / "book.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr(held_out, "MOST_HELD_OUT", 30)
    splits, _ = load_lines(tmp_path / "book.txt")
    assert splits == {"train": lines[:980], "valid": lines[980:990], "test": lines[990:]}


def test_the_identity_is_of_places_sizes_and_times(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo", encoding="utf-8")
    size, first, _ = find_text(tmp_path / "a.txt")
    assert size == 7
    assert first == find_text(tmp_path / "a.txt")[1]
    (tmp_path / "a.txt").write_text("one\ntwo three", encoding="utf-8")
    assert first != find_text(tmp_path / "a.txt")[1]


def test_blocks_are_of_words_not_of_lines(tmp_path):
    """Ten long lines after ninety short ones: the last five lines would be half of the text."""
    lines = ["a b"] * 90 + ["c " * 30] * 10
    (tmp_path / "book.txt").write_text("\n".join(lines), encoding="utf-8")
    splits, _ = load_lines(tmp_path / "book.txt")
    assert {split: len(part) for split, part in splits.items()} == {"train": 98, "valid": 1, "test": 1}


def test_what_is_not_read_is_named_and_why(tmp_path):
    for name in ("train.txt", "valid.txt", "notes.txt", ".hidden"):
        (tmp_path / name).write_text("a b\n" * 9, encoding="utf-8")
    (tmp_path / "train-2.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "train.txt.xz").write_bytes(lzma.compress(b"a b\n"))
    _, notes = load_lines(tmp_path)
    told = "\n".join(notes)
    for name in ("notes.txt", ".hidden", "train-2.jsonl", "train.txt.xz"):
        assert re.search(rf"^not read, as .*[ :]{re.escape(name)}(,|$)", told, re.MULTILINE), (name, told)
    assert "they may hold conversations: train-2.jsonl" in told
    assert "compressed (unpack them first): train.txt.xz" in told


def test_conversations_beside_other_files_are_named_too(tmp_path):
    write_chats(tmp_path / "train.jsonl", [chat(number) for number in range(40)])
    (tmp_path / "more.txt").write_text("a\n")
    _, notes = load_conversations(tmp_path)
    assert notes[0] == "not read, as they hold no conversations (.jsonl, .json, .parquet): more.txt"


def test_a_compressed_file_is_called_one(tmp_path):
    (tmp_path / "book.txt.xz").write_bytes(lzma.compress(b"a b\n"))
    with pytest.raises(UserError, match=r"book\.txt\.xz: a compressed file; unpack it first"):
        load_lines(tmp_path / "book.txt.xz")


# Conversations


def test_conversations_are_held_out_by_their_content(tmp_path):
    chats = [chat(number) for number in range(100)]
    splits, notes = load_conversations(write_chats(tmp_path / "a.jsonl", chats))
    assert {split: len(part) for split, part in splits.items()} == {"train": 90, "valid": 5, "test": 5}
    assert sorted(str(entry) for part in splits.values() for entry in part) == sorted(map(str, chats))
    assert notes == ["one file: 90 % train, 5 % valid, 5 % test, chosen by a hash of their content"]

    turned, _ = load_conversations(write_chats(tmp_path / "b.json", chats[::-1]))
    assert {split: part[::-1] for split, part in turned.items()} == splits


def test_packed_conversations_are_read(tmp_path):
    file = write_chats(tmp_path / "a.jsonl", [chat(number) for number in range(100)])
    splits, _ = load_conversations(file)
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    assert load_conversations(packed)[0] == load_conversations(tmp_path)[0] == splits


def test_a_repeated_conversation_is_in_one_split_only(tmp_path):
    splits, _ = load_conversations(write_chats(tmp_path / "a.jsonl", [chat(n) for n in range(10)] * 3))
    contents = [{part[0]["content"] for part in splits[split]} for split in ("train", "valid", "test")]
    assert [len(content) for content in contents] == [8, 1, 1]
    assert len(set.union(*contents)) == 10


def test_a_folder_of_conversations(tmp_path):
    chats = [chat(number) for number in range(40)]
    write_chats(tmp_path / "train.jsonl", chats)
    write_chats(tmp_path / "test.jsonl", [chat("t")])
    splits, notes = load_conversations(tmp_path)
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [38, 2, 1]
    assert notes == ["no file for valid: 5 % of train is held out as valid, chosen by a hash of their content"]


def test_keys_of_no_use_are_dropped_and_blank_lines_skipped(tmp_path):
    messages = [
        {"role": "system", "content": "Be kind.", "name": "x"},
        {"role": "user", "content": "Hi\u2028"},
        {"role": "assistant", "content": "Hi"},
    ]
    line = json.dumps({"id": 1, "messages": messages}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_text(f"\n{line}\n\n", encoding="utf-8")
    splits, _ = load_conversations(tmp_path / "a.jsonl")
    assert splits["train"] == [[{"role": "system", "content": "Be kind."}, *messages[1:]]]


def test_conversations_from_parquet(tmp_path, monkeypatch):
    file = write_parquet(monkeypatch, tmp_path / "x.parquet", [{"messages": chat(1)}, {"messages": chat(2)}])
    splits = open_chat(str(file), fallback=None).read()
    assert {split: list(documents()) for split, documents in splits.documents.items()} == {"train": [chat(1), chat(2)]}
    assert splits.exact is None


# Bad input


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"the file is empty"),
        (b" \n\n", r"the file is empty"),
        (b"one\ntw\xff\n", r"book\.txt: not UTF-8 \(byte 0xff at offset 6, line 2\); save the file as UTF-8"),
    ],
)
def test_text_that_cannot_be_read(tmp_path, content, says):
    (tmp_path / "book.txt").write_bytes(content)
    with pytest.raises(UserError, match=says):
        load_lines(tmp_path / "book.txt")


GOOD = json.dumps({"messages": chat(1)})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"messages": [}', r"a\.jsonl, line 2: not JSON \(Expecting value, column 15\)"),
        ("[1]", r"a\.jsonl, line 2: a list was given; each line must be one JSON object"),
        ('{"text": "a"}', r"a\.jsonl, line 2: no \"messages\"; it has 'text', and must be"),
        ('{"messages": "a"}', r'line 2: "messages" is a string; it must be a list'),
        ('{"messages": ["a"]}', r"line 2: message 1: role is missing and content is missing"),
        ('{"messages": [{"role": "user"}]}', r"line 2: message 1: content is missing"),
        ('{"messages": [{"content": "a"}]}', r"line 2: message 1: role is missing; it must"),
        ('{"messages": [{"role": "user", "content": null}]}', r"line 2: message 1: content is null"),
        ('{"messages": [{"role": "assistant", "content": "\\n"}]}', r"line 2: message 1, an answer, is empty"),
        (
            '{"messages": [{"role": "prompter", "content": "a"}]}',
            r"line 2: message 1 has unknown role 'prompter'; allowed: system, user, assistant",
        ),
        ('{"messages": []}', r"line 2: no message of the assistant"),
        (f'{{"messages": {"9" * 5_000}}}', r"a\.jsonl, line 2: JSON that cannot be read \(Exceeds the limit"),
        ("[" * 100_000, r"a\.jsonl, line 2: JSON that cannot be read \(brackets are nested too deeply\)"),
        ('{"messages": [{"role": "%s", "content": "a"}]}' % ("r" * 9_999), r"unknown role 'rrr.{,100}; allowed"),
        ('{"messages": [{"role": "user", "content": "a"}]}', r"line 2: no message of the assistant"),
    ],
)
def test_conversations_that_cannot_be_read(tmp_path, line, says):
    (tmp_path / "a.jsonl").write_text(f"{GOOD}\n{line}\n{GOOD}\n", encoding="utf-8")
    with pytest.raises(UserError, match=says) as raised:
        load_conversations(tmp_path / "a.jsonl")
    assert "\n" not in str(raised.value)


def test_parquet_that_cannot_be_read(tmp_path, monkeypatch):
    file = write_parquet(monkeypatch, tmp_path / "x.parquet", [{"words": "a", "text": 3}])
    with pytest.raises(UserError, match=r"x\.parquet: no column 'messages'; it has 'words', 'text'"):
        load_conversations(file)
    with pytest.raises(UserError, match=r"x\.parquet, row 1: text is a number; it must be a string"):
        load_lines(file)
    file.write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"x\.parquet: cannot be read as parquet \(.+\)") as raised:
        load_lines(file)
    assert "\n" not in str(raised.value)


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"no file in it to read lines from"):
        load_lines(tmp_path)
    with pytest.raises(
        UserError,
        match=r"no file in it to read conversations from \(\.jsonl, \.json, \.parquet, and ",
    ):
        load_conversations(tmp_path)
    (tmp_path / "a.txt").write_text("a\n", encoding="utf-8")
    (tmp_path / "test.txt").write_text("b\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no train\.\* among its files \(a\.txt, test\.txt\)"):
        load_lines(tmp_path)


def test_text_for_finetuning_and_conversations_for_training(tmp_path):
    (tmp_path / "a.txt").write_text("a\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"finetune\.py reads conversations from .*; text is for train\.py"):
        open_chat(str(tmp_path / "a.txt"), fallback=None)
    with pytest.raises(UserError, match=r"a\.jsonl, line 1: no 'text'; it has 'messages'; .*for finetune\.py"):
        load_lines(write_chats(tmp_path / "a.jsonl", [chat(1)]))
