"""lm-evaluation-harness: `local-completions` and `local-chat-completions` on tasks that are files here."""

import json

import lm_eval
import pytest
import requests
from lm_eval.tasks import TaskManager

from tests.clients.conftest import KEY, UNKNOWN, plain, plain_chat

CONTEXTS, CHOICES = ("w1 w2", "w30", "w7 w8 w9"), ("w5", "w6 w7")
TASK = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: text
"""
CHOICE = """
task: choice
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: label
"""
WRITING = """
task: writing
output_type: generate_until
doc_to_target: text
generation_kwargs: {until: ["w59"], max_gen_toks: 8, temperature: 0}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Returns a function that has a model answer a task, and returns what was asked and answered."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": x, "choices": CHOICES, "label": 0}) + "\n" for x in CONTEXTS))
    for name, task in (("choice", CHOICE), ("writing", WRITING)):
        (tmp_path / f"{name}.yaml").write_text(task + TASK.format(data=data))
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)

    def evaluate(kind, task, url, model="tiny", **settings):
        arguments = {"base_url": url, "model": model, "max_length": 64, "max_retries": 1, "auth_token": KEY}
        settings |= {"model_args": arguments, "tasks": [task], "task_manager": tasks, "bootstrap_iters": 0}
        return lm_eval.simple_evaluate(kind, **settings)["samples"][task]

    return evaluate


def log_likelihood(server, context, choice) -> float:
    """Returns the same from a plain request: the sum over the tokens of the choice."""
    asked = {"model": "tiny", "prompt": f"{context} {choice}", "echo": True, "logprobs": 1, "max_tokens": 0}
    answer = server.http.post("/v1/completions", json=asked, headers={"authorization": f"Bearer {KEY}"}).json()
    return sum(answer["choices"][0]["logprobs"]["token_logprobs"][-len(choice.split()) :])


def test_choices(text_server, evaluate):
    found = evaluate("local-completions", "choice", f"{text_server.url}/v1/completions", batch_size=4)
    for sample, context in zip(found, CONTEXTS, strict=True):
        told = [answer[0][0] for answer in sample["resps"]]
        assert told == pytest.approx([log_likelihood(text_server, context, choice) for choice in CHOICES], abs=1e-4)


def test_texts(text_server, evaluate):
    found = evaluate("local-completions", "writing", f"{text_server.url}/v1/completions", batch_size=4)
    written = {"temperature": 0, "max_tokens": 8, "stop": "w59"}
    assert [sample["resps"][0][0] for sample in found] == [
        plain(text_server, prompt=context, **written).text for context in CONTEXTS
    ]


def test_chats(chat_server, evaluate):
    url = f"{chat_server.url}/v1/chat/completions"
    found = evaluate("local-chat-completions", "writing", url, apply_chat_template=True)
    written = {"temperature": 0, "max_tokens": 8, "stop": "w59"}
    assert [sample["resps"][0][0] for sample in found] == [
        plain_chat(chat_server, context, **written).text for context in CONTEXTS
    ]


def test_errors(chat_server, evaluate):
    url = f"{chat_server.url}/v1/chat/completions"
    with pytest.raises(requests.HTTPError) as error:
        evaluate("local-chat-completions", "writing", url, "other", apply_chat_template=True)
    assert error.value.response.json()["error"]["message"] == UNKNOWN
