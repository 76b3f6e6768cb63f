"""The top of a run's page: what came of it in a sentence and some figures, its curve, an example, commands to copy."""

import contextlib
import shlex
from collections import Counter
from datetime import datetime
from typing import Any

import numpy as np

from jaxgpt.report.charts import smooth, thin
from jaxgpt.report.markup import escape
from jaxgpt.report.page import figure, heading
from jaxgpt.report.run_data import Record
from jaxgpt.report.training_sections import SMOOTHED, facts, result_sentence
from jaxgpt.training.progress import clock

MOST_LETTERS = 400  # of the example


def header(record: Record) -> str:
    """Returns the HTML of the top of a run's page; what is not on record is left out."""
    kind = "a model that talks" if record.run.data.is_chat else "a language model"
    known = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts(record))
    top = heading(
        record.name,
        f"jaxgpt: {kind}, trained on {record.run.data.full_name}",
        result_sentence(record),
        " · ".join(part for part in (_date(record.machine), _duration(record), _machine(record.machine)) if part),
    )
    glance = _curve(record) + _example(record)
    return f"""{top}
<dl class="facts">{known}</dl>
<div class="glance">{glance}</div>
<div class="commands">{"".join(_command(command) for command in _commands(record))}</div>"""


def _date(machine: dict[str, Any]) -> str:
    """Returns when the first of the run's starts was, or "" where run.json does not have it."""
    earlier = machine.get("earlier")
    first = earlier[0] if isinstance(earlier, list) and earlier and isinstance(earlier[0], dict) else machine
    with contextlib.suppress(ValueError, TypeError):
        when = datetime.fromisoformat(first.get("started"))  # type: ignore[arg-type]
        return f"{when.day} {when:%B %Y}"
    return ""


def _duration(record: Record) -> str:
    return "" if record.wall_seconds is None else clock(record.wall_seconds)


def _machine(machine: dict[str, Any]) -> str:
    counted = Counter(map(str, machine.get("devices", [])))
    devices = " and ".join(name if count == 1 else f"{count} × {name}" for name, count in counted.items())
    return ", ".join(part for part in (devices, str(machine.get("platform", "")).split("-with-")[0]) if part)


def _commands(record: Record) -> list[str]:
    """Returns the command that made the run, where that is on record, and one that uses it."""
    made = record.machine.get("command")
    path = str(record.run.path)
    use = (
        ["chat", path] if record.run.data.is_chat else ["sample", path, "--prompt", record.run.config.run.sample_prompt]
    )
    commands = [made] if isinstance(made, str) else []
    if record.checkpoint is not None:
        commands.append(shlex.join(["python", "-m", "jaxgpt", *use]))
    return commands


def _command(command: str) -> str:
    return f'<div class="command"><code tabindex="0">{escape(command)}</code></div>'


def _curve(record: Record) -> str:
    followed = "reward" if record.run.config.objective.name == "grpo" else "loss"
    steps, values = record.curve(followed)
    finite = np.isfinite(values)
    if finite.sum() < 2:
        return ""
    values = values[finite]
    mean = smooth(values, max(1, len(values) // SMOOTHED))
    told = f"Training {followed} over {int(steps[-1]):,} steps, from {mean[0]:.2f} to {mean[-1]:.2f}"
    return figure(sparkline(told, steps[finite], mean), told)


def _example(record: Record) -> str:
    if not record.samples:
        return ""
    step, text = record.samples[-1]
    shown = text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"
    caption = f"What it says after step {step:,}"
    said = f'<blockquote tabindex="0">{escape(shown)}</blockquote>'  # it may scroll, by keyboard too
    return f"<figure>{said}<figcaption>{caption}</figcaption></figure>"


def sparkline(title: str, x: np.ndarray, y: np.ndarray, size: tuple[int, int] = (300, 64)) -> str:
    """Returns two points or more of a curve, all finite, without axes; a dot marks where it ends."""
    x, y = thin(x, y, 100)
    width, height = size
    px = 4 + (x - x[0]) / ((x[-1] - x[0]) or 1) * (width - 8)
    py = 4 + (y.max() - y) / ((y.max() - y.min()) or 1) * (height - 8)
    points = [f"{a:.1f} {b:.1f}" for a, b in zip(px, py, strict=True)]
    dot = f'<circle class="f0" cx="{px[-1]:.1f}" cy="{py[-1]:.1f}" r="3.2"/>'
    named = escape(title)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{named}"><title>{named}</title>'
        f'<path class="line s0" d="M{"L".join(points)}"/>{dot}</svg>'
    )
