"""The API as its clients see it: the official one unchanged, completions, chats and what ends them."""

import contextlib
import json

import jax.numpy as jnp

from jaxgpt.inference.engine import Engine
from tests.serve.conftest import (
    CHAT,
    CONFIG,
    HELLO,
    TOKENIZER,
    expected_chat,
    expected_text,
    idle,
    running,
)


def test_the_official_client(chat_server, client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").object == "model"
    expected = expected_chat(chat_server, HELLO)
    whole = client.chat.completions.create(**CHAT)
    assert whole.choices[0].message.content == expected
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 6  # <user> w1 w2 w3 <end> <assistant>
    assert whole.usage.completion_tokens == len(TOKENIZER.encode(expected))
    chunks = list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == expected
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_completions(chat_server, client):
    prompts = ["w1 w2", "w30"]
    done = client.completions.create(model="tiny", prompt=prompts, temperature=0, max_tokens=9, n=2)
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]
    expected = [expected_text(chat_server, prompt, 9) for prompt in prompts for _ in range(2)]
    assert [choice.text for choice in done.choices] == expected
    chunks = client.completions.create(model="tiny", prompt="w1 w2", temperature=0, max_tokens=9, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected[0]
    assert len(TOKENIZER.encode(client.completions.create(model="tiny", prompt="w1").choices[0].text)) <= 16


def test_a_seed_gives_the_same_text_and_n_other_ones(client):
    def texts(seed, n):
        done = client.chat.completions.create(model="tiny", messages=HELLO, seed=seed, n=n, max_tokens=20)
        return [choice.message.content for choice in done.choices]

    assert texts(5, 3) == texts(5, 3)
    assert texts(5, 3)[0] == texts(5, 1)[0]
    assert len(set(texts(5, 3))) == 3
    assert texts(None, 1) != texts(None, 1)


def test_stop_texts_end_a_reply_and_do_not_leak(chat_server, client):
    words = expected_chat(chat_server, HELLO).split(" ")
    stop = f"{words[3]} {words[4]}"  # begins in one word and ends in the next
    expected = " ".join(words).split(stop)[0]
    done = client.chat.completions.create(**CHAT, stop=[stop, "never"]).choices[0]
    assert (done.message.content, done.finish_reason) == (expected, "stop")
    chunks = client.chat.completions.create(**CHAT, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected
    unfinished = f"{' '.join(words)} and more"  # held back for long, then let out
    done = client.chat.completions.create(**CHAT, stop=unfinished).choices[0]
    assert done.message.content == " ".join(words)
    assert idle(chat_server)


def test_lines_go_on_unless_a_client_wants_them_to_end(engine, params):
    """In a text of many short lines a line's end is no end; where each line is a text, it is."""
    ending = {**params, "final_norm": {"scale": jnp.zeros(CONFIG.embed_dim), "bias": params["token_embedding"][1]}}
    own = Engine(ending, CONFIG, TOKENIZER, 2)
    asked = {"model": "tiny", "prompt": "w1", "temperature": 0, "max_tokens": 6}
    with contextlib.closing(own):
        for are_documents, body, text, finish in (
            (False, {}, "\n" * 6, "length"),
            (False, {"stop": "\n"}, "", "stop"),
            (True, {}, "", "stop"),
        ):
            with running(own, ending, is_chat=False, lines_are_documents=are_documents) as server:
                (choice,) = server.http.post("/v1/completions", json=asked | body).json()["choices"]
                assert (choice["text"], choice["finish_reason"]) == (text, finish)
                if finish == "stop" and not body:  # beside an echo the token that ended the text is told
                    for count in (1, 6):
                        scored = {"echo": True, "logprobs": 1, "max_tokens": count}
                        (choice,) = server.http.post("/v1/completions", json=asked | scored).json()["choices"]
                        assert (choice["text"], choice["finish_reason"]) == ("w1", "stop")
                        assert choice["logprobs"]["tokens"] == ["w1", "<eos>"]


def test_a_client_sends_its_history_back(client):
    message = client.chat.completions.create(**CHAT).choices[0].message
    history = [*HELLO, message.model_dump(), {"role": "user", "content": [{"type": "text", "text": "w4"}]}]
    assert client.chat.completions.create(**CHAT | {"messages": history}).choices[0].message.content


def test_an_answer_that_has_begun_is_continued(chat_server, client):
    """Greedily the rest of an answer is what comes after its beginning; the beginning is not said again."""

    def answer(history):
        return client.chat.completions.create(**CHAT | {"messages": history}).choices[0].message.content

    asked = ([{"role": "user", "content": f"w{i}"}] for i in range(9))
    history, whole = next((h, text) for h in asked if (text := answer(h)).count(" ") == 11 and "\n" not in text)
    begun = " ".join(whole.split(" ")[:4])
    history = [*history, {"role": "assistant", "content": begun}]
    rest = client.chat.completions.create(**CHAT | {"messages": history, "max_tokens": 8}).choices[0].message.content
    assert begun + rest == whole


def test_what_an_answer_begins_with_counts_for_penalties(client):
    asked = {
        "model": "tiny",
        "prompt": "w1",
        "temperature": 0,
        "max_tokens": 12,
        "frequency_penalty": 1.0,
        "logprobs": 0,
    }
    whole = client.completions.create(**asked).choices[0]
    rest = client.completions.create(**asked | {"max_tokens": 7}, extra_body={"written": whole.token_ids[:5]}).choices[
        0
    ]
    assert whole.token_ids[5:] == rest.token_ids


def test_what_others_take_is_taken(chat_server, client):
    history = [HELLO[-1], {"role": "assistant", "content": None}, HELLO[-1]]
    ours = client.chat.completions.create(**CHAT).choices[0].message.content
    assert client.chat.completions.create(**CHAT | {"stop": ""}).choices[0].message.content == ours
    assert client.chat.completions.create(**CHAT | {"messages": history}).choices
    much = {"model": "tiny", "prompt": "w1", "temperature": 0, "max_tokens": 10**9}
    assert client.completions.create(**much).usage.completion_tokens <= 4096
    bare = chat_server.http.post("/v1/chat/completions", content=json.dumps(CHAT).encode())
    assert "content-type" not in bare.request.headers
    assert bare.json()["choices"][0]["message"]["content"] == ours


def test_what_asks_for_nothing_more_is_taken(client):
    harmless = {"frequency_penalty": 0, "user": "me", "metadata": {"a": "b"}, "store": False, "logit_bias": {}}
    assert client.chat.completions.create(**CHAT, **harmless, reasoning_effort="none").choices
