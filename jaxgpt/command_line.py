"""The command line of train.py and finetune.py: a config file, any field overridden, one checked Config."""

import codecs
import contextlib
import dataclasses
import difflib
import io
import os
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import tyro

from jaxgpt.config import HOW_TO_TRAIN, Config, differences, validate
from jaxgpt.errors import INTERRUPTED, RunError, UserError


@dataclass(frozen=True)
class TrainArguments:
    """What train.py and finetune.py are told."""

    settings: Annotated[Config, tyro.conf.arg(name="")]
    config: Annotated[str, tyro.conf.arg(metavar="FILE.py")] = "configs/base.py"
    """The preset whose values are the defaults of all fields below."""
    dry_run: bool = False
    """Print the resolved config, parameters, steps, memory and time, and stop."""
    model_given: Annotated[bool, tyro.conf.Suppress] = False
    """Whether the command line says what the network is, over the preset."""


def parse_train(default_file: str, description: str | None, arguments: list[str] | None = None) -> TrainArguments:
    """Returns the checked arguments: the file given by --config, then the command line on top of it.

    Raises UserError for a config that cannot be; tyro itself prints help and unknown fields, and exits.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    file = config_file(arguments) or default_file
    from_file = load_config_file(file)
    parsed = tyro.cli(
        TrainArguments,
        args=arguments,
        default=TrainArguments(settings=from_file, config=file),
        description=description,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands),
    )
    if parsed.settings.run.name is None:
        raise UserError("run.name: None was given; it must be one folder's name")
    typed = {name for name, _, _ in differences(from_file, parsed.settings)}
    given = any(name.startswith("model.") for name in typed - HOW_TO_TRAIN)
    return dataclasses.replace(parsed, settings=validate(parsed.settings), model_given=given)


def config_file(arguments: list[str]) -> str | None:
    """Returns the value of --config, which must be known before the other fields have defaults."""
    for place, here in enumerate(arguments):
        if here.startswith("--config="):
            return here.removeprefix("--config=")
        if here == "--config":
            following = arguments[place + 1 : place + 2]
            if not following or following[0].startswith("--"):
                raise UserError("--config: no file was given; for example --config configs/base.py")
            return following[0]
    return None


def load_config_file(file: str) -> Config:
    """Returns the checked Config that a Python file calls `config`; the run is named after the file.

    Raises UserError, with the line where it can be known, for a file that is missing, broken or without one.
    """
    path = Path(file)
    if not path.is_file():
        presets = sorted(str(near) for near in (path.parent, Path("configs")) for near in near.glob("*.py"))
        near = difflib.get_close_matches(file, presets, n=1)
        guess = f"perhaps you meant {near[0]}" if near else f"there are: {', '.join(presets) or 'none here'}"
        raise UserError(f"--config: no file {file}; {guess}")
    scope: dict[str, object] = {"__name__": "config", "__file__": str(path)}
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), scope)
    except SyntaxError as error:
        where = file if error.lineno is None else f"{file}, line {error.lineno}"
        raise UserError(f"{where}: {error.msg}") from None
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a config file is a program: it may even exit
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{file}, line {lines[-1]}" if lines else file
        raise UserError(f"{where}: {_explain(error)}") from None
    config = scope.get("config")
    if not isinstance(config, Config):
        raise UserError(f"{file}: it defines no `config = Config(...)`; see configs/base.py for one")
    if config.run.name is None:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, name=path.stem))
    try:
        return validate(config)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _explain(error: BaseException) -> str:
    """Returns what went wrong in a config file; an unknown field gets the nearest known one."""
    try:
        words = str(error)
    except Exception:  # an exception of the file's own may not even say what it is
        words = ""
    unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", words)
    if unknown is None:
        return f"{type(error).__name__}: {words}"[:500]
    kind, key = unknown.groups()
    kinds = {hint.__name__: hint for hint in (Config, *typing.get_type_hints(Config).values())}
    known = [f.name for f in dataclasses.fields(kinds[kind])] if kind in kinds else []
    near = difflib.get_close_matches(key, known, n=1)
    guess = f"perhaps you meant {near[0]}" if near else f"known are {', '.join(known)}"
    return f"{kind} has no field {key}; {guess}"


def stop(error: UserError | RunError) -> NoReturn:
    """Prints an error meant for the user, and exits with its code."""
    print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
    sys.exit(error.exit_code)


# What stands for a character that a terminal has not; for all others a question mark does.
LOOK_ALIKES = str.maketrans("·░▒▓█…–—’‘“”", ".:*%#.--''\"\"")


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Returns what is written in place of characters that cannot be, as `codecs.register_error` wants it."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(LOOK_ALIKES)
    return "".join(letter if letter.isascii() else "?" for letter in text), error.end


def accept_any_text() -> None:
    """Lets standard streams of any encoding take any text: what they cannot write or read is replaced, never raised."""
    codecs.register_error("look-alike", _replace)
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "look-alike"), (sys.stderr, "look-alike")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """Turns the errors meant for the user, and a disk that fails, into one line and an exit code."""
    accept_any_text()
    try:
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
    except MemoryError:
        stop(RunError("out of memory; give a smaller model, a smaller batch or less text"))
    except RuntimeError as error:
        if "home directory" in str(error):  # what pathlib says of ~nobody
            stop(UserError("a path begins with ~ and the name of a user that this machine does not know; write it out"))
        if "RESOURCE_EXHAUSTED" in str(error):  # what JAX says
            stop(RunError(f"out of memory ({str(error).splitlines()[0]}); give a smaller model or a smaller batch"))
        raise


def main(command: Callable[[], None]) -> None:
    """Runs a command with its errors in words."""
    with errors_in_words():
        command()
