"""The run folder: it explains itself, goes on only as the same run, and never loses an older one."""

import dataclasses
import json

import pytest

from jaxgpt.config import Config, DataConfig, MeshConfig, OptimizerConfig, RunConfig
from jaxgpt.data.manifest import Manifest, TextCounts
from jaxgpt.errors import UserError
from jaxgpt.run.folder import Run, load_run, open_run, read_run
from jaxgpt.run.integrity import commit
from jaxgpt.run.metrics import append_sample, drop_after, open_metrics, read_records
from jaxgpt.run.starts import machine
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

MANIFEST = Manifest(
    "text", "mine", "mine", "files", fingerprint="f", tokenizer="", splits={"valid": TextCounts(tokens=3)}
)


@pytest.fixture
def run(tmp_path) -> Run:
    config = Config(run=RunConfig(name="mine", folder=str(tmp_path)))
    return Run(tmp_path / "mine", config, WordTokenizer((*SPECIAL, "a")), MANIFEST)


def test_records_hold_any_text(tmp_path):
    texts = ["a\u2028b", "c\u0085d", "e\x1cf\x0bg", "h\r\ni", "\ud800"]
    for step, text in enumerate(texts):
        append_sample(tmp_path, step, text)
    file = tmp_path / "samples.jsonl"
    found = read_records(file)
    assert [record["step"] for record in found] == list(range(len(texts)))
    assert [record["text"] for record in found][:4] == texts[:4]
    drop_after(file, 3)
    assert read_records(file) == found[:4]


def train_a_step(run: Run) -> None:
    (run.checkpoints / "1").mkdir()
    commit(run.checkpoints / "1")


def test_the_path_alone_is_enough(run):
    assert open_run(run, 10) is None
    assert read_run(run.path) == run  # before the first checkpoint, for who needs none
    train_a_step(run)
    assert load_run(run.path) == run


def test_what_was_left_by_a_start_that_saved_nothing_is_gone(run):
    """It may have been of another origin: what was measured before the first step would be that one's."""
    open_run(run, 10)
    left = [run.path / name for name in ("base.json", "metrics.jsonl", "samples.jsonl", "answers.jsonl")]
    for file in left:
        file.write_text('{"step": 0}\n')
    open_run(run, 10)
    assert not any(file.exists() for file in left)
    train_a_step(run)
    for file in left:
        file.write_text('{"step": 0}\n')
    open_run(run, 10)
    assert all(file.exists() for file in left)


def test_a_tokenizer_that_was_taken_over_is_known_by_its_tokens(run):
    """Earlier versions recorded how the preset would have made one."""
    continued = dataclasses.replace(run, config=dataclasses.replace(run.config, run=RunConfig(init_from="runs/base")))
    open_run(continued, 10)
    train_a_step(run)
    named = dataclasses.replace(continued.config, data=DataConfig(tokenizer="bpe", bpe_pattern="gpt2"))
    open_run(dataclasses.replace(continued, config=named), 10)
    with pytest.raises(UserError, match="has other tokens"):
        open_run(dataclasses.replace(continued, config=named, tokenizer=WordTokenizer((*SPECIAL, "b"))), 10)


def test_the_same_run_goes_on_and_another_is_refused(run):
    open_run(run, 10)
    train_a_step(run)
    open_run(run, 10)
    longer = dataclasses.replace(
        run.config, run=dataclasses.replace(run.config.run, epochs=3, eval_every=7, log_every=3)
    )
    open_run(dataclasses.replace(run, config=longer), 10)
    elsewhere = dataclasses.replace(run.config, mesh=MeshConfig(2, 2, 2), data=DataConfig(cache_dir="elsewhere"))
    open_run(dataclasses.replace(run, config=elsewhere), 10)
    with pytest.raises(UserError, match="it has 1 steps already, more than the 0 asked for"):
        open_run(run, 0)
    faster = dataclasses.replace(run.config, optimizer=OptimizerConfig(learning_rate=1.0))
    with pytest.raises(UserError, match=r"optimizer\.learning_rate is 1\.0, was 0\.0003.*--run\.restart"):
        open_run(dataclasses.replace(run, config=faster), 10)
    with pytest.raises(UserError, match=r"tokenizer .* has other tokens"):
        open_run(dataclasses.replace(run, tokenizer=WordTokenizer((*SPECIAL, "b"))), 10)
    with pytest.raises(UserError, match="the corpus mine has other contents"):
        open_run(dataclasses.replace(run, data=dataclasses.replace(MANIFEST, fingerprint="g")), 10)
    older = json.loads((run.path / "data.json").read_text())
    older["version"] = 1  # its fingerprint was found in another way
    (run.path / "data.json").write_text(json.dumps(older | {"fingerprint": "of version 1"}))
    open_run(run, 10)
    (run.path / "data.json").write_text(json.dumps(older | {"splits": {"valid": {"tokens": 4}}}))
    with pytest.raises(UserError, match="the corpus mine has other contents"):
        open_run(run, 10)
    assert json.loads((run.path / "config.json").read_text())["optimizer"]["learning_rate"] == 3e-4


def test_a_schedule_laid_out_over_the_epochs_does_not_stretch(run):
    cosine = dataclasses.replace(run.config, optimizer=OptimizerConfig(schedule="cosine"))
    open_run(dataclasses.replace(run, config=cosine), 10)
    train_a_step(run)
    longer = dataclasses.replace(cosine, run=dataclasses.replace(run.config.run, epochs=3))
    with pytest.raises(UserError, match=r"run\.epochs is 3, was 1"):
        open_run(dataclasses.replace(run, config=longer), 10)


def test_restart_moves_the_old_run_aside(run):
    again = dataclasses.replace(run, config=Config(run=dataclasses.replace(run.config.run, restart=True)))
    for number in (1, 2):
        open_run(run, 10)
        train_a_step(run)
        assert open_run(again, 10) == f"{run.path}.old-{number}"
        assert (run.path.with_name(f"mine.old-{number}") / "checkpoints" / "1").is_dir()
        assert not (run.path / "checkpoints" / "1").exists()


def test_a_folder_that_is_something_else_is_left_alone(run):
    run.path.mkdir()
    (run.path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"a folder that is not a run .*--run\.name"):
        open_run(run, 10)
    assert [file.name for file in run.path.iterdir()] == ["thesis.tex"]


def test_what_is_no_run(run, tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        load_run(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"not a run folder: it has no config\.json"):
        load_run(tmp_path)
    open_run(run, 10)
    with pytest.raises(UserError, match="no checkpoint yet"):
        load_run(run.path)
    train_a_step(run)
    for name in ("config.json", "data.json", "tokenizer.json"):
        before = (run.path / name).read_text()
        (run.path / name).write_text("{}")
        with pytest.raises(UserError, match=name):
            load_run(run.path)
        (run.path / name).write_text(before)
    load_run(run.path)


def test_metrics_are_cut_back_to_where_a_run_goes_on_from(tmp_path):
    with open_metrics(tmp_path, 0) as metrics:
        for step in (1, 2, 3):
            metrics.write(step, {"loss": 1.0 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # a crash in the middle of a line
    with open_metrics(tmp_path, 2) as metrics:
        metrics.write(3, {"loss": 0.5})
    records = read_records(tmp_path / "metrics.jsonl")
    assert [(record["step"], record["loss"]) for record in records] == [(1, 1.0), (2, 0.5), (3, 0.5)]
    drop_after(tmp_path / "missing.jsonl", 1)


def test_time_goes_on_where_the_last_record_that_is_kept_has_it(tmp_path, monkeypatch):
    """Neither what was lost nor the pause before a run is resumed is in it."""
    now = 1000.0
    monkeypatch.setattr("jaxgpt.run.metrics.time.perf_counter", lambda: now)
    with open_metrics(tmp_path, 0) as metrics:
        for step in (1, 2, 3):
            now += 10
            metrics.write(step, {"loss": 1.0})
    now += 5000
    with open_metrics(tmp_path, 2) as metrics:
        now += 4
        metrics.write(3, {"loss": 1.0})
    path = tmp_path / "metrics.jsonl"
    assert [record["seconds"] for record in read_records(path)] == [10, 20, 24]
    path.write_text('{"step": 3, "loss": 1.0}\n')  # as version 0.1 wrote it: what came before is not known
    with open_metrics(tmp_path, 3) as metrics:
        metrics.write(4, {"loss": 1.0})
    assert "seconds" not in read_records(path)[-1]


def test_the_machine_is_recorded():
    known = machine()
    assert {"jax", "flax", "optax", "orbax-checkpoint"} <= known["packages"].keys()
    assert len(known["devices"]) == 8


def test_data_config_is_what_decides(run):
    other = dataclasses.replace(run.config, data=DataConfig(batch_size=8))
    open_run(run, 10)
    train_a_step(run)
    with pytest.raises(UserError, match=r"data\.batch_size is 8, was 32"):
        open_run(dataclasses.replace(run, config=other), 10)
