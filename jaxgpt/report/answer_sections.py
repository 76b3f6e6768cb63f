"""What a model answered to held-out questions before it learned from a reward and after, as a section of its page."""

from typing import Any

from jaxgpt.report.page import Section, note, table
from jaxgpt.report.run_data import Record
from jaxgpt.run.metrics import read_records


def answers(record: Record) -> list[Section]:
    """Returns the section, question by question, those that changed first; none where no answers are on record."""
    found = read_records(record.run.path / "answers.jsonl")
    by_step: dict[int, list[dict[str, Any]]] = {}
    for answer in found:
        by_step.setdefault(answer["step"], []).append(answer)
    first, last = min(by_step, default=0), max(by_step, default=0)
    if first == last:
        return []
    both = zip(by_step[first], by_step[last], strict=False)  # the same questions in one order, some of them equal
    beside = [(before, after) for before, after in both if before.get("question") == after.get("question")]
    beside.sort(key=lambda pair: (pair[0].get("given") == pair[1].get("given"), not pair[1].get("right")))
    rows = [
        (
            _text(after, "question"),
            f"{_mark(before)} {_text(before, 'given')}",
            f"{_mark(after)} {_text(after, 'given')}",
            _text(after, "expected"),
        )
        for before, after in beside
    ]
    changed = sum(before.get("given") != after.get("given") for before, after in beside)
    heads = ("Question", f"Step {first:,}", f"Step {last:,}", "The corpus's answer")
    shares = _shares([before for before, _ in beside], [after for _, after in beside])
    return [
        Section(
            "answers",
            "What it answers, before and after",
            f"{len(beside)} held-out questions, answered by the likeliest tokens; {changed} are answered otherwise "
            "now, and come first. ✓ is the corpus's own answer, ✗ any other.",
            f"{table(('Kind', heads[1], heads[2], 'questions'), shares, (1, 2, 3)) if shares else ''}"
            f"<details><summary>Question by question</summary>{table(heads, rows)}</details>"
            + ("" if changed else note("No answer changed.")),
        )
    ]


def _shares(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Returns for each kind of question the share right before and after, and how many there are."""
    kinds = sorted({str(answer.get("kind", "")) for answer in after} - {""})
    rows = []
    for kind in kinds:
        shares = []
        for part in (before, after):
            right = [bool(answer.get("right")) for answer in part if answer.get("kind") == kind]
            shares.append(f"{sum(right) / len(right):.0%}" if right else "")
        rows.append((kind, *shares, str(sum(answer.get("kind") == kind for answer in after))))
    return rows


def _mark(answer: dict[str, Any]) -> str:
    return "✓" if answer.get("right") else "✗"


def _text(answer: dict[str, Any], name: str) -> str:
    return str(answer.get(name, ""))
