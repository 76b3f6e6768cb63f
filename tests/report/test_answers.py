"""Answers to held-out questions before and after, side by side: each of them, though questions may be equal."""

import json

from jaxgpt.report.answer_sections import answers
from jaxgpt.report.run_data import read_record


def test_equal_questions_of_different_conversations_are_each_laid_side_by_side(copy):
    said = {0: ("red", "green", "green"), 9: ("red", "red", "blue")}
    expected = ("red", "green", "blue")
    lines = [
        {"step": step, "question": "And then?", "kind": "k", "expected": right, "given": given, "right": given == right}
        for step, all_given in said.items()
        for right, given in zip(expected, all_given, strict=True)
    ]
    (copy / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (section,) = answers(read_record(copy))
    assert "3 held-out questions" in section.lead
    assert "2 are answered otherwise" in section.lead
    assert section.body.count("And then?") == 3
    assert "67%" in section.body
