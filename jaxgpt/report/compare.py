"""Runs side by side: what each reached, how, and in which settings they differ."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgpt.errors import UserError
from jaxgpt.files import write_text
from jaxgpt.report.charts import Level, Line, line_chart, smooth
from jaxgpt.report.markup import escape
from jaxgpt.report.page import Section, figure, note, page, table
from jaxgpt.report.run_data import Record, read_record
from jaxgpt.report.training_sections import NAMELESS, SMOOTHED, facts, spell

BITS = "Bits per byte"  # as `facts` has it


def read_runs(paths: Sequence[str]) -> dict[str, Record]:
    """Returns runs by a name of their own; raises UserError for fewer than two, or one named twice."""
    records = {Path(path).resolve(): read_record(path) for path in paths}
    if len(records) < 2:
        raise UserError(f"compare: {len(records)} run was given; name two or more, for example runs/base runs/tiny")
    names = [record.name for record in records.values()]
    return {record.name if names.count(record.name) == 1 else str(path): record for path, record in records.items()}


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


def caution(records: dict[str, Record]) -> str:
    """Returns why the losses of these runs may not be compared, or nothing where they may."""
    runs = [record.run for record in records.values()]
    if not all(run.data.is_of_same_data(runs[0].data) for run in runs):
        return "These runs are measured on different text: a lower loss does not mean a better model."
    if _differ_in_tokens(records):
        return "These runs have different vocabularies: a loss per token does not compare, bits per byte do."
    return ""


def _differ_in_tokens(records: dict[str, Record]) -> bool:
    return len({record.run.tokenizer.fingerprint for record in records.values()}) > 1


def write_comparison(paths: Sequence[str]) -> tuple[Path, list[str]]:
    """Writes a page beside the first run; returns (where it is, the lines of its main table for a terminal).

    Raises UserError where fewer than two runs are given, or one is none.
    """
    records = read_runs(paths)
    rows = side_by_side(records)
    warning = caution(records)
    first = next(iter(records.values()))
    html = page(
        " and ".join(records) if len(records) == 2 else f"{len(records)} runs",
        "jaxgpt: runs side by side",
        warning or f"All measured on {first.run.data.full_name}, with one vocabulary: their losses compare.",
        [],
        [_measures(rows), _curves(records), _settings(records), _samples(records)],
    )
    file = first.run.path.parent / f"compare-{'-'.join(record.name for record in records.values())}.html"
    write_text(file, html)
    return file, [*_columns(rows), *([warning] if warning else [])]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append(f"{row[0]:{widths[0]}}  {'  '.join(cells)}")
    return lines


def _measures(rows: Sequence[Sequence[str]]) -> Section:
    lead = "Each run's main figures. The best validation loss is the one its kept checkpoint had."
    return Section("figures", "Figures", lead, table(rows[0], rows[1:], range(1, len(rows[0]))))


def _curves(records: dict[str, Record]) -> Section:
    """Returns the losses by step: in bits per byte where the runs' tokens differ, and their bytes are known."""
    in_bits = _differ_in_tokens(records) and all(
        record.run.data.bits_per_byte(split, 0.0) is not None
        for record in records.values()
        for split in ("train", "valid")
    )

    def loss(record: Record, split: str, nats: Any) -> Any:
        return record.run.data.bits_per_byte(split, nats) if in_bits else nats

    training, validation, floors = [], [], {}
    for colour, (name, record) in enumerate(records.items()):
        steps, nats = record.curve("loss")
        if len(steps):
            mean = smooth(nats, max(1, len(nats) // SMOOTHED))
            training.append(Line(name, steps, loss(record, "train", mean), colour))
        steps, nats = record.curve("valid_loss")
        validation.append(Line(name, steps, loss(record, "valid", nats), colour, "dots"))
        if record.floor is not None:
            floor = loss(record, "valid", record.floor)
            floors[f"entropy floor {floor:.4f}"] = floor
    levels = [Level(name, y) for name, y in floors.items()]
    unit = ", bits per byte" if in_bits else ""
    charts = [
        line_chart(f"Training loss{unit}, running mean", training, "step", ""),
        line_chart(f"Validation loss{unit}", validation, "step", "", levels),
    ]
    lead = (
        "By step: runs with larger batches see more text in each. A curve that ends lower on the same text is better."
    )
    body = f'<div class="grid">{"".join(figure(chart) for chart in charts)}</div>'
    return Section("curves", "How they learned", lead, body)


def _settings(records: dict[str, Record]) -> Section:
    settings = {name: _flat(record) for name, record in records.items()}
    fields = next(iter(settings.values()))
    rows = []
    for setting in fields:
        values = [spell(found[setting]) for found in settings.values()]
        if len(set(values)) > 1 and setting not in NAMELESS:
            rows.append([setting, *values])
    body = table(["Setting", *records], rows) if rows else note("None: these runs were asked for the same.")
    return Section("settings", "Where their settings differ", "What was asked for, and nothing that is equal.", body)


def _flat(record: Record) -> dict[str, Any]:
    sections = dataclasses.asdict(record.run.config)
    return {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}


def _samples(records: dict[str, Record]) -> Section:
    body = ""
    for name, record in records.items():
        said = f"<blockquote>{escape(record.samples[-1][1])}</blockquote>" if record.samples else note("Nothing yet.")
        body += f"<h3>{escape(name)}</h3>{said}"
    return Section("samples", "What they said last", "The sample of each run's last evaluation.", body)
