"""Makes the next batches while the device works on this one."""

import queue
import threading
from collections.abc import Callable, Generator
from typing import Any


def prefetch(make: Callable[[int], Any], start: int, stop: int, depth: int = 2) -> Generator[Any, None, None]:
    """Yields make(start), ..., make(stop - 1) in order, made up to `depth` ahead in a thread of their own.

    An exception in `make` is raised where its item would have come. The thread ends with the iterator.
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=depth)
    done = threading.Event()

    def offer(item: tuple[Any, BaseException | None]) -> bool:
        while not done.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        for index in range(start, stop):
            try:
                item = (make(index), None)
            except BaseException as error:
                item = (None, error)
            if not offer(item) or item[1] is not None:
                return

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        for _ in range(start, stop):
            value, error = ready.get()
            if error is not None:
                raise error
            yield value
    finally:
        done.set()
        thread.join()
