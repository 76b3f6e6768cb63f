"""Speed is told from enough steps, and never as more than the machine can do."""

import io
import itertools

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn

from jaxgpt.training import progress
from jaxgpt.training.progress import LEAST_STEPS, Field, Fields, TrainingProgress, fitting


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by as many seconds as it is given, at each look."""

    def set_to(seconds: list[float]) -> None:
        times = itertools.accumulate(seconds)
        monkeypatch.setattr(progress.time, "perf_counter", lambda: next(times))

    return set_to


def speeds(clock, seconds: list[float], peak: float = 1e9) -> TrainingProgress:
    clock([0.0, *seconds])
    shown = TrainingProgress(100, 0, 1_000, 1, peak)
    for _ in range(1 + len(seconds)):
        shown.tick()
    return shown


def test_no_speed_is_told_from_a_few_steps(clock, capsys):
    shown = speeds(clock, [1e-4] * (LEAST_STEPS - 1))
    assert shown.tokens_per_second is None
    assert shown.mfu is None
    shown.step(2, "loss", 1.0, 1e-3)
    assert capsys.readouterr().out == "step 2/100  loss 1.000  lr 1.00e-03\n"


def test_a_step_without_a_loss_is_left_out_of_the_mean(capsys):
    shown = TrainingProgress(100, 0, 1_000, 2, None)
    for step, loss in enumerate([1.0, float("nan"), float("nan"), float("nan")], start=1):
        shown.step(step, "loss", loss, 1e-3)
    assert capsys.readouterr().out.splitlines() == [
        "step 2/100  loss 1.000  lr 1.00e-03",
        "step 4/100  loss of none  lr 1.00e-03",
    ]


def test_speed_is_that_of_the_steps_between_the_ticks(clock, capsys):
    shown = speeds(clock, [0.5] * LEAST_STEPS, peak=8_000)
    assert shown.tokens_per_second == 2_000
    shown.step(6, "loss", 1.0, 1e-3)
    assert "2,000 tokens/s  25% of peak  47s left" in capsys.readouterr().out


def test_a_share_of_peak_above_one_is_not_told(clock, capsys):
    shown = speeds(clock, [0.5] * LEAST_STEPS, peak=1_000)
    assert shown.mfu is None
    shown.step(6, "loss", 1.0, 1e-3)
    assert "peak" not in capsys.readouterr().out


def test_what_is_skipped_is_in_no_speed(clock):
    clock([0.0, *[1.0] * LEAST_STEPS, 100.0, 1.0, 1.0])
    shown = TrainingProgress(100, 0, 1_000, 1, 1e9)
    for _ in range(1 + LEAST_STEPS):
        shown.tick()
    shown.skip()
    for _ in range(3):
        shown.tick()
    assert shown.tokens_per_second == pytest.approx(1_000, rel=1e-3)


LINE = [
    Field(0, "step 1000/1728"),
    Field(1, "loss 2.345"),
    Field(4, "lr 1.00e-03"),
    Field(3, "25,300 tokens/s"),
    Field(5, "42% of peak"),
    Field(2, "3m 16s left"),
]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (120, "step 1000/1728  loss 2.345  lr 1.00e-03  25,300 tokens/s  42% of peak  3m 16s left"),
        (100, "step 1000/1728  loss 2.345  lr 1.00e-03  25,300 tokens/s  3m 16s left"),
        (80, "step 1000/1728  loss 2.345  25,300 tokens/s  3m 16s left"),
        (60, "step 1000/1728  loss 2.345  3m 16s left"),
        (36, "step 1000/1728"),
        (5, "step 1000/1728"),  # which the terminal cuts
    ],
)
def test_what_matters_least_gives_way(columns, line):
    assert fitting(LINE, columns - Fields.BESIDE) == line


@pytest.mark.parametrize("columns", [20, 60, 80, 200])
def test_the_bar_and_its_line_take_one_row(columns):
    console = Console(width=columns, file=io.StringIO(), force_terminal=True, soft_wrap=True)
    bar = Progress(
        BarColumn(bar_width=progress.BAR_WIDTH),
        TaskProgressColumn(),
        Fields(console),
        console=console,
        auto_refresh=False,
    )
    bar.add_task("", total=10, completed=5, fields=LINE)
    rows = console.render_lines(bar.get_renderable())
    assert len(rows) == 1
    assert sum(len(segment.text) for segment in rows[0]) <= columns


def test_where_there_is_no_terminal_a_long_evaluation_says_how_far_it_is(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.evaluation_bar("scoring", 100) as advance:
        for _ in range(100):
            advance()
            now += 0.5
    assert capsys.readouterr().err == "scoring: 41%\nscoring: 82%\n"
