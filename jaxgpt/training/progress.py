"""What a person sees during a run: a bar on a terminal, plain lines elsewhere."""

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.control import Control
from rich.live_render import LiveRender
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from jaxgpt.devices.distributed import is_primary


def clock(seconds: float) -> str:
    """Returns a duration as people write it: 42s, 3m 05s, 2h 10m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02d}s"
    return f"{seconds // 3600}h {seconds % 3600 // 60:02d}m"


LEAST_STEPS = 5  # that a speed is told from
BAR_WIDTH = 12
LINE_SECONDS = 20  # between the lines about an evaluation


class Field(NamedTuple):
    """A part of the line about a step; of least importance is what has the highest rank."""

    rank: int
    text: str


def fitting(fields: Sequence[Field], width: int) -> str:
    """Returns the fields side by side, as many as so many columns hold: the least important ones go first."""
    kept = list(fields)
    while len(line := "  ".join(field.text for field in kept)) > width and len(kept) > 1:
        kept.remove(max(kept, key=lambda field: field.rank))
    return line


class Fields(ProgressColumn):
    """The line about a step beside the bar, on one row of the terminal however narrow that is when it is drawn."""

    BESIDE = BAR_WIDTH + len("100%") + 3  # and a space after each

    def __init__(self, console: Console):
        self.console = console
        super().__init__(Column(no_wrap=True, overflow="crop"))

    def render(self, task: Task) -> Text:
        fields = task.fields.get("fields") or [Field(0, task.description)]
        return Text(fitting(fields, self.console.width - self.BESIDE))


class Reflowed(LiveRender):
    """Takes away all rows of a line that a terminal has wrapped, as it became narrower after the line was drawn."""

    def __init__(self, console: Console):
        self.console = console
        super().__init__("")

    def position_cursor(self) -> Control:
        if self._shape is not None:
            width, height = self._shape
            self._shape = width, height * max(1, math.ceil(width / self.console.width))
        return super().position_cursor()


class TrainingProgress:
    """Shows steps as they finish; use it in a `with` statement.

    Loss or reward is the mean since the last line, of the steps that have one; speed and time left are of the last
    steps, evaluations not counted.
    """

    def __init__(
        self, num_steps: int, start: int, tokens_per_step: int, log_every: int, peak_tokens_per_second: float | None
    ):
        self.num_steps, self.start, self.tokens_per_step, self.log_every = num_steps, start, tokens_per_step, log_every
        self.peak_tokens_per_second = peak_tokens_per_second
        self.shown: list[float] = []
        self.durations: deque[float] = deque(maxlen=50)
        self.last: float | None = None
        self.live = sys.stdout.isatty()
        console = Console(highlight=False, soft_wrap=True)
        columns = (BarColumn(bar_width=BAR_WIDTH), TaskProgressColumn(), Fields(console))
        self.bar = Progress(*columns, console=console, disable=not self.live)
        self.bar.live._live_render = Reflowed(console)
        self.task = self.bar.add_task("compiling", total=num_steps, completed=start)

    def __enter__(self) -> "TrainingProgress":
        if self.live:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    @property
    def tokens_per_second(self) -> float | None:
        """Training speed over the last steps; None before there are a few."""
        if len(self.durations) < LEAST_STEPS:
            return None
        return self.tokens_per_step * len(self.durations) / sum(self.durations)

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilization (Chowdhery et al. 2022): that speed over the speed at the devices' peak.

        None as well where it is above 1: the devices were busy with something else when that product was timed; and
        where no peak was given, as steps are not all that the time goes into.
        """
        if self.tokens_per_second is None or self.peak_tokens_per_second is None:
            return None
        share = self.tokens_per_second / self.peak_tokens_per_second
        return share if share <= 1 else None

    def tick(self) -> None:
        """Times the step that was dispatched last; call it once for each, at the same place of the loop.

        What comes between `skip` and the next tick, compiling and evaluation, is in no speed.
        """
        now = time.perf_counter()
        if self.last is not None:
            self.durations.append(now - self.last)
        self.last = now

    def skip(self) -> None:
        """Leaves the time since the last step out of the speed: it went into something else."""
        self.last = None

    def step(self, step: int, name: str, value: float, learning_rate: float) -> None:
        """Shows a finished step, and what it is followed by: its loss, or its reward."""
        if not math.isnan(value):
            self.shown.append(value)
        mean = f"{sum(self.shown) / len(self.shown):.3f}" if self.shown else "of none"
        fields = [
            Field(0, f"step {step}/{self.num_steps}"),
            Field(1, f"{name} {mean}"),
            Field(4, f"lr {learning_rate:.2e}"),
        ]
        if (speed := self.tokens_per_second) is not None:
            left = sum(self.durations) / len(self.durations) * (self.num_steps - step)
            fields.append(Field(3, f"{speed:,.0f} tokens/s"))
            if self.mfu is not None:
                fields.append(Field(5, f"{self.mfu:.0%} of peak"))
            fields.append(Field(2, f"{clock(left)} left"))
        if self.live:
            self.bar.update(self.task, completed=step, fields=fields)
        due = step % self.log_every == 0 or step == self.num_steps
        if due:
            if not self.live:
                print("  ".join(field.text for field in fields), flush=True)
            self.shown.clear()

    @contextlib.contextmanager
    def evaluating(self, what: str, num_batches: int) -> Iterator[Callable[[], None]]:
        """Shows an evaluation of so many batches below the bar; yields what to call before each."""
        task = self.bar.add_task(what, total=num_batches)
        try:
            yield lambda: self.bar.advance(task)
        finally:
            self.bar.remove_task(task)

    def say(self, text: str) -> None:
        """Prints above the bar."""
        if self.live:
            self.bar.console.print(text, markup=False)
        else:
            print(text, flush=True)


@contextlib.contextmanager
def evaluation_bar(what: str, num_batches: int) -> Iterator[Callable[[], None]]:
    """Shows an evaluation of so many batches on stderr; yields what to call before each.

    Where that is no terminal the first process writes a line now and then.
    """
    columns = (BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    live = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=not live, transient=True) as bar:
        task = bar.add_task(what, total=num_batches)
        done, said = 0, time.monotonic()

        def advance() -> None:
            nonlocal done, said
            bar.advance(task)
            if not live and is_primary() and time.monotonic() - said > LINE_SECONDS:
                print(f"{what}: {done / num_batches:.0%}", file=sys.stderr, flush=True)
                said = time.monotonic()
            done += 1

        yield advance
