"""The two ways a command ends early, the user can mend it (exit 2) or it failed (exit 1); how errors show values."""

import contextlib
from collections.abc import Iterator
from typing import Any

JSON_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}
"""What Python calls a kind of value -> what JSON does, with its article."""
INTERRUPTED = 130  # the exit code after Ctrl-C, as shells have it


class UserError(Exception):
    """Bad input: the message says which field or file, what was given, what is allowed and what to do."""

    exit_code = 2


class RunError(Exception):
    """The input was fine but the work could not be done (a full disk, a broken checkpoint)."""

    exit_code = 1


@contextlib.contextmanager
def interrupts_as_they_were() -> Iterator[None]:
    """Raises KeyboardInterrupt where an error began with one: JAX makes another of it, ValueError where it compares."""
    try:
        yield
    except Exception as error:
        began: BaseException | None = error
        while began is not None:
            if isinstance(began, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            began = began.__cause__ or began.__context__
        raise


def shown(value: Any) -> str:
    """Returns a value as Python writes it, on one short line."""
    try:
        words = ascii(value) if isinstance(value, str) and not is_text(value) else repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        words = "a number of thousands of digits"
    return clipped(words)


def kind_in_json(value: Any) -> str:
    """Returns what JSON calls a value's kind, with its article."""
    return JSON_KINDS.get(type(value), type(value).__name__)


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says, or else its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def clipped(words: str) -> str:
    """Returns words of unknown origin on one line that is not too long to print."""
    words = " ".join(words.split())
    return words if len(words) <= 100 else f"{words[:97]}..."


def is_text(value: str) -> bool:
    """Whether files can hold a text and be named by it: it has no NUL and no half of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
