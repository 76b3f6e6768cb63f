"""The report in a real browser: it asks for nothing, answers with scripts, and can be read without."""

import re

import pytest

from jaxgpt.report.build import write_report
from tests.browser.conftest import DESKTOP, PHONE
from tests.report.conftest import miniature


@pytest.fixture(scope="session")
def report(tmp_path_factory, cache_dir):
    return write_report(miniature(tmp_path_factory.mktemp("report"), cache_dir, "word", steps=12))


@pytest.fixture
def open_report(chromium, report):
    """Opens the report; in the end nothing must have failed, been run by injection, or been asked for."""
    pages, wrong = [], []

    def open_report(path=report, viewport=DESKTOP, color_scheme="light", scripts=True, **settings):
        context = chromium.new_context(
            viewport=viewport, color_scheme=color_scheme, java_script_enabled=scripts, **settings
        )
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda request: wrong.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_report
    for page in pages:
        page.context.close()
    assert not wrong


def unfold(page):
    page.evaluate("for (const part of document.querySelectorAll('section > details')) part.open = true")


def test_curves_answer_by_step_tokens_and_time(open_report):
    page = open_report()
    charts = page.locator(".curves .uplot")
    assert charts.count() == page.locator(".curves figure").count() >= 5
    over = page.locator(".curves .u-over").first
    for axis, told in (("step", r"step\s*\d+"), ("tokens", r"tokens\s*\d"), ("time", r"time\s*\d+s")):
        page.get_by_role("radio", name=axis).check()
        over.hover(position={"x": 100, "y": 50})
        for legend in page.locator(".curves .u-legend").all()[:4]:  # one crosshair for all
            assert re.search(told, legend.inner_text())
        assert re.search(r"training loss\s*\d", page.locator(".curves .u-legend").first.inner_text())
    page.get_by_role("radio", name="log").check()
    page.get_by_label("Smoothing").fill("0")
    assert charts.count() >= 5


@pytest.mark.parametrize("value", ["0", "-1", "2.94", "1e-30"])
def test_curves_without_height_are_drawn(value, open_report, report, tmp_path):
    page = report.read_text()
    flat = re.sub(r'("y": ?\[)([^]]+)', lambda y: y[1] + re.sub(r"[^,]+", value, y[2]), page)
    assert flat != page
    path = tmp_path / "flat.html"
    path.write_text(flat)
    page = open_report(path)
    for scale in ("log", "linear"):
        page.get_by_role("radio", name=scale).check()
        page.locator(".curves .u-over").first.hover(position={"x": 100, "y": 50})
        assert page.locator(".curves .uplot").count() == page.locator(".curves figure").count()


def test_what_is_folded_opens_from_the_contents(open_report):
    page = open_report()
    assert page.locator("section > details[open]").count() == 3
    page.get_by_role("navigation").get_by_role("link", name="Where each head looks").click()
    assert page.locator("#attention > details").get_attribute("open") is not None
    page.locator(".heads figure").nth(3).click()
    assert page.locator(".large").inner_text().startswith("Block 2, head 2")
    page.locator(".large rect.f0").nth(4).hover()
    assert re.search(r"“.+” \(3\) takes \d+% from “.+” \(2\)", page.locator(".large").inner_text())


def test_samples_and_tokens_tell_what_they_are(open_report):
    page = open_report(viewport=PHONE, has_touch=True)
    assert page.locator(".sample:visible").all_inner_texts()[0].startswith("Step 12")
    assert page.locator(".sample:visible mark").first.inner_text().strip()
    page.get_by_label("Evaluation").fill("0")
    assert page.locator(".sample:visible").all_inner_texts()[0].startswith("Step 6")
    page.locator(".tokens span[data-told]").first.tap()
    assert re.match(r"\d+\.\d\d nats, p = ", page.locator(".tip").inner_text())


def test_a_token_is_found_with_its_neighbours(open_report):
    page = open_report()
    unfold(page)
    page.get_by_label("Find a token").fill("ball")
    said = page.locator(".near").inner_text()
    assert re.match(r"ball is nearest to", said)
    assert page.locator(".near button").count() == 6
    page.locator(".near button").first.click()
    assert page.locator(".near strong").inner_text() != "ball"


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")])
def test_nothing_scrolls_sideways_and_axe_finds_nothing_serious(open_report, viewport, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_report(viewport=viewport, color_scheme=scheme)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    results = Axe().run(page).response
    assert results["passes"]
    wrong = [found for found in results["violations"] if found["impact"] in ("serious", "critical")]
    assert not [(found["id"], [node["html"][:200] for node in found["nodes"]][:3]) for found in wrong]


def test_without_scripts_all_is_there(open_report):
    page = open_report(scripts=False)
    assert page.locator(".curves svg").count() >= 5
    assert page.locator(".sample:visible").count() == 2
    assert page.locator(".tools").count() == 0
    page.get_by_text("The map of its tokens").last.click()
    assert page.locator("#tokens svg").is_visible()
