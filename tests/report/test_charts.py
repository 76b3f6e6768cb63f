"""Charts: valid XML whatever words are in them, round ticks, small however much is drawn."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from jaxgpt.report import charts
from jaxgpt.report.charts import Level, Line, Point, bar_chart, heat_map, line_chart, scatter, standalone

BAD = "<script>\"&'"


@pytest.mark.parametrize(
    "svg",
    [
        charts.line_chart(BAD, [Line(BAD, np.arange(3), np.arange(3.0), 9, "dots")], BAD, BAD, [Level(BAD, 1)]),
        charts.line_chart(BAD, [Line("", np.arange(1, 3), np.array([np.nan, 2.0]))], "", "", by_decades=True),
        charts.line_chart(BAD, [], "", ""),
        charts.bar_chart(BAD, [(BAD, 1.0, BAD), ("none", 0.0, "")]),
        charts.scatter(BAD, [Point(BAD, 0, 0, 0, True), Point("b", 1, 1, 1, True)], [BAD, "others"]),
        charts.heat_map(BAD, np.array([[1.0, -0.5], [np.nan, 7]]), [BAD, "b"], [BAD, "b"]),
    ],
    ids=["line", "one point", "empty", "bars", "scatter", "heat map"],
)
def test_any_words_make_a_valid_file(svg):
    root = ElementTree.fromstring(charts.standalone(svg))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "<script" not in svg
    assert all(np.isfinite(float(number)) for number in root.attrib["viewBox"].split())
    assert "nan" not in svg.lower()


def test_ticks_are_round_and_inside():
    assert charts.ticks(0, 510, 5) == [0, 200, 400]
    assert charts.ticks(0, 0.003, 5) == [0, 0.001, 0.002, 0.003]
    assert charts.ticks(4.6, 10.4, 5) == [6, 8, 10]
    assert charts.ticks(2, 2) == [2]


@pytest.mark.parametrize(
    ("value", "told"), [(0, "0"), (0.0003, "0.0003"), (3e-5, "3e-5"), (1.25, "1.25"), (20_000, "20k"), (3e6, "3M")]
)
def test_numbers_on_axes_are_short(value, told):
    assert charts.short(value) == told


def test_points_that_are_not_numbers_are_left_out():
    svg = charts.line_chart("", [Line("", np.arange(4), np.array([1, np.nan, np.inf, 2.0]))], "", "")
    (path,) = [part for part in svg.split("<path") if 'class="line' in part]
    assert path.count("L") == 1


def test_a_long_run_makes_no_larger_chart():
    def size(steps):
        return len(charts.line_chart("", [Line("", np.arange(steps), np.sin(np.arange(steps)))], "", ""))

    assert size(200_000) < 1.1 * size(charts.MOST_POINTS)


def test_names_stand_above_the_curves_in_rows_that_fit():
    levels = [Level(f"a level with a long name {i}", 1.0) for i in range(4)]
    svg = charts.line_chart("", [Line("loss", np.arange(3), np.arange(3.0))], "", "", levels, size=(440, 300))
    root = ElementTree.fromstring(standalone(svg))
    path, text = ("{http://www.w3.org/2000/svg}" + tag for tag in ("path", "text"))
    names = [mark for mark in root.iter(text) if (mark.text or "").startswith(("loss", "a level"))]
    assert all(float(mark.attrib["x"]) + 6 * len(mark.text or "") <= 440 for mark in names)
    grid = [float(line.attrib["d"].split()[1].split("H")[0]) for line in root.iter(path) if line.get("class") == "grid"]
    assert max(float(mark.attrib["y"]) for mark in names) < min(grid)


def test_axes_by_decades_name_round_numbers():
    svg = charts.line_chart("", [Line("", np.array([1e-4, 1e-3, 1e-2]), np.arange(3.0))], "", "", by_decades=True)
    assert [tick for tick in ("0.0001", "0.001", "0.01") if f">{tick}</text>" in svg] == ["0.0001", "0.001", "0.01"]


def test_a_running_mean_keeps_a_constant_and_lengths():
    np.testing.assert_allclose(charts.smooth(np.full(7, 3.0), 4), 3)
    assert len(charts.smooth(np.arange(3.0), 50)) == 3


def test_names_on_a_map_do_not_cover_each_other():
    points = [Point("same", 0, 0, 0, True), Point("place", 0, 0, 0, True), Point("far", 9, 9, 0, True)]
    svg = charts.scatter("", points, ["all"])
    assert [name for name in ("same", "place", "far") if f">{name}</text>" in svg] == ["same", "far"]


def test_a_heat_map_is_a_path_a_shade():
    svg = charts.heat_map("", np.random.default_rng(0).uniform(-1, 1, (64, 64)))
    assert svg.count("<path") <= 2 * charts.SHADES


ANY_TEXT = "a\x00b\x01\x0b\x1f\x7f\x9f <b> & \" ' \ud800 \ufffe \U0001f600"


def test_any_text_makes_charts_that_parse():
    numbers = np.array([1.0, math.nan, math.inf])
    charts = [
        scatter(ANY_TEXT, [Point(ANY_TEXT, 0.0, 1.0, 0, True), Point("b", math.nan, 0.0, 0, True)], [ANY_TEXT]),
        scatter(ANY_TEXT, [Point("b", math.nan, 0.0, 0, True)], [ANY_TEXT]),
        line_chart(ANY_TEXT, [Line(ANY_TEXT, numbers, numbers, 0, "dots")], ANY_TEXT, ANY_TEXT, [Level(ANY_TEXT, 1.0)]),
        bar_chart(ANY_TEXT, [(ANY_TEXT, 1.0, ANY_TEXT), ("b", math.nan, "not known"), ("c", math.inf, "")]),
        heat_map(ANY_TEXT, np.array([[1.0, math.nan], [0.0, -1.0]]), [ANY_TEXT, "b"], ["a", ANY_TEXT]),
    ]
    for chart in charts:
        text = standalone(chart).encode("utf-8").decode("utf-8")
        ElementTree.fromstring(text)
        assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', text), text
