"""Verbs that say what a run is worth or would cost: evaluate, check, report, compare, plan."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxgpt.allowed import check_window, validate
from jaxgpt.buckets import path_of
from jaxgpt.commands.trained import load
from jaxgpt.errors import RunError, UserError, shown
from jaxgpt.verbs import Check, Compare, Evaluate, Plan, Report

MOST_TOKENS = 1e18


def evaluate(verb: Evaluate) -> None:
    """Prints what a split costs the model, named exactly."""
    if verb.tasks is not None:
        _evaluate_tasks(verb, verb.tasks)
        return
    from jaxgpt.inference.evaluate import evaluate_chat, evaluate_file, evaluate_text

    if verb.text is not None and verb.split is not None:
        raise UserError(f"split: {verb.split} was given; --text scores a whole file, so leave out one of the two")
    trained, split = load(verb.run, verb.quantize), verb.split or "valid"
    if verb.text is not None:
        lines = evaluate_file(trained, Path(verb.text).expanduser(), verb.stride)
    elif trained.run.data.is_chat:
        if verb.stride is not None:
            raise UserError("stride: conversations are scored whole; leave it out")
        lines = evaluate_chat(trained, split)
    else:
        lines = evaluate_text(trained, split, verb.stride)
    for line in lines:
        print(line)
        sys.stdout.flush()


def _evaluate_tasks(verb: Evaluate, tasks: str) -> None:
    """Prints what tasks come to, our own or those of lm-evaluation-harness, and keeps it in the run."""
    if (verb.text, verb.split, verb.stride, verb.quantize) != (None,) * 4:
        raise UserError(
            "tasks: they have texts and windows of their own, and run on the weights as they are; leave out --text, "
            "--split, --stride and --quantize"
        )
    names = [name for name in map(str.strip, tasks.split(",")) if name]
    elsewhere = [name for name in names if not name.startswith("tinyworld-")]
    evaluate_tasks = _harness(elsewhere[0]) if elsewhere else None
    from jaxgpt.inference.world_tasks import TASKS
    from jaxgpt.run.evaluations import add_evaluations

    if wrong := [name for name in names if name not in elsewhere and name not in TASKS]:
        raise UserError(f"tasks: {shown(wrong[0])} is not there; those that come along are {', '.join(TASKS)}")
    trained = load(verb.run)
    print(f"{trained.run.path}, step {trained.step}", flush=True)
    evaluations = [TASKS[name](trained) for name in names if name in TASKS]
    if evaluate_tasks is not None:
        evaluations += evaluate_tasks(trained, elsewhere)
    add_evaluations(trained.run.path, evaluations)
    for evaluation in evaluations:
        print("\n".join(evaluation.lines()))


def _harness(task: str) -> Callable[..., Any]:
    """Returns what runs tasks of lm-evaluation-harness; raises UserError where that is not installed."""
    try:
        from jaxgpt.inference.harness import evaluate_tasks
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jaxgpt"):
            raise
        raise UserError(
            f'tasks: {error.name} is not installed, which {task} needs; pip install "jaxgpt[eval]"'
        ) from None
    return evaluate_tasks


def check(verb: Check) -> None:
    """Prints what was verified; raises RunError when anything is damaged."""
    from jaxgpt.run.verify import verify_run

    damaged = 0
    for name, wrong in verify_run(path_of(verb.run), verb.source):
        print(f"{'WRONG' if wrong else 'ok':6} {name}{f': {wrong}' if wrong else ''}", flush=True)
        damaged += wrong is not None
    if damaged:
        raise RunError(
            f"{verb.run}: {damaged} not as it was; of checkpoints, training and sampling pass over damaged ones"
        )
    print(f"{verb.run}: everything is as it was saved")


def report(verb: Report) -> None:
    """Writes the run's page and says where it is."""
    from jaxgpt.devices.setup import start_jax
    from jaxgpt.report.build import write_report, written
    from jaxgpt.run.folder import read_run

    start_jax(read_run(verb.run).config.data.cache_dir)
    print(f"report: {written(write_report(verb.run))}")


def compare(verb: Compare) -> None:
    """Prints the runs' main figures and writes a page with the rest."""
    from jaxgpt.report.build import written
    from jaxgpt.report.compare import write_comparison

    file, lines = write_comparison(verb.runs)
    for line in lines:
        print(line)
    print(f"comparison: {written(file)}")


def plan(verb: Plan) -> None:
    """Prints what a training would be on other chips."""
    from jaxgpt.devices.chips import compile_without_devices
    from jaxgpt.training.estimate import continued, describe, estimate

    config = validate(verb.settings)
    if config.objective.name != "next_token":
        raise UserError(f"objective.name: {config.objective.name} was given; only a next_token training can be planned")
    if verb.tokens is not None and not 1 <= verb.tokens < MOST_TOKENS:
        raise UserError(f"tokens: {shown(verb.tokens)} was given; it must be at least 1 and below {MOST_TOKENS:.0e}")
    compile_without_devices()
    config = continued(config)
    check_window(config)
    for line in describe(estimate(config, verb.on), verb.on, verb.tokens):
        print(line)
