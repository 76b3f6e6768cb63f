"""The settings beside the conversation: what they send, what they leave of the next word, and how the page looks."""

from tests.browser.acting import choose, expect, posted, say


def set_to(page, name, value):
    page.get_by_role("slider", name=name).fill(str(value))


def chances(page):
    """Returns the figures of the next word, once they are there."""
    page.locator("#next-tokens li").first.wait_for()
    return page.locator("#next-tokens .figure").all_inner_texts()


def test_all_that_is_set_is_sent_and_kept(open_page):
    page = open_page(seed="")
    page.get_by_role("button", name="Settings").click()
    for name, value in (("Temperature", 0.5), ("Top k", 7), ("Top p", 0.75), ("Min p", 0.1)):
        set_to(page, name, value)
    page.get_by_role("textbox", name="System text").fill("w8 w9")
    page.get_by_text("More", exact=True).click()
    page.get_by_role("spinbutton", name="Most tokens").fill("5")
    page.get_by_role("spinbutton", name="Seed").fill("11")
    sent = posted(page)
    reply = say(page)
    asked = {"temperature": 0.5, "top_k": 7, "top_p": 0.75, "min_p": 0.1, "max_tokens": 5, "seed": 11}
    body = next(body for path, body in sent if path == "chat/completions")
    assert {name: body[name] for name in asked} == asked
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert 0 < reply.locator(".token").count() <= 5
    sent.clear()
    choose(page, reply, 0)
    assert sent[-1][1]["messages"] == body["messages"]  # what it was written after, whatever is set by then
    page.reload()
    page.get_by_role("button", name="Settings").click()
    expect(page.locator("#top_k-value")).to_have_text("7")
    expect(page.get_by_role("textbox", name="System text")).to_have_value("w8 w9")
    page.get_by_role("button", name="Defaults").click()
    expect(page.locator("#top_k-value")).to_have_text("all")
    expect(page.get_by_role("textbox", name="System text")).to_have_value("")


def test_what_is_left_of_the_next_word_is_shown_as_it_is_set(open_page):
    page = open_page(temperature=1)
    reply = say(page)
    panel = choose(page, reply, 3)
    own = panel.locator("#candidates .figure").all_inner_texts()
    page.get_by_role("button", name="Settings").click()
    assert chances(page) == own  # at temperature 1, where nothing is left out, the model's own
    left = page.locator("#next-left")
    set_to(page, "Top k", 2)
    expect(left).to_have_text("2 tokens can come.")
    assert chances(page)[2:] == ["–"] * 6
    set_to(page, "Top k", 0)
    set_to(page, "Temperature", 0)
    expect(left).to_have_text("One token can come.")
    assert chances(page)[0] == "100\u00a0%"
    page.keyboard.press("Escape")
    expect(panel).to_be_visible()  # back to the token that was looked at


def test_before_a_conversation_the_next_word_is_that_after_a_starter(open_page):
    page = open_page()
    page.get_by_role("button", name="Settings").click()
    assert len(chances(page)) == 8
    expect(page.locator("#next-where")).to_have_text("After “w1 w2”:")


def test_the_theme_is_that_of_the_system_or_the_chosen_one(open_page):
    page = open_page(color_scheme="dark")

    def paper():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = paper()
    page.get_by_role("button", name="Settings").click()
    page.get_by_text("Light", exact=True).click()
    light = paper()
    assert light != dark
    page.reload()
    assert paper() == light
    page.get_by_role("button", name="Settings").click()
    page.get_by_text("System", exact=True).click()
    assert paper() == dark


def test_the_legend_of_the_tint_stays_as_long_as_there_is_one(open_page):
    page = open_page()
    legend = page.locator("#legend")
    expect(legend).to_be_visible()
    reply = say(page)
    expect(legend).to_be_visible()
    tinted = "[...document.querySelectorAll('.token')].map((x) => getComputedStyle(x).backgroundColor)"
    assert len(set(page.evaluate(tinted))) > 3
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("checkbox", name="Tint").uncheck()
    expect(legend).to_be_hidden()
    assert len(set(page.evaluate(tinted))) == 1
    expect(reply).to_be_visible()
