"""A tiny random model behind a real server, on a free port of this machine."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import jax
import jax.numpy as jnp
import openai
import pytest
import uvicorn
from flax import linen as nn

from jaxgpt.config import ModelConfig
from jaxgpt.inference.chat import reply
from jaxgpt.inference.engine import Engine
from jaxgpt.inference.generate import continue_text, encode_prompt, text_stop
from jaxgpt.model.gpt import GPT, Params
from jaxgpt.ops.sampling import GREEDY
from jaxgpt.serve.api import Served, make_app
from jaxgpt.serve.inspecting import make_inspector
from jaxgpt.serve.middleware import Access
from jaxgpt.text.conversation import render_each
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

TOKENIZER = WordTokenizer(SPECIAL + tuple(f"w{i}" for i in range(60 - len(SPECIAL))))
CONFIG = ModelConfig(vocab_size=60, context_len=64, embed_dim=32, num_heads=4, num_layers=2)
SLOTS, WAITING = 6, 20
HELLO = [{"role": "user", "content": "w1 w2 w3"}]
CHAT = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_tokens": 12}


class Running(NamedTuple):
    """A server, and a client of it."""

    url: str
    http: httpx.Client
    engine: Engine
    params: Params


@contextlib.contextmanager
def running(
    engine: Engine,
    params: Params,
    is_chat: bool = True,
    api_key: str | None = None,
    tokenizer: WordTokenizer = TOKENIZER,
    lines_are_documents: bool = True,
    **access: Any,
) -> Iterator[Running]:
    end_id = tokenizer.special.end if is_chat else tokenizer.special.eos
    told = {"knows": "It knows a few words.", "starters": ["w1 w2", "w3"], "end_id": end_id}
    about = {"step": 1, "data": "tiny-data", "sample_prompt": "w1 w2", **told}
    served = Served("tiny", CONFIG, tokenizer, is_chat, text_stop(tokenizer, lines_are_documents), 0, about)
    app = make_app(engine, make_inspector(params, CONFIG, tokenizer), served, Access(api_key, **access))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"))
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=60) as client:
            yield Running(url, client, engine, params)
        server.should_exit = True
        thread.join()


def random_params() -> Params:
    """A model's parameters, far enough from 0 for it to have preferences."""
    initial = nn.unbox(GPT(CONFIG).init(jax.random.key(3), jnp.zeros((1, 2), jnp.int32)))["params"]
    return jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, initial)


@pytest.fixture(scope="session")
def params() -> Params:
    return random_params()


@pytest.fixture(scope="session")
def engine(params) -> Iterator[Engine]:
    engine = Engine(params, CONFIG, TOKENIZER, SLOTS, WAITING)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def chat_server(engine, params) -> Iterator[Running]:
    with running(engine, params) as server:
        yield server


@pytest.fixture(scope="session")
def text_server(engine, params) -> Iterator[Running]:
    with running(engine, params, is_chat=False, api_key="sesame") as server:
        yield server


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
