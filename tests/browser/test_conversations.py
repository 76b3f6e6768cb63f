"""Conversations that the browser keeps, and what can be done to each of their messages."""

import itertools
import json
import threading
from pathlib import Path

import pytest

from tests.browser.acting import choose, expect, posted, say
from tests.browser.conftest import PHONE


def names(page):
    return page.locator("#conversations .name").all_inner_texts()


def test_conversations_are_kept_named_exported_and_deleted(open_page):
    page = open_page()
    reply = say(page, "w1 w2").locator(".text").inner_text()
    page.get_by_role("button", name="New").click()
    expect(page.locator(".reply, .mine")).to_have_count(0)
    say(page, "w3")
    assert names(page) == ["w3", "w1 w2"]
    page.reload()
    page.get_by_role("button", name="w1 w2").nth(0).wait_for()
    assert names(page) == ["w3", "w1 w2"]
    page.locator("#conversations").get_by_role("button", name="w1 w2").click()
    expect(page.locator(".said")).to_have_text("w1 w2")
    assert page.locator(".reply .text").inner_text() == reply
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="Name of the conversation").fill("<b>first</b>")
    page.keyboard.press("Enter")
    assert names(page) == ["w3", "<b>first</b>"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    told = json.loads(Path(download.value.path()).read_text())["messages"]
    assert [message["role"] for message in told] == ["user", "assistant"]
    assert told[0]["content"] == "w1 w2"
    page.get_by_role("button", name="Delete").click()
    assert names(page) == ["w3"]
    page.get_by_role("button", name="Undo").click()
    assert names(page) == ["w3", "<b>first</b>"]
    expect(page.locator(".said")).to_have_text("w1 w2")
    page.get_by_role("button", name="Delete").click()
    page.reload()
    page.get_by_role("button", name="w1 w2").wait_for()
    assert names(page) == ["w3"]


def test_what_is_kept_can_be_looked_into_but_not_what_other_weights_wrote(open_page):
    page = open_page()
    say(page)
    page.reload()
    page.locator("#conversations .name").click()
    assert choose(page, page.locator(".reply"), 1).locator("#candidates button").count() >= 7
    page.evaluate("""() => {
      const key = Object.keys(localStorage).find((key) => key.startsWith("jaxgpt:conversation:"));
      localStorage.setItem(key, JSON.stringify({ ...JSON.parse(localStorage[key]), weights: "others" }));
    }""")
    text = page.locator(".reply .text").inner_text()
    page.reload()
    page.locator("#conversations .name").click()
    expect(page.locator(".reply .text")).to_have_text(text)
    expect(page.locator(".token")).to_have_count(0)


def test_trying_again_keeps_both_versions(open_page):
    page = open_page()
    sent = posted(page)
    first = say(page).locator(".text").inner_text()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("2 of 2")).to_be_visible()
    assert page.locator(".reply").count() == page.locator(".mine").count() == 1
    assert page.locator(".reply .text").inner_text() == first  # the seed is set
    say(page, "w9")
    once, again, then = (body["messages"] for path, body in sent if path == "chat/completions")
    assert once == again == [{"role": "user", "content": "w1 w2 w3"}]
    assert [message["role"] for message in then] == ["user", "assistant", "user"]
    page.get_by_role("button", name="Previous version").click()
    expect(page.locator(".mine")).to_have_count(1)  # what followed stays with its version
    page.get_by_role("button", name="Next version").click()
    expect(page.locator(".mine")).to_have_count(2)


def test_a_message_can_be_edited_and_sent_again(open_page):
    page = open_page()
    say(page)
    say(page, "w5")
    page.locator(".mine").first.hover()
    page.get_by_role("button", name="Edit").first.click()
    box = page.get_by_role("textbox", name="Edit the message")
    expect(box).to_have_value("w1 w2 w3")
    box.fill("w4")
    sent = posted(page)
    page.get_by_role("button", name="Send again").click()
    expect(page.locator(".mine").get_by_text("2 of 2")).to_be_visible()
    page.get_by_role("button", name="Try again").wait_for()
    assert sent[0][1]["messages"] == [{"role": "user", "content": "w4"}]
    expect(page.locator(".said")).to_have_text(["w4"])
    page.locator(".mine").get_by_role("button", name="Previous version").click()
    expect(page.locator(".said")).to_have_text(["w1 w2 w3", "w5"])


def test_a_message_can_be_copied(open_page):
    page = open_page()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    text = say(page).locator(".text").inner_text()
    page.locator(".reply").get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == text


def test_a_message_that_is_too_long_stays_in_the_box(open_page):
    page = open_page()
    box, counter = page.get_by_role("textbox", name="Message"), page.locator("#counter")
    box.fill("w1 w2 w3")
    expect(counter).to_have_text("3 of 53 tokens")
    long = " ".join(["w1"] * 54)
    box.fill(long)
    expect(counter).to_have_text("54 of 53 tokens: too long")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("at most 53")
    expect(box).to_have_value(long)
    expect(page.locator(".mine, #conversations li")).to_have_count(0)
    box.fill(" ".join(["w1"] * 53))
    page.keyboard.press("Enter")
    expect(page.locator(".reply .token").first).to_be_visible()
    expect(box).to_have_value("")
    expect(page.get_by_role("alert")).to_have_text("")


def test_on_a_phone_the_rail_comes_and_goes(open_page):
    page = open_page(PHONE)
    say(page, "w1")
    expect(page.get_by_role("complementary", name="Conversations")).to_be_hidden()
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="New").click()
    expect(page.locator(".reply")).to_have_count(0)
    expect(page.get_by_role("complementary", name="Conversations")).to_be_hidden()


@pytest.fixture
def hold(server, monkeypatch):
    """Lets the model stop after a few tokens from now on, until what is returned is set."""
    go_on, turn = threading.Event(), server.engine._turn

    def hold():
        turns = itertools.count()
        monkeypatch.setattr(server.engine, "_turn", lambda: (next(turns) == 0 or go_on.wait(60)) and turn())
        return go_on

    yield hold
    go_on.set()


def test_what_is_deleted_while_it_is_written_stays_deleted(open_page, hold):
    page = open_page(max_tokens=40)
    say(page, "w1 w2")
    hold()
    page.get_by_role("textbox", name="Message").fill("w3")
    page.keyboard.press("Enter")
    expect(page.locator(".reply.busy .token").first).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert names(page) == []
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.includes('conversation'))") == []
    page.get_by_role("button", name="Undo").click()
    assert names(page) == ["w1 w2"]


def test_an_edit_stays_open_while_a_reply_ends(open_page, hold):
    page = open_page(max_tokens=40)
    held = hold()
    page.get_by_role("textbox", name="Message").fill("w3")
    page.keyboard.press("Enter")
    expect(page.locator(".reply.busy .token").first).to_be_visible()
    page.get_by_role("button", name="Edit").first.click()
    box = page.get_by_role("textbox", name="Edit the message")
    box.fill("w5 w6")
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_text("The model is writing; stop it first.")).to_be_visible()
    held.set()
    expect(page.locator(".reply .tools")).to_be_visible()
    expect(box).to_have_value("w5 w6")
    page.get_by_role("button", name="Send again").click()
    expect(page.locator(".said")).to_have_text("w5 w6")


def test_a_starter_leaves_a_draft(open_page):
    page = open_page()
    page.get_by_role("textbox", name="Message").fill("a draft")
    page.get_by_role("button", name="w3", exact=True).click()
    expect(page.locator(".reply .tools")).to_be_visible()
    expect(page.get_by_role("textbox", name="Message")).to_have_value("a draft")
