"""Behind a token: its candidates, the step that decided it, drawn onto the conversation, and what came of it."""

import pytest

from tests.browser.acting import choose, drawn, expect, look_on, posted, say
from tests.browser.conftest import TOKENIZER


def test_choosing_a_candidate_writes_on_from_there(open_page):
    page = open_page()
    reply = say(page)
    words = reply.locator(".token").all_inner_texts()
    panel = choose(page, reply, 2)
    expect(panel.get_by_role("heading", level=2)).to_have_text(words[2])
    expect(panel.locator("#candidates .taken .name")).to_have_text(words[2])
    buttons = panel.locator("#candidates button")
    assert buttons.count() >= 7
    other = buttons.nth(1).locator(".name").inner_text()
    sent = posted(page)
    buttons.nth(1).click()
    expect(page.get_by_text("2 of 2")).to_be_visible()
    body = next(body for path, body in sent if path == "chat/completions")
    assert [TOKENIZER.words[id] for id in body["written"]] == [*words[:2], other]
    written = reply.locator(".token").all_inner_texts()
    assert written[:3] == [*words[:2], other]
    assert len(written) == 3 + 24
    expect(panel.get_by_role("heading", level=2)).to_have_text(other)  # it is the one looked at now
    expect(panel.locator("#chosen-chance")).to_contain_text("You chose it")
    expect(reply.locator(".token.selected")).to_have_text(other)
    page.get_by_role("button", name="Previous version").click()
    assert reply.locator(".token").all_inner_texts() == words


def test_a_text_written_on_from_a_candidate_is_what_the_model_says_after_it(open_page, server):
    page = open_page(temperature=0)
    reply = say(page)
    choose(page, reply, 1).locator("#candidates button").first.click()
    expect(page.get_by_text("2 of 2")).to_be_visible()
    words = reply.locator(".token").all_inner_texts()
    ids = [TOKENIZER.words.index(word.strip() or "<eos>") for word in words]
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "w1 w2 w3"}]}
    for at in (2, 9, 25):
        seen = server.http.post("/v1/inspect", json=asked | {"written": ids[:at]}).json()
        assert seen["stages"][-1]["likeliest"][0]["id"] == ids[at]


def test_choosing_the_token_that_ends_a_reply_ends_it_there(open_page):
    page = open_page()
    reply = say(page)
    words = reply.locator(".token").all_inner_texts()
    other = choose(page, reply, 2).locator("#candidates button").first
    end_id = TOKENIZER.words.index(other.locator(".name").inner_text())
    page.evaluate("async (id) => { (await import('/now.js')).now.model.jaxgpt.end_id = id; }", end_id)
    sent = posted(page)
    other.click()
    expect(page.get_by_text("2 of 2")).to_be_visible()
    assert reply.locator(".token").all_inner_texts() == words[:2]
    assert not [path for path, _ in sent if path == "chat/completions"]


@pytest.mark.parametrize("at", [0, 3])
def test_why_a_word_came_is_the_step_that_decided_it(open_page, server, at):
    page = open_page()
    reply = say(page)
    words = reply.locator(".token").all_inner_texts()
    sent = posted(page)
    panel = choose(page, reply, at)
    body = next(body for path, body in sent if path == "inspect")
    assert [TOKENIZER.words[id] for id in body["written"]] == words[:at]
    figure = panel.locator("#candidates .taken .figure").inner_text()
    expect(panel.locator(".stages > li").last.locator(".taken, li").first).to_be_visible()
    likeliest = server.http.post("/v1/inspect", json=body).json()["stages"][-1]["likeliest"]
    told = next((x for x in likeliest if x["token"] == words[at]), None)
    assert told is None or abs(100 * told["probability"] - float(figure.split("\u00a0")[0])) < 0.2
    expect(panel.get_by_role("radio", name="block")).to_have_count(6)
    panel.get_by_role("button", name="All 8 heads").click()
    expect(panel.get_by_role("radio", name="block")).to_have_count(8)


def test_heads_are_drawn_onto_the_conversation(open_page):
    page = open_page()
    reply = say(page, "w1  w2,\n w3")  # as it was typed, not as the model reads it
    panel = choose(page, reply, 4)
    on_page = ["w1", "w2", ",", "w3", *reply.locator(".token").all_inner_texts()[:4]]
    heads = panel.locator(".share")
    found = []
    for number in range(heads.count()):
        heads.nth(number).click()
        name = heads.nth(number).locator(".name").inner_text()
        marks = drawn(page)
        if name in on_page:
            assert [8, name] in marks  # the largest share is the darkest
            found.append(name)
        assert all(text in on_page for _, text in marks)
        expect(panel.locator("[aria-live]")).to_contain_text("takes most from: ")
    assert found
    expect(page.locator(".said")).to_have_text("w1  w2,\n w3")
    panel.get_by_role("button", name="Close").click()
    expect(panel).to_be_hidden()
    assert not drawn(page)


def test_what_a_token_leads_to_is_the_step_after_it(open_page):
    page = open_page()
    reply = say(page)
    words = reply.locator(".token").all_inner_texts()
    panel = choose(page, reply, 2)
    look_on(page)
    assert not drawn(page)
    expect(panel.locator(".head input")).to_have_count(1 + 2 * 4)
    names = ["The token's own vector", "+ the vector of its place", "= what enters the first block"]
    expect(panel.locator(".steps > li > .name")).to_have_text([*names, "After block 1", "After block 2"])
    expect(panel.locator("#look > .bars li")).to_have_count(8)
    said = panel.locator("#look [aria-live]")
    expect(said).to_contain_text("All heads, on average")
    panel.locator(".head").nth(6).click()
    expect(said).to_contain_text("Block 2, head 2 takes most from:")
    sent = posted(page)
    with page.expect_response("**/v1/inspect"):
        reply.locator(".token").nth(0).click()
    assert [TOKENIZER.words[id] for id in sent[0][1]["written"]] == words[:1]
    expect(panel.get_by_role("heading", level=2)).to_have_text(words[0])
    expect(said).to_contain_text("Block 2, head 2 takes most from:")  # the head stays chosen
