"""Runs side by side, the best first: in which settings they differ, what each reached, how; a sweep as one curve."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgpt.buckets import path_of
from jaxgpt.data.manifest import ChatCounts
from jaxgpt.errors import UserError
from jaxgpt.files import write_text
from jaxgpt.report.charts import COLOURS, Level, Line, line_chart
from jaxgpt.report.curves import drawn, live_line
from jaxgpt.report.markup import escape
from jaxgpt.report.page import Section, figure, heading, note, page, table
from jaxgpt.report.run_data import Record, read_record
from jaxgpt.report.training_sections import NAMELESS, facts, spell

BITS = "Bits per byte"  # as `facts` has it
LEAST_SWEPT = 3  # runs that make a curve


def read_runs(paths: Sequence[str]) -> dict[str, Record]:
    """Returns runs by a name of their own, the best first where their losses compare, otherwise as they were given.

    Raises UserError for fewer than two, or one named twice.
    """
    records = {path_of(path).resolve(): read_record(path) for path in paths}
    if len(records) < len(paths):
        raise UserError(f"compare: a run was given twice ({', '.join(paths)}); name each once")
    if len(records) < 2:
        given = "1 run was" if records else "no run was"
        raise UserError(f"compare: {given} given; name two or more, for example runs/base runs/tiny")
    names = [record.name for record in records.values()]
    named = {record.name if names.count(record.name) == 1 else str(path): record for path, record in records.items()}
    if not (_same_data(named) and _same_objective(named)) or (
        _differ_in_tokens(named) and None in map(_bits, named.values())
    ):
        return named
    score = _bits if _differ_in_tokens(named) else _loss
    scores = {name: score(record) for name, record in named.items()}
    return dict(sorted(named.items(), key=lambda item: math.inf if (s := scores[item[0]]) is None else s))


def _loss(record: Record) -> float | None:
    return None if record.best is None else record.best[1]


def _bits(record: Record) -> float | None:
    return None if record.best is None else record.run.data.bits_per_byte("valid", record.best[1])


def side_by_side(records: dict[str, Record]) -> list[list[str]]:
    """Returns the rows of a table: its head, then each measure of every run, empty where it is not known.

    Of the losses that one comes first by which the runs compare.
    """
    known = {name: dict(facts(record)) for name, record in records.items()}
    measures = list(dict.fromkeys(measure for found in known.values() for measure in found))
    if _differ_in_tokens(records) and BITS in measures:
        measures.remove(BITS)
        measures.insert(measures.index("Steps") + 1, BITS)
    return [["", *records], *([measure, *(found.get(measure, "") for found in known.values())] for measure in measures)]


def differing(records: dict[str, Record]) -> dict[str, list[Any]]:
    """Returns the settings in which the runs differ, each with the value of every run."""
    settings = [_flat(record) for record in records.values()]
    found = {name: [values[name] for values in settings] for name in settings[0] if name not in NAMELESS}
    return {name: values for name, values in found.items() if len(set(map(spell, values))) > 1}


def _flat(record: Record) -> dict[str, Any]:
    sections = dataclasses.asdict(record.run.config)
    return {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}


class Sweep(NamedTuple):
    """Runs that differ in one number alone: the best validation loss of each, by that number, from small to large."""

    field: str
    values: list[float]
    losses: list[float]


def sweep(records: dict[str, Record]) -> Sweep | None:
    """Returns three runs or more as one curve, where they differ in one numeric setting; seeds may differ besides."""
    fields = differing(records)
    if len(fields) > 1:
        fields.pop("run.seed", None)
    if len(records) < LEAST_SWEPT or len(fields) != 1 or caution(records):
        return None
    ((field, values),) = fields.items()
    losses = [_loss(record) for record in records.values()]
    points = [
        (float(value), loss)
        for value, loss in zip(values, losses, strict=True)
        if isinstance(value, int | float) and not isinstance(value, bool) and loss is not None
    ]
    if len(points) < len(records):
        return None
    points.sort()
    return Sweep(field, [value for value, _ in points], [loss for _, loss in points])


def caution(records: dict[str, Record]) -> str:
    """Returns why the losses of these runs may not be compared, or nothing where they may."""
    if not _same_data(records):
        return "These runs are measured on different text: a lower loss does not mean a better model."
    if not _same_objective(records):
        return "These runs learned from different objectives, or objectives set otherwise: their losses do not compare."
    if _differ_in_tokens(records):
        return "These runs have different vocabularies: a loss per token does not compare, bits per byte do."
    return ""


def _same_data(records: dict[str, Record]) -> bool:
    """Returns whether the losses of runs are of one text: of conversations those count that fit in data.seq_len."""
    manifests = [record.run.data for record in records.values()]
    fitting = {
        (counts.kept, counts.cut, counts.dropped)
        for manifest in manifests
        if isinstance(counts := manifest.splits.get("valid"), ChatCounts)
    }
    return all(manifest.is_of_same_data(manifests[0]) for manifest in manifests) and len(fitting) <= 1


# The fields that a loss is made of, beside the name; what else an objective has says how it is learned.
IN_THE_LOSS = {"dpo": ("beta", "label_smoothing", "next_token_weight"), "grpo": ("reward", "length_reward")}


def _same_objective(records: dict[str, Record]) -> bool:
    """Returns whether the losses of runs are of one kind."""
    asked = [record.run.config.objective for record in records.values()]
    fields = ["name", *IN_THE_LOSS.get(asked[0].name, ())]
    return len({tuple(getattr(objective, field) for field in fields) for objective in asked}) == 1


def _differ_in_tokens(records: dict[str, Record]) -> bool:
    return len({record.run.tokenizer.fingerprint for record in records.values()}) > 1


def write_comparison(paths: Sequence[str]) -> tuple[Path, list[str]]:
    """Writes a page beside the first run given; returns (where it is, its settings and figures for a terminal).

    Raises UserError where fewer than two runs are given, or one is none.
    """
    records = read_runs(paths)
    warning, swept = caution(records), sweep(records)
    first = next(iter(records.values()))
    html = page(
        " and ".join(records) if len(records) == 2 else f"{len(records)} runs",
        heading(
            " and ".join(records) if len(records) == 2 else f"{len(records)} runs",
            "jaxgpt: runs side by side",
            warning or f"All measured on {first.run.data.full_name}, with one vocabulary: their losses compare.",
            "" if warning or first.best is None else f"The best: {next(iter(records))}",
        ),
        [
            *([_swept(swept)] if swept else []),
            _settings(records),
            _measures(records),
            _curves(records),
            _samples(records),
        ],
    )
    names = "-".join(dict.fromkeys(path_of(path).resolve().name for path in paths))
    file = path_of(paths[0]).parent / f"compare-{names}.html"
    if len(file.name.encode()) > 200:  # more than a file system may take
        file = file.with_name(f"compare-{len(records)}-runs.html")
    write_text(file, html)
    return file, in_lines(records, swept, warning)


def in_lines(records: dict[str, Record], swept: Sweep | None, warning: str) -> list[str]:
    """Returns a comparison for a terminal: settings, figures, the sweep, a warning."""
    head, *figures = side_by_side(records)
    settings = [[name, *map(spell, values)] for name, values in differing(records).items()]
    lines = _columns([head, *settings, *figures])
    if swept:
        worst = max(swept.losses) - min(swept.losses)
        lines += ["", f"best validation loss by {swept.field}"]
        for value, loss in zip(swept.values, swept.losses, strict=True):
            bar = "█" * round(40 * (loss - min(swept.losses)) / worst) if worst else ""
            lines.append(f"  {spell(value):>8}  {loss:.4f}  {bar}".rstrip())
    return [*lines, *([warning] if warning else [])]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append(f"{row[0]:{widths[0]}}  {'  '.join(cells)}")
    return lines


def _swept(swept: Sweep) -> Section:
    by_decades = min(swept.values) > 0 and max(swept.values) >= 10 * min(swept.values)
    line = Line("", np.array(swept.values), np.array(swept.losses), 0, "dots")
    title = f"Best validation loss by {swept.field}"
    plot = line_chart(title, [line], swept.field, "", size=(560, 300), by_decades=by_decades)
    rows = [(spell(value), f"{loss:.4f}") for value, loss in zip(swept.values, swept.losses, strict=True)]
    body = f'<div class="grid">{figure(plot)}<div>{table((swept.field, "Best valid loss"), rows, (1,))}</div></div>'
    lead = "These runs differ in this number alone, so it is what makes the difference; seeds may add some noise."
    return Section("sweep", "The sweep", lead, body, is_open=True)


def _measures(records: dict[str, Record]) -> Section:
    rows = side_by_side(records)
    lead = "Each run's main figures. The best validation loss is the one its kept checkpoint had."
    return Section("figures", "Figures", lead, table(rows[0], rows[1:], range(1, len(rows[0]))), is_open=True)


def _curves(records: dict[str, Record]) -> Section:
    """Returns the losses: in bits per byte where the runs' tokens differ, and their bytes are known."""
    in_bits = _differ_in_tokens(records) and all(
        record.run.data.bits_per_byte(split, 0.0) is not None
        for record in records.values()
        for split in ("train", "valid")
    )

    def loss(record: Record, split: str, nats: Any) -> Any:
        return record.run.data.bits_per_byte(split, nats) if in_bits else nats

    floors: dict[str, float] = {}
    for record in records.values():
        if record.floor is not None:
            floor = loss(record, "valid", record.floor)
            floors[f"entropy floor {floor:.4f}"] = floor
    levels = [Level(name, y) for name, y in floors.items()]
    charts = []
    unit = ", bits per byte" if in_bits else ""
    for title, field, split, kind, beside in (
        (f"Training loss{unit}, running mean", "loss", "train", "raw", []),
        (f"Validation loss{unit}", "valid_loss", "valid", "dots", levels),
    ):
        lines = []
        for colour, (name, record) in enumerate(records.items()):
            steps, nats = record.curve(field)
            lines.append(Line(name, steps, loss(record, split, nats), colour % COLOURS, kind))
        of = zip(records.values(), lines, strict=True)
        series = [found for record, line in of if (found := live_line(record, line)) is not None]
        shown = [[level.name, level.y] for level in beside]
        data = {"title": title, "series": series, "levels": shown, "from_zero": False} if series else None
        charts.append(figure(drawn(title, lines, beside), data=data))
    lead = "Runs with larger batches see more tokens in each step. A curve that ends lower on the same text is better."
    body = f'<div class="curves"><div class="grid">{"".join(charts)}</div></div>'
    return Section("curves", "How they learned", lead, body, is_open=True)


def _settings(records: dict[str, Record]) -> Section:
    rows = [[name, *map(spell, values)] for name, values in differing(records).items()]
    body = table(["Setting", *records], rows) if rows else note("None: these runs were asked for the same.")
    lead = "What was asked for, and nothing that is equal."
    return Section("settings", "Where their settings differ", lead, body, is_open=True)


def _samples(records: dict[str, Record]) -> Section:
    body = ""
    for name, record in records.items():
        said = f"<blockquote>{escape(record.samples[-1][1])}</blockquote>" if record.samples else note("Nothing yet.")
        body += f"<h3>{escape(name)}</h3>{said}"
    return Section("samples", "What they said last", "The sample of each run's last evaluation.", body)
