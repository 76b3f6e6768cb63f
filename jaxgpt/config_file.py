"""A config file: a Python program that defines `config`, one of the presets or the user's own."""

import dataclasses
import difflib
import re
import shlex
import traceback
import typing
from pathlib import Path

from jaxgpt.allowed import longest_window, validate
from jaxgpt.config import Config
from jaxgpt.errors import UserError

PRESETS = Path(__file__).with_name("presets")
"""configs/, which is installed with the package."""


def load_config_file(file: str) -> Config:
    """Returns the checked Config that a Python file calls `config`; the run is named after the file.

    Raises UserError, with the line where it can be known, for a file that is missing, broken or without one.
    """
    path = Path(file)
    if not path.is_file():
        path = _preset(file)
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


def to_finetune(preset: str, run: str, context_len: int, *more: str) -> str:
    """Returns the command that finetunes a run by a preset, with a window for which its model has positions."""
    config = load_config_file(preset)
    words = ["python", "-m", "jaxgpt", "finetune", preset, *more, "--run.init-from", run]
    if config.data.seq_len > (most := longest_window(config, context_len)):
        words += ["--data.seq-len", str(most)]
    return shlex.join(words)


def _preset(name: str) -> Path:
    """Returns the file of a preset that comes with the package; raises UserError where there is none."""
    if (path := PRESETS / f"{name}.py").is_file() and Path(name).name == name:
        return path
    names = sorted(path.stem for path in PRESETS.glob("[!_]*.py"))
    beside = sorted(str(path) for path in Path(name).parent.glob("*.py"))
    near = difflib.get_close_matches(name, [*beside, *names, *(f"configs/{stem}.py" for stem in names)], n=1)
    meant = [found if Path(found).is_file() else Path(found).stem for found in near]  # outside a checkout: by its name
    guess = f"perhaps you meant {meant[0]}" if meant else f"presets are {', '.join(names)}"
    raise UserError(f"--config: {name} is no file, and no preset; {guess}")


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
