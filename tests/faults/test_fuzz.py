"""Malformed files of every kind: refused in one line of words, or read; never a traceback from inside."""

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxgpt.config import Config, RunConfig
from jaxgpt.config_file import load_config_file
from jaxgpt.config_json import from_json, to_json
from jaxgpt.errors import RunError, UserError
from jaxgpt.report import training_sections
from jaxgpt.report.compare import caution
from jaxgpt.report.curves import curves
from jaxgpt.report.header import header
from jaxgpt.report.page import page
from jaxgpt.report.run_data import read_record
from jaxgpt.run.checkpoint import read_best
from jaxgpt.run.folder import load_run
from jaxgpt.run.integrity import DIGESTS, commit, damage
from jaxgpt.run.metrics import drop_after, read_records
from jaxgpt.run.resume import best_so_far, skipped_at_the_end
from jaxgpt.run.starts import record_start
from jaxgpt.run.verify import verify_run
from jaxgpt.text.corpora import Corpus, open_chat, open_text
from jaxgpt.text.corpora.oasst import conversations, read_messages
from jaxgpt.text.vocabulary import load_tokenizer, save_tokenizer
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

pytestmark = pytest.mark.long

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=6), children, max_size=3),
    max_leaves=6,
)


HERE = "replaced"
UNUSUAL = [
    *("9" * 5_000, "-" + "9" * 5_000, "1" + "0" * 400, "1e999", "-1e999", "NaN", "1e308", "9223372036854775808"),
    *("[" * 50_000, '{"a":' * 50_000, "[" * 3_000 + "]" * 3_000),
    *(r'"\ud800"', r'"\u0000"', r'"a\nb"', '"' + "x" * 9_000 + '"', "{}", "[]", "null", "true"),
]
"""JSON of kinds that readers stumble over: numbers that no type holds, brackets without end, half characters."""


def changed(document: Any, path: list[int], value: Any, remove: bool) -> Any:
    """Returns the document with the part that `path` leads to replaced or removed."""
    document = here = copy.deepcopy(document)
    for index in path:
        keys = list(here) if isinstance(here, dict) else list(range(len(here))) if isinstance(here, list) else []
        if not keys:
            return value
        key = keys[index % len(keys)]
        if index == path[-1] or not isinstance(here[key], dict | list):
            if remove:
                del here[key]
            else:
                here[key] = value
            return document
        here = here[key]
    return document


def malformed(valid: str) -> st.SearchStrategy[bytes]:
    """Draws a valid file with a part of it changed, cut, or overwritten, or something else altogether."""
    raw = valid.encode()
    places = st.integers(0, len(raw))
    cut = places.map(lambda n: raw[:n])
    overwritten = st.tuples(places, st.binary(max_size=8)).map(lambda p: raw[: p[0]] + p[1] + raw[p[0] + len(p[1]) :])
    kinds = [cut, overwritten, st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace"))]
    try:
        document = json.loads(valid)
    except ValueError:
        return st.one_of(kinds)
    path = st.lists(st.integers(0, 20), min_size=1, max_size=4)
    parts = st.tuples(path, json_values, st.booleans()).map(lambda p: json.dumps(changed(document, *p)).encode())
    unusual = st.tuples(path, st.sampled_from(UNUSUAL)).map(
        lambda p: json.dumps(changed(document, p[0], HERE, False)).replace(json.dumps(HERE), p[1]).encode()
    )
    return st.one_of(parts, parts, unusual, json_values.map(lambda v: json.dumps(v).encode()), *kinds)


WORDS = WordTokenizer((*SPECIAL, "a", "b"))
MANIFEST = {"kind": "text", "name": "mine", "corpus": "mine", "fingerprint": "f", "splits": {}}
TALK = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}) + "\n"


MESSAGE = (
    json.dumps(
        {"message_id": "t", "parent_id": None, "message_tree_id": "t", "role": "prompter", "text": "a", "rank": 0}
    )
    + "\n"
)


def make_run(folder: Path) -> Path:
    """Writes a run folder with an empty, sealed checkpoint."""
    run = folder / "run"
    (run / "checkpoints/1").mkdir(parents=True)
    (run / "checkpoints/1/arrays").write_text("x")
    commit(run / "checkpoints/1")
    (run / "config.json").write_text(to_json(Config(run=RunConfig(name="run"))))
    save_tokenizer(WORDS, run / "tokenizer.json")
    (run / "data.json").write_text(json.dumps(MANIFEST))
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 1, "valid_loss": 2.5}\n')
    (run / "samples.jsonl").write_text('{"step": 1, "text": "a b"}\n')
    (run / "run.json").write_text('{"devices": ["cpu"], "packages": {"jax": "1"}, "earlier": []}')
    (run / "checkpoints/best.json").write_text('{"step": 1, "valid_loss": 2.5}')
    return run


def report_facts(run: Path) -> None:
    """Reads what a report and a comparison read, but for the checkpoint."""
    record = read_record(run)
    for section in (
        curves(record),
        training_sections.samples(record),
        training_sections.settings(record),
    ):
        page("title", header(record), [section])
    caution({"one": record, "other": record})
    best_so_far(run, [1])
    skipped_at_the_end(run)


def read_corpus(corpus: Corpus) -> None:
    for documents in corpus.read().documents.values():
        for _ in documents():
            pass


def read_all(path: Path) -> None:
    read_records(path)
    drop_after(path, 1)


KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "config.json": ("config.json", lambda run: from_json((run / "config.json").read_text(errors="replace"), "it")),
    "tokenizer.json": ("tokenizer.json", lambda run: load_tokenizer(run / "tokenizer.json")),
    "data.json": ("data.json", load_run),
    "best.json": ("checkpoints/best.json", lambda run: read_best(run / "checkpoints")),
    "digests.json": (f"checkpoints/1/{DIGESTS}", lambda run: damage(run / "checkpoints/1")),
    "metrics.jsonl": ("metrics.jsonl", lambda run: read_all(run / "metrics.jsonl")),
    "checked": ("metrics.jsonl", lambda run: list(verify_run(run))),
    "config.py": ("config.py", lambda run: load_config_file(str(run / "config.py"))),
    "text": ("text.txt", lambda run: read_corpus(open_text(str(run / "text.txt"), None))),
    "conversations": ("talk.jsonl", lambda run: read_corpus(open_chat(str(run / "talk.jsonl"), None))),
    "messages": ("messages.jsonl", lambda run: conversations(list(read_messages(run / "messages.jsonl")), True)),
    "reported": ("data.json", report_facts),
    "recorded": ("metrics.jsonl", report_facts),
    "run.json": ("run.json", lambda run: (report_facts(run), record_start(run, 1, [], {}))),
    "samples": ("samples.jsonl", lambda run: (report_facts(run), drop_after(run / "samples.jsonl", 1))),
}
VALID = {
    "config.py": "from jaxgpt.config import *\nconfig = Config(model=ModelConfig(embed_dim=64))\n",
    "text": "a b\nb a\n" * 30,
    "conversations": TALK * 20,
    "messages": MESSAGE + MESSAGE.replace('"t"', '"u"'),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_malformed_is_refused_in_words_or_read(kind, tmp_path, request):
    run = make_run(tmp_path)
    name, read = KINDS[kind]
    file = run / name
    valid = VALID.get(kind) or file.read_text()
    others = {path: path.read_text() for path in run.rglob("*.json*") if path != file}

    @settings(
        max_examples=request.config.getoption("fuzz"),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(malformed(valid))
    def attempt(content: bytes) -> None:
        for other, text in others.items():
            other.write_text(text)  # reading may change the run
        file.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)  # of a config file's own Python
                read(run)
        except (UserError, RunError) as error:
            words = str(error)
            assert words.strip(), content
            assert len(words) < 2_000, content

    attempt()
