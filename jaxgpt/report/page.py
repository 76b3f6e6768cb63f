"""The page: sections, each with a lead that says what is seen; one file that loads nothing from elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxgpt.report.charts import STYLE
from jaxgpt.report.markup import escape

PAGE_STYLE = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.02rem/1.6 system-ui, -apple-system, "Segoe UI",
  sans-serif; }
main, header, nav, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 3.5rem; }
h1, h2 { font-family: ui-serif, Georgia, "Times New Roman", serif; font-weight: 600; line-height: 1.2;
  letter-spacing: -.01em; }
h1 { font-size: clamp(2rem, 6vw, 3rem); margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.55rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
.kicker { color: var(--quiet); font-size: .82rem; letter-spacing: .09em; text-transform: uppercase; margin: 0 0 .4rem; }
.result { font-size: 1.2rem; max-width: 44rem; margin: 0; }
.lead, .note, section p { max-width: 44rem; }
.lead { color: var(--ink); margin: 0 0 1.3rem; }
.note { color: var(--quiet); font-size: .9rem; }
nav { margin-top: 1.6rem; margin-bottom: .5rem; font-size: .92rem; }
nav a { display: inline-block; margin: 0 1.1rem .3rem 0; }
a { color: var(--c0); text-underline-offset: .2em; text-decoration-thickness: 1px; }
section { border-top: 1px solid var(--rule); padding: 2.2rem 0 2rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .9rem 1.6rem;
  margin: 1.8rem 0 0; }
.facts dt { color: var(--quiet); font-size: .82rem; }
.facts dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17.5rem), 1fr)); gap: 1.8rem 2.2rem; }
.heads { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(46%, 12.5rem), 1fr)); gap: 1.2rem 1.2rem; }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; }
figcaption { color: var(--quiet); font-size: .86rem; line-height: 1.45; margin-top: .35rem; }
.square svg { max-width: 26rem; }
.scroll { overflow-x: auto; }
.scroll svg { min-width: 40rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; width: 100%; }
table { max-width: 46rem; }
th, td { text-align: left; vertical-align: top; padding: .38rem 1rem .38rem 0; border-bottom: 1px solid var(--rule); }
th { color: var(--quiet); font-weight: 500; }
td.number, th.number { text-align: right; }
code, .tokens, blockquote { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .9em; }
blockquote { margin: .3rem 0 1.3rem; padding: .8rem 1rem; background: var(--card); border-left: 3px solid var(--c0);
  white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.55; }
.tokens { line-height: 2.05; background: var(--card); padding: .9rem 1rem; margin: 0 0 1rem; overflow-wrap: anywhere;
  max-width: none; }
.tokens span { padding: .12em .22em; border-radius: .25em; }
.tokens .plain { color: var(--quiet); }
.scale span { display: inline-block; padding: 0 .55em; margin-right: .3em; border-radius: .25em; color: var(--ink); }
.n1 { background: color-mix(in srgb, var(--heat) 18%, transparent); }
.n2 { background: color-mix(in srgb, var(--heat) 36%, transparent); }
.n3 { background: color-mix(in srgb, var(--heat) 58%, transparent); }
.n4 { background: color-mix(in srgb, var(--heat) 85%, transparent); }
summary { cursor: pointer; color: var(--c0); margin: 1rem 0 .5rem; }
footer { color: var(--quiet); font-size: .86rem; padding-bottom: 3rem; border-top: 1px solid var(--rule);
  padding-top: 1.2rem; }
@media (max-width: 34rem) { header { padding-top: 2rem; } section { padding: 1.7rem 0 1.4rem; }
  table { font-size: .82rem; } th, td { padding-right: .6rem; } }
@media print { nav { display: none; } section { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of a page. `lead` and `title` are text; `body` is HTML; `plots` are its charts, by the name of a file."""

    anchor: str
    title: str
    lead: str
    body: str
    plots: Mapping[str, str] = field(default_factory=dict)


def page(title: str, kicker: str, result: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """Returns a whole HTML document; everything but the sections' bodies is escaped here."""
    links = "".join(f'<a href="#{escape(s.anchor)}">{escape(s.title)}</a>' for s in sections)
    known = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    parts = "\n".join(
        f'<section id="{escape(s.anchor)}">\n<h2>{escape(s.title)}</h2>\n<p class="lead">{escape(s.lead)}</p>\n'
        f"{s.body}\n</section>"
        for s in sections
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}{PAGE_STYLE}</style>
</head>
<body>
<header>
<p class="kicker">{escape(kicker)}</p>
<h1>{escape(title)}</h1>
<p class="result">{escape(result)}</p>
<dl class="facts">{known}</dl>
</header>
<nav aria-label="Sections">{links}</nav>
<main>
{parts}
</main>
<footer>Made by jaxgpt from the run's own folder. The charts are also in plots/, as SVG files.</footer>
</body>
</html>
"""


def figure(svg: str, caption: str = "", kind: str = "") -> str:
    """Returns a chart with its caption; `kind` is a class of the style above."""
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="{escape(kind)}">{svg}{told}</figure>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Returns a table of text; the columns whose places are in `numbers` stand to the right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        marks = (' class="number"' if place in numbers else "" for place in range(len(row)))
        return "".join(f"<{tag}{mark}>{escape(cell)}</{tag}>" for mark, cell in zip(marks, row, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells("th", heads)}</tr></thead><tbody>{body}</tbody></table></div>'


def note(words: str) -> str:
    """Returns a paragraph of small print."""
    return f'<p class="note">{escape(words)}</p>'
