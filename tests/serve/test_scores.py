"""Log probabilities as clients ask for them: of what is written, of a prompt, in OpenAI's shape and vLLM's."""

import math
from concurrent.futures import ThreadPoolExecutor

import httpx
import jax
import jax.numpy as jnp
import pytest

from jaxgpt.model.gpt import GPT, logits, unembedding
from tests.serve.conftest import CHAT, CONFIG, SLOTS, TOKENIZER


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


def test_candidates_keep_their_order(client):
    asked = {"model": "tiny", "prompt": "w1", "temperature": 0, "max_tokens": 3, "logprobs": 5}
    choice = client.completions.create(**asked).choices[0]
    for each, ids, top in zip(choice.candidates, choice.candidate_ids, choice.logprobs.top_logprobs, strict=True):
        assert [id for id, _, _ in each] == ids
        assert {name: logprob for _, name, logprob in each} == top
