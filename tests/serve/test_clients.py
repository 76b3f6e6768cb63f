"""Clients many at once, those who vanish or may not come in, and what is counted of them."""

import contextlib
import json
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from jaxgpt.serve.api import PAGE
from tests.serve.conftest import (
    CHAT,
    HELLO,
    SLOTS,
    WAITING,
    expected_chat,
    idle,
    running,
)

ENDLESS = {"model": "tiny", "prompt": "w1", "max_tokens": 4096, "temperature": 1.5}


def test_twenty_clients_at_once(chat_server):
    prompts = [" ".join(f"w{(3 * i + j) % 50}" for j in range(1 + i)) for i in range(20)]

    def ask(prompt):
        body = {"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": 100}
        return httpx.post(f"{chat_server.url}/v1/completions", json=body, timeout=60).json()["choices"][0]["text"]

    alone = list(map(ask, prompts))
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(ask, prompts)) == alone
    assert idle(chat_server)


def test_what_is_done_is_counted(engine, params):
    from prometheus_client.parser import text_string_to_metric_families

    def counted(server):
        answer = server.http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        samples = (sample for family in text_string_to_metric_families(answer.text) for sample in family.samples)
        return {(sample.name, *sample.labels.values()): sample.value for sample in samples}

    with running(engine, params) as server:
        asked = {"model": "tiny", "prompt": "w1 w2", "max_tokens": 9, "n": 2, "temperature": 0, "stop": "nothing"}
        used = server.http.post("/v1/completions", json=asked).json()["usage"]
        with server.http.stream("POST", "/v1/completions", json=asked | {"stream": True}) as answer:
            assert answer.read()
        assert server.http.post("/v1/completions", json=asked | {"top_p": 7}).status_code == 400
        assert server.http.get("/nothing/here?at=all").status_code == 404
        assert server.http.get("/v1/models", headers={"host": "elsewhere.example"}).status_code == 403
        found = counted(server)
    requests = {name[1:]: value for name, value in found.items() if name[0] == "jaxgpt_requests_total"}
    assert requests == {
        ("/v1/completions", "200"): 2,
        ("/v1/completions", "400"): 1,
        ("other", "404"): 1,
        ("/v1/models", "403"): 1,
    }
    assert found["jaxgpt_prompt_tokens_total",] == 2 * used["prompt_tokens"]
    assert found["jaxgpt_written_tokens_total",] == 2 * used["completion_tokens"]
    assert found["jaxgpt_first_token_seconds_count",] == found["jaxgpt_token_seconds_count",] == 4
    assert 0 < found["jaxgpt_first_token_seconds_sum",] < 60
    assert found["jaxgpt_request_seconds_count", "/v1/completions"] == 3
    assert (found["jaxgpt_slots",], found["jaxgpt_waiting_texts",]) == (SLOTS, 0)


def test_what_is_forgotten_and_what_cannot_be_read(chat_server):
    messages = [HELLO[0], {"role": "assistant", "content": "w5 " * 45}, {"role": "user", "content": "w1 zebra"}]
    answer = chat_server.http.post("/v1/chat/completions", json=CHAT | {"messages": messages}).json()
    assert answer["jaxgpt"] == {"forgotten": 2, "unknown_words": ["zebra"]}
    assert answer["choices"][0]["message"]["content"] == expected_chat(chat_server, messages[2:])


def begin(stack, server) -> socket.socket:
    """Sends a request by hand, and returns its connection once the answer begins."""
    body = json.dumps(ENDLESS | {"stream": True})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    connection = stack.enter_context(socket.create_connection(address, timeout=60))
    connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def vanish(connection) -> None:
    """Breaks a connection without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_full_queue_is_429(chat_server, monkeypatch):
    """While the engine does nothing, all places to wait are taken; then those who wait go away."""
    go_on, turn = threading.Event(), chat_server.engine._turn
    monkeypatch.setattr(chat_server.engine, "_turn", lambda: go_on.wait(60) and turn())
    with contextlib.ExitStack() as stack:
        waiting = [begin(stack, chat_server) for _ in range(WAITING)]
        answer = chat_server.http.post("/v1/completions", json=ENDLESS)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
        assert answer.headers["retry-after"] == "1"
        for connection in waiting:
            vanish(connection)
    assert any(chat_server.http.get("/health").json()["waiting"] == 0 for _ in range(1000))
    go_on.set()
    assert chat_server.http.post("/v1/completions", json=ENDLESS | {"max_tokens": 3}).status_code == 200


def test_the_vanished_free_their_slots(chat_server):
    with contextlib.ExitStack() as stack:
        connections = [begin(stack, chat_server) for _ in range(SLOTS)]
        for connection in connections:
            while b"data: " not in connection.recv(4096):
                pass  # from here on it is being written
            vanish(connection)
    assert idle(chat_server)


def test_a_client_that_gives_up_waiting_is_let_go(chat_server, monkeypatch):
    go_on, turn = threading.Event(), chat_server.engine._turn
    monkeypatch.setattr(chat_server.engine, "_turn", lambda: go_on.wait(60) and turn())
    with pytest.raises(httpx.ReadTimeout):
        chat_server.http.post("/v1/completions", json=ENDLESS, timeout=0.1)
    assert any(chat_server.http.get("/health").json()["waiting"] == 0 for _ in range(1000))
    go_on.set()


def test_a_language_model_does_not_chat_and_a_key_is_a_key(text_server):
    refused = text_server.http.post("/v1/completions", json=ENDLESS)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    with openai.OpenAI(base_url=f"{text_server.url}/v1", api_key="sesame", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="finetune it first"):
            client.chat.completions.create(**CHAT)
        assert client.completions.create(model="tiny", prompt="w1").choices
    assert text_server.http.get("/").status_code == 200  # the page asks for the key itself


def test_other_names_and_other_sites_are_refused(chat_server):
    """A name that was made to lead to this machine, and a page of another site."""
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}, {"host": "[x"}):
        answer = chat_server.http.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert answer.status_code == 403
    port = chat_server.url.rpartition(":")[2]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}"):
        headers = {"host": host, "origin": f"http://{host}"}
        assert chat_server.http.post("/v1/chat/completions", json=CHAT, headers=headers).status_code == 200


def test_sites_and_names_that_are_let_in(engine, params):
    """A site's pages may ask, after a preflight, and read the answer; a proxy's name is known; others are refused."""
    ours = {"origin": "https://pages.example", "host": "chat.example"}
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    access = {"names": ("127.0.0.1", "chat.example"), "origins": ("https://pages.example",)}
    with running(engine, params, api_key="sesame", **access) as server:
        preflight = server.http.options("/v1/completions", headers=ours | asked)
        assert preflight.status_code == 204
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        key = {"authorization": "Bearer sesame"}
        body = {"model": "tiny", "prompt": "w1", "max_tokens": 2}
        answer = server.http.post("/v1/completions", json=body, headers=ours | key)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://pages.example")
        refused = server.http.post("/v1/completions", json=body, headers=ours)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://pages.example")
        for change in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
            answer = server.http.post("/v1/completions", json=body, headers=ours | key | change)
            assert answer.status_code == 403
        stranger = server.http.options("/v1/completions", headers=ours | asked | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers


def test_the_page_is_small_and_asks_for_nothing_from_elsewhere(chat_server):
    total = 0
    for path in PAGE.iterdir():
        answer = chat_server.http.get(f"/{path.name}")
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert "https://" not in answer.text
        assert "innerHTML" not in answer.text  # what a model writes is never markup
        total += len(answer.content)
    assert total < 100_000
