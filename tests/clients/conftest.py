"""A chat model and a language model behind real servers that want a key, and no way out of this machine."""

import os

# Clients that would send or fetch something when they are imported or used.
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}

import gc
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jaxgpt.inference.engine import Engine
from tests.serve.conftest import CONFIG, SLOTS, TOKENIZER, Running, random_params, running

KEY = "sesame"
SAID, PROMPT, TOO_LONG = "w1 w2 w3", "w1 w2", "w1 " * 90
SETTINGS = [{"temperature": 0.0, "max_tokens": 12}, {"seed": 5, "temperature": 1.0, "max_tokens": 12}]
UNKNOWN = "there is no model 'other' here; there is 'tiny'"
DOES_NOT_FIT = "it is 90 tokens long"
LEAVES_SOCKETS = [
    pytest.mark.usefixtures("_collected"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
"""For clients that do not close what they open."""


class Plain(NamedTuple):
    """What the server answers to a plain request."""

    text: str
    read: int
    written: int


def plain(server: Running, **asked: Any) -> Plain:
    """Asks with no client between, for a chat where there are messages."""
    path = "chat/completions" if "messages" in asked else "completions"
    headers = {"authorization": f"Bearer {KEY}"}
    answer = server.http.post(f"/v1/{path}", json={"model": "tiny", **asked}, headers=headers).raise_for_status().json()
    choice, usage = answer["choices"][0], answer["usage"]
    text = choice["message"]["content"] if "messages" in asked else choice["text"]
    return Plain(text, usage["prompt_tokens"], usage["completion_tokens"])


def plain_chat(server: Running, said: str = SAID, **asked: Any) -> Plain:
    return plain(server, messages=[{"role": "user", "content": said}], **asked)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path.name == "test_npm.py" and not config.getoption("node_modules") else None


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Names and addresses of other machines are not found, and asking for one is a failure."""
    asked, find = [], socket.getaddrinfo

    def find_here(host, *arguments, **options):
        if host in ("127.0.0.1", "localhost"):
            return find(host, *arguments, **options)
        asked.append(host)
        raise socket.gaierror(f"{host}: tests of clients use no network")

    monkeypatch.setattr(socket, "getaddrinfo", find_here)
    yield
    assert not asked


@pytest.fixture
def _collected():
    """Closes what a test leaves open while the test's filter of warnings holds, not in another test."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def chat_server() -> Iterator[Running]:
    params = random_params()
    engine = Engine(params, CONFIG, TOKENIZER, SLOTS)
    with running(engine, params, api_key=KEY) as server:
        yield server
    engine.close()


@pytest.fixture(scope="session")
def text_server(chat_server) -> Iterator[Running]:
    with running(chat_server.engine, chat_server.params, is_chat=False, api_key=KEY) as server:
        yield server
