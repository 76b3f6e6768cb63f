"""A race: every entrant's quickest mode is found, then all run the same work in turn, round after round."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.entrant import Entrant

WARM_UP = 2  # amounts of work before anything is timed
TRIAL = 3  # amounts of work by which modes are compared


@dataclass(frozen=True)
class Mode:
    """One way to start an entrant: which module, with what, and a name for the table."""

    entrant: str
    label: str
    module: str
    arguments: dict[str, Any]


def start(mode: Mode, log: Any) -> Entrant:
    return Entrant(f"{mode.entrant} ({mode.label})", mode.module, mode.arguments, log)


def step_seconds(child: Entrant) -> float:
    """Returns what a step takes, once it is warm."""
    child.run(WARM_UP)
    return child.run(TRIAL)["seconds"] / TRIAL


def quickest(modes: Sequence[Mode], log: Any, say: Callable[[str], None]) -> tuple[Mode | None, dict[str, Any]]:
    """Returns the mode with the highest rate, and every mode's seconds; a mode that fails is named and left out."""
    if len(modes) == 1:
        return modes[0], {}
    trials: dict[str, Any] = {}
    best, best_seconds = None, float("inf")
    for mode in modes:
        try:
            child = start(mode, log)
            seconds = step_seconds(child)
            child.close()
        except RuntimeError as error:
            say(f"  {mode.entrant} {mode.label}: failed ({error})")
            trials[mode.label] = None
            continue
        say(f"  {mode.entrant} {mode.label}: {seconds * 1e3:,.0f} ms")
        trials[mode.label] = seconds
        if seconds < best_seconds:
            best, best_seconds = mode, seconds
    return best, trials


def run_rounds(children: Sequence[Entrant], rounds: int, amount: int) -> list[list[dict[str, Any]]]:
    """Returns each child's answers, one a round; the children take turns, and only one works at a time."""
    answers: list[list[dict[str, Any]]] = [[] for _ in children]
    for child in children:
        child.run(WARM_UP)
    for _ in range(rounds):
        for child, mine in zip(children, answers, strict=True):
            mine.append(child.run(amount))
    return answers


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns median, min and max."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
