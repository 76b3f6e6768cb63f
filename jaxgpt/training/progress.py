"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections import deque

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn


def clock(seconds: float) -> str:
    """Returns a duration as people write it: 42s, 3m 05s, 2h 10m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02d}s"
    return f"{seconds // 3600}h {seconds % 3600 // 60:02d}m"


class TrainingProgress:
    """Shows steps as they finish; use it in a `with` statement.

    Loss is the mean since the last line; speed and time left are of the last steps, evaluations not counted.
    """

    def __init__(self, num_steps: int, start: int, tokens_per_step: int, log_every: int, peak_tokens_per_second: float):
        self.num_steps, self.start, self.tokens_per_step, self.log_every = num_steps, start, tokens_per_step, log_every
        self.peak_tokens_per_second = peak_tokens_per_second
        self.losses: list[float] = []
        self.durations: deque[float] = deque(maxlen=50)
        self.last = time.perf_counter()
        self.live = sys.stdout.isatty()
        columns = (BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("{task.description}"))
        self.bar = Progress(*columns, console=Console(highlight=False, soft_wrap=True), disable=not self.live)
        self.task = self.bar.add_task("compiling", total=num_steps, completed=start)

    def __enter__(self) -> "TrainingProgress":
        if self.live:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    @property
    def tokens_per_second(self) -> float:
        """Training speed over the last steps."""
        return self.tokens_per_step * len(self.durations) / sum(self.durations) if self.durations else 0.0

    @property
    def utilisation(self) -> float:
        """That speed's share of what the devices would reach if a step were one large matrix product."""
        return self.tokens_per_second / self.peak_tokens_per_second

    def skip(self) -> None:
        """Leaves the time since the last step out of the speed: it went into something else."""
        self.last = time.perf_counter()

    def step(self, step: int, loss: float, learning_rate: float) -> None:
        """Notes a finished step."""
        now = time.perf_counter()
        if step > self.start + 1:  # the first step's time went into compiling
            self.durations.append(now - self.last)
        self.last = now
        self.losses.append(loss)
        left = sum(self.durations) / max(1, len(self.durations)) * (self.num_steps - step)
        line = (
            f"step {step}/{self.num_steps}  loss {sum(self.losses) / len(self.losses):.3f}  "
            f"lr {learning_rate:.2e}  {self.tokens_per_second:,.0f} tokens/s  {self.utilisation:.0%} of peak  "
            f"{clock(left)} left"
        )
        if self.live:
            self.bar.update(self.task, completed=step, description=line)
        due = step % self.log_every == 0 or step == self.num_steps
        if due:
            if not self.live:
                print(line, flush=True)
            self.losses.clear()

    def say(self, text: str) -> None:
        """Prints above the bar."""
        if self.live:
            self.bar.console.print(text, markup=False)
        else:
            print(text, flush=True)
