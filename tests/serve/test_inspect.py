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

from jaxgpt.inference.introspect import _last_activations, activations
from jaxgpt.model.gpt import GPT
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
        (ASKED | {"written": "w1 " * 5000}, 400, "written"),
        (ASKED | {"written": 1}, 400, "written"),
        (ASKED | {"written": [59, 60]}, 400, "written"),
        (ASKED | {"written": [-1]}, 400, "written"),
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
