"""The command line of train.py and finetune.py: a config file, any field overridden, one checked Config."""

import contextlib
import dataclasses
import difflib
import io
import re
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from jaxgpt.allowed import validate
from jaxgpt.config import Config, ModelConfig, differences
from jaxgpt.config_file import load_config_file
from jaxgpt.depth import of_depth
from jaxgpt.errors import UserError


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

TYRO_KINDS = {"INT": "a whole number", "FLOAT": "a number", "STR": "a text", "{NONE}": "None"}
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
    allowed = " or ".join(TYRO_KINDS.get(kind.upper(), kind) for kind in reversed(kinds.split("|")))
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
