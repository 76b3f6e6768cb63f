"""What people do on the page, in the words of the tests."""


def expect(locator):
    from playwright.sync_api import expect

    return expect(locator)


def say(page, text="w1 w2 w3"):
    """Sends a message, and returns the reply that comes, once it is whole."""
    count = page.locator(".reply").count()
    page.get_by_role("textbox", name="Message").fill(text)
    page.get_by_role("button", name="Send").click()
    reply = page.locator(".reply").nth(count)
    reply.get_by_role("button", name="Try again").wait_for()
    return reply


def choose(page, reply, at=2):
    """Chooses a token of a reply, and returns what is behind it."""
    reply.locator(".token").nth(at).click()
    page.locator(".stages").wait_for()
    return page.get_by_role("complementary", name="Behind the token")


def look_on(page):
    """Turns to what the token leads to."""
    page.get_by_text("What it leads to").click()
    page.locator(".steps").wait_for()


def posted(page):
    """Returns a list that each body sent to the server from now on is added to, with its path before it."""
    found = []

    def note(request):
        if request.method == "POST":
            found.append((request.url.rsplit("/v1/", 1)[1], request.post_data_json))

    page.on("request", note)
    return found


def drawn(page):
    """Returns what is drawn onto the conversation, the darkest last: [level, text] of each highlight."""
    return page.evaluate("""[...CSS.highlights].flatMap(([name, ranges]) =>
        [...ranges].map((range) => [Number(name.slice(-1)), range.toString()])).sort()""")
