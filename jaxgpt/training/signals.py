"""Being asked to stop: Ctrl-C by a person, SIGTERM by a scheduler."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

from jaxgpt.errors import interrupts_as_they_were


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], int]]:
    """Yields a function that returns the signal that asked to stop, Ctrl-C's or SIGTERM; 0 before one came.

    A second Ctrl-C interrupts at once.
    """
    asked = 0

    def note(number: int, frame: Any) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        again = "; press Ctrl-C again to leave without saving" if number == signal.SIGINT else ""
        os.write(2, f"\nsaving after this step, then stopping{again}\n".encode())  # print may be busy
        asked = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with interrupts_as_they_were():
            yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
