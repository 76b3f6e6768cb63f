"""langchain-openai: ChatOpenAI and OpenAI, streams, batches, and LangChain's own exceptions."""

import pytest
from langchain_core.exceptions import ContextOverflowError, ModelAuthenticationError, ModelNotFoundError
from langchain_openai import ChatOpenAI, OpenAI

from tests.clients.conftest import DOES_NOT_FIT, KEY, PROMPT, SAID, SETTINGS, TOO_LONG, UNKNOWN, plain, plain_chat


def chat_of(server, model="tiny", key=KEY, **settings) -> ChatOpenAI:
    return ChatOpenAI(model=model, base_url=f"{server.url}/v1", api_key=key, max_retries=0, **settings)


def text_of(server, **settings) -> OpenAI:
    return OpenAI(model="tiny", base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, **settings)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_chat(chat_server, settings):
    chat = chat_of(chat_server, **settings)
    expected = plain_chat(chat_server, **settings)
    whole = chat.invoke(SAID)
    assert (whole.content, whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]) == expected
    first, *chunks = chat.stream(SAID, stream_usage=True)
    streamed = sum(chunks, start=first)
    assert streamed.content == expected.text
    assert streamed.usage_metadata["output_tokens"] == expected.written
    assert streamed.response_metadata["finish_reason"] == whole.response_metadata["finish_reason"]


def test_a_conversation_in_a_batch(chat_server):
    said = [("system", "w4"), ("user", "w1"), ("assistant", "w2"), ("user", "w3")]
    answers = chat_of(chat_server, temperature=0).batch([said, SAID])
    sent = [{"role": role, "content": content} for role, content in said]
    assert answers[0].content == plain(chat_server, messages=sent, temperature=0).text
    assert answers[1].content == plain_chat(chat_server, temperature=0).text


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_text(text_server, settings):
    text = text_of(text_server, **settings)
    expected = plain(text_server, prompt=PROMPT, **settings)
    whole = text.generate([PROMPT])
    usage = whole.llm_output["token_usage"]
    assert (whole.generations[0][0].text, usage["prompt_tokens"], usage["completion_tokens"]) == expected
    assert "".join(text.stream(PROMPT)) == expected.text


def test_errors(chat_server):
    with pytest.raises(ModelNotFoundError, match=UNKNOWN):
        chat_of(chat_server, "other").invoke(SAID)
    with pytest.raises(ModelAuthenticationError, match="key"):
        chat_of(chat_server, key="wrong").invoke(SAID)
    with pytest.raises(ContextOverflowError, match=DOES_NOT_FIT):
        chat_of(chat_server).invoke(TOO_LONG)
