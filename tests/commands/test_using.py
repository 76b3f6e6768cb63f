"""What one does with a run through the real commands: talk, sample, look, serve, evaluate."""

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from jaxgpt import cli
from jaxgpt.report.build import report_after
from tests.commands.miniature import shell


def test_version(capsys):
    cli.main(["--version"])
    assert re.fullmatch(r"jaxgpt \d+\.\d+\.\d+\n", capsys.readouterr().out)


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
    assert "4. The next token" in out
    assert "not in this model's vocabulary: zebra" in err
    cli.main(["explain", "runs/mini_talk", "The box?"])
    assert "'<assistant>', the last one, takes:" in capsys.readouterr().out


def test_talking(workplace, finetuned, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.chdir(workplace)
        cli.main(["chat", "runs/mini_talk", "--prompt", "The ball of Ann is red. The ball?"])
    assert capsys.readouterr().out.startswith("The ")
    talk = "The ball of Ann is red. The ball?\n" * 4 + "too long " * 40 + "\n"
    session = shell(workplace, "-m", "jaxgpt", "chat", "runs/mini_talk", input=talk).stdout
    assert session.count("model> The") == 4
    assert "messages no longer fit and are forgotten" in session
    assert "(prompt: it is 80 tokens long" in session


def test_words_the_model_cannot_read_are_named(workplace, pretrained, capsys, monkeypatch):
    monkeypatch.chdir(workplace)
    cli.main(["sample", "runs/mini", "--prompt", "The zebra", "--max-tokens", "3"])
    assert "(not in this model's vocabulary: zebra)" in capsys.readouterr().err


def test_sampling(workplace, pretrained, capsys, monkeypatch):
    """Another process writes the same."""
    command = ["sample", "runs/mini", "--prompt", "The ball", "--max-tokens", "6"]
    text = shell(workplace, "-m", "jaxgpt", *command).stdout
    assert text.startswith("The ball")
    monkeypatch.chdir(workplace)
    cli.main(command)
    assert text == capsys.readouterr().out


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
    cli.main(["evaluate", "runs/mini", "--split", "test", "--quantize", "int8"])
    out = capsys.readouterr().out
    assert re.search(r"runs/mini: weights in int8, 0.\d+ MB", out)
    loss = float(re.search(r"loss +([\d.]+) nats per token", out)[1])
    assert loss != scores[None]["loss"]
    assert abs(loss - scores[None]["loss"]) < 0.01
    cli.main(["evaluate", "runs/mini_talk"])
    out = capsys.readouterr().out
    assert re.search(r"perplexity +[\d.]+ per assistant token", out)
    assert re.search(r"replies end +\d+ of \d+ by themselves", out)
    assert re.search(r"in \d+ conversations", out)


@pytest.mark.long
def test_a_paste_is_one_message_and_an_empty_line_none(workplace, finetuned):
    """In a real terminal, as people paste; nothing of it is left for the shell that waits behind."""
    replies = []
    for paste in ("The ball of Ann is red.\n\nThe ball?\n", "\x1b[200~The ball of Ann is red.\n\nThe ball?\x1b[201~\r"):
        leader, follower = pty.openpty()
        command = [sys.executable, "-m", "jaxgpt", "chat", "runs/mini_talk", "--temperature", "0"]
        with subprocess.Popen(command, cwd=workplace, stdin=follower, stdout=follower, stderr=follower) as chat:
            os.close(follower)
            shown = read_until(leader, "you> ")
            os.write(leader, b"\r")  # nothing is said
            shown += read_until(leader, "you> ")
            os.write(leader, paste.encode())
            answer = read_until(leader, "you> ")
            os.write(leader, b"\x04")
            rest = read_until(leader, None)
            assert chat.wait(60) == 0, shown + answer + rest
        os.close(leader)
        assert answer.count("model> ") == 1, shown + answer
        assert "model> " not in shown + rest
        replies.append(answer.split("model> ")[1])
    assert replies[0] == replies[1]


def read_until(terminal: int, text: str | None) -> str:
    """Returns what a terminal shows until the text comes at its end, or until it closes."""
    shown = ""
    with contextlib.suppress(OSError):  # closed
        while text is None or not shown.endswith(text):
            assert select.select([terminal], [], [], 60)[0], shown
            piece = os.read(terminal, 4096).decode(errors="replace")
            if not piece:
                break
            shown = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", shown + piece)
    return shown


def test_lines_of_a_pipe_are_messages_and_empty_ones_are_none(workplace, finetuned):
    said = shell(workplace, "-m", "jaxgpt", "chat", "runs/mini_talk", input="\n\nThe ball of Ann is red. The ball?\n\n")
    assert said.stdout.count("model> ") == 1


def test_a_sample_goes_on_over_the_lines_unless_asked(workplace, pretrained, capsys, monkeypatch):
    monkeypatch.chdir(workplace)
    command = ["sample", "runs/mini", "--prompt", "The ball", "--max-tokens", "60"]
    cli.main(command)
    whole = capsys.readouterr().out
    assert whole.count("\n") > 3
    cli.main([*command, "--stop-at-line-end", "True"])
    line = capsys.readouterr().out
    assert line == whole.split("\n")[0] + "\n"


def test_commands_to_copy_are_quoted(workplace, pretrained, capsys, monkeypatch):
    shutil.copytree(workplace / "runs/mini", workplace / "runs/a run")
    with monkeypatch.context() as patch:
        patch.chdir(workplace)
        with pytest.raises(SystemExit) as stopped:
            cli.main(["chat", "runs/a run"])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "python -m jaxgpt finetune oasst --run.init-from 'runs/a run'" in told
    assert "python -m jaxgpt sample 'runs/a run'" in told
    (workplace / "runs/a run/run.json").write_text("[")
    assert "python -m jaxgpt report 'runs/a run'" in report_after(workplace / "runs/a run").replace(f"{workplace}/", "")


def test_evaluation_reads_no_text_that_is_encoded(workplace, finetuned, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    text = workplace / "text.txt"
    hidden = text.rename(workplace / "hidden.txt")
    try:
        cli.main(["evaluate", "runs/mini", "--split", "test"])
        cli.main(["report", "runs/mini"])
    finally:
        hidden.rename(text)
    assert re.search(r"bits per byte +[\d.]+ over [\d,]+ bytes", capsys.readouterr().out)
    assert "corpus is not at hand" not in (workplace / "runs/mini/report.html").read_text(encoding="utf-8")
