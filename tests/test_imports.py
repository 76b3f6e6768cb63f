"""Imports run one way: config, text, data, ops, model, devices, run, training, inference, then report, serve, cli."""

import ast
from pathlib import Path

import jaxgpt

PACKAGE = Path(jaxgpt.__file__).parent
BASE = {"errors", "buckets", "files"}
UP_TO_MODEL = {"config", "allowed", "config_json", "text", "data", "ops", "model"}
MAY_USE = {
    "errors": set(),
    "buckets": {"errors"},
    "files": {"errors", "buckets"},
    "config": BASE,
    "allowed": BASE | {"config"},
    "config_json": BASE | {"config", "allowed"},
    "depth": {"config", "allowed"},
    "config_file": BASE | {"config", "allowed"},
    "command_line": BASE | {"config", "allowed", "config_file", "depth"},
    "entry": BASE,
    "text": BASE | {"text"},
    "data": BASE | {"config", "text", "data"},
    "ops": BASE | {"config", "data", "ops"},  # data: what a batch is
    "model": {"config", "ops", "model"},
    "devices": BASE | {"config", "ops", "model", "devices"},
    "run": BASE | UP_TO_MODEL | {"devices", "run"},
    "convert": BASE | UP_TO_MODEL | {"devices", "run", "convert"},
    "training": BASE | UP_TO_MODEL | {"devices", "run", "training"},
    "inference": BASE | UP_TO_MODEL | {"devices", "run", "training", "inference"},
    "report": BASE | UP_TO_MODEL | {"devices", "run", "training", "inference", "report"},
    "serve": BASE | UP_TO_MODEL | {"devices", "run", "training", "inference", "serve"},
    "stages": BASE | UP_TO_MODEL | {"devices", "run", "training", "inference", "report"},
    "terminal": BASE | UP_TO_MODEL | {"run", "inference"},
    "pretraining": BASE | UP_TO_MODEL | {"config_file", "command_line", "training", "inference", "stages"},
    "finetuning": BASE | UP_TO_MODEL | {"command_line", "training", "inference", "stages"},
    "verbs": {"config"},
    "commands": BASE
    | UP_TO_MODEL
    | {"config_file", "verbs", "terminal", "devices", "run", "convert", "training", "inference", "report", "serve"}
    | {"commands"},
    "cli": BASE
    | {"config", "config_file", "command_line", "depth", "entry", "verbs", "commands", "pretraining", "finetuning"},
    "__main__": {"cli"},
    "__init__": set(),
}


def imported(path: Path) -> set[str]:
    """Returns the names of all modules a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module or "")
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_imports_run_one_way():
    files = sorted(PACKAGE.rglob("*.py"))
    assert {room(path) for path in files} == MAY_USE.keys()
    for path in files:
        used = {name.split(".")[1] for name in imported(path) if name.startswith("jaxgpt.")}
        assert used <= MAY_USE[room(path)], path


def test_words_and_batches_know_nothing_of_jax():
    for path in [*(PACKAGE / "text").rglob("*.py"), *(PACKAGE / "data").rglob("*.py"), PACKAGE / "config.py"]:
        assert not {name.split(".")[0] for name in imported(path)} & {"jax", "flax", "optax", "orbax"}, path


def test_nothing_that_is_loaded_is_a_pickle():
    for path in PACKAGE.rglob("*.py"):
        assert "pickle" not in {name.split(".")[0] for name in imported(path)}
        assert "allow_pickle=True" not in path.read_text(encoding="utf-8")
