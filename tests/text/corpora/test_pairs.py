"""Pairs of answers: what a file must hold, what is held out, what ranked replies become, and how rows have them."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxgpt.config import DataConfig
from jaxgpt.data.batch import BRANCHES
from jaxgpt.data.encode_pairs import encode_pairs
from jaxgpt.errors import UserError
from jaxgpt.text.conversation import render
from jaxgpt.text.corpora import Pair, Splits, open_pairs
from jaxgpt.text.corpora.documents import in_memory
from jaxgpt.text.corpora.oasst import pair_splits, pairs
from jaxgpt.text.corpora.pairs import read_pairs, write_pairs
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer
from tests.text.corpora.test_oasst import TREE, message

PROMPT = [{"role": "user", "content": "w0 w1"}]
TOKENIZER = WordTokenizer((*SPECIAL, *(f"w{i}" for i in range(9))))


def test_what_is_written_is_read(tmp_path):
    made = [
        Pair(PROMPT, "w2", "w3"),
        Pair([*PROMPT, {"role": "assistant", "content": "\u2028"}, *PROMPT], "w2", "\ud800"),
    ]
    assert write_pairs(tmp_path / "a.jsonl", made[:1]) == 1
    assert list(read_pairs(tmp_path / "a.jsonl")) == made[:1]


def test_a_prompt_may_be_a_text(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "w0 w1", "chosen": "w2", "rejected": "w3", "score": 1}))
    assert list(read_pairs(tmp_path / "a.jsonl")) == [Pair(PROMPT, "w2", "w3")]


GOOD = {"prompt": PROMPT, "chosen": "w2", "rejected": "w3"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"prompt": PROMPT, "rejected": "w3"},
            r'line 2: no chosen; it has .prompt., .rejected., and must be \{"prompt"',
        ),
        ({"messages": PROMPT}, r"line 2: no prompt and no chosen and no rejected; it has .messages."),
        (GOOD | {"chosen": "w3 "}, r"line 2: chosen and rejected are the same, .w3 .; nothing is to be learned"),
        (GOOD | {"chosen": 1}, r"line 2: chosen is a number; it must be the text of an answer"),
        (GOOD | {"chosen": " "}, r"line 2: chosen is empty"),
        (GOOD | {"prompt": []}, r"line 2: the prompt does not end with a message of the user"),
        (GOOD | {"prompt": {"role": "user"}}, r'line 2: "prompt" is an object; it must be a list of messages'),
        (GOOD | {"prompt": [{"role": "user"}]}, r"line 2: message 1: content is missing"),
        (GOOD | {"prompt": [{"role": "bot", "content": ""}]}, r"line 2: message 1 has unknown role .bot."),
    ],
)
def test_what_is_no_pair_is_named_by_its_line(tmp_path, given, says):
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(GOOD)}\n{json.dumps(given)}\n")
    with pytest.raises(UserError, match=says):
        list(read_pairs(tmp_path / "a.jsonl"))


def test_pairs_of_a_prompt_are_held_out_together(tmp_path):
    made = [Pair([{"role": "user", "content": f"q{n}"}], "good", f"bad {i}") for n in range(20) for i in range(3)]
    write_pairs(tmp_path / "a.jsonl", made)
    splits = open_pairs(str(tmp_path / "a.jsonl"), None).read()
    asked = [{pair.prompt[0]["content"] for pair in read()} for read in splits.documents.values()]
    assert [len(part) for part in asked] == [18, 1, 1]
    assert len(set.union(*asked)) == 20


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tinyworld-chat", "tinyworld-chat holds conversations, which finetune.py reads"),
        ("tinyworld", "tinyworld holds text, which train.py reads"),
        ("oasst1-pair", "perhaps you meant oasst1-pairs"),
        ("hub:a/b", "names text, which train.py reads"),
    ],
)
def test_names_of_something_else(name, says):
    with pytest.raises(UserError, match=says):
        open_pairs(name, None)


def test_pairs_that_cannot_be_had_name_no_stand_in_of_another_kind(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXGPT_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"or choose another corpus$"):
        open_pairs("oasst1-pairs", None)


def test_ranked_replies_become_pairs_after_all_that_was_said():
    found, notes = pairs(
        [*TREE, message("t.b.p.s", "t.b.p", rank=2), message("t.b.p.u", "t.b.p", text="t.b.p.r", rank=1)]
    )
    assert [(pair.prompt[-1]["content"], pair.chosen, pair.rejected) for pair in found] == [
        ("t", "t.b", "t.a"),
        ("t.b.p", "t.b.p.r", "t.b.p.s"),  # the one that says the same as the best is in no pair
    ]
    assert [turn["content"] for turn in found[1].prompt] == ["t", "t.b", "t.b.p"]
    assert notes == ["2 pairs of 2 prompts whose answers were ranked"]


def test_pairs_are_split_by_tree():
    rows = {
        "train": in_memory([*TREE, message("v", None, tree="v")]),
        "valid": in_memory([message("v", None, tree="v")]),
    }
    splits, notes = pair_splits(rows)
    assert [len(splits[split]) for split in ("train", "valid")] == [1, 0]
    assert "train: 1 messages left out, as their trees are in valid too" in notes


def encoded(tmp_path: Path, made: list[Pair], seq_len: int) -> tuple[np.ndarray, dict]:
    facts = encode_pairs(
        tmp_path, "mine", Splits({"train": in_memory(made)}, []), DataConfig(seq_len=seq_len), TOKENIZER
    )
    return np.load(tmp_path / "train.npy"), facts["splits"]["train"]


def test_a_prompt_stands_once_in_a_row_and_both_answers_go_on_from_it(tmp_path):
    rows, counts = encoded(tmp_path, [Pair(PROMPT, "w2", "w3 w4")], 32)
    tokens, targets, weights, segments, positions = rows[0]
    for branch, answer in ((1, "w2"), (2, "w3 w4")):
        here = (segments == BRANCHES) | (segments == BRANCHES + branch)
        ids, mask = render([*PROMPT, {"role": "assistant", "content": answer}], TOKENIZER)
        assert tokens[here].tolist() == ids[:-1]
        assert targets[here].tolist() == ids[1:]
        assert weights[here].tolist() == mask[1:]
        assert positions[here].tolist() == list(range(len(ids) - 1))
    assert not weights[segments == 0].any()
    assert counts["kept"] == 1
    assert counts["supervised"] == 5


def test_answers_of_the_prompt_itself_do_not_count_and_oldest_exchanges_go(tmp_path):
    long = [{"role": "user", "content": "w5 " * 9}, {"role": "assistant", "content": "w6 " * 9}, *PROMPT]
    rows, counts = encoded(tmp_path, [Pair(long, "w2", "w3")], 64)
    assert rows[0][2].sum() == 4  # two answers of a word and an end
    short, counts = encoded(tmp_path, [Pair(long, "w2", "w3")], 32)
    assert counts["cut"] == 1
    assert 5 not in short[0][0] - TOKENIZER.encode("w0")[0]
    with pytest.raises(UserError, match=r"data\.seq_len: no pair of mine fits"):
        encoded(tmp_path, [Pair(PROMPT, "w2 " * 20, "w3")], 32)
