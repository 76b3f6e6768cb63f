"""A conversation at the terminal: its commands, and what keys do."""

import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from tests.commands.miniature import shell

CHAT = ("-m", "jaxgpt", "chat", "runs/mini_talk", "--temperature", "0")


def talk(workplace, *lines: str) -> list[str]:
    """Returns what is printed for each line that is typed."""
    said = shell(workplace, *CHAT, input="\n".join(lines) + "\n").stdout
    return [part.strip() for part in said.split("you> ")[1:]]


def test_commands(workplace, finetuned, tmp_path):
    saved = tmp_path / "talks.jsonl"
    (
        first,
        again,
        _,
        too_long,
        told,
        kept,
        new,
        empty,
        odd,
        hot,
        still,
        unknown,
        slash,
        unsaved,
        text,
        nowhere,
        *rest,
    ) = talk(
        workplace,
        "The box of Ann is red. The box?",
        "/retry",
        f"/system {'The cup is red. ' * 40}",
        "/retry",
        "/system The cup is red.",
        f"/save {saved}",
        "/new",
        "/retry",
        "/temperature much",
        "/temperature 0.5",
        "/temperature",
        "/nothing",
        "//box?",
        "/save /no/such/folder/x",
        "/save text.txt",
        "/save",
        "/help",
        "/quit",
        "box?",
    )
    assert first.startswith("model> The ")
    assert again == first  # at temperature 0
    assert too_long.startswith("(system message: it is ")
    assert told == "(the model is told so from now on)"
    assert kept == f"(3 messages added to {saved})"
    (line,) = saved.read_text().splitlines()
    messages = json.loads(line)["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    assert messages[0]["content"] == "The cup is red."
    assert messages[2]["content"] == first.removeprefix("model> ")
    assert new == "(forgotten)"
    assert empty == "(nothing was said yet)"
    assert odd == "(temperature: much was given; it must be a number from 0 up)"
    assert hot == still == "(temperature 0.5)"
    assert unknown == "(there is no /nothing; /help lists what there is)"
    assert slash.startswith("model> ")
    assert unsaved.startswith("(not saved: ")
    assert text == "(not saved: text.txt is there, and holds no conversations; give another file)"
    assert nowhere == "(no file was given; for example /save talks.jsonl)"
    assert "/temperature NUMBER" in "\n".join(rest)
    assert "model>" not in "\n".join(rest)  # it was left


@pytest.mark.long
def test_arrows_bring_back_what_was_said_and_keys_stay_out_of_replies(workplace, finetuned):
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, *CHAT], cwd=workplace, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    seen = b""

    def until(text: bytes, count: int) -> None:
        nonlocal seen
        end = time.monotonic() + 120
        while seen.count(text) < count:
            ready, _, _ = select.select([ours], [], [], max(0, end - time.monotonic()))
            assert ready, seen
            seen += os.read(ours, 4096)

    try:
        until(b"you> ", 1)
        os.write(ours, b"The box?\n")
        until(b"model> ", 1)
        os.write(ours, b"zzz")  # typed ahead
        until(b"you> ", 2)
        reply = seen.split(b"model> ")[1].split(b"you> ")[0]
        assert b"zzz" not in reply
        os.write(ours, b"\x15\x1b[A\n")  # rub out the line, arrow up
        until(b"model> ", 2)
        assert b"The box?" in seen.split(b"you> ")[2]
        assert b"^[[A" not in seen
    finally:
        child.kill()
        child.wait()
        os.close(ours)
