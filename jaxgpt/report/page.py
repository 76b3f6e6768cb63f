"""The page: sections, each with a lead that says what is seen; one file that loads nothing from elsewhere.

All can be read without scripts. With them charts answer, samples become a slider, and so on: report/assets has each,
and uPlot by Leon Sorokin with its licence.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxgpt.report.charts import STYLE
from jaxgpt.report.markup import escape

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("uPlot.iife.min.js", "page.js", "charts.js", "map.js", "attention.js")


@dataclass(frozen=True)
class Section:
    """A part of a page. `lead` and `title` are text; `body` is HTML; `plots` are its charts, by the name of a file."""

    anchor: str
    title: str
    lead: str
    body: str
    plots: Mapping[str, str] = field(default_factory=dict)
    is_open: bool = False
    """Whether it is unfolded when the page is opened."""


def page(title: str, top: str, sections: Sequence[Section]) -> str:
    """Returns a whole HTML document; `top`, and the sections' bodies, are HTML, all else is escaped here.

    Its policy lets a browser ask nobody for anything, and run no script but those in `assets`.
    """
    links = "".join(f'<a href="#{escape(s.anchor)}">{escape(s.title)}</a>' for s in sections)
    parts = "\n".join(
        f'<section id="{escape(s.anchor)}">\n<details{" open" if s.is_open else ""}><summary><h2>{escape(s.title)}</h2>'
        f'</summary>\n<p class="lead">{escape(s.lead)}</p>\n{s.body}\n</details></section>'
        for s in sections
    )
    scripts = [_asset(name) for name in SCRIPTS]
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {hashes}; base-uri 'none'; form-action 'none'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_asset("uPlot.min.css")}{STYLE}{_asset("report.css")}</style>
</head>
<body>
<div class="frame">
<nav aria-label="Sections">{links}</nav>
<header>
{top}
</header>
<main>
{parts}
</main>
<footer>Made by jaxgpt from what is on record. This file loads nothing from elsewhere.</footer>
</div>
<!-- uPlot: {_asset("uPlot.LICENSE")} -->
{"".join(f"<script>{script}</script>" for script in scripts)}
</body>
</html>
"""


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def heading(title: str, kicker: str, result: str, meta: str = "") -> str:
    """Returns what stands at the top of a page; all four are text."""
    told = f'<p class="meta">{escape(meta)}</p>' if meta else ""
    named = f'<p class="kicker">{escape(kicker)}</p>\n<h1>{escape(title)}</h1>'
    return f'{named}\n{told}<p class="result">{escape(result)}</p>'


def figure(svg: str, caption: str = "", kind: str = "", data: Any = None) -> str:
    """Returns a chart with its caption; `kind` is a class of the style, `data` what scripts draw it from."""
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    named = f' class="{escape(kind)}"' if kind else ""
    return f"<figure{named}>{svg}{told}{'' if data is None else json_element(data)}</figure>"


def json_element(data: Any) -> str:
    """Returns data as an element that scripts read and nobody sees; no text in it can end the element."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f'<script type="application/json">{text.replace("<", chr(92) + "u003c")}</script>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Returns a table of text; the columns whose places are in `numbers` stand to the right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        marks = (' class="number"' if place in numbers else "" for place in range(len(row)))
        return "".join(f"<{tag}{mark}>{escape(cell)}</{tag}>" for mark, cell in zip(marks, row, strict=True))

    head, body = cells("th", heads), "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{whole}</div>'


def note(words: str) -> str:
    """Returns a paragraph of small print."""
    return f'<p class="note">{escape(words)}</p>'
