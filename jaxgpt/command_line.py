"""The command line of train.py and finetune.py: a config file, any field overridden, one checked Config."""

import codecs
import contextlib
import dataclasses
import difflib
import io
import os
import re
import shlex
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro

from jaxgpt.allowed import longest_window, validate
from jaxgpt.buckets import failures
from jaxgpt.config import Config, ModelConfig, differences
from jaxgpt.depth import of_depth
from jaxgpt.errors import INTERRUPTED, RunError, UserError, first_line, interrupts_as_they_were


@dataclass(frozen=True)
class TrainArguments:
    """What train.py and finetune.py are told."""

    settings: Annotated[Config, tyro.conf.arg(name="")]
    config: Annotated[str, tyro.conf.arg(metavar="PRESET")] = "base"
    """The preset whose values are the defaults of all fields below: its name, or a file."""
    dry_run: bool = False
    """Print the resolved config, parameters, steps, memory and time, and stop."""
    typed: Annotated[frozenset[str], tyro.conf.Suppress] = frozenset()
    """The settings, as section.name, that the command line changes over the preset."""


@dataclass(frozen=True)
class _Settings(Config):
    """Those that are left where the network is given."""

    model: Annotated[ModelConfig, tyro.conf.Suppress] = field(default_factory=ModelConfig)


@dataclass(frozen=True)
class _OfGivenModel(TrainArguments):
    """What finetune.py is told."""

    settings: Annotated[_Settings, tyro.conf.arg(name="")]


PRESETS = Path(__file__).with_name("presets")
"""configs/, which is installed with the package."""
ELSEWHERE = {  # what others call a setting -> its name here
    "lr": "learning-rate",
    "wd": "weight-decay",
    "bs": "batch-size",
    "block-size": "seq-len",
    "n-layer": "num-layers",
    "n-head": "num-heads",
    "n-embd": "embed-dim",
    "hidden-size": "embed-dim",
    "max-iters": "max-steps",
    "gradient-accumulation-steps": "grad-accumulation-steps",
    "max-grad-norm": "grad-clip",
    "clip-norm": "grad-clip",
}


KINDS = {"INT": "a whole number", "FLOAT": "a number", "STR": "a text", "{NONE}": "None"}
"""What tyro calls a kind of value -> what it is called here."""


def parse_train(
    default: str,
    description: str | None,
    arguments: Sequence[str] | None = None,
    prog: str | None = None,
    is_model_given: bool = False,
) -> TrainArguments:
    """Returns the checked arguments: the file given by --config, then the command line on top of it.

    Raises UserError for a config that cannot be; tyro itself prints help, and exits.

    default: the preset where none is given.
    description: what help begins with.
    arguments: the command line; None: this process's.
    prog: how the command is called in its help; None: as this process was.
    is_model_given: a run that training starts from says what the network is, so `model` is no setting.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and not words[0].startswith("-"):
        raise UserError(f"{words[0]}: it is no option; a preset is given by --config {words[0]}")
    given = config_file(words)
    file = given or default
    from_file = load_config_file(file)
    _check_names(words, "the run that it starts from says what the network is" if is_model_given else None)
    kind: Any = _OfGivenModel if is_model_given else TrainArguments
    sized = from_file if is_model_given else of_depth(from_file, words)
    values = {section.name: getattr(sized, section.name) for section in dataclasses.fields(Config)}
    defaults = kind(_Settings(**values) if is_model_given else sized, file)
    parsed = parse(
        kind,
        args=words,
        default=defaults,
        description=description,
        prog=prog,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands),
    )
    settings = Config(**{field.name: getattr(parsed.settings, field.name) for field in dataclasses.fields(Config)})
    if settings.run.name is None:
        raise UserError("run.name: None was given; it must be one folder's name")
    if given is None:
        print(f"preset: {default}, as none was given by --config")
    typed = frozenset(name for name, _, _ in differences(from_file, settings))
    return TrainArguments(validate(settings), parsed.config, parsed.dry_run, typed)


def parse(kind: Any, **how: Any) -> Any:
    """Returns what `tyro.cli` makes of a command line; what is wrong with that is a UserError of one line."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            parsed = tyro.cli(kind, **how)
    except SystemExit as stopped:
        if not stopped.code:
            raise
        raise UserError(_unboxed(told.getvalue())) from None
    sys.stderr.write(told.getvalue())
    return parsed


def _unboxed(box: str) -> str:
    """Returns the first part of tyro's box, and whose help says more, in a line."""
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    if not box.startswith("╭"):  # where output is not UTF-8 the title has a line and a rule of its own
        lines = lines[2:]
    parts = " ".join("\n" if line and not line.strip("─-") else line for line in lines).strip().split("\n")
    first, last = (" ".join(part.split()).rstrip(".") for part in (parts[0], parts[-1]))
    near = re.search(r"Perhaps you meant: +(--\S+)", " ".join(parts))
    more = re.search(r"(?:see|run:?) (\S.* --help)$", last)
    guess = f"; perhaps you meant {near[1]}" if near else ""
    return f"{_plainly(first)}{guess}" + (f"; see {more[1]}" if more else "")


def _plainly(error: str) -> str:
    """Returns what tyro says of a value that is no number as other errors are said."""
    union = re.match(r"Error parsing (\S+): no type matching (\S+) could be instantiated from \['(.*)'\]\. Got", error)
    number = re.match(r"Error parsing (\S+): could not convert string to (float): '(.*)'", error)
    whole = re.match(r"Error parsing (\S+): invalid literal for (int)\(\) with base 10: '(.*)'", error)
    if not (found := union or number or whole):
        return error
    flag, kinds, given = found.groups()
    allowed = " or ".join(KINDS.get(kind.upper(), kind) for kind in reversed(kinds.split("|")))
    return f"{flag}: {given!r} was given; it must be {allowed}"


def _check_names(words: Sequence[str], model_is: str | None) -> None:
    """Raises UserError for a setting that there is none of, with a guess which one is meant."""
    known = {"--config", "--dry-run", "--help"}
    for section in dataclasses.fields(Config):
        for setting in dataclasses.fields(typing.get_type_hints(Config)[section.name]):
            name = setting.name.replace("_", "-")
            known |= {f"--{section.name}.{name}", f"--{section.name}.no-{name}"}
    for word in words:
        name = word.split("=")[0].replace("_", "-")
        if not word.startswith("--") or word == "--":
            continue
        if name.startswith("--model.") and model_is:
            raise UserError(f"{word.split('=')[0]}: {model_is}; leave it out")
        if name not in known:
            section, _, last = name.removeprefix("--").rpartition(".")
            meant = ELSEWHERE.get(last, last)
            by_last = [flag for flag in sorted(known) if flag.rpartition(".")[2] == meant]
            near = by_last or difflib.get_close_matches(f"--{section}.{meant}", sorted(known), n=1)
            guess = f"perhaps you meant {near[0]}; " if near else ""
            raise UserError(f"{word.split('=')[0]}: no such setting; {guess}--help lists them all")


def config_file(arguments: list[str]) -> str | None:
    """Returns the value of --config, which must be known before the other fields have defaults."""
    if sum(here.partition("=")[0] == "--config" for here in arguments) > 1:
        raise UserError(
            "--config: more than one was given; a preset's values are the defaults of all others, so give one"
        )
    for place, here in enumerate(arguments):
        if here.startswith("--config="):
            return here.removeprefix("--config=")
        if here == "--config":
            following = arguments[place + 1 : place + 2]
            if not following or following[0].startswith("--"):
                raise UserError("--config: no file was given; for example --config base")
            return following[0]
    return None


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
    guess = f"perhaps you meant {near[0]}" if near else f"presets are {', '.join(names)}"
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


def obey_no_color() -> None:
    """Keeps tyro's help plain where NO_COLOR is set (no-color.org); rich looks by itself."""
    if os.environ.get("NO_COLOR"):
        tyro._experimental_options["ansi_codes"] = False


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


def main(command: Callable[[], None]) -> None:
    """Runs a command with its errors in words."""
    with errors_in_words():
        command()
