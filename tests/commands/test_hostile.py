"""Those who send nonsense, too much, half a request, or vanish: a real server answers them all, and nothing is left.

python -m pytest -m long tests/commands/test_hostile.py --fuzz 5000 -s    prints what was answered
"""

import contextlib
import json
import re
import signal
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

pytestmark = pytest.mark.long

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
GOOD = {"model": "mini_talk", "prompt": "The ball", "max_tokens": 20, "temperature": 0}
ENDLESS = {"model": "mini_talk", "prompt": "The ball", "max_tokens": 4096, "temperature": 2, "stream": True}
SLEEPERS = 20
GROWTH_MB = 40


class Server(NamedTuple):
    process: subprocess.Popen
    url: str
    answered: Counter


@pytest.fixture
def server(workplace, finetuned) -> Iterator[Server]:
    command = [sys.executable, "-m", "jaxgpt", "serve", "runs/mini_talk", "--port", "0", "--slots", "4"]
    with subprocess.Popen(command, cwd=workplace, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = next(found[1] for line in process.stdout if (found := re.search(r"listening on (http://\S+)", line)))
        yield Server(process, url, Counter())
        process.send_signal(signal.SIGTERM)


def tries(count: int) -> settings:
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )


def ask_what_is_described(server: Server, count: int) -> None:
    """Asks what schemathesis makes of the API's own description, right and wrong, `count` times each route and mode."""
    api = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [result.ok() for result in api.get_all_operations()]
    assert {"POST /v1/completions", "POST /v1/chat/completions"} < {operation.label for operation in operations}
    with requests.Session() as session:
        for operation in operations:
            for mode in GenerationMode:
                if mode is GenerationMode.NEGATIVE and operation.method == "get":
                    continue  # there is nothing to get wrong

                @tries(count)
                @given(operation.as_strategy(generation_mode=mode), st.booleans())
                def ask(case: schemathesis.Case, to_the_point: bool) -> None:
                    if isinstance(case.body, dict):
                        for name in ("max_tokens", "max_completion_tokens"):
                            if isinstance(case.body.get(name, 100), int | None):
                                case.body[name] = 3  # so that they are many
                        if to_the_point:
                            case.body["model"] = "mini_talk"
                    response = case.call(session=session, timeout=60)
                    server.answered[response.status_code] += 1
                    case.validate_response(response, checks=CHECKS)

                ask()


def ask_too_much(server: Server, count: int) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for i in range(count):
            answer = client.post("/v1/completions", json=GOOD | {"prompt": "ball " * (10 << i % 17)})
            server.answered[answer.status_code] += 1
            assert answer.status_code in (200, 400, 413)


def be_rude(server: Server, count: int) -> None:
    """Connections of garbage, of half a request, and such as break before or in the middle of an answer."""
    port = int(server.url.rpartition(":")[2])
    whole = post(ENDLESS)
    half = st.integers(1, len(whole) - 1).map(lambda size: whole[:size])

    @tries(count)
    @given(st.one_of(st.binary(min_size=1, max_size=200), half, st.just(whole), st.just(whole)), st.booleans())
    def connect(content: bytes, listens: bool) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(content)
            if listens and content == whole:
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
            # It ends in a reset, without a word.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.answered["vanished"] += 1

    connect()


def post(body: dict) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + content


def memory_mb(server: Server) -> float:
    """Returns the memory the server holds; 0 where the system does not tell."""
    status = Path(f"/proc/{server.process.pid}/status")
    return int(re.search(r"VmRSS:\s+(\d+) kB", status.read_text())[1]) / 1024 if status.exists() else 0.0


def test_hostile_requests_leave_nothing_behind(server, request):
    count = request.config.getoption("fuzz")
    port = int(server.url.rpartition(":")[2])

    def good() -> str:
        return httpx.post(f"{server.url}/v1/completions", json=GOOD, timeout=60).json()["choices"][0]["text"]

    def all_kinds(count: int) -> None:
        ask_what_is_described(server, count // 4)
        ask_too_much(server, count // 8)
        be_rude(server, count // 4)

    expected = good()
    all_kinds(count // 5)
    before = memory_mb(server)
    with contextlib.ExitStack() as stack:
        for _ in range(SLEEPERS):  # they never come to an end, and keep nobody from being served
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            connection.sendall(post(GOOD)[:-5])
        all_kinds(count)
        assert good() == expected
    after = memory_mb(server)
    healths = (httpx.get(f"{server.url}/health").json() for _ in range(1000))
    health = next(health for health in healths if health["writing"] + health["waiting"] == 0)
    print(
        f"\n{server.answered.total():,} requests: "
        + ", ".join(f"{status} {times:,} times" for status, times in sorted(server.answered.items(), key=str))
        + f"; memory {before:.0f} MB, then {after:.0f} MB; {health['slots'] - health['writing']} of "
        f"{health['slots']} slots free"
    )
    assert server.process.poll() is None
    assert after - before < GROWTH_MB
