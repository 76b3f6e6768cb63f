"""What every command of ours runs in: errors in words, an exit code, streams that take any text."""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import tyro

from jaxgpt.buckets import failures
from jaxgpt.errors import INTERRUPTED, RunError, UserError, first_line, interrupts_as_they_were

LOOK_ALIKES = str.maketrans("·░▒▓█…–—’‘“”", ".:*%#.--''\"\"")
"""What stands for a character that a terminal has not; for all others a question mark does."""


def main(command: Callable[[], None]) -> None:
    """Runs a command with its errors in words."""
    with errors_in_words():
        command()


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """Turns the errors meant for the user, and a disk that fails, into one line and an exit code."""
    accept_any_text()
    obey_no_color()
    try:
        with interrupts_as_they_were():
            yield
    except (UserError, RunError) as error:
        stop(error)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone; there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(RunError.exit_code)
    except OSError as error:
        stop(UserError(f"{error.filename or 'system'}: {error.strerror or error}"))
    except failures() as error:
        stop(RunError(f"a bucket failed: {first_line(error)}"))
    except MemoryError:
        stop(RunError("out of memory; give a smaller model, a smaller batch or less text"))
    except RuntimeError as error:
        if "home directory" in str(error):  # what pathlib says of ~nobody
            stop(UserError("a path begins with ~ and the name of a user that this machine does not know; write it out"))
        if "RESOURCE_EXHAUSTED" in str(error):  # what JAX says
            stop(RunError(f"out of memory ({str(error).splitlines()[0]}); give a smaller model or a smaller batch"))
        raise


def stop(error: UserError | RunError) -> NoReturn:
    """Prints an error meant for the user, and exits with its code."""
    print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
    sys.exit(error.exit_code)


def accept_any_text() -> None:
    """Lets standard streams of any encoding take any text: what they cannot write or read is replaced, never raised."""
    codecs.register_error("look-alike", _replace)
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "look-alike"), (sys.stderr, "look-alike")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def obey_no_color() -> None:
    """Keeps tyro's help plain where NO_COLOR is set (no-color.org); rich looks by itself."""
    if os.environ.get("NO_COLOR"):
        tyro._experimental_options["ansi_codes"] = False


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Returns what is written in place of characters that cannot be, as `codecs.register_error` wants it."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(LOOK_ALIKES)
    return "".join(letter if letter.isascii() else "?" for letter in text), error.end
