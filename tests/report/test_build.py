"""The report: one page that loads nothing, of any run at any moment, in which no text is markup."""

import base64
import hashlib
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from jaxgpt.data.reopen import token_counts
from jaxgpt.errors import UserError
from jaxgpt.inference.introspect import ordinary_tokens
from jaxgpt.report.build import report_after, write_report, written
from jaxgpt.report.page import SCRIPTS, json_element
from jaxgpt.report.training_sections import changed_words
from jaxgpt.run.folder import read_run
from jaxgpt.text.corpora import open_text
from jaxgpt.text.vocabulary import save_tokenizer
from jaxgpt.text.word_tokenizer import WordTokenizer

SECTIONS = ["curves", "samples", "difficulty", "tokens", "attention", "positions", "parameters", "settings"]
EMPTY_TAGS = {"meta", "br", "wbr", "path", "rect", "circle", "input"}


class Reader(HTMLParser):
    """Notes tags, and that each one opened is closed in its place."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.sections = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "section":
            self.sections.append(dict(attrs)["id"])
        if tag not in EMPTY_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in EMPTY_TAGS:
            assert self.open.pop() == tag


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def report(mini, tmp_path_factory):
    folder = shutil.copytree(mini, tmp_path_factory.mktemp("report") / "mini")
    return write_report(folder)


def test_the_page_has_all_there_is_to_see(report):
    html = report.read_text(encoding="utf-8")
    assert read(html).sections == SECTIONS
    for words in (
        "12",
        "valid loss",
        "training loss",
        "model.num_layers",
        "0.01",
        "The The The",
        "position",
        "Block 2",
    ):
        assert words in html
    assert report.stat().st_size < 300_000
    assert re.fullmatch(r".*report\.html \(\d+ kB\)", written(report))


def test_the_page_loads_nothing(report):
    html = report.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href|action|data)\s*=\s*["']?\s*(https?:)?//""", html, re.IGNORECASE)
    assert "@import" not in html
    assert "url(" not in html
    assert not read(html).tags & {"link", "img", "iframe", "object", "embed", "base"}


def test_a_browser_runs_the_page_s_own_scripts_alone(report):
    """Its policy names them by their digests, and lets nothing be asked for; all other script elements are data."""
    html = report.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; ")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert re.findall(r"'sha256-([^']*)'", policy[1]) == digests
    assert len(digests) == len(SCRIPTS)
    assert all(json.loads(data) for data in re.findall(r'<script type="application/json">(.*?)</script>', html))
    assert html.count("<script") == html.count("</script>") == len(scripts) + html.count("<script type=")
    assert "Copyright (c) 2022 Leon Sorokin" in html


def test_words_of_models_and_data_are_never_markup(report):
    html = report.read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html.replace("<mark>", "").replace("</mark>", "")
    assert "<b>" not in html
    assert "text&lt;b&gt;.txt" in html


def test_data_for_scripts_cannot_end_its_element():
    data = ["</script><script>alert(1)</script>", "<!--", "\u2028 \ud800"]
    element = json_element(data)
    assert element.count("<") == 2
    assert json.loads(element[element.index(">") + 1 : element.rindex("<")]) == data


def test_words_that_changed_are_marked():
    assert changed_words("a cow eats", "a <b> eats grass") == "a <mark>&lt;b&gt;</mark> eats<mark> grass</mark>"
    assert changed_words("same", "same") == "same"


def test_the_top_tells_when_where_and_how(report):
    top = report.read_text(encoding="utf-8").partition("<main>")[0]
    assert re.search(r'class="meta">\d+ \w+ 20\d\d · \d+s · 8 × cpu, ', top)
    assert re.search(r"<code[^>]*>python ", top)
    assert "jaxgpt sample" in top
    assert "Training loss over 12 steps" in top


def test_charts_are_files_too(report):
    plots = report.parent / "plots"
    names = {path.stem for path in plots.iterdir()}
    assert {"loss", "learning_rate", "grad_norm", "tokens_per_second", "tokens", "positions", "attention-2-1"} <= names
    for path in plots.iterdir():
        ElementTree.parse(path)


@pytest.mark.long
def test_pieces_of_words_are_shown_as_such(pieces):
    html = write_report(pieces).read_text(encoding="utf-8")
    assert read(html).sections == SECTIONS
    assert "␣ball" in html
    assert "token 1 to 10" in html
    assert "special (document end)" in html
    assert "unk" not in html
    mapped = re.search(r"The (\d+) most frequent tokens", html)
    assert mapped is not None
    assert int(mapped[1]) < 100  # of 300: the bytes that never come are not among them


@pytest.mark.long
def test_tokens_are_ranked_by_how_often_they_come(pieces):
    run = read_run(pieces)
    text = open_text(run.data.corpus, None).read().documents["train"]
    counts = Counter(id for piece in text() for id in run.tokenizer.encode(piece.text))
    ranked = ordinary_tokens(run.tokenizer, token_counts(run.data, run.tokenizer, run.config.data))
    assert set(ranked.tolist()) == set(counts)
    assert all(counts[one] >= counts[other] for one, other in pairwise(ranked.tolist()))


def test_a_run_without_a_checkpoint_has_its_curves(copy):
    shutil.rmtree(copy / "checkpoints")
    html = write_report(copy).read_text(encoding="utf-8")
    assert read(html).sections == ["curves", "samples", "inside", "parameters", "settings"]
    assert "no checkpoint yet" in html


def test_a_run_with_only_a_checkpoint_has_its_model(copy):
    for name in ("metrics.jsonl", "samples.jsonl", "run.json"):
        (copy / name).unlink()
    (copy / "checkpoints" / "best.json").unlink()
    html = write_report(copy).read_text(encoding="utf-8")
    assert read(html).sections == SECTIONS
    for words in ("nothing measured yet", "It has not spoken yet", "no record of its machine", "no validation yet"):
        assert words in html


def test_a_run_cut_short_has_what_is_whole(copy):
    metrics = copy / "metrics.jsonl"
    lines = [line for line in metrics.read_text().splitlines() if "valid_loss" not in line]
    odd = ['{"step": 8, "loss": NaN}', "[]", '{"loss": 1}', '{"step": 9, "lo']
    metrics.write_text("\n".join([*lines[:7], *odd]))
    html = write_report(copy).read_text(encoding="utf-8")
    assert "no validation yet, 8 steps in" in html


def test_without_its_corpus_a_report_reads_the_sample(copy, change_data):
    change_data(corpus=str(copy / "gone.txt"), fingerprint="of a text that is not in the cache")
    html = write_report(copy).read_text(encoding="utf-8")
    assert read(html).sections == SECTIONS
    assert "corpus is not at hand" in html
    assert "text of its own" in html


def test_an_entropy_floor_is_drawn(copy):
    data = json.loads((copy / "data.json").read_text())
    data["splits"]["valid"]["floor_nats"] = 0.5 * data["splits"]["valid"]["tokens"]
    (copy / "data.json").write_text(json.dumps(data))
    html = write_report(copy).read_text(encoding="utf-8")
    assert "entropy floor 0.5000" in html
    assert re.search(r"\+\d\.\d{4} from the entropy floor", html)


def test_no_run_is_an_error_in_words(tmp_path, copy):
    with pytest.raises(UserError, match="no such run folder"):
        write_report(tmp_path / "nothing")
    (copy / "run.json").write_text("[")
    with pytest.raises(UserError, match="not a record of a machine"):
        write_report(copy)


def test_a_finished_run_survives_a_report_that_cannot_be_written(copy):
    assert report_after(copy).startswith(f"{copy / 'report.html'} (")
    (copy / "run.json").write_text("[")
    assert report_after(copy).startswith("not written (")
    (copy / "run.json").unlink()
    shutil.rmtree(copy / "plots")
    (copy / "plots").write_text("in the way")
    told = report_after(copy)
    assert told.startswith("not written (")
    assert "\n" not in told


def test_pages_of_text_with_control_characters_parse(copy):
    """Its words, its samples and its notes hold what XML has not."""
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    words = [*tokenizer["words"][:-2], "bell\x07", "\x00\x1b[31m"]
    save_tokenizer(WordTokenizer(tuple(words)), copy / "tokenizer.json")
    with (copy / "samples.jsonl").open("a") as file:
        file.write(json.dumps({"step": 12, "text": "\x0c\x00 \ud800"}) + "\n")
    html = write_report(copy).read_text(encoding="utf-8")
    assert read(html).sections == SECTIONS
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", html)
    plots = list((copy / "plots").glob("*.svg"))
    assert len(plots) > 8
    for plot in plots:
        ElementTree.parse(plot)
