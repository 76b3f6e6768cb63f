"""Charts as SVG text: lines, points, bars and heat maps. Classes colour them, so that they follow light and dark."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxgpt.report.markup import escape

# The same rules colour the page and a chart saved by itself.
STYLE = """
:root { color-scheme: light dark; --paper: #fdfcfa; --card: #f4f2ed; --ink: #24272b; --quiet: #6a6f76; --rule: #dedbd3;
  --heat: #e0793f; --c0: #1c6e8c; --c1: #c1592a; --c2: #6b8325; --c3: #87509b; --c4: #a8842c; --c5: #4b5fa8; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --card: #1d2125; --ink: #e4e1da; --quiet: #9a9fa6;
  --rule: #343a40; --heat: #b4541f; --c0: #6cb8d3; --c1: #ec9a6a; --c2: #afc466;
  --c3: #c79bd8; --c4: #d9b860; --c5: #98a8e6; } }
svg text { font: 11px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--quiet); }
svg .title { font-size: 12.5px; font-weight: 600; fill: var(--ink); }
svg .label { fill: var(--ink); }
svg .small { font-size: 8px; }
svg .end { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg .grid { stroke: var(--rule); stroke-width: 1; fill: none; }
svg .level { stroke: var(--quiet); stroke-width: 1.2; stroke-dasharray: 5 4; fill: none; }
svg .line { fill: none; stroke-width: 1.9; stroke-linejoin: round; stroke-linecap: round; }
svg .faint { fill: none; stroke-width: 1; opacity: .32; stroke-linejoin: round; }
svg .s0 { stroke: var(--c0); } svg .s1 { stroke: var(--c1); } svg .s2 { stroke: var(--c2); }
svg .s3 { stroke: var(--c3); } svg .s4 { stroke: var(--c4); } svg .s5 { stroke: var(--c5); }
svg .f0 { fill: var(--c0); } svg .f1 { fill: var(--c1); } svg .f2 { fill: var(--c2); }
svg .f3 { fill: var(--c3); } svg .f4 { fill: var(--c4); } svg .f5 { fill: var(--c5); }
svg .cloud { opacity: .38; }
"""
COLOURS = 6  # of .s0 to .s5
MOST_POINTS = 400  # of a line; more cannot be told apart
SHADES = 12  # of a heat map
LEFT, RIGHT, BOTTOM = 48, 14, 38  # margins, in the SVG's own units


class Line(NamedTuple):
    """A curve, its name in the legend ("" for none), its colour, and how it is drawn: "line", "faint" or "dots"."""

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: int = 0
    kind: str = "line"

    def after(self, x: float) -> "Line":
        """Returns the part of it from x on."""
        return self._replace(x=self.x[self.x >= x], y=self.y[self.x >= x])


class Level(NamedTuple):
    """A horizontal line that curves are read against."""

    name: str
    y: float


def short(value: float) -> str:
    """Returns a number as an axis has it: 0.0003, 1.5, 20k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.0e}".replace("e-0", "e-")


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Returns at most about `most` round numbers from low to high."""
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def thin(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Returns the means of at most `most` stretches of equally many points."""
    if len(x) <= most:
        return x, y
    parts = [(np.mean(a), np.mean(b)) for a, b in zip(np.array_split(x, most), np.array_split(y, most), strict=True)]
    return np.array([a for a, _ in parts]), np.array([b for _, b in parts])


def smooth(y: np.ndarray, width: int) -> np.ndarray:
    """Returns the mean of the `width` points around each point, of fewer at the ends."""
    if not len(y):
        return y
    ones = np.ones(min(width, len(y)))
    return np.convolve(y, ones, "same") / np.convolve(np.ones(len(y)), ones, "same")


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    levels: Sequence[Level] = (),
    from_zero: bool = False,
    size: tuple[int, int] = (420, 250),
    by_decades: bool = False,
) -> str:
    """Returns curves over a common axis; points that are not finite are left out.

    `by_decades` lays x, all above 0, out by its logarithm.
    """
    if by_decades:
        lines = [line._replace(x=np.log10(line.x)) for line in lines]
    lines = [_finite(line) for line in lines]
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return empty_chart(title, size)
    width, height = size
    named = [(line.name, f"f{line.colour % COLOURS}") for line in lines if line.name]
    legend, rows = _legend([*named, *((level.name, "") for level in levels)], LEFT, 34, width)
    top = 30 + 17 * rows
    low = min([*(float(line.y.min()) for line in lines), *(level.y for level in levels), *([0.0] * from_zero)])
    high = max([*(float(line.y.max()) for line in lines), *(level.y for level in levels)])
    pad = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = (low if from_zero and low == 0 else low - pad), high + pad
    x_low, x_high = (f([float(g(line.x)) for line in lines]) for f, g in ((min, np.min), (max, np.max)))
    x_low, x_high = (x_low, x_high) if x_high > x_low else (x_low - 1, x_high + 1)
    x_low = 0.0 if 0 < x_low < 0.1 * x_high and not by_decades else x_low

    def place_x(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (width - LEFT - RIGHT)

    def place_y(y: float) -> float:
        return top + (high - y) / (high - low) * (height - top - BOTTOM)

    parts = [legend]
    for tick in ticks(low, high, 5):
        y = place_y(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{width - RIGHT}"/>')
        parts.append(_text(LEFT - 6, y + 4, short(tick), "end"))
    for tick in _decades(x_low, x_high) if by_decades else ticks(x_low, x_high, max(2, width // 85)):
        told = short(float(f"{10**tick:.2g}") if by_decades else tick)
        parts.append(_text(place_x(tick), height - BOTTOM + 16, told, "middle"))
    parts.append(_text(width - RIGHT, height - 4, x_label, "end"))
    parts.append(_text(0, height - 4, y_label))
    for level in levels:
        parts.append(f'<path class="level" d="M{LEFT} {place_y(level.y):.1f}H{width - RIGHT}"/>')
    for line in lines:
        colour = line.colour % COLOURS
        x, y = thin(line.x, line.y)
        points = [f"{place_x(a):.1f} {place_y(b):.1f}" for a, b in zip(x, y, strict=True)]
        if line.kind != "dots":
            parts.append(f'<path class="{line.kind} s{colour}" d="M{"L".join(points)}"/>')
        if line.kind == "dots" or len(points) == 1:
            if len(points) > 1:
                parts.append(f'<path class="faint s{colour}" d="M{"L".join(points)}"/>')
            for point, a, b in zip(points, x, y, strict=True):
                cx, cy = point.split()
                told = escape(f"{x_label} {10**a if by_decades else a:.6g}: {b:.4g}")
                parts.append(f'<circle class="f{colour}" cx="{cx}" cy="{cy}" r="3.2"><title>{told}</title></circle>')
    return _svg(title, width, height, parts)


def _decades(low: float, high: float) -> list[float]:
    """Returns the logarithms of 1, 2 and 5 of each decade between two logarithms, of the 1s alone where many."""
    firsts = (1,) if high - low > 1.5 else (1, 2, 5)
    return [
        tick
        for decade in range(math.floor(low), math.ceil(high) + 1)
        for first in firsts
        if low - 1e-9 <= (tick := decade + math.log10(first)) <= high + 1e-9
    ]


def empty_chart(title: str, size: tuple[int, int] = (420, 120)) -> str:
    """Returns a chart that says that there is nothing to draw yet."""
    return _svg(title, size[0], size[1], [_text(size[0] / 2, size[1] / 2, "nothing measured yet", "middle")])


def bar_chart(title: str, rows: Sequence[tuple[str, float, str]], width: int = 420, name_width: int = 130) -> str:
    """Returns horizontal bars from (name, length, words at its end)."""
    longest = max((value for _, value, _ in rows if math.isfinite(value)), default=1.0) or 1.0
    parts, room = [], width - name_width - 110
    for number, (name, value, told) in enumerate(rows):
        y = 34 + 24 * number
        length = max(1.0, value / longest * room) if math.isfinite(value) else room
        parts.append(_text(name_width - 8, y + 12, name, "end label"))
        parts.append(f'<rect class="f0" x="{name_width}" y="{y}" width="{length:.1f}" height="16" rx="2"/>')
        parts.append(_text(name_width + length + 6, y + 12, told))
    return _svg(title, width, 40 + 24 * len(rows), parts)


class Point(NamedTuple):
    """A token on a map: where, which group, and whether its name is written beside it if there is room."""

    name: str
    x: float
    y: float
    group: int
    labelled: bool


def scatter(title: str, points: Sequence[Point], groups: Sequence[str], size: tuple[int, int] = (720, 520)) -> str:
    """Returns a map of points; names are written in the points' order, wherever they cover no other name."""
    width, height = size
    points = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    if not points:
        return empty_chart(title, size)
    used = sorted({point.group for point in points})
    legend, rows = _legend([(groups[group], f"f{group % COLOURS}") for group in used], 0, 38, width)
    top = 35 + 17 * rows
    xs, ys = np.array([point.x for point in points]), np.array([point.y for point in points])
    # The farthest few would press all others into the middle; they are drawn at the edge.
    (x0, x1), (y0, y1) = np.percentile(xs, [0.5, 99.5]), np.percentile(ys, [0.5, 99.5])
    px = 16 + (np.clip(xs, x0, x1) - x0) / ((x1 - x0) or 1) * (width - 80)
    py = top + (y1 - np.clip(ys, y0, y1)) / ((y1 - y0) or 1) * (height - top - 16)
    parts, names, taken = [], [], []
    for point, x, y in zip(points, px, py, strict=True):
        group = point.group % COLOURS
        dot = f'<circle class="f{group} cloud" cx="{x:.0f}" cy="{y:.0f}" r="3"><title>{escape(point.name)}</title>'
        parts.append(f"{dot}</circle>")
        box = (x + 5, y - 9, x + 9 + 6.2 * len(point.name), y + 4)
        clear = all(box[0] > b[2] or box[2] < b[0] or box[1] > b[3] or box[3] < b[1] for b in taken)
        if point.labelled and clear and box[2] < width:
            taken.append(box)
            names.append(_text(x + 5, y + 3.5, point.name, "label"))
    return _svg(title, width, height, [*parts, *names, legend])


def heat_map(
    title: str,
    values_YX: np.ndarray,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    cell: float = 12,
    colour: int = 0,
) -> str:
    """Returns a grid of values from -1 to 1: the larger the stronger; negative ones in the second colour.

    Cells of one shade are one path: a map of thousands of cells stays small.
    """
    left = 6 + max((min(len(row), 12) for row in rows), default=0) * 4.6
    top = 22 + max((min(len(column), 12) for column in columns), default=0) * 3.6
    shades: dict[tuple[int, int], list[str]] = {}
    for (i, j), value in np.ndenumerate(np.nan_to_num(values_YX)):
        shade = round(min(1.0, abs(float(value))) * SHADES)
        if shade > 0:
            place = f"M{left + j * cell:g} {top + i * cell:g}h{cell:g}v{cell:g}h-{cell:g}z"
            shades.setdefault((1 if value < 0 else colour, shade), []).append(place)
    height, width = values_YX.shape[0] * cell, values_YX.shape[1] * cell
    parts = [
        f'<path class="f{hue}" fill-opacity="{shade / SHADES:.2f}" d="{"".join(cells)}"/>'
        for (hue, shade), cells in sorted(shades.items())
    ]
    parts.append(f'<rect class="grid" x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}"/>')
    parts += [_text(left - 4, top + (i + 0.5) * cell + 3, clip(row), "end small") for i, row in enumerate(rows)]
    for j, column in enumerate(columns):
        x, y = left + (j + 0.5) * cell + 2, top - 4
        turned = f'<text class="small" transform="translate({x:.1f} {y:.1f}) rotate(-52)">{escape(clip(column))}</text>'
        parts.append(turned)
    slack = 26 if columns else 6  # the last slanted name leans out
    return _svg(
        title, math.ceil(left + width + slack), math.ceil(top + height + 6), parts, "small" if rows else "title"
    )


def clip(name: str, most: int = 12) -> str:
    """Returns a name, cut where it is too long for a chart."""
    return name if len(name) <= most else name[: most - 1] + "…"


def standalone(svg: str) -> str:
    """Returns a chart as the text of an SVG file of its own, with its colours and a background."""
    head, _, rest = svg.partition(">")
    style = f"<style>{STYLE}svg {{ background: var(--paper); }}</style>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head} xmlns="http://www.w3.org/2000/svg">{style}{rest}\n'


def _finite(line: Line) -> Line:
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    kept = np.isfinite(x) & np.isfinite(y)
    return line._replace(x=x[kept], y=y[kept])


def _text(x: float, y: float, words: str, classes: str = "") -> str:
    named = f' class="{classes}"' if classes else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def _legend(entries: Sequence[tuple[str, str]], x: float, y: float, width: float) -> tuple[str, int]:
    """Returns (names with their colours, in rows that fit the width; how many rows). No class: a dashed level."""
    parts, left, rows = [], x, int(bool(entries))
    for name, colour in entries:
        room = 34 + 6.2 * len(name)
        if left > x and left + room - 20 > width:
            left, y, rows = x, y + 17, rows + 1
        dot = f'<circle class="{colour}" cx="{left + 5:.1f}" cy="{y - 4}" r="4"/>'
        dash = f'<path class="level" d="M{left - 2:.1f} {y - 4}h12"/>'
        parts.append((dot if colour else dash) + _text(left + 13, y, name))
        left += room
    return "".join(parts), rows


def _svg(title: str, width: int, height: int, parts: Sequence[str], title_size: str = "title") -> str:
    named = escape(title)
    heading = _text(0, 13 if title_size == "title" else 10, title, f"{title_size} label")
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{named}">'
        f"<title>{named}</title>{heading}{''.join(parts)}</svg>"
    )
