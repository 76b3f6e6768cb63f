"""OpenAssistant Conversations: from trees of ranked messages to conversations (Köpf et al., 2023)."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from jaxgpt.errors import UserError, kind_in_json, shown
from jaxgpt.text.corpora.documents import Conversation, Pair, Reader
from jaxgpt.text.corpora.files import read_json_lines
from jaxgpt.text.corpora.hub import HubCorpus, Row

Made = TypeVar("Made", Conversation, Pair)

OUR_ROLE = {"prompter": "user", "assistant": "assistant"}

# A conversation is made of these, so a row must have them. The others only filter or rank: where a file
# lacks such a column altogether, nothing is filtered or ranked by it.
REQUIRED = ("message_id", "parent_id", "message_tree_id", "role", "text")
OPTIONAL = ("rank", "lang", "deleted", "tree_state")

# What would be compared, or looked up, must be of a kind that can be.
TYPES = (
    *((column, str, "a string") for column in ("message_id", "message_tree_id", "text")),
    ("parent_id", str | None, "a string or null"),
    ("rank", int | float | None, "a number or null"),
)


def read_messages(path: Path) -> Iterator[Row]:
    """Yields the rows of a file of the dataset, one message per line.

    Raises UserError, with file and line, for a row that is no message.
    """
    for place, row in read_json_lines(path):
        missing = [column for column in REQUIRED if column not in row]
        if missing:
            raise UserError(f"{place}: no {', '.join(missing)}; a message of oasst1 has {', '.join(REQUIRED)}")
        for column, types, allowed in TYPES:
            if not isinstance(row.get(column), types):
                found = kind_in_json(row[column])
                raise UserError(f"{place}: {column} is {found}; it must be {allowed}")
        if row["role"] not in tuple(OUR_ROLE):
            raise UserError(f"{place}: unknown role {shown(row['role'])}; oasst1 has {' and '.join(OUR_ROLE)}")
        yield row


OASST1 = HubCorpus(
    name="oasst1",
    repository="OpenAssistant/oasst1",
    config="default",
    columns=REQUIRED + OPTIONAL,
    hub_splits={"train": "train", "valid": "validation"},
    files={"train": "train.jsonl", "valid": "validation.jsonl"},
    read_file=read_messages,
    read_rows=iter,
)


def pair_splits(rows: dict[str, Reader]) -> tuple[dict[str, list[Pair]], list[str]]:
    """Returns the pairs of "train" and "valid", no tree in both, and notes on what was left out."""
    return _tree_splits(rows, pairs)


def conversation_splits(rows: dict[str, Reader], all_paths: bool) -> tuple[dict[str, list[Conversation]], list[str]]:
    """Returns the conversations of "train" and "valid", no tree in both, and notes on what was left out."""
    return _tree_splits(rows, lambda split_rows: conversations(split_rows, all_paths))


def _tree_splits(
    rows: dict[str, Reader], made_of: Callable[[Iterable[Row]], tuple[list[Made], list[str]]]
) -> tuple[dict[str, list[Made]], list[str]]:
    """Returns what is made of the trees of "train" and "valid", no tree in both, and notes on what was left out.

    All messages are held in memory: those of a tree may stand anywhere in a file.
    """
    valid_rows, every_row = list(rows["valid"]()), list(rows["train"]())
    held_out = {row["message_tree_id"] for row in valid_rows}
    train_rows = [row for row in every_row if row["message_tree_id"] not in held_out]
    shared = len(every_row) - len(train_rows)
    notes = [f"train: {shared:,} messages left out, as their trees are in valid too"] if shared else []
    splits = {}
    for split, split_rows in (("train", train_rows), ("valid", valid_rows)):
        splits[split], split_notes = made_of(split_rows)
        notes += [f"{split}: {note}" for note in split_notes]
    return splits, notes


def conversations(rows: Iterable[Row], all_paths: bool) -> tuple[list[Conversation], list[str]]:
    """Returns the conversations of message trees, in the order of their roots, and notes on the rest.

    A tree gives its best-ranked path (rank 0 is best, no rank is last, ties go by message id) or, with
    `all_paths`, every path from root to leaf. A path ends with its last answer; one without gives none.
    """
    kept, notes = _fit({row["message_id"]: row for row in rows})
    replies = _replies(kept)

    # Roots keep the order of the rows, whatever their rank; replies are walked best first.
    roots = [row for row in kept.values() if row["parent_id"] is None]
    reached, found, silent = 0, [], 0
    for root in roots:
        paths = _paths(root, replies)
        reached += len({row["message_id"] for path in paths for row in path})
        answered = _answered(paths if all_paths else paths[:1])
        found += [[{"role": OUR_ROLE[row["role"]], "content": row["text"]} for row in path] for path in answered]
        silent += not answered
    if reached < len(kept):
        notes.append(f"{len(kept) - reached:,} orphan messages left out: what they reply to is not there")
    if silent:
        notes.append(f"{silent:,} of {len(roots):,} trees left out: no answer in them")
    return found, notes


def pairs(rows: Iterable[Row]) -> tuple[list[Pair], list[str]]:
    """Returns the best-ranked answer beside each that people ranked lower, after all that was said, and notes.

    Answers without a rank are in no pair, and neither are equal texts.
    """
    kept, notes = _fit({row["message_id"]: row for row in rows})
    found, asked = [], 0
    for parent, siblings in _replies(kept).items():
        ranked = [row for row in siblings if row["role"] == "assistant" and row.get("rank") is not None]
        prompt = _path_to(parent, kept)
        if len(ranked) < 2 or prompt is None:
            continue
        asked += 1
        best, *others = ranked
        found += [
            Pair(prompt, best["text"], other["text"])
            for other in others
            if other["rank"] > best["rank"] and other["text"].strip() != best["text"].strip()
        ]
    return found, [*notes, f"{len(found):,} pairs of {asked:,} prompts whose answers were ranked"]


def _path_to(name: str | None, kept: dict[str, Row]) -> Conversation | None:
    """Returns the messages from a tree's root to this one; None where one is missing, or it is not the user's."""
    path: Conversation = []
    while name is not None:
        row = kept.get(name)
        if row is None or (not path and OUR_ROLE[row["role"]] != "user"):
            return None
        path.append({"role": OUR_ROLE[row["role"]], "content": row["text"]})
        name = row["parent_id"]
    return path[::-1] or None


def _replies(kept: dict[str, Row]) -> dict[str | None, list[Row]]:
    """Returns the replies to each message, best first."""
    replies: dict[str | None, list[Row]] = defaultdict(list)
    for row in kept.values():
        replies[row["parent_id"]].append(row)
    for siblings in replies.values():
        siblings.sort(key=_by_rank)
    return replies


def _fit(rows: dict[str, Row]) -> tuple[dict[str, Row], list[str]]:
    """Returns the messages fit for training, by id, and a note for each kind left out."""
    notes = []
    for column, fault, fits in (
        ("lang", "not in English", lambda value: value == "en"),
        ("deleted", "deleted", lambda value: not value),
        ("tree_state", "in trees not ready for export", lambda value: value == "ready_for_export"),
    ):
        if not any(column in row for row in rows.values()):
            notes.append(f"no column {column!r}: no message left out by it")
            continue
        fit = {name: row for name, row in rows.items() if fits(row.get(column))}
        if len(fit) < len(rows):
            notes.append(f"{len(rows) - len(fit):,} messages left out: {fault}")
        rows = fit
    return rows, notes


def _by_rank(row: Row) -> tuple[bool, int, str]:
    rank = row.get("rank")
    return rank is None, 0 if rank is None else rank, row["message_id"]


def _paths(root: Row, replies: dict[str | None, list[Row]]) -> list[list[Row]]:
    """Returns every path from the root to a leaf, first the one that takes the best reply at every turn."""
    done, open_paths = [], [[root]]
    while open_paths:
        path = open_paths.pop()
        further = replies.get(path[-1]["message_id"], [])
        open_paths += [[*path, reply] for reply in reversed(further)]
        if not further:
            done.append(path)
    return done


def _answered(paths: list[list[Row]]) -> list[list[Row]]:
    """Returns the paths cut after their last answer, without empty ones and those that begin another."""
    cut = {}
    for path in paths:
        while path and path[-1]["role"] != "assistant":
            path = path[:-1]
        if path:
            cut[path[-1]["message_id"]] = path
    inner = {row["message_id"] for path in cut.values() for row in path[:-1]}
    return [path for last, path in cut.items() if last not in inner]
