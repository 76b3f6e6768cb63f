"""What a run has been evaluated on, as a section of its page."""

from jaxgpt.report.page import Section, table
from jaxgpt.report.run_data import Record
from jaxgpt.run.evaluations import Evaluation, read_evaluations

OF_ALL = 4  # metrics that are shown at once; a task by kinds has many
HEADS = ("Task", "Step", "Metric", "Value", "Standard error", "Examples", "By")
NUMBERS = (1, 3, 4, 5)


def evaluations(record: Record) -> list[Section]:
    """Returns the section, the latest evaluation first; none where there was none."""
    found = [_told(evaluation) for evaluation in reversed(read_evaluations(record.run.path))]
    if not found:
        return []
    rows, rest = ([row for told in found for row in told[part]] for part in (slice(OF_ALL), slice(OF_ALL, None)))
    more = f"<details><summary>The others</summary>{table(HEADS, rest, NUMBERS)}</details>" if rest else ""
    about = (
        "What tasks came to (jaxgpt evaluate RUN --tasks ...). A standard error says how far chance alone moves a "
        "number: of two that differ by less than both of theirs neither is the better."
    )
    return [Section("evaluations", "Evaluations", about, table(HEADS, rows, NUMBERS) + more)]


def _told(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Returns a row for each metric that has a value."""
    rows = []
    for name, value in evaluation.metrics.items():
        first, *kind = name.split(",")
        if value is None or first.endswith("_stderr"):
            continue
        error = evaluation.metrics.get(",".join([f"{first}_stderr", *kind]))
        rows.append(
            (
                evaluation.task,
                f"{evaluation.step:,}",
                ", ".join([first, *kind]),
                f"{value:.4f}",
                "" if error is None else f"{error:.4f}",
                "" if evaluation.examples is None else f"{evaluation.examples:,}",
                evaluation.harness,
            )
        )
    return rows
