"""Corpora, configs and commands of a miniature that the real commands train in seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COLOURS = ("red", "green", "blue", "white", "black")
THINGS = ("ball", "box", "cup", "hat", "kite", "boat")


def write_corpora(folder: Path) -> None:
    lines = [
        f"The {thing} of {name} is {colour}." for name in ("Ann", "Bob", "Cy") for thing in THINGS for colour in COLOURS
    ]
    (folder / "text.txt").write_text("\n".join(lines * 8) + "\n")
    talks = []
    for index in range(300):
        thing, colour = THINGS[index % 6], COLOURS[index % 5]
        question = {"role": "user", "content": f"The {thing} of Ann is {colour}. The {thing}?"}
        talks.append({"messages": [question, {"role": "assistant", "content": f"The {thing} is {colour}."}]})
    (folder / "talk.jsonl").write_text("\n".join(map(json.dumps, talks)) + "\n")


MODEL = """from jaxgpt.config import *
config = Config(
    model=ModelConfig(vocab_size=100, context_len=48, embed_dim=32, num_heads=2, num_layers=2),
    data=DataConfig(corpus="text.txt", seq_len=32, batch_size=8, cache_dir="cache"),
    optimizer=OptimizerConfig(learning_rate=1e-2),
    run=RunConfig(eval_every=12, log_every=5, epochs=2, max_steps=30, sample_prompt="The ball", sample_tokens=8),
)
"""
TALK = """from jaxgpt.config import *
config = Config(
    data=DataConfig(corpus="talk.jsonl", seq_len=40, batch_size=8, cache_dir="cache"),
    optimizer=OptimizerConfig(learning_rate=1e-2),
    run=RunConfig(init_from="runs/mini", eval_every=20, log_every=5, epochs=4, sample_prompt="The box?"),
)
"""


def shell(folder: Path, *arguments: str, expect: int = 0, **options) -> subprocess.CompletedProcess:
    """Runs a command as a user does, in a folder of theirs."""
    command = [
        sys.executable,
        *(str(ROOT / word) if word in ("train.py", "finetune.py") else word for word in arguments),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "JAXGPT_DATA"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, **options)
    assert run.returncode == expect, run.stdout + run.stderr
    return run
