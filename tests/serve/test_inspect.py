"""A look inside over the API: what it shows of a word is what the model that wrote it computes."""

import dataclasses
import math
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgpt.config import Sampling
from jaxgpt.inference.generate import banned_tokens
from jaxgpt.inference.introspect import _last_activations, activations
from jaxgpt.model.gpt import GPT
from jaxgpt.ops.sampling import filter_logits
from jaxgpt.serve import api, inspecting
from jaxgpt.serve.inspecting import make_inspector
from jaxgpt.serve.middleware import MAX_BODY
from tests.serve.conftest import CONFIG, TOKENIZER

HELLO = [{"role": "user", "content": "w1 w2 w3"}]
ASKED = {"model": "tiny", "messages": HELLO, "written": "w4 w5"}


def inspect(server, **asked):
    answer = server.http.post("/v1/inspect", json={"model": "tiny"} | asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_is_shown_of_a_word_is_what_the_model_computes(chat_server):
    shown = inspect(chat_server, **ASKED)
    assert shown["tokens"] == ["<user>", "w1", "w2", "w3", "<end>", "<assistant>", "w4", "w5"]
    ids = [TOKENIZER.words.index(word) for word in shown["tokens"]]
    seen = activations(chat_server.params, CONFIG, ids)
    np.testing.assert_allclose(shown["attention"], seen.weights_LNTS[:, :, -1], atol=1e-3)
    stages = [stage["values"] for stage in shown["stages"]]
    np.testing.assert_allclose(stages, seen.residual_KTD[:, -1], rtol=0.01, atol=1e-3)
    parts = [shown[name]["values"] for name in ("token_vector", "position_vector")]
    np.testing.assert_allclose(np.sum(parts, axis=0), stages[0], atol=0.02)
    lengths = [stage["length"] for stage in shown["stages"]]
    np.testing.assert_allclose(lengths, np.linalg.norm(stages, axis=1), rtol=0.01)
    cosine = np.dot(stages[0], stages[1]) / np.prod(lengths[:2])
    assert [stage["turned"] is None for stage in shown["stages"]] == [True, False, False]
    assert math.cos(math.radians(shown["stages"][1]["turned"])) == pytest.approx(cosine, abs=0.02)


def test_neighbours_point_the_same_way(chat_server):
    table = np.asarray(chat_server.params["token_embedding"])[: TOKENIZER.vocab_size]
    directions = table / np.linalg.norm(table, axis=1, keepdims=True)
    cosines = dict(zip(TOKENIZER.words, (directions @ directions[TOKENIZER.words.index("w5")]).tolist(), strict=True))
    expected = sorted((word for word in cosines if word[0] == "w" and word != "w5"), key=lambda word: -cosines[word])
    nearest = inspect(chat_server, **ASKED)["neighbours"]
    assert [near["token"] for near in nearest] == expected[:8]
    assert [near["cosine"] for near in nearest] == pytest.approx([cosines[word] for word in expected[:8]], abs=1e-3)


@pytest.mark.parametrize("words", [2, 63])
def test_the_last_stage_says_what_the_model_wrote_next(chat_server, words):
    """Far past the context too, where the older half has been forgotten; and one program does for every length."""
    prompt = " ".join(["w1"] * words)
    body = {"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": 120, "logprobs": 3}
    told = chat_server.http.post("/v1/completions", json=body).json()["choices"][0]["logprobs"]
    assert len(told["tokens"]) == 120
    programs = _last_activations._cache_size()
    for place in (0, 1, 30, 61, 62, 63, 64, 94, 95, 96, 119):
        shown = inspect(chat_server, prompt=prompt, written="".join(told["tokens"][:place]))
        assert len(shown["tokens"]) + shown["out_of_sight"] == 1 + words + place
        likeliest = shown["stages"][-1]["likeliest"]
        assert likeliest[0]["token"] == told["tokens"][place].strip(" ")
        assert likeliest[0]["probability"] == pytest.approx(math.exp(told["token_logprobs"][place]), rel=0.01)
    assert _last_activations._cache_size() == programs


def test_what_was_written_may_be_given_as_its_tokens(chat_server):
    body = {"model": "tiny", "prompt": "w1", "temperature": 0, "max_tokens": 6, "logprobs": 3}
    choice = chat_server.http.post("/v1/completions", json=body).json()["choices"][0]
    ids = choice["token_ids"]
    assert TOKENIZER.decode(ids) == choice["text"].removeprefix(" ")
    shown = inspect(chat_server, prompt="w1", written=ids[:-1])
    assert shown == inspect(chat_server, prompt="w1", written="".join(choice["logprobs"]["tokens"][:-1]))
    assert shown["stages"][-1]["likeliest"][0]["id"] == ids[-1]


@pytest.mark.parametrize(
    ("asked", "status", "param"),
    [
        (ASKED | {"model": "other"}, 404, "model"),
        (ASKED | {"prompt": "w1"}, 400, "messages"),
        ({"model": "tiny", "written": "w1"}, 400, "messages"),
        ({"model": "tiny", "prompt": " "}, 400, "prompt"),
        ({"model": "tiny", "prompt": "w1 " * 64}, 400, "prompt"),
        (ASKED | {"messages": [{"role": "assistant", "content": "w1"}]}, 400, "messages"),
        (ASKED | {"written": "w1 " * 40_000}, 400, "written"),
        (ASKED | {"written": 1}, 400, "written"),
        (ASKED | {"written": [59, 60]}, 400, "written"),
        (ASKED | {"written": [-1]}, 400, "written"),
        (ASKED | {"given": -1}, 400, "given"),
        (ASKED | {"written": "w1 " * MAX_BODY}, 413, None),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_wrong_looks_are_refused_in_openais_shape(chat_server, asked, status, param):
    answer = chat_server.http.post("/v1/inspect", json=asked)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), error
    assert error["type"] == "invalid_request_error"


def test_a_look_wants_the_key_too(text_server):
    assert text_server.http.post("/v1/inspect", json={"model": "tiny", "prompt": "w1"}).status_code == 401


def test_looks_that_wait_are_few_and_texts_are_written_meanwhile(chat_server, monkeypatch):
    begun, go_on, inspect = threading.Event(), threading.Event(), api.inspect

    def slow(*arguments):
        begun.set()
        go_on.wait(60)
        return inspect(*arguments)

    monkeypatch.setattr(api, "inspect", slow)
    with ThreadPoolExecutor(api.WAITING_LOOKS + 1) as pool:
        looks = [pool.submit(chat_server.http.post, "/v1/inspect", json=ASKED) for _ in range(api.WAITING_LOOKS + 1)]
        assert begun.wait(60)
        written = chat_server.http.post("/v1/completions", json={"model": "tiny", "prompt": "w1", "max_tokens": 3})
        assert written.status_code == 200
        (refused,), _ = wait(looks, timeout=60, return_when=FIRST_COMPLETED)
        assert refused.result().json()["error"]["code"] == "queue_full"
        go_on.set()
    assert sorted(look.result().status_code for look in looks) == [200] * api.WAITING_LOOKS + [429]


@pytest.mark.parametrize("more", [3, -3])
def test_imported_weights_may_have_other_tokens_than_their_tokenizer(more):
    model = dataclasses.replace(CONFIG, vocab_size=TOKENIZER.vocab_size + more, embedding_rows=128)
    params = nn.unbox(GPT(model).init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"])
    inspector = make_inspector(params, model, TOKENIZER)
    shown = inspecting.inspect(inspector, TOKENIZER.encode("w1 w2 w3"), 2, TOKENIZER.special.eos)
    likeliest = [token["id"] for stage in shown["stages"] for token in stage["likeliest"]]
    assert max(likeliest) < min(model.vocab_size, TOKENIZER.vocab_size)


def test_places_are_those_of_the_tokens_in_the_messages_that_are_read(chat_server):
    """Also where the oldest messages are forgotten, and the older half of the context too."""
    long = [{"role": "user", "content": "w1 " * 20}, {"role": "assistant", "content": "w2 w3"}]
    messages = [{"role": "system", "content": " w9"}, *long, *long, *long, {"role": "user", "content": "w4  w5\nw60"}]
    written = [TOKENIZER.words.index("w6")] * 60
    for count in (0, 3, 60):
        shown = inspect(chat_server, messages=messages, written=written[:count])
        assert len(shown["places"]) == len(shown["tokens"])
        told = [
            place and messages[place[0]]["content"][place[1] : place[2]]
            for place in shown["places"][: len(shown["tokens"]) - count or None]
        ]
        assert all(text in (token, "w60", None) for token, text in zip(shown["tokens"], told, strict=False))
        if not count:
            assert told[:4] == [None, "w9", None, None]
            assert [text for text in told if text][-3:] == ["w4", "w5", "w60"]
            assert shown["places"][-3] == [7, 7, 10]
    shown = inspect(chat_server, prompt="w1  w2", written="w3")
    assert shown["places"] == [None, [0, 0, 2], [0, 4, 6], None]


@pytest.mark.parametrize(
    "sampling",
    [Sampling(1.0, None, 1.0), Sampling(0.7, 5, 0.9, 0.1), Sampling(1.3, None, 0.5), Sampling(2.0, 2**70, 1.0, 0.3)],
)
def test_the_next_token_is_drawn_as_it_is_told(chat_server, sampling):
    settings = {"temperature": sampling.temperature, "top_k": sampling.top_k or 0, "top_p": sampling.top_p}
    asked = ASKED | settings | {"min_p": sampling.min_p or 0}
    told = chat_server.http.post("/v1/next", json=asked).json()
    ids = [TOKENIZER.words.index(word) for word in inspect(chat_server, **ASKED)["tokens"]]
    own_V = activations(chat_server.params, CONFIG, ids).log_p_KTV[-1, -1].copy()
    own_V[banned_tokens(TOKENIZER, TOKENIZER.special.end)] = -np.inf
    left_V = np.asarray(jax.nn.softmax(filter_logits(own_V[None] / sampling.temperature, sampling)))[0]
    own_V = np.exp(own_V) / np.exp(own_V).sum()
    assert told["left"] == np.count_nonzero(left_V)
    for token in told["likeliest"]:
        assert token["probability"] == pytest.approx(left_V[token["id"]], rel=1e-3)
        assert token["model_probability"] == pytest.approx(own_V[token["id"]], rel=1e-3)


def test_at_temperature_0_one_token_is_left(chat_server):
    told = chat_server.http.post("/v1/next", json=ASKED | {"temperature": 0}).json()
    assert told["left"] == 1
    assert [token["probability"] for token in told["likeliest"]] == [1] + [0] * 7


@pytest.mark.parametrize("given", [0, 1, 70])
def test_an_answer_goes_on_from_what_was_written(chat_server, given):
    """As the model goes on itself, and past the context as the look inside reads it."""
    body = {"model": "tiny", "messages": HELLO, "temperature": 0, "logprobs": True, "top_logprobs": 3}
    whole = chat_server.http.post("/v1/chat/completions", json=body | {"max_tokens": 100}).json()["choices"][0]
    written = whole["token_ids"][:given]
    rest = chat_server.http.post("/v1/chat/completions", json=body | {"max_tokens": 20, "written": written}).json()
    (choice,) = rest["choices"]
    assert rest["usage"] == {"prompt_tokens": 6 + given, "completion_tokens": 20, "total_tokens": 26 + given}
    if given < 50:  # later, the context was read anew at another place
        assert choice["token_ids"] == whole["token_ids"][given : given + 20]
        assert whole["message"]["content"].startswith(TOKENIZER.decode(written) + choice["message"]["content"])
    ids = [*written, *choice["token_ids"]]
    for at in range(given, len(ids)):
        shown = inspect(chat_server, messages=HELLO, written=ids[:at], given=given)
        assert shown["stages"][-1]["likeliest"][0]["id"] == ids[at]
    for token, others in zip(choice["logprobs"]["content"], choice["candidate_ids"], strict=True):
        assert [TOKENIZER.decode([id]) for id in others] == [x["token"].strip(" ") for x in token["top_logprobs"]]


def test_lengths_are_those_that_are_taken(chat_server):
    def told(**asked):
        return chat_server.http.post("/v1/lengths", json={"model": "tiny"} | asked).json()

    def taken(**asked):
        path = "/v1/completions" if "prompt" in asked else "/v1/chat/completions"
        return chat_server.http.post(path, json={"model": "tiny", "max_tokens": 1} | asked).status_code == 200

    system = {"role": "system", "content": "w1 w2"}
    for before in ([], [system], [*HELLO, {"role": "assistant", "content": "w4"}]):
        limit = told(messages=[*before, {"role": "user", "content": ""}])["limit"]
        for count in (limit, limit + 1):
            messages = [*before, {"role": "user", "content": "w1 " * count}]
            assert told(messages=messages)["tokens"] == count
            assert taken(messages=messages) == (count <= limit)
    limit = told(prompt="")["limit"]
    assert (taken(prompt="w1 " * limit), taken(prompt="w1 " * (limit + 1))) == (True, False)
