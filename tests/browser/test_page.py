"""The page in a real browser: talking, stopping, looking inside; on a phone, by keyboard, unharmed by any text."""

import itertools
import threading

import pytest

from jaxgpt.inference.slots import TokenOutput
from jaxgpt.serve.responses import ChatReply, CompletionReply
from jaxgpt.serve.streaming import Writer
from jaxgpt.text.bpe_tokenizer import byte_tokenizer
from jaxgpt.text.tokenizer import visible
from tests.browser.acting import choose, expect, look_on, say
from tests.browser.conftest import DESKTOP, HARM, PHONE, TOKENIZER
from tests.serve.conftest import running

TEXT = "w1 w2 <script>window.harmed=1</script> <img src=x onerror=window.harmed=1>"


def test_a_reply_is_shown_as_it_comes_and_stays(open_page, server, monkeypatch):
    page = open_page()
    go_on, turn, turns = threading.Event(), server.engine._turn, itertools.count()
    monkeypatch.setattr(server.engine, "_turn", lambda: (next(turns) == 0 or go_on.wait(60)) and turn())
    page.get_by_role("textbox", name="Message").fill("w1 w2 w3")
    page.get_by_role("textbox", name="Message").press("Enter")
    expect(page.locator(".reply.busy .token").first).to_be_visible()  # the engine stands still: the rest is to come
    assert page.locator(".reply .token").count() < 20
    go_on.set()
    expect(page.get_by_text("24 tokens in")).to_be_visible()
    body = {"model": "tiny", "messages": [{"role": "user", "content": "w1 w2 w3"}], "seed": 5, "max_tokens": 24}
    told = server.http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    assert page.locator(".reply .text").inner_text().strip() == told.strip()
    expect(page.locator(".said")).to_have_text("w1 w2 w3")


def test_stop_ends_a_reply_and_frees_its_slot(open_page, server, monkeypatch):
    page = open_page(max_tokens=4096)
    go_on, turn, turns = threading.Event(), server.engine._turn, itertools.count()
    monkeypatch.setattr(server.engine, "_turn", lambda: (next(turns) == 0 or go_on.wait(60)) and turn())
    page.get_by_role("textbox", name="Message").fill("w1 w2 w3")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".reply.busy .token").first).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".reply .foot")).to_contain_text("stopped")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    words = page.locator(".reply .token").count()
    go_on.set()
    assert any(server.http.get("/health").json()["writing"] == 0 for _ in range(1000))
    assert page.locator(".reply .token").count() == words


def test_a_new_conversation_ends_the_reply_that_is_coming(open_page, server, monkeypatch):
    page = open_page(max_tokens=4096)
    go_on, turn, turns = threading.Event(), server.engine._turn, itertools.count()
    monkeypatch.setattr(server.engine, "_turn", lambda: (next(turns) == 0 or go_on.wait(60)) and turn())
    page.get_by_role("textbox", name="Message").fill("w1 w2 w3")
    page.keyboard.press("Enter")
    expect(page.locator(".reply.busy .token").first).to_be_visible()
    page.get_by_role("button", name="New").click()
    expect(page.locator(".reply, .mine")).to_have_count(0)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    go_on.set()
    page.locator("#conversations .name").click()
    expect(page.locator(".reply .foot")).to_contain_text("stopped")


def test_a_key_is_asked_for_where_the_server_wants_one(chromium, server):
    with running(server.engine, server.params, api_key="sesame", tokenizer=TOKENIZER) as guarded:
        page = chromium.new_page(viewport=DESKTOP)
        page.goto(guarded.url)
        expect(page.get_by_role("textbox", name="API key")).to_be_focused()
        expect(page.locator("#about")).to_contain_text("wants an API key")
        page.keyboard.type("sesame")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="w1 w2").click()
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        assert "sesame" not in page.evaluate("JSON.stringify(localStorage)")
        page.close()


def test_the_page_is_small(open_page):
    entries = '["resource", "navigation"].flatMap((kind) => performance.getEntriesByType(kind))'
    sizes = open_page().evaluate(f"{entries}.map((entry) => entry.transferSize)")
    assert min(sizes) > 0
    assert sum(sizes) < 300_000


def test_text_is_never_markup(open_page):
    """Neither the user's, nor the model's, in all places where they are shown."""
    page = open_page()
    reply = say(page, TEXT)
    expect(page.locator(".said")).to_have_text(TEXT)
    assert any(harm in reply.inner_text() for harm in HARM)
    harmful = page.locator(".token").filter(has_text="harmed").first
    harmful.click()
    page.locator(".stages").wait_for()

    def shown_as_text(*parts):
        for part in parts:
            texts = page.locator(part).all_inner_texts()
            assert any(harm in text for text in texts for harm in HARM), part
        expect(page.locator("body").locator("main, aside").locator("script, img, svg, b")).to_have_count(0)

    shown_as_text("#chosen", "#candidates", ".by-share", ".stages .says", "#conversations")
    look_on(page)
    shown_as_text(".steps .says", "#look > .bars")
    page.get_by_role("button", name="Settings").click()
    page.locator("#next-tokens li").first.wait_for()
    shown_as_text("#next")
    say(page, "w1")  # the reply is sent back as history
    page.reload()
    page.locator("#conversations .name").click()
    shown_as_text(".said", ".text", "#conversations")


def test_on_a_phone_nothing_scrolls_sideways(open_page):
    page = open_page(PHONE)
    parts = ("html", "body", "main", "#talk", "#inside", "#settings", "#composer", "#rail")

    def too_wide():
        is_wide = "(part) => { const x = document.querySelector(part); return x.scrollWidth > x.clientWidth; }"
        return page.evaluate(f"(parts) => parts.filter({is_wide})", parts)

    assert not too_wide()
    reply = say(page, "w1 " + "x" * 300)
    assert not too_wide()
    choose(page, reply, 0)
    assert not too_wide()
    look_on(page)
    assert not too_wide()
    assert page.evaluate("document.documentElement.scrollHeight") <= PHONE["height"]
    expect(page.locator(".token.selected")).to_be_in_viewport()
    page.get_by_role("button", name="Settings").click()
    assert not too_wide()


def test_all_can_be_done_by_keyboard(open_page):
    page = open_page()
    keys = page.keyboard
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    keys.type("w1 w2")
    keys.press("Enter")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    for _ in range(3):  # past "Copy" and "Try again"
        keys.press("Shift+Tab")
    words = page.locator(".reply .token")
    for key, place in (("ArrowRight", 0), ("ArrowRight", 1), ("End", -1), ("ArrowLeft", -2), ("Home", 0)):
        keys.press(key)
        expect(words.nth(place)).to_have_class("token selected")
    expect(page.get_by_role("status").first).to_contain_text("Instead:")
    panel = page.get_by_role("complementary", name="Behind the token")
    panel.get_by_role("button", name="Close").focus()
    keys.press("Tab")
    expect(panel.locator("#candidates button").first).to_be_focused()
    panel.locator(".stages").wait_for()
    panel.get_by_role("radio", name="Why this word").focus()
    keys.press("Tab")
    expect(panel.get_by_role("radio", name="block").first).to_be_focused()
    said = panel.locator("#look [aria-live]")
    before = said.inner_text()
    keys.press("ArrowDown")
    expect(said).not_to_have_text(before)
    panel.get_by_role("radio", name="Why this word").focus()
    keys.press("ArrowRight")
    expect(page.locator(".steps")).to_be_visible()
    keys.press("Tab")
    expect(page.get_by_role("radio", name="All heads, on average")).to_be_focused()
    keys.press("ArrowDown")
    expect(said).to_contain_text("Block 1, head 1 takes most from:")
    keys.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.locator(".reply .text")).to_be_focused()  # back where the token was chosen
    page.get_by_role("button", name="Settings").focus()
    keys.press("Enter")
    keys.press("ArrowRight")  # on the first of the settings
    keys.press("Escape")
    expect(page.get_by_role("button", name="Settings")).to_be_focused()
    page.reload()
    expect(page.locator("#temperature-value")).to_have_text("1.05")


SCHEMES = pytest.mark.parametrize(
    ("viewport", "scheme"),
    [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")],
    ids=["light", "dark", "phone", "dark phone"],
)


def serious(page):
    """Returns what axe finds serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    results = Axe().run(page).response
    assert results["passes"]
    wrong = [violation for violation in results["violations"] if violation["impact"] in ("serious", "critical")]
    return [(violation["id"], [node["html"][:200] for node in violation["nodes"]]) for violation in wrong]


@SCHEMES
def test_axe_finds_nothing_serious(open_page, viewport, scheme):
    page = open_page(viewport, scheme)
    assert not serious(page)
    choose(page, say(page))
    assert not serious(page)
    look_on(page)
    page.locator(".head").nth(6).click()
    assert not serious(page)
    page.get_by_role("button", name="Settings").click()
    page.locator("#next-tokens li").first.wait_for()
    page.get_by_text("More", exact=True).click()
    assert not serious(page)


@SCHEMES
def test_axe_finds_nothing_serious_in_the_editor_nor_the_rail(open_page, viewport, scheme):
    page = open_page(viewport, scheme, served="text_server", max_tokens=8)
    assert not serious(page)
    page.keyboard.type("w1 w2")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert not serious(page)
    if viewport == PHONE:
        page.get_by_role("button", name="Conversations").click()
        expect(page.get_by_role("button", name="Rename")).to_be_visible()
        assert not serious(page)


def test_tokens_look_on_the_page_as_they_do_elsewhere(open_page):
    texts = [" the", "\n\r\t", "a\u200b\u00a0\u3000", "\u0301", "\u001b[2J", "é😀"]
    seen = open_page().evaluate("async (texts) => texts.map((await import('/tools.js')).visible)", texts)
    assert seen == [visible(text.encode()) for text in texts]


def test_the_page_reads_tokens_as_the_server_tells_them(open_page):
    """Those too that end inside a character, and characters that take two places in JavaScript."""
    page, tokenizer, text = open_page(), byte_tokenizer(), "é😀\n b"
    outputs = [TokenOutput(id, -1.0, [(id, -1.0), (ord("x"), -2.0)]) for id in tokenizer.encode(text)]
    pieces, _ = Writer(tokenizer, [], []).write(outputs)
    for reply in (ChatReply(True), CompletionReply(True, 1)):
        choice = reply.part(0, pieces, None)
        read = page.evaluate("async (choice) => (await import('/api.js')).tokensOf(choice, false)", choice)
        assert [token["text"] for token in read] == [piece.text for piece in pieces]
        assert [token["id"] for token in read] == tokenizer.encode(text)
        assert [token["name"] for token in read] == ["⟨c3⟩", "é", "⟨f0⟩", "⟨9f⟩", "⟨98⟩", "😀", "⏎", "␣", "b"]
        assert [token["others"][0]["name"] for token in read] == [token["name"] for token in read]
