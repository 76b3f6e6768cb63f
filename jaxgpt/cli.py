"""python -m jaxgpt VERB: the command line, and which function of commands/ each verb is."""

import difflib
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any, get_args

import tyro

from jaxgpt.command_line import config_file, parse
from jaxgpt.commands.exchanging import export_weights, import_weights, tokenize
from jaxgpt.commands.measuring import check, compare, evaluate, plan, report
from jaxgpt.commands.writing import chat, explain, pairs, sample, serve
from jaxgpt.config import Config
from jaxgpt.config_file import load_config_file
from jaxgpt.depth import of_depth
from jaxgpt.entry import errors_in_words
from jaxgpt.errors import UserError, shown
from jaxgpt.verbs import (
    Chat,
    Check,
    Compare,
    Evaluate,
    Explain,
    Export,
    Import,
    Pairs,
    Plan,
    Report,
    Sample,
    Serve,
    Tokenize,
    Verb,
)

DESCRIPTION = "Use a trained run. To make one: jaxgpt train PRESET, jaxgpt finetune PRESET (each has --help)"


def main(arguments: list[str] | None = None) -> None:
    """Runs the verb that the command line names."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(f"jaxgpt {metadata.version('jaxgpt')}")
        return
    with errors_in_words():
        if arguments[:1] in (["train"], ["finetune"]):
            _train(arguments[0], arguments[1:])
            return
        names = {kind.__name__.lower(): kind for kind in get_args(Verb)}
        there_are = f"there are: train, finetune, {', '.join(names)}"
        if not arguments:
            raise UserError(f"no command was given; {there_are}; each has --help")
        if not arguments[0].startswith("-") and arguments[0] not in names:
            near = difflib.get_close_matches(arguments[0], [*names, "train", "finetune"], n=1)
            guess = f"perhaps you meant {near[0]}" if near else there_are
            raise UserError(f"{shown(arguments[0])} is no command; {guess}")
        how: dict[str, Any] = {"config": (tyro.conf.FlagCreatePairsOff,)}
        if arguments[0] == "plan":  # a preset's values are the defaults
            file = config_file(arguments)
            preset = of_depth(load_config_file(file) if file else Config(), arguments)
            how["default"] = Plan(preset, on=tyro.MISSING, config=file)
        if arguments[0] in names:  # by itself: options of other verbs are none of its
            kind, name = names[arguments[0]], f"jaxgpt {arguments[0]}"
            verb = parse(kind, args=arguments[1:], prog=name, **how)
        else:
            verb = parse(Verb, args=arguments, prog="jaxgpt", description=DESCRIPTION, **how)
        verbs: dict[type, Callable[[Any], None]] = {
            Sample: sample,
            Chat: chat,
            Evaluate: evaluate,
            Pairs: pairs,
            Check: check,
            Report: report,
            Compare: compare,
            Explain: explain,
            Tokenize: tokenize,
            Plan: plan,
            Serve: serve,
            Import: import_weights,
            Export: export_weights,
        }
        verbs[type(verb)](verb)


def _train(stage: str, words: list[str]) -> None:
    """Runs train.py or finetune.py from any folder; the first word may be the preset's name or file."""
    from jaxgpt.finetuning import finetune
    from jaxgpt.pretraining import pretrain

    if words and not words[0].startswith("-"):
        words = ["--config", *words]
    (pretrain if stage == "train" else finetune)(words)
