"""The API as its clients see it: the official one unchanged, many at once, and those who do harm or vanish."""

import contextlib
import json
import math
import re
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import jax
import jax.numpy as jnp
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxgpt.inference.chat import reply
from jaxgpt.inference.engine import Engine
from jaxgpt.inference.generate import continue_text, encode_prompt
from jaxgpt.model.gpt import GPT, logits, unembedding
from jaxgpt.ops.sampling import GREEDY
from jaxgpt.serve.api import PAGE
from jaxgpt.serve.middleware import MAX_BODY
from jaxgpt.text.conversation import render_each
from tests.serve.conftest import CONFIG, SLOTS, TOKENIZER, WAITING, running

HELLO = [{"role": "user", "content": "w1 w2 w3"}]
CHAT = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_tokens": 12}
ENDLESS = {"model": "tiny", "prompt": "w1", "max_tokens": 4096, "temperature": 1.5}


@pytest.fixture
def client(chat_server):
    with openai.OpenAI(base_url=f"{chat_server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def expected_chat(server, messages, count=12, seed=0, sampling=GREEDY) -> str:
    asked = render_each(messages, TOKENIZER)
    pieces = reply(server.params, CONFIG, TOKENIZER, asked, jax.random.key(seed), sampling, count)
    return "".join(pieces)


def expected_text(server, prompt, count) -> str:
    ids = encode_prompt(prompt, TOKENIZER, CONFIG)
    text = "".join(continue_text(server.params, CONFIG, TOKENIZER, ids, jax.random.key(0), GREEDY, count))
    return text.removeprefix(prompt)


def idle(server) -> bool:
    """Whether the slots come free; asks until they do."""
    return any(server.http.get("/health").json()["writing"] == 0 for _ in range(1000))


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


def test_logprobs(client):
    asked = CHAT | {"logprobs": True, "top_logprobs": 3}
    choice = client.chat.completions.create(**asked).choices[0]
    words = choice.logprobs.content
    assert "".join(word.token for word in words) == choice.message.content
    for word in words:
        assert word.token == word.top_logprobs[0].token  # greedy
        assert bytes(word.bytes).decode() == word.token
        chances = [math.exp(candidate.logprob) for candidate in word.top_logprobs]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) < 1.001
    streamed = [
        word
        for chunk in client.chat.completions.create(**asked, stream=True)
        if chunk.choices[0].logprobs
        for word in chunk.choices[0].logprobs.content
    ]
    assert streamed == words
    told = client.completions.create(model="tiny", prompt="w1", logprobs=2, temperature=0, max_tokens=5).choices[0]
    assert "".join(told.logprobs.tokens) == told.text
    for offset, token in zip(told.logprobs.text_offset, told.logprobs.tokens, strict=True):
        assert told.text[offset:].startswith(token)
    assert all(len(words) == 2 for words in told.logprobs.top_logprobs)


def test_log_probabilities_need_no_candidates(client):
    """0 candidates are none, and the log-probabilities are the same as with some."""
    told, alone = (client.chat.completions.create(**CHAT, logprobs=True, top_logprobs=n).choices[0] for n in (2, 0))
    assert [token.logprob for token in alone.logprobs.content] == [token.logprob for token in told.logprobs.content]
    assert all(token.logprob < 0 and not token.top_logprobs for token in alone.logprobs.content)
    told = client.completions.create(model="tiny", prompt="w1", logprobs=0, temperature=0, max_tokens=5).choices[0]
    assert all(logprob < 0 for logprob in told.logprobs.token_logprobs)


SCORED = {"model": "tiny", "prompt": "w1 w2 w3 w4", "echo": True, "logprobs": 2, "max_tokens": 0, "temperature": 0}


def test_a_prompt_is_echoed_with_its_log_probabilities(chat_server, client):
    """As OpenAI has it: null first; nothing is written with max_tokens 0. The numbers are the model's own."""
    done = client.completions.create(**SCORED)
    (choice,) = done.choices
    told = choice.logprobs
    assert (choice.text, choice.finish_reason, done.usage.completion_tokens) == ("w1 w2 w3 w4", "length", 0)
    assert told.tokens == ["w1", " w2", " w3", " w4"]
    assert told.text_offset == [0, 2, 5, 8]
    assert (told.token_logprobs[0], told.top_logprobs[0]) == (None, None)
    ids = [TOKENIZER.special.bos, *TOKENIZER.encode("w1 w2 w3 w4")]
    hidden, _ = GPT(CONFIG).apply({"params": chat_server.params}, jnp.asarray([ids]))
    log_p = jax.nn.log_softmax(logits(unembedding(chat_server.params), hidden[0], 60)[:, :60])
    assert told.token_logprobs[1:] == pytest.approx([float(log_p[t, ids[t + 1]]) for t in (1, 2, 3)], abs=1e-4)
    for t, likeliest in enumerate(told.top_logprobs[1:], start=1):
        assert max(likeliest.values()) == pytest.approx(float(jnp.max(log_p[t])), abs=1e-4)
        assert len(likeliest) == 2


def test_tokens_are_a_prompt_as_their_text_is(client):
    ids = TOKENIZER.encode("w1 w2 w3 w4")
    bos = TOKENIZER.special.bos
    of_text = client.completions.create(**SCORED).choices[0]
    many = client.completions.create(**SCORED | {"prompt": [ids, [bos, *ids], [bos]]}).choices
    assert (many[0].text, many[0].logprobs.tokens) == (of_text.text, of_text.logprobs.tokens)
    assert many[0].logprobs.token_logprobs[1:] == pytest.approx(of_text.logprobs.token_logprobs[1:], abs=1e-5)
    assert many[1].logprobs.tokens == ["\n", "w1", " w2", " w3", " w4"]
    assert many[1].logprobs.token_logprobs[2:] == pytest.approx(of_text.logprobs.token_logprobs[1:], abs=1e-5)
    assert many[1].logprobs.token_logprobs[1] < 0  # it follows a token that was given
    assert many[2].logprobs.token_logprobs == [None]
    written = {"model": "tiny", "temperature": 0, "max_tokens": 9}
    texts = [client.completions.create(**written, prompt=p).choices[0].text for p in ("w1 w2 w3 w4", ids, [bos, *ids])]
    assert len(set(texts)) == 1


@pytest.mark.parametrize("count", [1, 6])
def test_an_echo_is_followed_by_what_is_written_without_it(client, count):
    asked = SCORED | {"max_tokens": count, "n": 2}
    plain = client.completions.create(**asked | {"echo": False}).choices
    whole = client.completions.create(**asked).choices
    assert [choice.text for choice in whole] == ["w1 w2 w3 w4" + choice.text for choice in plain]
    for one, other in zip(whole, plain, strict=True):
        assert one.logprobs.tokens[4:] == other.logprobs.tokens
        assert one.logprobs.token_logprobs[4:] == pytest.approx(other.logprobs.token_logprobs, abs=1e-4)
    chunks = list(client.completions.create(**asked | {"n": 1}, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole[0].text
    offsets = [
        offset for chunk in chunks if chunk.choices[0].logprobs for offset in chunk.choices[0].logprobs.text_offset
    ]
    assert offsets == whole[0].logprobs.text_offset
    untold = client.completions.create(**asked | {"logprobs": None}).choices
    assert [choice.text for choice in untold] == [choice.text for choice in whole]


@pytest.mark.long
def test_prompts_that_wait_together_are_scored_as_each_alone(chat_server):
    prompts = [" ".join(f"w{(3 * i + j) % 50}" for j in range(1 + 3 * i)) for i in range(20)]

    def ask(prompt):
        answer = httpx.post(f"{chat_server.url}/v1/completions", json=SCORED | {"prompt": prompt}, timeout=60)
        return answer.json()["choices"][0]["logprobs"]["token_logprobs"][1:]

    alone = list(map(ask, prompts))
    with ThreadPoolExecutor(20) as pool:
        for found, expected in zip(pool.map(ask, prompts), alone, strict=True):
            assert found == pytest.approx(expected, abs=1e-4)


def test_text_and_tokens_in_vllms_shapes(chat_server, text_server):
    def post(path, body):
        return chat_server.http.post(path, json=body)

    ids, bos = TOKENIZER.encode("w1 w2"), TOKENIZER.special.bos
    told = post("/tokenize", {"prompt": "w1 w2", "return_token_strs": True}).json()
    assert told == {"count": 3, "max_model_len": 64, "tokens": [bos, *ids], "token_strs": ["<eos>", "w1", "w2"]}
    assert post("/tokenize", {"prompt": "w1 w2", "add_special_tokens": False}).json()["tokens"] == ids
    assert post("/detokenize", {"tokens": ids}).json() == {"prompt": "w1 w2"}
    info = chat_server.http.get("/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"], info["model_max_length"]) == ("<eos>", "<eos>", 64)
    assert post("/tokenize", {"prompt": "<eos>", "add_special_tokens": False}).json()["tokens"] == [bos]
    assert bos not in post("/tokenize", {"prompt": "a <eos>", "add_special_tokens": False}).json()["tokens"]
    refused = post("/detokenize", {"tokens": [60]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tokens")
    for path in ("/tokenize", "/detokenize"):  # a key is a key there too
        assert text_server.http.post(path, json={"prompt": "w1", "tokens": []}).status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": []},
        {"prompt": [[]]},
        {"prompt": [60]},
        {"prompt": [-1]},
        {"prompt": [2**40]},
        {"prompt": [True]},
        {"prompt": ["w1", 5]},
        {"prompt": [[5], "w1"]},
        {"prompt": [5] * 64},
        {"prompt": ["w1"] * (SLOTS + 1)},
        {"logprobs": -1},
        {"max_tokens": -1},
        {"echo": 1},
    ],
    ids=lambda change: str(change)[:40],
)
def test_prompts_that_are_none(chat_server, change):
    answer = chat_server.http.post("/v1/completions", json=SCORED | change)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] in (*change, "n")


def test_what_changes_the_scores(client):
    """Each field does what it says; log-probabilities stay the model's own."""
    asked = {"model": "tiny", "prompt": "w1", "temperature": 0, "max_tokens": 4, "logprobs": 1}
    wanted = TOKENIZER.encode("w7")[0]
    forced = client.completions.create(**asked, logit_bias={str(wanted): 100}).choices[0]
    assert forced.text == " w7" * 4
    assert forced.logprobs.tokens[0] not in forced.logprobs.top_logprobs[0]
    never_again = {"presence_penalty": 2.0, "frequency_penalty": 2.0, "repetition_penalty": 100.0}
    varied = client.completions.create(**asked | {"max_tokens": 30}, extra_body=never_again).choices[0]
    words = varied.text.split()
    assert len(set(words)) == len(words) > 20
    plain = client.completions.create(**asked).choices[0].text
    for body in ({"top_k": 1}, {"min_p": 1.0}):  # the likeliest alone is left
        hot = client.completions.create(**asked | {"temperature": 2.0}, extra_body=body)
        assert hot.choices[0].text == plain


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


@pytest.mark.parametrize("body", ['{"model": %s}' % ("9" * 5_000), "[" * 100_000, '{"model": "\\ud800"}', "\x00"])
def test_json_of_unusual_kinds_is_refused(chat_server, body):
    answer = chat_server.http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["message"]


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


def test_a_prompt_too_long_to_score_spoils_no_other(chat_server):
    """Those that are scored in one pass with it get their answer."""
    asked = {"model": "tiny", "prompt": "w1 w2", "echo": True, "logprobs": 1, "max_tokens": 1}
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda i: chat_server.http.post(
                    "/v1/completions", json=asked | ({"written": [9] * 90} if i % 4 == 0 else {})
                ),
                range(8),
            )
        )
    assert [answer.status_code for answer in answers] == [400, 200, 200, 200] * 2
    assert answers[0].json()["error"]["message"] == "prompt: 93 tokens with `written`; at most 64 are scored"


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


def test_candidates_keep_their_order(client):
    asked = {"model": "tiny", "prompt": "w1", "temperature": 0, "max_tokens": 3, "logprobs": 5}
    choice = client.completions.create(**asked).choices[0]
    for each, ids, top in zip(choice.candidates, choice.candidate_ids, choice.logprobs.top_logprobs, strict=True):
        assert [id for id, _, _ in each] == ids
        assert {name: logprob for _, name, logprob in each} == top


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


def test_broken_json_is_told_as_such(chat_server):
    answer = chat_server.http.post("/v1/completions", content=b'{"model": "tiny",}')
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert message.startswith("the request is not JSON: ")
    assert "(character 17)" in message
    assert "curl URL" in message


def test_what_asks_for_nothing_more_is_taken(client):
    harmless = {"frequency_penalty": 0, "user": "me", "metadata": {"a": "b"}, "store": False, "logit_bias": {}}
    assert client.chat.completions.create(**CHAT, **harmless, reasoning_effort="none").choices


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
