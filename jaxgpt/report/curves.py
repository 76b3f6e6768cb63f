"""How a run learned, as a section of its page: every measurement by step, by tokens or by time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgpt.report.charts import COLOURS, Level, Line, line_chart, smooth, thin
from jaxgpt.report.ngram import yardstick
from jaxgpt.report.page import Section, figure
from jaxgpt.report.run_data import Record
from jaxgpt.report.training_sections import SMOOTHED

SMALL, LARGE = (440, 220), (440, 300)
EARLY = 0.25  # of the steps: there the loss falls so far that nothing is seen of the rest
MOST_POINTS = 1_000  # of a curve that scripts draw


class Curve(NamedTuple):
    """A chart of the section: its title, the fields of metrics.jsonl that it draws, their unit, and what they mean."""

    title: str
    fields: tuple[str, ...]
    unit: str = ""
    caption: str = ""
    is_noisy: bool = False
    """Whether each step's value is faint, and the running mean drawn through."""


# Drawn in this order, each where one of its fields is on record.
UNDER_WAY = (
    Curve("Reward", ("reward", "valid_reward"), "", "Of the answers drawn, and of held-out questions.", is_noisy=True),
    Curve("Right", ("right", "valid_right"), "of 1", "Answers that are the corpus's own, to the last letter.", True),
    Curve(
        "Pairs the right way round",
        ("preferred", "valid_preferred"),
        "of 1",
        "Better answers with the higher reward.",
        True,
    ),
    Curve("Margin", ("margin", "valid_margin"), "nats", "How much higher the better answer's reward is.", True),
    Curve(
        "Text beside",
        ("text_loss", "valid_text_loss"),
        "nats a token",
        "What the text costs that is learned beside conversations, so that it is not forgotten.",
        True,
    ),
    Curve("Divergence from the reference", ("kl",), "nats a token", "How far the model has left where it began.", True),
    Curve(
        "Entropy",
        ("entropy",),
        "nats a token",
        "How unsure the answers are that it learns from. Near 0 nothing is left to try.",
        True,
    ),
    Curve(
        "Length of answers", ("answer_tokens",), "tokens", "Where it runs away, the reward may pay for length.", True
    ),
    Curve("Groups without a signal", ("no_signal",), "of 1", "All answers to the question are worth the same.", True),
    Curve("Learning rate", ("learning_rate",), "", "How far a step moves the parameters, as the schedule has it."),
    Curve(
        "Gradient norm",
        ("grad_norm",),
        "",
        "How steep the loss is, before the gradient is clipped. Peaks are batches that surprised the model.",
        is_noisy=True,
    ),
    Curve("Training speed", ("tokens_per_second",), "tokens a second", "Over the last 50 steps, evaluations left out."),
    Curve(
        "Model FLOPs utilization",
        ("mfu",),
        "of 1",
        "That speed as a share of what the machine's largest matrix products reach.",
    ),
)


def curves(record: Record) -> Section:
    """Returns the losses, large, and all that is measured under way."""
    unit = {"dpo": "pair", "grpo": "answer"}.get(record.run.config.objective.name, record.run.data.unit)
    levels = [] if record.floor is None else [Level(f"entropy floor {record.floor:.4f}", record.floor)]
    counting = yardstick(record.run)
    levels += [] if counting is None else [Level(f"counting (3-gram) {counting:.4f}", counting)]
    losses = [
        Line("training loss", *record.curve("loss"), 0, "raw"),
        Line("validation loss", *record.curve("valid_loss"), 1, "dots"),
    ]
    late = [line.after(record.steps * EARLY) for line in losses]
    title = f"Loss, nats per {unit}"
    plots = {"loss": drawn(title, losses, levels, size=LARGE)}
    plots["loss-late"] = drawn("After the first quarter, closer", late, levels, size=LARGE)
    large = figure(plots["loss"], _about_losses(record, counting), data=live(record, title, losses, levels))
    large += figure(plots["loss-late"], data=live(record, "After the first quarter, closer", late, levels))
    small = ""
    for curve in UNDER_WAY:
        lines = _lines(record, curve)
        if lines:
            title = f"{curve.title}, {curve.unit}" if curve.unit else curve.title
            shown = [lines[0]._replace(name="")] if len(lines) == 1 else lines  # the title names a single one
            plots[curve.fields[0]] = drawn(title, shown, from_zero=True, size=SMALL)
            data = live(record, title, lines, from_zero=True)
            small += figure(plots[curve.fields[0]], curve.caption, data=data)
    return Section(
        "curves",
        "How it learned",
        _about(record, unit),
        f'<div class="curves"><div class="grid">{large}</div><h3>Under way</h3><div class="grid">{small}</div></div>',
        plots,
        is_open=True,
    )


def drawn(
    title: str,
    lines: Sequence[Line],
    levels: Sequence[Level] = (),
    from_zero: bool = False,
    size: tuple[int, int] = LARGE,
) -> str:
    """Returns lines by step as an SVG; a "raw" one is faint, with its running mean drawn through."""
    parts = []
    for line in lines:
        if line.kind == "raw":
            finite = np.isfinite(line.y)
            x, y = line.x[finite], line.y[finite]
            mean = smooth(y, max(1, len(y) // SMOOTHED))
            parts += [line._replace(name="", kind="faint"), line._replace(x=x, y=mean, kind="line")]
        else:
            parts.append(line)
    return line_chart(title, parts, "step", "", levels, from_zero, size)


def live(
    record: Record,
    title: str,
    lines: Sequence[Line],
    levels: Sequence[Level] = (),
    from_zero: bool = False,
) -> dict[str, Any] | None:
    """Returns what scripts draw the same chart from, by step, tokens and time; None where nothing is measured."""
    series = [found for line in lines if (found := live_line(record, line)) is not None]
    shown = [[level.name, level.y] for level in levels if np.isfinite(level.y)]
    return {"title": title, "series": series, "levels": shown, "from_zero": from_zero} if series else None


def live_line(record: Record, line: Line) -> dict[str, Any] | None:
    """Returns one curve of a run for scripts: its steps, the tokens of a step, its time where it is on record."""
    finite = np.isfinite(line.x) & np.isfinite(line.y)
    if not finite.any():
        return None
    x, y = thin(line.x[finite], line.y[finite], MOST_POINTS)
    seconds = record.seconds_at(x)
    return {
        "name": line.name,
        "colour": line.colour,
        "kind": line.kind,
        "step": [round(value, 1) for value in x.tolist()],
        "step_tokens": record.step_tokens,
        "seconds": None if seconds is None else [round(value, 3) for value in seconds.tolist()],
        "y": [float(f"{value:.5g}") for value in y.tolist()],
    }


def _lines(record: Record, curve: Curve) -> list[Line]:
    """Returns the lines of a chart whose fields are on record, each in a colour of its own."""
    first = 2 + UNDER_WAY.index(curve)
    lines = []
    for place, name in enumerate(curve.fields):
        steps, values = record.curve(name)
        if np.isfinite(values).any():
            label = name.replace("_", " ")
            kind = "dots" if name.startswith("valid_") else "raw" if curve.is_noisy else "line"
            lines.append(Line(label, steps, values, (first + place) % COLOURS, kind))
    return lines


def _about_losses(record: Record, counting: float | None) -> str:
    told = "Each step's own loss is faint, its running mean drawn through."
    if record.floor is not None:
        told += (
            " No model can get below the entropy floor: it is the surprise that the source of this text has in itself."
        )
    if counting is not None:
        told += (
            f" The line at {counting:.4f} is the loss of a model that only counts how often a token followed the two "
            "before it."
        )
    return told


def _about(record: Record, unit: str) -> str:
    """Returns what the loss of the run's objective is."""
    if record.run.config.objective.name == "grpo":
        return (
            "The model answers, and those of its answers become likelier that are worth more than the others to the "
            "same question. The loss means nothing by itself, as each step has other answers: look at the reward, and "
            "whether length, entropy and divergence stay sound. The validation loss is the reward's negative."
        )
    if record.run.config.objective.name == "dpo":
        weight = record.run.config.objective.next_token_weight
        held = f", and {weight:g} times the nats that the better answer itself costs" if weight else ""
        return (
            "Loss is the surprise, in nats, that the better of two answers is the better one, by how much likelier "
            f"each has become, of which a coin's is 0.69{held}. Where validation rises again, pairs are learned by "
            "heart."
        )
    return (
        f"Loss is the surprise, in nats, at each true next {'token of a reply' if unit != 'token' else 'token'}: "
        "0 would be certainty. It falls steeply while the model learns which tokens are frequent at all, then slowly "
        "as it learns what follows what. Where validation stops following training, the model begins to learn by "
        "heart."
    )
