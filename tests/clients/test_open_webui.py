"""Open WebUI 0.12.4: what its backend was seen to send, with prompts of a few words for its own long ones.

Its default for a chat from its page is to offer the model some 28 tools. This server refuses that in its words, which
are shown in the chat. Without them (docs/serving.md says how) everything that it sends is answered.
"""

import json

import httpx
import pytest

from tests.clients.conftest import KEY, SAID, plain, plain_chat

USER = {"role": "user", "content": SAID}
CONVERSATION = [
    {"role": "system", "content": "w9"},
    {"role": "user", "content": "w1"},
    {"role": "assistant", "content": "w2"},
    USER,
]
STREAMED = {"stream": True, "model": "tiny"}
USAGE = {"stream_options": {"include_usage": True}}
# All of "Advanced Params" that an OpenAI-compatible server is sent, and one custom parameter.
SETTINGS = {
    **{"temperature": 0, "seed": 5, "max_tokens": 12, "stop": ["w59"], "top_k": 5, "top_p": 0.9, "min_p": 0.1},
    **{"frequency_penalty": 0.5, "presence_penalty": 0.1, "logit_bias": {"5": 10}, "repetition_penalty": 1.1},
}
TOOL = {
    "name": "get_current_timestamp",
    "description": "Get the current Unix timestamp in seconds.",
    "parameters": {"type": "object", "properties": {}},
}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@pytest.fixture
def backend(chat_server):
    """A client with the backend's headers."""
    headers = {"Authorization": f"Bearer {KEY}", "Accept": "*/*", "User-Agent": "Python/3.11 aiohttp/3.14.5"}
    with httpx.Client(base_url=f"{chat_server.url}/v1", headers=headers, timeout=60) as client:
        yield client


def ask(backend, body) -> httpx.Response:
    return backend.post("/chat/completions", content=json.dumps(body), headers={"Content-Type": "application/json"})


def streamed(answer) -> tuple[str, dict | None]:
    """Returns (the text, the usage) of a stream, read as the backend reads it."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    chunks = list(map(json.loads, lines[:-1]))
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    return text, chunks[-1].get("usage")


def test_models_and_the_check_of_a_connection(backend):
    assert [model["id"] for model in backend.get("/models").json()["data"]] == ["tiny"]


@pytest.mark.parametrize("messages", [[USER], CONVERSATION, CONVERSATION[:3]], ids=["new", "further", "continued"])
@pytest.mark.parametrize("usage", [{}, USAGE], ids=["no usage", "usage"])
def test_a_chat(chat_server, backend, messages, usage):
    body = {**STREAMED, "messages": messages, **usage, "temperature": 0, "max_tokens": 12}
    expected = plain(chat_server, messages=messages, temperature=0, max_tokens=12)
    text, told = streamed(ask(backend, body))
    assert text == expected.text
    assert (told is not None) == bool(usage)
    if told:
        assert (told["prompt_tokens"], told["completion_tokens"]) == expected[1:]


def test_settings(chat_server, backend):
    text, _ = streamed(ask(backend, {**STREAMED, "messages": [USER], **USAGE, **SETTINGS}))
    assert text == plain_chat(chat_server, **SETTINGS).text


@pytest.mark.parametrize("most", [{"max_tokens": 1000}, {"max_tokens": 4}, {}], ids=["title", "emoji", "tags"])
def test_tasks_beside_a_chat(backend, most):
    """A title, tags, what to say next, queries for a search: a prompt each, whole answers."""
    answer = ask(backend, {"model": "tiny", "messages": [USER], "stream": False, **most})
    assert answer.json()["choices"][0]["finish_reason"] in ("stop", "length")
    assert answer.json()["usage"]["completion_tokens"] <= most.get("max_tokens", 64)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"tools": [{"type": "function", "function": TOOL}]}, 400, "tools: this server does not support it"),
        ({"reasoning_effort": "low"}, 400, "reasoning_effort: this server does not support it"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "w1"}, PICTURE]}]},
            400,
            "messages.0.content: this model reads text, no parts of type 'image_url'",
        ),
        ({"model": "other"}, 404, "there is no model 'other' here; there is 'tiny'"),
    ],
    ids=["tools", "effort", "picture", "model"],
)
def test_what_is_refused_is_said_in_words(backend, change, status, message):
    """Not as a stream, though one was asked for: the backend shows `error.message`."""
    answer = ask(backend, {**STREAMED, "messages": [USER]} | change)
    assert (answer.status_code, answer.json()["error"]["message"]) == (status, message)


def test_a_long_prompt_of_a_task_is_refused_as_too_long(backend):
    """Of some 300 words; a chat that gets no title from that goes on all the same."""
    long = {"role": "user", "content": "### Task: " + "w1 " * 300}
    answer = ask(backend, {"model": "tiny", "messages": [long], "stream": False, "max_tokens": 1000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
