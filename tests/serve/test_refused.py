"""Requests that are wrong, in fields, in JSON and in size: told in OpenAI's shape, and no server fails."""

import json
import math
import re

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxgpt.serve.middleware import MAX_BODY
from tests.serve.conftest import (
    CHAT,
    HELLO,
    SLOTS,
)


@pytest.mark.parametrize("body", ['{"model": %s}' % ("9" * 5_000), "[" * 100_000, '{"model": "\\ud800"}', "\x00"])
def test_json_of_unusual_kinds_is_refused(chat_server, body):
    answer = chat_server.http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("text", ["\ud800", "w1 \udfff w2"])
def test_half_a_surrogate_pair_is_refused(chat_server, text):
    message = {"role": "user", "content": text}
    asked = [
        ("/v1/chat/completions", {"model": "tiny", "messages": [message]}),
        (
            "/v1/chat/completions",
            {"model": "tiny", "messages": [{**message, "content": [{"type": "text", "text": text}]}]},
        ),
        ("/v1/completions", {"model": "tiny", "prompt": text}),
        ("/v1/completions", {"model": "tiny", "prompt": ["w1", text]}),
        ("/tokenize", {"prompt": text}),
    ]
    for path, body in asked:
        answer = chat_server.http.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
        assert answer.status_code == 400, (path, answer.text)
        error = answer.json()["error"]
        assert re.fullmatch(r"[a-z.0-9]+: character [03] is half of a surrogate pair", error["message"])
        assert error["param"] in ("messages", "prompt")


WRONG = [
    ({"model": "other"}, 404, "model"),
    ({"model": None}, 400, "model"),
    ({"messages": []}, 400, "messages"),
    ({"messages": [{"role": "user", "content": " "}]}, 400, "messages"),
    ({"messages": [{"role": "user", "content": "w1 " * 60}]}, 400, "messages"),
    ({"messages": [{"role": "assistant", "content": "w1"}]}, 400, "messages"),
    ({"messages": [{"role": "robot", "content": "w1"}]}, 400, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 400, "messages"),
    ({"temperature": -1}, 400, "temperature"),
    ({"temperature": "0"}, 400, "temperature"),
    ({"temperature": True}, 400, "temperature"),
    ({"top_p": 0}, 400, "top_p"),
    ({"max_tokens": 0}, 400, "max_tokens"),
    ({"max_tokens": 1.5}, 400, "max_tokens"),
    ({"n": SLOTS + 1}, 400, "n"),
    ({"n": 10**30}, 400, "n"),
    ({"messages": [{"role": "user", "content": None}]}, 400, "messages"),
    ({"messages": [{"role": "user"}]}, 400, "messages"),
    ({"stop": ["a"] * 17}, 400, "stop"),
    ({"seed": 10**30}, 400, "seed"),
    ({"top_logprobs": 2}, 400, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs"),
    ({"tools": [{"type": "function"}]}, 400, "tools"),
    ({"reasoning_effort": "low"}, 400, "reasoning_effort"),
    ({"frequency_penalty": 2.5}, 400, "frequency_penalty"),
    ({"repetition_penalty": 0}, 400, "repetition_penalty"),
    ({"top_k": -2}, 400, "top_k"),
    ({"min_p": 1.5}, 400, "min_p"),
    ({"logit_bias": {"60": 1}}, 400, "logit_bias"),
    ({"logit_bias": {"-1": 1}}, 400, "logit_bias"),
    ({"logit_bias": {"1": 101}}, 400, "logit_bias"),
    ({"no_such_thing": 1}, 400, "no_such_thing"),
    ({"written": [1] * 32_769}, 400, "written"),
]


@pytest.mark.parametrize(("change", "status", "param"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_requests_are_refused_in_openais_shape(chat_server, change, status, param):
    answer = chat_server.http.post("/v1/chat/completions", json=CHAT | change)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert param in error["message"] or status == 404


def test_what_a_message_has_beside_text_is_named(chat_server):
    for kind in ("image_url", "input_audio", "file"):
        parts = [{"type": "text", "text": "w1"}, {"type": kind, kind: {"url": "x"}}]
        answer = chat_server.http.post(
            "/v1/chat/completions", json=CHAT | {"messages": [HELLO[0] | {"content": parts}]}
        )
        message = f"messages.0.content: this model reads text, no parts of type '{kind}'"
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)


def test_errors_the_official_client_knows(client):
    with pytest.raises(openai.NotFoundError, match="there is no model 'other'"):
        client.chat.completions.create(**CHAT | {"model": "other"})
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model="tiny", prompt="w1 " * 64)
    assert error.value.code == "context_length_exceeded"
    assert error.value.message.endswith("; the prompt is too long")  # by which LiteLLM and LangChain know it


def test_broken_json_is_told_as_such(chat_server):
    answer = chat_server.http.post("/v1/completions", content=b'{"model": "tiny",}')
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert message.startswith("the request is not JSON: ")
    assert "(character 17)" in message
    assert "curl URL" in message


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model": NaN}', b"[" * 50_000, b'{"a":' * 20_000, b"1" * 10_000]
    + [json.dumps(CHAT | {"temperature": x, "prompt": "w1"}).encode() for x in (math.nan, math.inf)]
    + [json.dumps(CHAT | {"\ud800": 1}).encode(), json.dumps(CHAT | {"messages": [{"\ud800": "\ud800"}]}).encode()],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_request_at_all(chat_server, path, body):
    answer = chat_server.http.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

FIELDS = ["messages", "prompt", "temperature", "top_p", "n", "stop", "seed", "stream", "stream_options", "max_tokens"]

FIELDS += ["logprobs", "top_logprobs", "tools", "user", "metadata", "logit_bias", "response_format", "model", "written"]

FIELDS += [
    "top_k",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "echo",
    "tokens",
    "add_special_tokens",
]

BASES = {
    "/v1/chat/completions": CHAT | {"max_tokens": 2},
    "/v1/completions": {"model": "tiny", "prompt": "w1", "max_tokens": 2},
    "/v1/inspect": {"model": "tiny", "messages": HELLO},
    "/tokenize": {"prompt": "w1"},
    "/detokenize": {"tokens": [9]},
}


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(BASES)), st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_no_json_makes_the_server_fail(chat_server, path, change):
    headers = {"content-type": "application/json"}
    answer = chat_server.http.post(path, content=json.dumps(BASES[path] | change), headers=headers)
    assert answer.status_code in (200, 400, 404)
    assert answer.status_code == 200 or answer.json()["error"]["message"]


def test_too_large_is_413(chat_server):
    body = json.dumps(CHAT | {"messages": [{"role": "user", "content": "w1 " * MAX_BODY}]})
    headers = {"content-type": "application/json"}
    for content in (body, iter([body.encode()])):  # with the length said beforehand, and without
        answer = chat_server.http.post("/v1/chat/completions", content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "too_large"


def test_what_is_not_there(chat_server):
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", "/../api.py", 404),
        ("GET", "/v1/completions", 405),
        ("POST", "/health", 405),
        ("POST", "/nothing", 404),
    ):
        answer = chat_server.http.request(method, path)
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == "invalid_request_error"
