"""A real browser, and a tiny random model that says markup, behind a real server; run only with --chromium PATH."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jaxgpt.inference.engine import Engine
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer
from tests.serve.conftest import CONFIG, SLOTS, Running, random_params, running

if TYPE_CHECKING:  # playwright comes with the extra `browser`, and is imported where a browser is asked for
    from playwright.sync_api import Browser, Page

HARM = (
    "<script>window.harmed=1</script>",
    "<img/src=x/onerror=window.harmed=1>",
    "<svg/onload=window.harmed=1>",
    "<b>loud</b>",
)
WORDS = HARM * 3 + tuple(f"w{i}" for i in range(CONFIG.vocab_size - len(SPECIAL) - 3 * len(HARM)))
TOKENIZER = WordTokenizer(SPECIAL + tuple(word if word[0] == "w" else f"{word}{i}" for i, word in enumerate(WORDS)))
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SETTINGS = {"temperature": 1, "top_p": 1, "max_tokens": 24, "seed": "5"}
WAIT_MS = 60_000  # the engine compiles what a first answer needs while the page waits for it
DESKTOP, PHONE = {"width": 1200, "height": 800}, {"width": 390, "height": 844}


def pytest_collection_modifyitems(config, items):
    if config.getoption("chromium"):
        return
    here = Path(__file__).parent
    left_out = [item for item in items if here in item.path.parents]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    params = random_params()
    engine = Engine(params, CONFIG, TOKENIZER, SLOTS)
    with running(engine, params, tokenizer=TOKENIZER) as server:
        yield server
    engine.close()


@pytest.fixture(scope="session")
def text_server(server) -> Iterator[Running]:
    """The same model, served as one that writes on and does not talk."""
    with running(server.engine, server.params, is_chat=False, tokenizer=TOKENIZER) as text_server:
        yield text_server


@pytest.fixture(scope="session")
def chromium(request) -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=request.config.getoption("chromium"), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, request) -> Iterator[Callable[..., Page]]:
    """Opens the page; in the end nothing must have failed, been run by injection, or been asked for elsewhere."""
    pages, wrong = [], []

    def is_error(said) -> bool:
        """What the server refuses is told in the console too."""
        return said.type == "error" and "status of 400" not in said.text

    def open_page(viewport=DESKTOP, color_scheme="light", served="server", **settings) -> Page:
        server = request.getfixturevalue(served)
        context = chromium.new_context(viewport=viewport, color_scheme=color_scheme)
        context.set_default_timeout(WAIT_MS)
        kept = json.dumps(json.dumps(SETTINGS | settings))
        context.add_init_script(f"localStorage.getItem('jaxgpt') ?? localStorage.setItem('jaxgpt', {kept})")
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if is_error(said) else None)
        page.on("request", lambda request: wrong.append(request.url) if server.url not in request.url else None)
        page.goto(server.url)
        page.get_by_role("button", name="w1 w2").wait_for()
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.evaluate("window.harmed") is None
        page.context.close()
    assert not wrong
