"""The command line of train.py and finetune.py: a config file, any field overridden, one checked Config."""

import contextlib
import dataclasses
import difflib
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

from jaxgpt.config import Config, validate
from jaxgpt.errors import INTERRUPTED, RunError, UserError


@dataclass(frozen=True)
class TrainArguments:
    """What train.py and finetune.py are told."""

    settings: Annotated[Config, tyro.conf.arg(name="")]
    config: Annotated[str, tyro.conf.arg(metavar="FILE.py")] = "configs/base.py"
    """The preset whose values are the defaults of all fields below."""
    dry_run: bool = False
    """Print the resolved config, parameters, steps, memory and time, and stop."""


def parse_train(default_file: str, description: str | None, arguments: list[str] | None = None) -> TrainArguments:
    """Returns the checked arguments: the file given by --config, then the command line on top of it.

    Raises UserError for a config that cannot be; tyro itself prints help and unknown fields, and exits.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    file = _config_file(arguments) or default_file
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
    return dataclasses.replace(parsed, settings=validate(parsed.settings))


def _config_file(arguments: list[str]) -> str | None:
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
        raise UserError(f"{file}, line {error.lineno}: {error.msg}") from None
    except UserError:
        raise
    except Exception as error:
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


def _explain(error: Exception) -> str:
    """Returns what went wrong in a config file; an unknown field gets the nearest known one."""
    unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if unknown is None:
        return f"{type(error).__name__}: {error}"
    kind, key = unknown.groups()
    kinds = {hint.__name__: hint for hint in (Config, *typing.get_type_hints(Config).values())}
    known = [f.name for f in dataclasses.fields(kinds[kind])] if kind in kinds else []
    near = difflib.get_close_matches(key, known, n=1)
    guess = f"perhaps you meant {near[0]}" if near else f"known are {', '.join(known)}"
    return f"{kind} has no field {key}; {guess}"


def stop(error: UserError | RunError) -> NoReturn:
    """Prints an error meant for the user, and exits with its code."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """Turns the errors meant for the user, and a disk that fails, into one line and an exit code."""
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


def main(command: Callable[[], None]) -> None:
    """Runs a command with its errors in words."""
    with errors_in_words():
        command()
