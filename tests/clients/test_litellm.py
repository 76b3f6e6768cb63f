"""LiteLLM: the providers `openai` and `text-completion-openai`, its own exceptions, and its choice by context."""

import asyncio

import litellm
import pytest

from tests.clients.conftest import (
    DOES_NOT_FIT,
    KEY,
    LEAVES_SOCKETS,
    PROMPT,
    SAID,
    SETTINGS,
    TOO_LONG,
    UNKNOWN,
    plain,
    plain_chat,
)

# Of the package itself: what pydantic says to it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_(computed_)?fields':pydantic.PydanticDeprecatedSince211"),
    *LEAVES_SOCKETS,
]

CHAT, TEXT = "openai/tiny", "text-completion-openai/tiny"


def messages(said=SAID):
    return [{"role": "user", "content": said}]


def at(server, key=KEY) -> dict:
    return {"api_base": f"{server.url}/v1", "api_key": key, "max_retries": 0}


@pytest.fixture(autouse=True)
def runner():
    """It makes an event loop for a thread that has none, and leaves that open; here the thread has one."""
    with asyncio.Runner() as runner:
        runner.get_loop()
        yield runner


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_chat(chat_server, settings):
    asked = {"model": CHAT, "messages": messages(), **settings, **at(chat_server)}
    expected = plain_chat(chat_server, **settings)
    whole = litellm.completion(**asked)
    usage = whole.usage
    assert (whole.choices[0].message.content, usage.prompt_tokens, usage.completion_tokens) == expected
    *chunks, last = litellm.completion(**asked, stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected.text
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == expected[1:]


def test_several_at_once(chat_server, runner):
    async def ask():
        asked = [dict(model=CHAT, messages=messages(f"w{i}"), temperature=0, **at(chat_server)) for i in range(4)]
        return await asyncio.gather(*(litellm.acompletion(**each) for each in asked))

    texts = [answer.choices[0].message.content for answer in runner.run(ask())]
    assert texts == [plain_chat(chat_server, f"w{i}", temperature=0).text for i in range(4)]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_text(text_server, settings):
    asked = {"model": TEXT, "prompt": PROMPT, **settings, **at(text_server)}
    expected = plain(text_server, prompt=PROMPT, **settings)
    whole = litellm.text_completion(**asked)
    usage = whole.usage
    assert (whole.choices[0].text, usage.prompt_tokens, usage.completion_tokens) == expected
    chunks = litellm.text_completion(**asked, stream=True)
    assert "".join(chunk.choices[0].text or "" for chunk in chunks) == expected.text


def test_errors(chat_server, text_server):
    with pytest.raises(litellm.NotFoundError, match=UNKNOWN):
        litellm.completion(model="openai/other", messages=messages(), **at(chat_server))
    with pytest.raises(litellm.AuthenticationError, match="key"):
        litellm.completion(model=CHAT, messages=messages(), **at(chat_server, "wrong"))
    with pytest.raises(litellm.ContextWindowExceededError, match=DOES_NOT_FIT):
        litellm.completion(model=CHAT, messages=messages(TOO_LONG), **at(chat_server))
    with pytest.raises(litellm.ContextWindowExceededError, match=DOES_NOT_FIT):
        litellm.text_completion(model=TEXT, prompt=TOO_LONG, **at(text_server))
