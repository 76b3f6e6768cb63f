"""A miniature through the real commands: pretrain, finetune, talk, evaluate, go on; and every bad input."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import finetune
import train
from jaxgpt import cli, command_line

ROOT = Path(__file__).parents[1]
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


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, cache_dir) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    write_corpora(folder)
    (folder / "mini.py").write_text(MODEL)
    (folder / "mini_talk.py").write_text(TALK)
    (folder / "cache").symlink_to(cache_dir)
    return folder


@pytest.fixture(scope="module")
def pretrained(workplace) -> str:
    return shell(workplace, "train.py", "--config", "mini.py").stdout


@pytest.fixture(scope="module")
def finetuned(workplace, pretrained) -> str:
    return shell(workplace, "finetune.py", "--config", "mini_talk.py").stdout


def test_pretraining(workplace, pretrained):
    assert "data: text.txt (files)" in pretrained
    assert re.search(
        r"step 12: valid loss [\d.]+ nats per token, perplexity [\d.]+ over \d+ tokens of text.txt", pretrained
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


def test_a_loss_that_explodes_stops_the_run_and_saves_nothing_bad(workplace, pretrained):
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


def test_looking_at_runs(workplace, finetuned, capsys, monkeypatch):
    monkeypatch.chdir(workplace)
    cli.main(["report", "runs/mini"])
    assert re.fullmatch(r"report: runs/mini/report\.html \(\d+ kB\)\n", capsys.readouterr().out)
    cli.main(["compare", "runs/mini", "runs/mini_talk"])
    out = capsys.readouterr().out
    assert "measured on different text" in out
    assert "comparison: runs/compare-mini-mini_talk.html" in out
    cli.main(["explain", "runs/mini", "The zebra"])
    out, err = capsys.readouterr()
    assert "4. The next word" in out
    assert "not in this model's vocabulary: zebra" in err
    cli.main(["explain", "runs/mini_talk", "The box?"])
    assert "'<assistant>', the last one, takes:" in capsys.readouterr().out


def test_talking(workplace, finetuned):
    answer = shell(
        workplace, "-m", "jaxgpt", "chat", "runs/mini_talk", "--prompt", "The ball of Ann is red. The ball?"
    ).stdout
    assert answer.startswith("The ")
    talk = "The ball of Ann is red. The ball?\n" * 4 + "too long " * 40 + "\n"
    session = shell(workplace, "-m", "jaxgpt", "chat", "runs/mini_talk", input=talk).stdout
    assert session.count("model> The") == 4
    assert "messages no longer fit and are forgotten" in session
    assert "(prompt: it is 80 tokens long" in session


def test_words_the_model_cannot_read_are_named(workplace, pretrained):
    run = shell(workplace, "-m", "jaxgpt", "sample", "runs/mini", "--prompt", "The zebra", "--max-tokens", "3")
    assert "(not in this model's vocabulary: zebra)" in run.stderr


def test_sampling(workplace, pretrained):
    text = shell(workplace, "-m", "jaxgpt", "sample", "runs/mini", "--prompt", "The ball", "--max-tokens", "6").stdout
    assert text.startswith("The ball")
    again = shell(workplace, "-m", "jaxgpt", "sample", "runs/mini", "--prompt", "The ball", "--max-tokens", "6").stdout
    assert text == again


def test_serving(workplace, finetuned):
    """Ends by itself, told to, while one streams: what was begun is ended in order, and the exit code is 0."""
    command = [sys.executable, "-m", "jaxgpt", "serve", "runs/mini_talk", "--port", "0", "--slots", "2"]
    with subprocess.Popen(command, cwd=workplace, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = next(found[1] for line in server.stdout if (found := re.search(r"listening on (http://\S+)", line)))
        asked = {"model": "mini_talk", "messages": [{"role": "user", "content": "The ball of Ann is red. The ball?"}]}
        answer = httpx.post(f"{url}/v1/chat/completions", json=asked | {"temperature": 0}, timeout=60).json()
        assert answer["choices"][0]["message"]["content"].startswith("The ")
        endless = {"model": "mini_talk", "prompt": "The ball", "max_tokens": 4096, "temperature": 2, "n": 2}
        with httpx.stream("POST", f"{url}/v1/completions", json=endless | {"stream": True}, timeout=60) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data: {")
            server.send_signal(signal.SIGTERM)
            assert list(lines)[-2:] == ["data: [DONE]", ""]
    assert server.returncode == 0


def test_serving_says_what_is_missing(workplace, finetuned, bad, monkeypatch):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        bad("jaxgpt", "serve", "runs/mini_talk", "--port", port, contains=f"127.0.0.1:{port}: cannot listen there")
    bad("jaxgpt", "serve", "runs/mini_talk", "--slots", "0", contains="slots: 0 was given")
    bad("jaxgpt", "serve", "runs/mini_talk", "--port", "99999", contains="port: 99999 was given")
    bad("jaxgpt", "serve", "runs/nothing", "--port", "0", contains="runs/nothing: no such run folder")
    monkeypatch.delattr("jaxgpt.serve.server")
    monkeypatch.delitem(sys.modules, "jaxgpt.serve.server")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    bad("jaxgpt", "serve", "runs/mini_talk", contains='uvicorn is not installed; pip install "jaxgpt[serve]"')


def test_evaluating(workplace, finetuned, capsys, monkeypatch):
    monkeypatch.chdir(workplace)
    scores = {}
    for stride in (None, 8):
        cli.main(["evaluate", "runs/mini", "--split", "test", *([] if stride is None else ["--stride", str(stride)])])
        out = capsys.readouterr().out
        assert "runs/mini, step 30, on the test split of text.txt" in out
        scores[stride] = {
            "loss": float(re.search(r"loss +([\d.]+) nats per token", out)[1]),
            "tokens": re.search(r"tokens +(\S+), each scored once", out)[1],
        }
        assert re.search(r"bits per byte +[\d.]+ over [\d,]+ bytes", out)
    assert scores[8]["tokens"] == scores[None]["tokens"]
    assert scores[8]["loss"] < scores[None]["loss"] + 0.05  # more context does not hurt
    cli.main(["evaluate", "runs/mini_talk"])
    out = capsys.readouterr().out
    assert re.search(r"perplexity +[\d.]+ per assistant token", out)
    assert re.search(r"replies end +\d+ of \d+ by themselves", out)
    assert re.search(r"in \d+ conversations", out)


def test_dry_run_changes_nothing(workplace, pretrained):
    before = sorted(workplace.rglob("*"))
    out = shell(workplace, "train.py", "--config", "mini.py", "--dry-run", "--run.name", "other").stdout
    assert '"embed_dim": 32' in out
    assert re.search(r"parameters: [\d,]+\n  token_embedding +4,096\n  position_embedding +1,536\n  blocks", out)
    assert re.search(r"steps: 30 of 256 tokens", out)
    assert sorted(workplace.rglob("*")) == before


def test_a_finished_run_stays_and_a_longer_one_goes_on(workplace, pretrained):
    shutil.copytree(workplace / "runs/mini", workplace / "runs/longer")
    metrics = workplace / "runs/longer/metrics.jsonl"
    same = shell(workplace, "train.py", "--config", "mini.py", "--run.name", "longer").stdout
    assert "going on from step 30 of 30" in same
    more = shell(workplace, "train.py", "--config", "mini.py", "--run.name", "longer", "--run.max-steps", "33").stdout
    assert "going on from step 30 of 33" in more
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines() if '"loss"' in line]
    assert steps == list(range(1, 34))
    restarted = shell(
        workplace, "train.py", "--config", "mini.py", "--run.name", "longer", "--run.restart", "--run.max-steps", "2"
    ).stdout
    assert f"the run that was there is now {Path('runs/longer.old-1')}" in restarted
    assert len((workplace / "runs/longer.old-1/metrics.jsonl").read_text().splitlines()) > 33


def test_ctrl_c_saves_and_the_same_command_goes_on_to_the_same_numbers(workplace, pretrained):
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
    assert re.search(r"stopped at step \d+ and saved; the same command goes on", rest)
    shell(workplace, "train.py", *command[2:])

    def losses(name):
        lines = (workplace / f"runs/{name}/metrics.jsonl").read_text().splitlines()
        return {record["step"]: record["loss"] for record in map(json.loads, lines) if "loss" in record}

    assert losses("stopped") == losses("mini")


@pytest.fixture
def bad(workplace, finetuned, cache_dir, monkeypatch, capsys, tmp_path):
    """Runs a command in this process, expecting exit 2 and one clear line, with nothing on disk lost."""
    monkeypatch.chdir(workplace)
    monkeypatch.delenv("JAXGPT_DATA", raising=False)

    def run(*arguments: str, contains: str) -> None:
        kept = {path: path.stat().st_mtime_ns for path in (workplace / "runs").rglob("[!.]*") if path.is_file()}
        monkeypatch.setattr(sys, "argv", [*arguments])
        with pytest.raises(SystemExit) as stopped:
            MAIN[arguments[0]]()
        err = capsys.readouterr().err
        assert stopped.value.code == 2, err
        assert err.startswith("error: ")
        assert len(err.strip().splitlines()) == 1, err
        assert contains in err, err
        assert all(path.stat().st_mtime_ns == time for path, time in kept.items())

    return run


MAIN = {
    "train.py": lambda: command_line.main(train.train),
    "finetune.py": lambda: command_line.main(finetune.finetune),
    "jaxgpt": cli.main,
}
TRAIN = ("train.py", "--config", "mini.py", "--run.name", "bad")
TUNE = ("finetune.py", "--config", "mini_talk.py", "--run.name", "bad")


@pytest.mark.parametrize(
    ("arguments", "contains"),
    [
        (("train.py", "--config", "nothing.py"), "no file nothing.py"),
        ((*TRAIN, "--model.num-heads", "5"), "model.num_heads: 5 was given; it must be a divisor of embed_dim (32)"),
        ((*TRAIN, "--data.seq-len", "64"), "data.seq_len: 64 was given; the model has positions"),
        ((*TRAIN, "--data.batch-size", "12"), "data.batch_size: 12 in 1 micro-batches does not divide over 8 devices"),
        ((*TRAIN, "--mesh.tensor", "3"), "mesh: data 2 x fsdp 1 x tensor 3 is 6 devices, but there are 8"),
        ((*TRAIN, "--data.corpus", "wikitext2"), "perhaps you meant wikitext-2"),
        ((*TRAIN, "--data.corpus", "oasst1"), "finetune.py"),
        ((*TRAIN, "--data.corpus", "wikitext-2"), "Three ways out"),
        ((*TRAIN, "--data.batch-size", "8000"), "data.batch_size: 8000 was given, but text.txt makes only"),
        ((*TRAIN, "--run.init-from", "runs/mini"), "run.init_from: train.py starts from nothing"),
        ((*TRAIN, "--run.folder", "text.txt"), "text.txt"),
        (
            ("train.py", "--config", "mini.py", "--optimizer.weight-decay", "0.5"),
            "optimizer.weight_decay is 0.5, was 0.01",
        ),
        (
            ("train.py", "--config", "mini.py", "--run.max-steps", "3"),
            "it has 30 steps already, more than the 3 asked for",
        ),
        ((*TUNE, "--run.init-from", "runs/nothing"), "runs/nothing: no such run folder; there are: "),
        ((*TUNE, "--run.init-from", "cache"), "not a run folder"),
        ((*TUNE, "--model.embed-dim", "64"), "finetuning takes the model from runs/mini"),
        ((*TUNE, "--data.seq-len", "64"), "data.seq_len: 64 was given; the model has positions"),
        ((*TUNE, "--data.corpus", "text.txt"), "text.txt"),
        (("jaxgpt", "chat", "runs/mini"), "finetune it first"),
        (("jaxgpt", "chat", "runs/mini_talk", "--prompt", ""), "prompt: it is empty"),
        (("jaxgpt", "chat", "runs/mini_talk", "--prompt", "red " * 50), "prompt: it is 50 tokens long"),
        (("jaxgpt", "sample", "runs/mini", "--prompt", " "), "prompt: it is empty"),
        (("jaxgpt", "sample", "runs/mini", "--prompt", "red " * 48), "prompt: it is 48 tokens long"),
        (("jaxgpt", "sample", "runs/mini", "--temperature", "-1"), "temperature: -1.0 was given"),
        (("jaxgpt", "sample", "runs/mini", "--max-tokens", "0"), "max_tokens: 0 was given"),
        (("jaxgpt", "sample", "nothing"), "nothing: no such run folder"),
        (("jaxgpt", "report", "nothing"), "nothing: no such run folder"),
        (("jaxgpt", "compare", "runs/mini"), "compare: 1 run was given"),
        (("jaxgpt", "explain", "runs/mini", ""), "prompt: it is empty"),
        (("jaxgpt", "explain", "runs/mini", "red " * 48), "prompt: it is 48 tokens long"),
        (
            ("jaxgpt", "evaluate", "runs/mini", "--stride", "99"),
            "stride: 99 was given; it must be between 1 and the window",
        ),
    ],
    ids=lambda value: " ".join(value[-3:])[:50] if isinstance(value, tuple) else "",
)
def test_bad_input(bad, arguments, contains):
    bad(*arguments, contains=contains)


def test_bad_files(bad, workplace):
    """What is wrong inside a file is named with its place."""
    (workplace / "empty").mkdir()
    (workplace / "latin.txt").write_bytes("caf\xe9\n".encode("latin-1") * 9)
    (workplace / "short.txt").write_text("one line\n" * 4)
    (workplace / "broken.jsonl").write_text('{"messages": []}\n{"messages": [\n')
    (workplace / "without.jsonl").write_text('{"prompt": "x"}\n')
    bad(*TRAIN, "--data.corpus", "empty", contains="empty")
    bad(*TRAIN, "--data.corpus", "latin.txt", contains="UTF-8")
    bad(*TRAIN, "--data.corpus", "short.txt", contains="training windows")
    bad(*TUNE, "--data.corpus", "broken.jsonl", contains="broken.jsonl")
    bad(*TUNE, "--data.corpus", "without.jsonl", contains="messages")


def test_unknown_words_are_refused(bad, workplace):
    talk = [
        {"role": "user", "content": "The ball of Ann is red."},
        {"role": "assistant", "content": "Zwei Wörter, unbekannt hier."},
    ]
    (workplace / "foreign.jsonl").write_text((json.dumps({"messages": talk}) + "\n") * 40)
    bad(*TUNE, "--data.corpus", "foreign.jsonl", contains="of the words in the replies of foreign.jsonl are unknown")


def test_a_run_of_another_model(bad, workplace):
    shutil.copytree(workplace / "runs/mini", workplace / "runs/changed")
    path = workplace / "runs/changed/config.json"
    path.write_text(path.read_text().replace('"mlp_dim": null', '"mlp_dim": 99'))
    bad(
        "jaxgpt",
        "sample",
        "runs/changed",
        contains="a checkpoint of another model than config.json describes: block_0.mlp",
    )


def test_a_run_without_checkpoint(bad, workplace):
    shutil.copytree(workplace / "runs/mini", workplace / "runs/early")
    shutil.rmtree(workplace / "runs/early/checkpoints")
    bad("jaxgpt", "sample", "runs/early", contains="this run has no checkpoint yet")
    bad(*TUNE, "--run.init-from", "runs/early", contains="this run has no checkpoint yet")
