"""Pretraining and finetuning through the real commands: to the end, interrupted, longer, or not at all."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.miniature import COLOURS, MODEL, ROOT, THINGS, shell


def test_pretraining(workplace, pretrained):
    assert "data: text.txt (files)" in pretrained
    assert re.search(
        r"step 12: valid loss [\d.]+ nats per token, perplexity [\d.]+, [\d.]+ bits per byte, over \d+ tokens of text",
        pretrained,
    )
    assert "runs/mini: a language model, 30 steps" in pretrained
    assert re.search(r"^  report: runs/mini/report\.html \(\d+ kB\)$", pretrained, re.MULTILINE)
    assert "python -m jaxgpt sample runs/mini --prompt 'The ball'" in pretrained
    run = workplace / "runs/mini"
    assert {file.name for file in run.iterdir()} == {
        *("config.json", "tokenizer.json", "data.json", "run.json"),
        *("checkpoints", "metrics.jsonl", "samples.jsonl", "tensorboard", "report.html", "plots"),
    }
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert [record["step"] for record in records if "loss" in record] == list(range(1, 31))
    assert [record["step"] for record in records if "valid_loss" in record] == [12, 24, 30]
    assert losses[-1] < losses[0] - 1
    assert sorted(int(p.name) for p in (run / "checkpoints").iterdir() if p.name.isdigit()) == [24, 30]


def test_a_loss_that_explodes_saves_nothing_bad(workplace, pretrained):
    run = shell(
        workplace,
        "train.py",
        "--config",
        "mini.py",
        "--run.name",
        "wild",
        "--optimizer.learning-rate",
        "1e30",
        expect=1,
    )
    assert re.search(r"^error: step \d+: the loss is nan", run.stderr, re.MULTILINE)
    assert not [path for path in (workplace / "runs/wild/checkpoints").iterdir() if path.name.isdigit()]


def test_finetuning(workplace, finetuned):
    assert "from: runs/mini, step 30, trained on text.txt" in finetuned
    assert re.search(r"<assistant> \[The \w+ is \w+ \. <end>\]", finetuned)
    before, *_, after = [float(x) for x in re.findall(r"valid loss ([\d.]+)", finetuned)]
    assert after < before - 1
    assert "step 0: valid loss" in finetuned
    assert "python -m jaxgpt chat runs/mini_talk" in finetuned
    assert re.search(r"^  report: runs/mini_talk/report\.html", finetuned, re.MULTILINE)
    page = (workplace / "runs/mini_talk/report.html").read_text(encoding="utf-8")
    assert "nats per assistant token" in page
    assert '<span class="plain">&lt;assistant&gt;</span>' in page


def test_dry_run_changes_nothing(workplace, pretrained):
    before = sorted(workplace.rglob("*"))
    out = shell(workplace, "train.py", "--config", "mini.py", "--dry-run", "--run.name", "other").stdout
    assert '"embed_dim": 32' in out
    assert re.search(r"parameters: [\d,]+\n  token_embedding +4,096\n  position_embedding +1,536\n  blocks", out)
    assert re.search(r"steps: 30 of 256 tokens", out)
    assert sorted(workplace.rglob("*")) == before
    assert out.splitlines()[-1] == "dry run: no run was made; encoded text and compiled programs are kept in cache"


@pytest.mark.long
def test_a_finished_run_stays_and_a_longer_one_goes_on(workplace, pretrained):
    shutil.copytree(workplace / "runs/mini", workplace / "runs/longer")
    metrics = workplace / "runs/longer/metrics.jsonl"
    same = shell(workplace, "train.py", "--config", "mini.py", "--run.name", "longer").stdout
    assert "resuming from step 30 of 30" in same
    more = shell(workplace, "train.py", "--config", "mini.py", "--run.name", "longer", "--run.max-steps", "33").stdout
    assert "resuming from step 30 of 33" in more
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines() if '"loss"' in line]
    assert steps == list(range(1, 34))
    restarted = shell(
        workplace, "train.py", "--config", "mini.py", "--run.name", "longer", "--run.restart", "--run.max-steps", "2"
    ).stdout
    assert f"the run that was there is now {Path('runs/longer.old-1')}" in restarted
    assert len((workplace / "runs/longer.old-1/metrics.jsonl").read_text().splitlines()) > 33


@pytest.mark.long
def test_ctrl_c_saves_and_the_same_command_continues(workplace, pretrained):
    """Interrupted at step 5 and started again: the parameters' losses are those of the run left alone."""
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "--config",
        "mini.py",
        "--run.name",
        "stopped",
        "--run.log-every",
        "1",
    ]
    with subprocess.Popen(command, cwd=workplace, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("step 5/30"):
                run.send_signal(signal.SIGINT)
                break
        rest = run.stdout.read()
    assert run.returncode == 130
    assert re.search(r"stopped at step \d+ and saved; the same command continues from there", rest)
    shell(workplace, "train.py", *command[2:])

    def losses(name):
        lines = (workplace / f"runs/{name}/metrics.jsonl").read_text().splitlines()
        return {record["step"]: record["loss"] for record in map(json.loads, lines) if "loss" in record}

    assert losses("stopped") == losses("mini")


@pytest.mark.long
def test_a_run_goes_on_with_new_text(workplace, pretrained):
    """From its parameters, with its words and its model, whatever network the config describes."""
    lines = [f"The {thing} of Dee is {colour}." for thing in THINGS for colour in COLOURS]
    (workplace / "more.txt").write_text("\n".join(lines * 8) + "\n")
    (workplace / "wider.py").write_text(MODEL.replace("embed_dim=32", "embed_dim=64"))
    command = ["train.py", "--config", "wider.py", "--data.corpus", "more.txt", "--run.init-from", "runs/mini"]
    out = shell(workplace, *command, "--run.name", "a more", "--run.max-steps", "12").stdout
    assert "from: runs/mini, step 30, trained on text.txt" in out
    assert "its model, in place of the config's: model.embed_dim 32" in out
    assert "vocabulary: that of runs/mini" in out
    assert "WARNING: 14.3% of the words of the validation split of more.txt are unknown" in out
    first, *_, last = [float(loss) for loss in re.findall(r"valid loss ([\d.]+)", out)]
    assert "step 0: valid loss" in out
    assert first < 2.5
    assert last < first
    for name in ("config.json", "tokenizer.json"):
        assert (workplace / "runs/a more" / name).exists()
    assert json.loads((workplace / "runs/a more/config.json").read_text())["run"]["init_from"] == "runs/mini"
    assert "python -m jaxgpt sample 'runs/a more' --prompt 'The ball'" in out
    again = shell(workplace, *command, "--run.name", "a more", "--run.max-steps", "14").stdout
    assert "resuming from step 12 of 14" in again
    for command in re.findall(r"^  python -m (jaxgpt (?:sample|evaluate) .*)$", again, re.MULTILINE):
        shell(workplace, "-m", *shlex.split(command))


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.long
def test_a_terminal_that_is_not_utf_8_is_no_obstacle(workplace, pretrained, encoding, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    name = f"plain-{encoding}"
    options = ["--run.name", name, "--run.sample-prompt", "Кошка … The ball"]
    out = shell(
        workplace, "train.py", "--config", "mini.py", *options, "--run.max-steps", "12", encoding=encoding
    ).stdout
    assert f"runs/{name}: a language model" in out
    again = shell(
        workplace, "train.py", "--config", "mini.py", *options, "--run.max-steps", "13", encoding=encoding
    ).stdout
    assert "resuming from step 12 of 13" in again
    walk = shell(workplace, "-m", "jaxgpt", "explain", "runs/mini", "The ball", encoding=encoding).stdout
    assert "#" in walk
    assert "?" not in walk.split("Attention")[1]
    talk = shell(workplace, "-m", "jaxgpt", "sample", "runs/mini", "--prompt", "Кошка", encoding=encoding)
    assert "????" in talk.stderr
