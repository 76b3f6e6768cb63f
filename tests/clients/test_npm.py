"""npm's openai under node; run only with --node-modules PATH, a folder in which `npm install openai` put it."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import DOES_NOT_FIT, KEY, PROMPT, SAID, SETTINGS, TOO_LONG, UNKNOWN, plain, plain_chat

BEGINNING = """
import OpenAI from "openai";
const [url, apiKey, asked] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const body = { model: "tiny", ...JSON.parse(asked) };
const tell = (told) => console.log(JSON.stringify(told));
"""
WHOLE = """
const whole = await client.chat.completions.create(body);
tell([whole.choices[0].message.content, whole.usage.prompt_tokens, whole.usage.completion_tokens]);
"""
STREAMED = """
const stream = await client.chat.completions.create(
  { ...body, stream: true, stream_options: { include_usage: true } });
let text = "", usage;
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
tell([text, usage.prompt_tokens, usage.completion_tokens]);
"""
HELPER = """
const helper = client.chat.completions.stream({ ...body, stream_options: { include_usage: true } });
const { choices, usage } = await helper.finalChatCompletion();
tell([choices[0].message.content, usage.prompt_tokens, usage.completion_tokens]);
"""
TEXT = """
const done = await client.completions.create(body);
tell([done.choices[0].text, done.usage.prompt_tokens, done.usage.completion_tokens]);
"""
TEXT_STREAMED = """
let text = "", usage;
for await (const chunk of await client.completions.create(
  { ...body, stream: true, stream_options: { include_usage: true } })) {
  text += chunk.choices[0]?.text ?? "";
  usage = chunk.usage ?? usage;
}
tell([text, usage.prompt_tokens, usage.completion_tokens]);
"""
MODELS = """
const names = [];
for await (const model of client.models.list()) names.push(model.id);
tell(names);
"""
ERROR = """
const error = await client.chat.completions.create(body).catch((error) => error);
tell([error.constructor.name, error instanceof OpenAI.APIError, error.status, error.code, error.message]);
"""


@pytest.fixture
def run(request, tmp_path):
    """Returns a function that runs a program at a server, and returns what it told."""
    given = Path(request.config.getoption("node_modules")).resolve()
    packages = given if given.name == "node_modules" else given / "node_modules"
    assert (packages / "openai").is_dir(), f"{packages}: there is no openai; npm install openai"
    (tmp_path / "node_modules").symlink_to(packages)

    def run(server, program, key=KEY, **asked):
        (tmp_path / "program.mjs").write_text(BEGINNING + program)
        command = ["node", "program.mjs", server.url, key, json.dumps(asked)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert not done.returncode, done.stderr
        return json.loads(done.stdout)

    return run


def messages(said=SAID):
    return [{"role": "user", "content": said}]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("program", [WHOLE, STREAMED, HELPER], ids=["whole", "streamed", "helper"])
def test_a_chat(chat_server, run, program, settings):
    assert tuple(run(chat_server, program, messages=messages(), **settings)) == plain_chat(chat_server, **settings)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("program", [TEXT, TEXT_STREAMED], ids=["whole", "streamed"])
def test_a_text(text_server, run, program, settings):
    expected = plain(text_server, prompt=PROMPT, **settings)
    assert tuple(run(text_server, program, prompt=PROMPT, **settings)) == expected


def test_models(chat_server, run):
    assert run(chat_server, MODELS) == ["tiny"]


def test_errors(chat_server, run):
    unknown = run(chat_server, ERROR, model="other", messages=messages())
    assert unknown[:4] == ["NotFoundError", True, 404, "model_not_found"]
    assert UNKNOWN in unknown[4]
    long = run(chat_server, ERROR, messages=messages(TOO_LONG))
    assert long[:4] == ["BadRequestError", True, 400, "context_length_exceeded"]
    assert DOES_NOT_FIT in long[4]
    assert run(chat_server, ERROR, "wrong", messages=messages())[:2] == ["AuthenticationError", True]
