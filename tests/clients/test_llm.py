"""llm: models of its extra-openai-models.yaml, in Python and at its command line."""

import json

import llm
import openai
import pytest
from click.testing import CliRunner
from llm.cli import cli

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

pytestmark = LEAVES_SOCKETS


@pytest.fixture(autouse=True)
def _models(chat_server, text_server, tmp_path, monkeypatch):
    """Its folder, with a chat model, one that the server does not have, and a language model."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    here = {"api_key_name": "here", "api_base": f"{chat_server.url}/v1"}
    models = [
        {"model_id": "chat", "model_name": "tiny", **here},
        {"model_id": "other", "model_name": "other", **here},
        {"model_id": "text", "model_name": "tiny", **here, "api_base": f"{text_server.url}/v1", "completion": True},
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))  # which YAML is too
    (tmp_path / "keys.json").write_text(json.dumps({"here": KEY}))


def run(*arguments):
    return CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_chat(chat_server, settings, stream):
    answer = llm.get_model("chat").prompt(SAID, stream=stream, **settings)
    text, usage = "".join(answer), answer.usage()
    assert (text, usage.input, usage.output) == plain_chat(chat_server, **settings)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_text(text_server, settings, stream):
    answer = llm.get_model("text").prompt(PROMPT, stream=stream, **settings)
    assert "".join(answer) == plain(text_server, prompt=PROMPT, **settings).text


def test_a_conversation(chat_server):
    conversation = llm.get_model("chat").conversation()
    first = conversation.prompt("w1", system="w4", temperature=0, max_tokens=4).text()
    said = [("system", "w4"), ("user", "w1"), ("assistant", first), ("user", "w2")]
    sent = [{"role": role, "content": content} for role, content in said]
    second = conversation.prompt("w2", system="w4", temperature=0, max_tokens=4).text()
    assert second == plain(chat_server, messages=sent, temperature=0, max_tokens=4).text


def test_the_command_line(chat_server, tmp_path):
    expected = plain_chat(chat_server, temperature=0)
    asked = run("-m", "chat", "-o", "temperature", "0", SAID)
    assert (asked.exit_code, asked.stdout) == (0, expected.text + "\n")
    told = json.loads(run("logs", "-n", "1", "--json").stdout)[0]
    assert (told["response"], told["input_tokens"], told["output_tokens"]) == expected
    listed = run("openai", "endpoint", f"{chat_server.url}/v1", "--models", "--key", "here")
    assert (listed.exit_code, listed.stdout) == (0, "tiny\n")


def test_errors():
    with pytest.raises(openai.NotFoundError, match=UNKNOWN):  # it lets them through
        llm.get_model("other").prompt(SAID).text()
    with pytest.raises(openai.BadRequestError, match=DOES_NOT_FIT):
        llm.get_model("chat").prompt(TOO_LONG).text()
    refused = run("-m", "chat", TOO_LONG)
    assert refused.exit_code == 1
    assert DOES_NOT_FIT in refused.stderr
