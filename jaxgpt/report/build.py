"""The report of a run: read what is on record, look inside its model, write one page and its charts."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from jaxgpt.buckets import failures, make_folder
from jaxgpt.errors import RunError, UserError
from jaxgpt.files import write_text
from jaxgpt.report import model_sections, training_sections
from jaxgpt.report.answer_sections import answers
from jaxgpt.report.charts import standalone
from jaxgpt.report.curves import curves
from jaxgpt.report.evaluation_sections import evaluations
from jaxgpt.report.header import header
from jaxgpt.report.page import Section, page
from jaxgpt.report.run_data import read_record
from jaxgpt.run.load import load_trained


def write_report(path: str | Path) -> Path:
    """Writes report.html and plots/ into a run's folder and returns where the page is.

    A run without a checkpoint gets a page of what it has. Raises UserError where there is no run, or it is damaged.
    """
    record = read_record(path)
    sections = [curves(record), *answers(record), *evaluations(record), training_sections.samples(record)]
    if record.checkpoint is not None:
        sections += model_sections.sections(load_trained(path), record)
    else:
        missing = "This run has no checkpoint yet. Make the report again when it has one."
        sections.append(Section("inside", "Inside the model", missing, ""))
    sections += [training_sections.parameters(record), training_sections.settings(record)]
    html = page(record.name, header(record), sections)
    file = record.run.path / "report.html"
    write_plots(record.run.path / "plots", sections)
    write_text(file, html)
    return file


def write_plots(folder: Path, sections: Iterable[Section]) -> None:
    """Writes every chart as an SVG file of its own."""
    make_folder(folder)
    for section in sections:
        for name, svg in section.plots.items():
            (folder / f"{name}.svg").write_text(standalone(svg), encoding="utf-8")


def written(file: Path) -> str:
    """Returns in words where a page is and how large."""
    size = len(file.read_bytes())
    return f"{file} ({size / 1e6:.1f} MB)" if size >= 1e6 else f"{file} ({size / 1e3:.0f} kB)"


def report_after(path: Path) -> str:
    """Writes the report of a run that has just ended; returns where it is, or why there is none.

    The run is finished and saved: whatever a page lacks must not make it look failed.
    """
    try:
        return written(write_report(path))
    except (UserError, RunError, OSError, *failures()) as error:
        again = shlex.join(["python", "-m", "jaxgpt", "report", str(path)])
        return f"not written ({error}); try {again}"
