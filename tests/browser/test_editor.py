"""The editor of a language model: a text that people and the model write on together."""

from tests.browser.acting import choose, drawn, expect, posted
from tests.browser.conftest import HARM, PHONE, TOKENIZER


def go_on(page):
    """Lets the model continue; returns once it has."""
    count = page.locator("#editor .run").count()
    page.get_by_role("button", name="Continue").click()
    page.locator("#editor .run").nth(count).wait_for()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def words(page):
    return [text or "<eos>" for text in page.locator("#editor .token").all_inner_texts()]


def test_a_text_is_continued_again_and_again(open_page):
    page = open_page(served="text_server")
    editor = page.get_by_role("textbox", name="Text")
    expect(editor).to_be_focused()
    expect(page.get_by_role("textbox", name="Message")).to_be_hidden()
    page.keyboard.type("w1 w2")
    expect(page.locator("#counter")).to_have_text("2 of 63 tokens")
    sent = posted(page)
    go_on(page)
    first = words(page)
    assert len(first) == 24
    go_on(page)
    assert words(page)[:24] == first
    once, again = (body for path, body in sent if path == "completions")
    assert (once["prompt"], once["written"]) == ("w1 w2", [])
    assert again["prompt"] == "w1 w2"
    assert [TOKENIZER.words[id] for id in again["written"]] == first
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("2 of 2")).to_be_visible()
    assert words(page)[:24] == first
    page.reload()
    page.locator("#conversations .name").click()
    expect(page.locator("#editor .given")).to_have_text("w1 w2")
    assert words(page)[:24] == first


def test_what_is_changed_is_read_anew(open_page):
    page = open_page(served="text_server", max_tokens=3)
    page.keyboard.type("w1")
    go_on(page)
    page.keyboard.press("ControlOrMeta+Home")
    page.keyboard.type("w5 ")
    page.keyboard.press("ControlOrMeta+End")
    page.keyboard.press("Enter")
    page.keyboard.type("w7")
    text = page.locator("#editor").inner_text()
    assert text.startswith("w5 w1 ")
    assert text.endswith("\nw7")
    sent = posted(page)
    page.keyboard.press("ControlOrMeta+Enter")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    body = next(body for path, body in sent if path == "completions")
    assert (body["prompt"], body["written"]) == (text, [])
    expect(page.locator("#editor .given")).to_have_text(text)


def test_a_token_of_the_text_is_looked_into_and_written_on_from(open_page):
    page = open_page(served="text_server", max_tokens=6)
    page.keyboard.type("w1 w2 w3")
    go_on(page)
    go_on(page)
    before = words(page)
    sent = posted(page)
    panel = choose(page, page.locator("#editor"), 7)
    assert [TOKENIZER.words[id] for id in sent[-1][1]["written"]] == before[:7]
    assert drawn(page)
    other = panel.locator("#candidates button").nth(1)
    name = other.locator(".name").inner_text()
    other.click()
    expect(page.get_by_text("2 of 2")).to_be_visible()
    assert words(page)[:8] == [*before[:7], name]


def test_a_text_that_is_too_long_stays(open_page):
    page = open_page(served="text_server")
    text = " ".join(["w1"] * 64)
    page.locator("#editor").fill(text)
    expect(page.locator("#counter")).to_have_text("64 of 63 tokens: too long")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("at most 63")
    expect(page.locator("#editor")).to_have_text(text)


def test_a_text_is_not_edited_while_the_model_is_asked_to_go_on(open_page):
    page = open_page(served="text_server", max_tokens=3)
    page.keyboard.type("w1")
    go_on(page)
    page.evaluate("""() => {
      const fetch = window.fetch;
      const answered = () => new Promise((accept, refuse) => Object.assign(window, { accept, refuse }));
      window.fetch = async (path, options) => {
        if (path === "/v1/completions") await answered();
        return fetch(path, options);
      };
    }""")
    for answer, runs in (("refuse(new TypeError('no network'))", 1), ("accept()", 2)):
        before = page.locator("#editor").inner_text()
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("button", name="Try again")).to_be_hidden()
        page.keyboard.type("w9")
        assert page.locator("#editor").inner_text() == before
        page.evaluate(answer)
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        expect(page.locator("#editor .run")).to_have_count(runs)
        expect(page.get_by_role("textbox", name="Text")).to_be_editable()


def test_text_in_the_editor_is_never_markup(open_page):
    page = open_page(PHONE, served="text_server", max_tokens=40)
    page.keyboard.insert_text("<img src=x onerror=window.harmed=1>")
    go_on(page)
    assert any(harm in page.locator("#editor").inner_text() for harm in HARM)
    expect(page.locator("main").locator("script, img, svg, b")).to_have_count(0)


def test_what_is_typed_is_kept_before_the_model_has_gone_on(open_page):
    page = open_page(served="text_server")
    page.keyboard.type("w1 w2 w3")
    page.get_by_role("button", name="New").click()
    expect(page.locator("#editor")).to_have_text("")
    page.reload()
    page.locator("#conversations .name").click()
    expect(page.locator("#editor")).to_have_text("w1 w2 w3")


def test_a_text_of_other_weights_is_continued_from_all_of_it(open_page):
    page = open_page(served="text_server", max_tokens=4)
    page.keyboard.type("w1 w2")
    go_on(page)
    text = page.locator("#editor").inner_text()
    page.evaluate("""() => {
      const key = Object.keys(localStorage).find((key) => key.startsWith("jaxgpt:conversation:"));
      localStorage.setItem(key, JSON.stringify({ ...JSON.parse(localStorage[key]), weights: "others" }));
    }""")
    page.reload()
    page.locator("#conversations .name").click()
    expect(page.locator(".token")).to_have_count(0)
    sent = posted(page)
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".token")).to_have_count(4)
    expect(page.get_by_role("button", name="Continue")).to_be_visible()
    body = next(body for path, body in sent if path == "completions")
    assert (body["prompt"], body["written"]) == (text, [])


def test_a_text_that_the_model_ends_stays_as_it_is(open_page):
    page = open_page(served="text_server", max_tokens=5)
    page.keyboard.type("w1")
    go_on(page)
    before = words(page)
    page.get_by_role("button", name="Settings").click()
    page.get_by_text("More", exact=True).click()
    page.get_by_role("textbox", name="Stop at this text").fill(" ")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("without a word")
    assert words(page) == before
    expect(page.locator("#versions button")).to_have_count(0)


def test_a_starter_begins_a_text(open_page):
    page = open_page(served="text_server")
    page.get_by_role("button", name="w1 w2").click()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.locator("#editor .given")).to_have_text("w1 w2")
    assert words(page)


def test_a_line_break_at_the_end_is_one(open_page):
    page = open_page(served="text_server", max_tokens=3)
    sent = posted(page)
    page.keyboard.type("w1")
    page.keyboard.press("Enter")
    go_on(page)
    assert next(body for path, body in sent if path == "completions")["prompt"] == "w1\n"
    page.get_by_role("button", name="New").click()
    page.keyboard.type("w2")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.keyboard.type("w3")
    expect(page.locator("#editor")).to_have_text("w2\n\nw3")
