"""Out and in again by the commands: trained, exported, imported, finetuned without a jump, a file for llama.cpp."""

import json

import pytest

from tests.commands.miniature import shell

WINDOW = ("--data.seq-len", "96")  # an imported model has windows as long as its context
pytestmark = pytest.mark.long


def losses(workplace, name: str, key: str) -> list[float]:
    lines = (workplace / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [record[key] for record in map(json.loads, lines) if key in record]


def test_a_model_goes_out_comes_in_and_learns_on(workplace):
    train = ["train.py", "--config", "mini.py", "--run.name", "bytes", "--data.tokenizer", "byte", *WINDOW]
    shell(
        workplace,
        *train,
        "--model.vocab-size",
        "300",
        "--model.context-len",
        "96",
        "--run.max-steps",
        "60",
        "--run.epochs",
        "9",
    )
    out = shell(workplace, "-m", "jaxgpt", "export", "runs/bytes", "out/bytes").stdout
    assert "out/bytes: a gpt2 of 0.0M parameters in float32" in out
    assert "logits" in out
    again = shell(workplace, "-m", "jaxgpt", "import", "out/bytes", "--run.name", "back").stdout
    assert "python -m jaxgpt sample runs/back --prompt The" in again
    assert "everything is as it was saved" in shell(workplace, "-m", "jaxgpt", "check", "runs/back").stdout
    scored = [
        shell(workplace, "-m", "jaxgpt", "evaluate", f"runs/{name}", "--text", "text.txt").stdout.splitlines()[1:4]
        for name in ("bytes", "back")
    ]
    assert scored[0] == scored[1]

    more = ["train.py", "--config", "mini.py", "--run.init-from", "runs/back", "--run.name", "more", *WINDOW]
    shell(workplace, *more, "--run.log-every", "1", "--optimizer.warmup-steps", "10")
    first, *later = losses(workplace, "more", "loss")
    assert max(later) < first + 0.1  # noise of a batch
    before, *_, after = losses(workplace, "more", "valid_loss")
    assert before == pytest.approx(min(losses(workplace, "bytes", "valid_loss")), abs=1e-3)
    assert after < before

    talk = ["finetune.py", "--config", "mini_talk.py", "--run.init-from", "runs/back", "--run.name", "back-talk"]
    shell(workplace, *talk, *WINDOW, "--run.max-steps", "10", "--optimizer.warmup-steps", "5")
    talks = losses(workplace, "back-talk", "valid_loss")
    assert talks[-1] < talks[0]
    said = shell(workplace, "-m", "jaxgpt", "export", "runs/back-talk", "out/talk.gguf").stdout
    assert "out/talk.gguf: a gpt2" in said
