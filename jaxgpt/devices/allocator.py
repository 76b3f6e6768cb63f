"""What the process does with memory it has freed: keeps it for the next step, and gives it back before the first."""

import ctypes
import sys
from typing import Any


def _glibc() -> Any:
    """Returns the C library where it is glibc's, else None."""
    return libc if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt") else None


def keep_freed_memory() -> None:
    """Has glibc keep what the process frees: a step on CPU frees hundreds of megabytes, and asks for them again.

    Given back to the system they return as fresh pages, each zeroed at its first touch: a fifth of a step's time.
    Elsewhere than on Linux with glibc nothing is changed.
    """
    if libc := _glibc():
        trim_threshold, mmap_max, arena_max = -1, -4, -8  # of <malloc.h>
        libc.mallopt(arena_max, 1)  # threads' own arenas would map and unmap large blocks
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def give_back_freed_memory() -> None:
    """Returns what is free now to the system: after compiling it lies in pieces that no step's arrays fit into."""
    if libc := _glibc():
        libc.malloc_trim(0)
