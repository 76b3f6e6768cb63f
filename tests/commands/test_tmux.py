"""The commands in a real terminal, as tmux is one: what is on the screen, at any width. Only with --tmux PATH."""

import os
import re
import shlex
import subprocess
import sys
import time

import pytest

from tests.commands.miniature import ROOT

LONG = """import dataclasses
longer = dataclasses.replace(config.run, eval_every=10**6, epochs=10**3, max_steps=4000)
config = dataclasses.replace(config, run=longer)
"""
BAR = "━"


@pytest.fixture
def terminal(request, workplace, tmp_path):
    """A screen: `run` begins a command on it, `keys` types, `until` waits for what is shown, `resize` does so."""
    tmux = [request.config.getoption("tmux"), "-f", "/dev/null", "-S", str(tmp_path / "tmux")]

    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}

    def call(*arguments: str) -> str:
        return subprocess.run([*tmux, *arguments], check=True, capture_output=True, text=True, env=environment).stdout

    class Terminal:
        def run(self, *command: str, columns: int = 80):
            words = shlex.join([sys.executable, *command])
            call(
                "new-session", "-d", "-x", str(columns), "-y", "30", "-c", str(workplace), f"{words}; echo left $?; cat"
            )

        def keys(self, *keys: str):
            call("send-keys", *keys)

        def paste(self, text: str):
            call("set-buffer", text)
            call("paste-buffer", "-p")

        def resize(self, columns: int):
            call("resize-window", "-x", str(columns), "-y", "30")

        def all(self) -> str:
            return call("capture-pane", "-p", "-S", "-")

        def until(self, text: str, count: int = 1) -> str:
            end = time.monotonic() + 120
            while (shown := self.all()).count(text) < count:
                assert time.monotonic() < end, shown
            return shown

        def step(self) -> int:
            found = re.findall(r"step (\d+)/", self.all())
            return int(found[-1]) if found else 0

        def step_after(self, step: int):
            end = time.monotonic() + 120
            while self.step() < step:
                assert time.monotonic() < end, self.all()

    yield Terminal()
    subprocess.run([*tmux, "kill-server"], capture_output=True)


@pytest.mark.parametrize("columns", [60, 80])
def test_a_training_keeps_to_one_line_at_any_width(terminal, workplace, columns):
    short = (workplace / "mini.py").read_text()
    (workplace / "mini_long.py").write_text(short + LONG)
    name = f"narrow-{columns}"
    terminal.run(str(ROOT / "train.py"), "--config", "mini_long.py", "--run.name", name, columns=columns)
    terminal.until(" left")
    for width in (40, 100, 50, columns):
        terminal.resize(width)
        terminal.step_after(terminal.step() + 40)
    (line,) = [line for line in terminal.all().splitlines() if BAR in line]  # no trace of earlier ones
    assert len(line) <= columns
    assert all(part in line for part in ("step ", "loss ", " left"))
    terminal.keys("C-c")
    assert "stopped at step" in terminal.until("left 130")


def test_a_talk_has_a_history_and_a_paste_is_one_message(terminal, finetuned):
    terminal.run("-m", "jaxgpt", "chat", "runs/mini_talk", "--temperature", "0", columns=60)
    terminal.until("you>")
    terminal.keys("The box of Ann is red. The box?", "Enter")
    first = terminal.until("you>", 2)
    assert "model> The box is" in first
    terminal.keys("Up", "Enter")
    again = terminal.until("you>", 3)
    assert again.count("The box of Ann is red. The box?") == 2
    assert "^[[A" not in again
    terminal.paste("The cup of Ann is blue.\nThe cup?\n")
    terminal.until("you>", 4)
    terminal.keys("C-c")
    terminal.until("left ")
