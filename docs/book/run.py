"""Runs the snippets of the book and compares what they print with what the book shows.

python -m docs.book.run                          # every chapter; names what differs
python -m docs.book.run 05-loss.md --write       # puts what a chapter's snippets print into it

The ```python blocks of a chapter run one after another in one namespace. Each is read line by line, as `python` reads
what a person pastes at its prompt: an empty line ends an indented block, a statement at the left margin directly after
a block is a SyntaxError, and an expression prints its value unless that is None. An empty line after the snippet closes
a block that is still open.

A ```text block directly after a snippet shows what the snippet prints; a snippet without one must print nothing. Words,
signs and whole numbers must be the same. Numbers with a decimal point may differ by 1 % and one unit of the last digit,
because processors add up in different orders. The line that opens the ```text block may allow more:

```text tolerance=0.2     decimals may differ by a fifth: a small difference grows over hundreds of steps of training
```text tolerance=any     decimals may be anything, for example times
```text varies            only the number of lines must be the same: for what a model writes
"""

import codeop
import contextlib
import io
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

BOOK = Path(__file__).parent
TOLERANCE = 0.01
_SNIPPET = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n*^```text(?P<how>[^\n]*)\n(?P<shown>.*?)^```$)?", re.S | re.M
)
_DECIMAL = re.compile(r"[-+]?\d[\d,]*\.(?P<places>\d+)(?:e(?P<exponent>[-+]?\d+))?")


@dataclass(frozen=True)
class Snippet:
    """A block of code, what it is shown to print and how closely that must be so; and where in the chapter both are."""

    code: str
    line: int
    shown: str
    how: str
    place: tuple[int, int] | None
    """Of what is shown, in the chapter's text; None where nothing is."""


def chapters() -> list[Path]:
    """Returns the chapters in their order."""
    return sorted(BOOK.glob("[0-9]*.md"))


def snippets(text: str) -> list[Snippet]:
    """Returns the snippets of a chapter's text."""
    found = []
    for match in _SNIPPET.finditer(text):
        shown = match["shown"] or ""
        place = match.span("shown") if match["shown"] is not None else None
        line = text.count("\n", 0, match.start("code"))
        found.append(Snippet(match["code"], line, shown, (match["how"] or "").strip(), place))
    return found


def statements(snippet: Snippet, chapter: Path) -> Iterator[CodeType]:
    """Yields the statements of a snippet as the prompt of `python` compiles them, line by line.

    A SyntaxError names the chapter and the line in it, and so does whatever a statement raises when it runs.
    """
    compile_lines = codeop.CommandCompiler()
    line, waiting = snippet.line, []
    # The code ends with a newline, so the last of these lines is empty. It closes a block that is still open.
    for text in snippet.code.split("\n"):
        waiting.append(text)
        # The empty lines in front make the compiler count from the chapter's first line.
        code = compile_lines("\n" * line + "\n".join(waiting), str(chapter), "single")
        if code is not None:
            yield code
            line, waiting = line + len(waiting), []
    if waiting:
        raise SyntaxError("the snippet ends inside this statement", (str(chapter), line + 1, 1, waiting[0]))


def printed(chapter: Path) -> Iterator[tuple[Snippet, str]]:
    """Yields each snippet of a chapter with what it prints. What a snippet raises names its line in the chapter."""
    scope: dict[str, Any] = {"__name__": chapter.stem}
    for snippet in snippets(chapter.read_text(encoding="utf-8")):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            for code in statements(snippet, chapter):
                exec(code, scope)
        yield snippet, output.getvalue()


def difference(snippet: Snippet, output: str) -> str | None:
    """Returns the first line in which the output is not what is shown, as far as it must be; None where it is."""
    shown, real = snippet.shown.splitlines(), output.splitlines()
    if len(shown) != len(real):
        return f"{len(shown)} lines are shown, {len(real)} printed:\n{output}"
    for one, other in zip(shown, real, strict=True):
        if snippet.how != "varies" and not _alike(one, other, _tolerance(snippet.how)):
            return f"shown:   {one}\nprinted: {other}"
    return None


def _tolerance(how: str) -> float:
    if not how:
        return TOLERANCE
    name, _, value = how.partition("=")
    if name != "tolerance":
        raise ValueError(f"```text {how}: give tolerance=NUMBER, tolerance=any or varies")
    return math.inf if value == "any" else float(value)


def _alike(shown: str, real: str, tolerance: float) -> bool:
    """Whether two lines have the same words and whole numbers, and decimals within the tolerance."""
    words, other_words = (_DECIMAL.sub("#", line).split() for line in (shown, real))
    if words != other_words or math.isinf(tolerance):
        return words == other_words
    for one, other in zip(_DECIMAL.finditer(shown), _DECIMAL.finditer(real), strict=True):
        a, b = (float(match[0].replace(",", "")) for match in (one, other))
        unit = 10.0 ** -len(one["places"]) * 10.0 ** int(one["exponent"] or 0)
        if abs(a - b) > tolerance * abs(a) + 1.01 * unit:
            return False
    return True


def rewritten(text: str, outputs: list[tuple[Snippet, str]]) -> str:
    """Returns a chapter's text with these outputs in place of what it shows."""
    for snippet, output in reversed(outputs):
        if snippet.place is not None:
            start, end = snippet.place
            text = text[:start] + output + text[end:]
    return text


def main() -> None:
    """Runs the chapters named on the command line, or all."""
    import jax

    jax.config.update("jax_num_cpu_devices", 8)  # the last chapter shows a mesh; the others use the first device
    names = [name for name in sys.argv[1:] if name != "--write"]
    differing = 0
    for chapter in [BOOK / name for name in names] or chapters():
        outputs = list(printed(chapter))
        for snippet, output in outputs:
            found = difference(snippet, output)
            if found is not None:
                differing += 1
                print(f"{chapter.name}, line {snippet.line + 1}:\n{found}")
        if "--write" in sys.argv:
            chapter.write_text(rewritten(chapter.read_text(encoding="utf-8"), outputs), encoding="utf-8")
        print(f"{chapter.name}: {len(outputs)} snippets")
    if differing and "--write" not in sys.argv:
        sys.exit(1)


if __name__ == "__main__":
    main()
