"""The book: its snippets print what it shows, its figures are drawn by its command, and its links lead somewhere."""

import math
import re
import sys
from pathlib import Path

import pytest

from docs.book import figures, run
from jaxgpt.data import encode
from tests.commands.miniature import ROOT, shell

MOST_BYTES = 60_000  # of a figure


@pytest.fixture(scope="session")
def workplace(tmp_path_factory, cache_dir) -> Path:
    """A folder with the book's run, made by the book's command."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "configs").symlink_to(ROOT / "configs")
    shell(folder, "train.py", "--config", "configs/book.py", "--data.cache-dir", cache_dir)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("chapter", run.chapters(), ids=lambda path: path.stem)
def test_a_chapter_prints_what_it_shows(chapter, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(encode, "SAY_EVERY", math.inf)  # a slow machine would say how far it is
    for snippet, output in run.printed(chapter):
        found = run.difference(snippet, output)
        assert found is None, f"{chapter.name}, line {snippet.line + 1}:\n{found}"


def test_every_snippet_can_be_pasted_at_the_prompt():
    for chapter in run.chapters():
        for snippet in run.snippets(chapter.read_text(encoding="utf-8")):
            assert list(run.statements(snippet, chapter)), f"{chapter.name}, line {snippet.line + 1}"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("for x in (1, 2):\n    print(x)\nprint(3)\n", 7),
        ("def f():\n    x = 1\n\n    return x\n", 8),
        ("x = 1\ny = (x,\n", 6),
    ],
)
def test_a_snippet_the_prompt_would_refuse_is_refused(code, line, tmp_path):
    chapter = tmp_path / "11-more.md"
    chapter.write_text(f"# More\n\nWords.\n```python\n{code}```\n", encoding="utf-8")
    with pytest.raises(SyntaxError) as caught:
        list(run.printed(chapter))
    assert (caught.value.filename, caught.value.lineno) == (str(chapter), line)


def test_what_a_snippet_raises_names_its_line_in_the_chapter(tmp_path):
    chapter = tmp_path / "11-more.md"
    chapter.write_text("# More\n\n```python\nx = 0\n\nfor y in (1, 2):\n    y / x\n```\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError) as caught:
        list(run.printed(chapter))
    last = caught.traceback[-1]
    assert (last.path, last.lineno + 1) == (chapter, 7)


def test_an_expression_prints_its_value_unless_that_is_none(tmp_path):
    chapter = tmp_path / "11-more.md"
    code = "x = []\nx.append('a')\nx\nfor y in x:\n    y\n"
    chapter.write_text(f"```python\n{code}```\n", encoding="utf-8")
    assert [output for _, output in run.printed(chapter)] == ["['a']\n'a'\n"]


@pytest.mark.long
def test_the_figures_of_the_book_are_drawn_by_its_command(workplace, monkeypatch, tmp_path):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", ["figures", "runs/book", str(tmp_path)])
    figures.draw()
    drawn = {file.name for file in tmp_path.iterdir()}
    text = "".join(chapter.read_text(encoding="utf-8") for chapter in run.chapters())
    assert drawn == set(re.findall(r"\(figures/([\w-]+\.svg)\)", text))
    for name in drawn:
        for file in (tmp_path / name, figures.FOLDER / name):
            svg = file.read_text(encoding="utf-8")
            assert len(svg) < MOST_BYTES, file
            assert "prefers-color-scheme: dark" in svg, file
            assert not re.search(r"\b(?:nan|inf)\b", svg), file


def test_links_lead_somewhere():
    pages = [run.BOOK / "README.md", *run.chapters()]
    assert [page.name for page in pages[1:]] == re.findall(r"\((\d\d-\w+\.md)\)", pages[0].read_text(encoding="utf-8"))
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert (run.BOOK / link).exists(), f"{page.name}: {link}"


PAGE = """```python
print((2, 3), "a cat", 0.5)
```

```text
(2, 3) a cat 0.50
```
"""


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("(2, 3) a cat 0.5", True),
        ("(2, 3)  a cat 0.504", True),
        ("(2, 3) a cat 0.53", False),
        ("(2, 3) a cat -0.5", False),
        ("(2, 4) a cat 0.50", False),
        ("(2, 3) a dog 0.50", False),
        ("(2, 3) a cat nan", False),
        ("(2, 3) a cat 0.50\nand more", False),
    ],
)
def test_words_are_compared_exactly_and_decimals_nearly(printed, same):
    (snippet,) = run.snippets(PAGE)
    assert (run.difference(snippet, printed + "\n") is None) == same


@pytest.mark.parametrize(
    ("how", "printed", "same"),
    [
        ("tolerance=0.2", "(2, 3) a cat 0.59", True),
        ("tolerance=0.2", "(2, 3) a cat 0.65", False),
        ("tolerance=any", "(2, 3) a cat 9.5", True),
        ("tolerance=any", "(3, 3) a cat 0.5", False),
        ("varies", "anything", True),
        ("varies", "", False),
    ],
)
def test_an_output_may_say_how_closely_it_is_compared(how, printed, same):
    (snippet,) = run.snippets(PAGE.replace("```text", f"```text {how}"))
    assert (run.difference(snippet, printed + "\n" if printed else "") is None) == same


def test_outputs_are_written_in_their_place():
    text = "```python\nx = 1\n```\n\nWords.\n\n```\nno output\n```\n\n" + PAGE
    silent, shown = run.snippets(text)
    assert run.difference(silent, "") is None
    assert run.difference(silent, "1\n") is not None
    assert run.rewritten(text, [(silent, ""), (shown, "new\n")]) == text.replace("(2, 3) a cat 0.50", "new")


def test_an_unknown_way_to_compare_is_refused():
    (snippet,) = run.snippets(PAGE.replace("```text", "```text roughly"))
    with pytest.raises(ValueError, match="roughly"):
        run.difference(snippet, "(2, 3) a cat 0.50\n")
