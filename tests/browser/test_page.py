"""The page in a real browser: talking, stopping, looking inside; on a phone, by keyboard, unharmed by any text."""

import itertools
import json
import threading

import pytest

from tests.browser.conftest import DESKTOP, HARM, PHONE

TEXT = "w1 w2 <script>window.harmed=1</script> <img src=x onerror=window.harmed=1>"


def expect(locator):
    from playwright.sync_api import expect

    return expect(locator)


def say(page, text="w1 w2 w3"):
    """Sends a message, and returns the reply that comes, once it is whole."""
    count = page.locator(".reply").count()
    page.get_by_role("textbox", name="Say something").fill(text)
    page.get_by_role("button", name="Send").click()
    reply = page.locator(".reply").nth(count)
    reply.get_by_role("button", name="Try again").wait_for()
    return reply


def look_inside(page, reply, word=2):
    """Chooses a word of a reply, and opens the look inside."""
    reply.locator(".word").nth(word).click()
    page.get_by_text("A look inside").click()
    page.locator(".steps").wait_for()


def test_a_reply_is_shown_as_it_comes_and_stays(open_page, server, monkeypatch):
    page = open_page()
    go_on, turn, turns = threading.Event(), server.engine._turn, itertools.count()
    monkeypatch.setattr(server.engine, "_turn", lambda: (next(turns) == 0 or go_on.wait(60)) and turn())
    page.get_by_role("textbox").fill("w1 w2 w3")
    page.get_by_role("textbox").press("Enter")
    expect(page.locator(".reply.busy .word").first).to_be_visible()  # the engine stands still: the rest is to come
    assert page.locator(".reply .word").count() < 20
    go_on.set()
    expect(page.get_by_text("24 tokens in")).to_be_visible()
    body = {"model": "tiny", "messages": [{"role": "user", "content": "w1 w2 w3"}], "seed": 5, "max_tokens": 24}
    told = server.http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    assert page.locator(".reply .text").inner_text().strip() == told.strip()
    expect(page.locator(".mine p")).to_have_text("w1 w2 w3")


def test_stop_ends_a_reply_and_frees_its_slot(open_page, server, monkeypatch):
    page = open_page(max_tokens=4096)
    go_on, turn, turns = threading.Event(), server.engine._turn, itertools.count()
    monkeypatch.setattr(server.engine, "_turn", lambda: (next(turns) == 0 or go_on.wait(60)) and turn())
    page.get_by_role("textbox").fill("w1 w2 w3")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".reply.busy .word").first).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".reply .foot")).to_contain_text("stopped")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    words = page.locator(".reply .word").count()
    go_on.set()
    assert any(server.http.get("/health").json()["writing"] == 0 for _ in range(1000))
    assert page.locator(".reply .word").count() == words


def test_trying_again_asks_the_same_with_the_history(open_page):
    page = open_page()
    asked = []
    page.on("request", lambda request: asked.append(request.post_data) if request.method == "POST" else None)
    first = say(page).locator(".text").inner_text()
    with page.expect_response("**/v1/chat/completions"):
        page.get_by_role("button", name="Try again").click()
    page.get_by_role("button", name="Try again").wait_for()
    assert page.locator(".reply").count() == page.locator(".mine").count() == 1
    assert page.locator(".reply .text").inner_text() == first  # the seed is set
    say(page, "w9")
    once, again, then = (json.loads(body)["messages"] for body in asked)
    assert once == again == [{"role": "user", "content": "w1 w2 w3"}]
    assert [message["role"] for message in then] == ["user", "assistant", "user"]
    page.get_by_role("button", name="New").click()
    expect(page.locator(".reply, .mine")).to_have_count(0)


def test_behind_a_word_are_its_candidates_and_the_look_inside(open_page):
    page = open_page()
    reply = say(page)
    words = reply.locator(".word").all_inner_texts()
    look_inside(page, reply, 2)
    panel = page.get_by_role("complementary", name="Behind the token")
    expect(panel.get_by_role("heading", level=2)).to_have_text(words[2])
    expect(panel.locator("#candidates .taken .name")).to_have_text(words[2])
    assert panel.locator("#candidates li").count() >= 8
    expect(panel.get_by_role("radio")).to_have_count(1 + 2 * 4)
    names = ["The token's own vector", "+ the vector of its place", "= what enters the first block"]
    expect(panel.locator(".steps > li > .name")).to_have_text([*names, "After block 1", "After block 2"])
    expect(panel.locator("#look > .bars li")).to_have_count(8)
    said = panel.locator("[aria-live]")
    expect(said).to_contain_text("All heads, on average")
    panel.locator(".head").nth(6).click()
    expect(said).to_contain_text("Block 2, head 2 takes most from:")
    with page.expect_response("**/v1/inspect"):
        reply.locator(".word").nth(0).click()
    expect(panel.get_by_role("heading", level=2)).to_have_text(words[0])
    expect(said).to_contain_text("Block 2, head 2 takes most from:")  # the head stays chosen
    panel.get_by_role("button", name="Close").click()
    expect(panel).to_be_hidden()


def test_text_is_never_markup(open_page):
    """Neither the user's, nor the model's, in all places where they are shown."""
    page = open_page()
    reply = say(page, TEXT)
    expect(page.locator(".mine p")).to_have_text(TEXT)
    assert any(harm in reply.inner_text() for harm in HARM)
    harmful = page.locator(".word").filter(has_text="harmed").first
    harmful.click()
    page.get_by_text("A look inside").click()
    page.locator(".steps").wait_for()
    for part in ("#chosen", "#candidates", ".says", "#look > .bars"):
        texts = page.locator(part).all_inner_texts()
        assert any(harm in text for text in texts for harm in HARM), part
    expect(page.locator("#talk, #inside").locator("script, img, svg, b")).to_have_count(0)
    say(page, "w1")  # the reply is sent back as history


def test_on_a_phone_nothing_scrolls_sideways(open_page):
    page = open_page(PHONE)
    parts = ("html", "body", "main", "#talk", "#inside", "#composer")

    def too_wide():
        is_wide = "(part) => { const x = document.querySelector(part); return x.scrollWidth > x.clientWidth; }"
        return page.evaluate(f"(parts) => parts.filter({is_wide})", parts)

    assert not too_wide()
    reply = say(page, "w1 " + "x" * 300)
    assert not too_wide()
    look_inside(page, reply, 0)
    assert not too_wide()
    assert page.evaluate("document.documentElement.scrollHeight") <= PHONE["height"]
    expect(page.locator(".word.selected")).to_be_in_viewport()
    page.get_by_role("button", name="Settings").click()
    assert not too_wide()


def test_all_can_be_done_by_keyboard(open_page):
    page = open_page()
    keys = page.keyboard
    expect(page.get_by_role("textbox", name="Say something")).to_be_focused()
    keys.type("w1 w2")
    keys.press("Enter")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    keys.press("Shift+Tab")
    expect(page.get_by_role("button", name="Try again")).to_be_focused()
    keys.press("Shift+Tab")
    words = page.locator(".reply .word")
    for key, place in (("ArrowRight", 0), ("ArrowRight", 1), ("End", -1), ("ArrowLeft", -2), ("Home", 0)):
        keys.press(key)
        expect(words.nth(place)).to_have_class("word selected")
    expect(page.get_by_role("status")).to_contain_text("Instead:")
    for _ in range(3):
        keys.press("Tab")
    expect(page.locator("summary")).to_be_focused()
    keys.press("Enter")
    expect(page.locator(".steps")).to_be_visible()
    keys.press("Tab")
    expect(page.get_by_role("radio", name="All heads, on average")).to_be_focused()
    keys.press("ArrowDown")
    expect(page.locator("#look [aria-live]")).to_contain_text("Block 1, head 1 takes most from:")
    keys.press("Escape")
    expect(page.get_by_role("complementary")).to_be_hidden()
    expect(page.locator(".reply .text")).to_be_focused()  # back where the word was chosen
    page.get_by_role("button", name="Settings").focus()
    keys.press("Enter")
    keys.press("ArrowRight")  # on the first of the settings
    keys.press("Escape")
    page.reload()
    expect(page.locator("#temperature-value")).to_have_text("1.05")


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")], ids=["light", "dark", "phone"]
)
def test_axe_finds_nothing_serious(open_page, viewport, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(viewport, scheme)

    def found():
        results = Axe().run(page).response
        assert results["passes"]
        wrong = [violation for violation in results["violations"] if violation["impact"] in ("serious", "critical")]
        return [(violation["id"], [node["html"][:200] for node in violation["nodes"]]) for violation in wrong]

    assert not found()
    look_inside(page, say(page))
    page.locator(".head").nth(6).click()
    assert not found()
    page.get_by_role("button", name="Settings").click()
    assert not found()
