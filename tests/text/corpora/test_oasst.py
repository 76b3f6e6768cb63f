"""OpenAssistant trees: which path is taken, what is left out, and that it is counted."""

import json

import pytest

from jaxgpt.errors import UserError
from jaxgpt.text.corpora.documents import in_memory
from jaxgpt.text.corpora.oasst import OASST1, conversation_splits, conversations, read_messages


def message(name, parent, tree="t", **columns):
    """A row whose role follows from its depth: names are paths, as "t.a.b", and texts are names."""
    role = "prompter" if name.count(".") % 2 == 0 else "assistant"
    row = {"message_id": name, "parent_id": parent, "message_tree_id": tree, "role": role, "text": name}
    return {**row, "rank": None, "lang": "en", "deleted": False, "tree_state": "ready_for_export", **columns}


#   t ── t.a (rank 1) ── t.a.x ── t.a.x.y
#     ├─ t.b (rank 0) ── t.b.p ── t.b.p.r
#     │               └─ t.b.q
#     └─ t.c (no rank)
TREE = [
    message("t", None),
    message("t.c", "t"),
    message("t.a", "t", rank=1),
    message("t.b", "t", rank=0),
    message("t.a.x", "t.a"),
    message("t.b.q", "t.b"),
    message("t.b.p", "t.b"),
    message("t.a.x.y", "t.a.x", rank=0),
    message("t.b.p.r", "t.b.p", rank=0),
]


def texts(found):
    return [[turn["content"] for turn in conversation] for conversation in found]


def without(rows, *columns):
    return [{key: value for key, value in row.items() if key not in columns} for row in rows]


def test_the_best_ranked_path_is_taken_and_ties_go_by_message_id():
    found, notes = conversations(TREE, all_paths=False)
    assert found == [
        [
            {"role": "user", "content": "t"},
            {"role": "assistant", "content": "t.b"},
            {"role": "user", "content": "t.b.p"},
            {"role": "assistant", "content": "t.b.p.r"},
        ]
    ]
    assert notes == []


def test_the_order_of_the_rows_does_not_matter():
    assert conversations(reversed(TREE), all_paths=True) == conversations(TREE, all_paths=True)


def test_all_paths_go_to_every_leaf_and_none_begins_another():
    found, _ = conversations(TREE, all_paths=True)
    # t, t.b, t.b.q ends with the user; without that turn it would only repeat the beginning of the first.
    assert texts(found) == [["t", "t.b", "t.b.p", "t.b.p.r"], ["t", "t.a", "t.a.x", "t.a.x.y"], ["t", "t.c"]]


def test_two_unanswered_turns_after_one_answer_give_it_once():
    rows = [message("t", None), message("t.a", "t"), message("t.a.p", "t.a"), message("t.a.q", "t.a")]
    assert texts(conversations(rows, all_paths=True)[0]) == [["t", "t.a"]]


def test_a_missing_rank_is_last():
    rows = [message("t", None), message("t.a", "t"), message("t.b", "t", rank=3)]
    assert texts(conversations(rows, all_paths=False)[0]) == [["t", "t.b"]]


def test_a_trailing_user_turn_is_dropped():
    rows = [message("t", None), message("t.a", "t"), message("t.a.b", "t.a")]
    assert texts(conversations(rows, all_paths=False)[0]) == [["t", "t.a"]]


def test_a_tree_without_an_answer_is_left_out_and_counted():
    rows = [message("t", None), message("u", None, tree="u"), message("u.a", "u", tree="u")]
    found, notes = conversations(rows, all_paths=False)
    assert texts(found) == [["u", "u.a"]]
    assert notes == ["1 of 2 trees left out: no answer in them"]


def test_a_deleted_answer_gives_way_to_the_next():
    rows = [row if row["message_id"] != "t.b" else {**row, "deleted": True} for row in TREE]
    found, notes = conversations(rows, all_paths=False)
    assert texts(found) == [["t", "t.a", "t.a.x", "t.a.x.y"]]
    assert notes == [
        "1 messages left out: deleted",
        "3 orphan messages left out: what they reply to is not there",
    ]


def test_orphans_are_left_out_with_all_that_hangs_below_them():
    rows = [*TREE, message("o.a", "o"), message("o.a.b", "o.a"), message("o.a.b.c", "o.a.b")]
    found, notes = conversations(rows, all_paths=True)
    assert len(found) == 3
    assert notes == ["3 orphan messages left out: what they reply to is not there"]


def test_other_languages_and_unready_trees_are_left_out():
    rows = [
        *TREE,
        message("u", None, tree="u", lang="de"),
        message("v", None, tree="v", tree_state="growing"),
        message("w", None, tree="w", tree_state=None),
    ]
    found, notes = conversations(rows, all_paths=False)
    assert len(found) == 1
    assert notes == [
        "1 messages left out: not in English",
        "2 messages left out: in trees not ready for export",
    ]


def test_a_column_that_is_not_there_filters_nothing_and_is_named():
    rows = without(TREE, "rank", "lang", "deleted", "tree_state")
    found, notes = conversations(rows, all_paths=False)
    assert texts(found) == [["t", "t.a", "t.a.x", "t.a.x.y"]]  # no ranks: by message id
    assert notes == [f"no column '{name}': no message left out by it" for name in ("lang", "deleted", "tree_state")]


def test_a_tree_is_never_in_both_splits():
    shared = [message("s", None, tree="s"), message("s.a", "s", tree="s")]
    splits, notes = conversation_splits(
        {"train": in_memory([*TREE, *shared]), "valid": in_memory(shared[:1])}, all_paths=False
    )
    assert texts(splits["train"]) == [["t", "t.b", "t.b.p", "t.b.p.r"]]
    assert splits["valid"] == []
    assert notes == [
        "train: 2 messages left out, as their trees are in valid too",
        "valid: 1 of 1 trees left out: no answer in them",
    ]


def test_rows_are_read_from_json_lines(tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in TREE), encoding="utf-8")
    assert list(OASST1.read_file(file)) == TREE


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            without(TREE[:1], "parent_id", "text")[0],
            "train.jsonl, line 2: no parent_id, text; a message of oasst1",
        ),
        (
            {**TREE[0], "role": "user"},
            "train.jsonl, line 2: unknown role 'user'; oasst1 has prompter and assistant",
        ),
        ({**TREE[0], "text": None}, "train.jsonl, line 2: text is null; it must be a string"),
    ],
)
def test_a_row_that_is_no_message_is_named_by_file_and_line(tmp_path, row, says):
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps(TREE[0]) + "\n" + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=says):
        list(OASST1.read_file(file))


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 5, True])
@pytest.mark.parametrize("column", ["message_id", "parent_id", "message_tree_id", "role", "text"])
def test_a_value_of_another_type_is_named_with_its_line(tmp_path, column, value):
    file = tmp_path / "train.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in (message("t", None), message("u", "t") | {column: value})))
    with pytest.raises(UserError, match=rf"train\.jsonl, line 2: .*{column}"):
        list(read_messages(file))


@pytest.mark.parametrize("column", ["message_id", "rank"])
def test_a_rank_or_name_that_cannot_be_compared_is_refused(tmp_path, column):
    """A message without a name would be its own answer, for ever."""
    file = tmp_path / "train.jsonl"
    row = message("t", None) | ({"message_id": None} if column == "message_id" else {"rank": "first"})
    file.write_text(json.dumps(row))
    with pytest.raises(UserError, match=rf"line 1: {column} is "):
        list(read_messages(file))
