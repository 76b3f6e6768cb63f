"""Pairs of a better and a worse answer to the same messages, as a file has them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxgpt.errors import UserError, kind_in_json, shown
from jaxgpt.text.corpora.documents import Pair
from jaxgpt.text.corpora.files import read_json_lines
from jaxgpt.text.corpora.messages import checked_messages

FORM = '{"prompt": [{"role": ..., "content": ...}, ...], "chosen": "...", "rejected": "..."}'


def read_pairs(path: Path) -> Iterator[Pair]:
    """Yields the pairs of a JSON lines file; a prompt that is a text is what the user says.

    Raises UserError, with file and line, for what is no pair, and for one whose answers are equal.
    """
    for place, value in read_json_lines(path):
        missing = [key for key in ("prompt", "chosen", "rejected") if key not in value]
        if missing:
            keys = ", ".join(map(shown, list(value)[:10])) or "nothing"
            raise UserError(f"{place}: no {' and no '.join(missing)}; it has {keys}, and must be {FORM}")
        yield _pair(value, place)


def _pair(value: dict[str, Any], place: str) -> Pair:
    prompt = value["prompt"]
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    messages = checked_messages(prompt, "prompt", place)
    if not messages or messages[-1]["role"] != "user":
        raise UserError(f"{place}: the prompt does not end with a message of the user, which an answer would follow")
    for key in ("chosen", "rejected"):
        if not isinstance(value[key], str):
            raise UserError(f"{place}: {key} is {kind_in_json(value[key])}; it must be the text of an answer")
    if not value["chosen"].strip():
        raise UserError(f"{place}: chosen is empty; take the pair out: that would be learned")
    if value["chosen"].strip() == value["rejected"].strip():
        raise UserError(
            f"{place}: chosen and rejected are the same, {shown(value['chosen'])}; nothing is to be learned"
        )
    return Pair(messages, value["chosen"], value["rejected"])


def write_pairs(path: Path, pairs: Iterable[Pair]) -> int:
    """Writes pairs as `read_pairs` reads them; returns how many there were."""
    lines = [json.dumps(pair._asdict(), ensure_ascii=False) + "\n" for pair in pairs]
    path.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
    return len(lines)
