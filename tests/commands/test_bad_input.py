"""Bad input: exit 2, one clear line, nothing on disk lost."""

import json
import shutil

import pytest

from jaxgpt import cli
from jaxgpt.run.verify import verify_run

TRAIN = ("train.py", "--config", "mini.py", "--run.name", "bad")
TUNE = ("finetune.py", "--config", "mini_talk.py", "--run.name", "bad")


@pytest.mark.parametrize(
    ("arguments", "contains"),
    [
        (("jaxgpt",), "no command was given; there are: train, finetune, sample"),
        (("jaxgpt", "evaluate", "runs/mini", "--task", "x"), "perhaps you meant --tasks; see jaxgpt evaluate --help"),
        (
            ("jaxgpt", "sample", "runs/mini", "--split", "x"),
            "Unrecognized options: --split, x; see jaxgpt sample --help",
        ),
        (
            ("jaxgpt", "evaluate", "runs/mini", "--split", "test", "--text", "text.txt"),
            "split: test was given; --text scores a whole file",
        ),
        (("jaxgpt", "pairs", "runs/mini", "out", "--group-size", "1"), "error: group_size: 1 was given; it must be"),
        (("jaxgpt", "--foo"), "Unrecognized options: --foo; see jaxgpt --help"),
        (("jaxgpt", "check", "runs/none"), "runs/none: no such run folder; there are: "),
        (("jaxgpt", "finetune", "mini.py"), "run.init_from: no run was given, and mini.py names none"),
        (("jaxgpt", "train", "tinny"), "--config: tinny is no file, and no preset; perhaps you meant tiny"),
        (("jaxgpt", "train", "mini.py", "--optimizer.lr", "1"), "perhaps you meant --optimizer.learning-rate"),
        (("jaxgpt", "finetune", "mini_talk.py", "--run.init-from", "nowhere"), "nowhere: no such run folder"),
        (("train.py", "--config", "nothing.py"), "--config: nothing.py is no file, and no preset"),
        ((*TRAIN, "--model.num-heads", "5"), "model.num_heads: 5 was given; it must be a divisor of embed_dim (32)"),
        ((*TRAIN, "--data.seq-len", "64"), "data.seq_len: 64 was given; the model has positions"),
        ((*TRAIN, "--data.batch-size", "12"), "data.batch_size: 12 in 1 micro-batches does not divide over 8 devices"),
        ((*TRAIN, "--mesh.tensor", "3"), "mesh: data 2 x fsdp 1 x tensor 3 is 6 devices, but there are 8"),
        ((*TRAIN, "--data.corpus", "wikitext2"), "perhaps you meant wikitext-2"),
        ((*TRAIN, "--data.corpus", "oasst1"), "finetune.py"),
        ((*TRAIN, "--data.corpus", "wikitext-2"), "Three ways out"),
        ((*TRAIN, "--data.batch-size", "8000"), "data.batch_size: 8000 was given, but text.txt makes only"),
        (
            (*TRAIN, "--run.init-from", "runs/mini", "--model.num-heads", "4"),
            "model.num_heads: continued training takes model and tokenizer from runs/mini; leave it out",
        ),
        (
            ("finetune.py", "--config", "mini_talk.py", "--run.init-from", "runs/mini", "--data.tokenizer", "bpe"),
            "data.tokenizer: finetuning takes the tokenizer from runs/mini; leave it out",
        ),
        (
            ("finetune.py", "--config", "mini_talk.py", "--run.init-from", "runs/mini", "--data.bpe-pattern", "gpt2"),
            "data.bpe_pattern: finetuning takes the tokenizer from runs/mini; leave it out",
        ),
        (
            (*TRAIN, "--run.init-from", "runs/mini", "--data.bpe-pattern", "gpt2"),
            "data.bpe_pattern: continued training takes model and tokenizer from runs/mini; leave it out",
        ),
        ((*TRAIN, "--run.init-from", "runs/nothing"), "runs/nothing: no such run folder; there are: "),
        (("jaxgpt", "import", "nowhere"), "nowhere: no such folder; give a Hugging Face folder"),
        (("jaxgpt", "import", "runs/mini", "--run.name", "it"), "runs/mini/config.json: it has no model_type"),
        (("jaxgpt", "import", "runs", "--run.name", "a/b"), "run.name: 'a/b' was given"),
        (("jaxgpt", "import", "runs/mini", "--base", "runs/mini", "--run.name", "it"), "has no adapters; leave it out"),
        (("jaxgpt", "export", "runs/mini", "out", "--adapters"), "runs/mini: it has no adapters, lora.rank is None"),
        (("jaxgpt", "export", "runs/mini", "out", "--adapters", "--dtype", "float16"), "dtype: float16 was given"),
        (("jaxgpt", "export", "runs/nothing", "out"), "runs/nothing: no such run folder"),
        (("jaxgpt", "export", "runs/mini", "runs"), "runs: it is there already"),
        ((*TRAIN, "--data.corpus", "~nobody-of-this-name/x"), "a path begins with ~ and the name of a user"),
        ((*TRAIN, "--data.cache-dir", "~nobody-of-this-name/x"), "a path begins with ~ and the name of a user"),
        ((*TRAIN, "--run.epochs", "4000000000"), "run.epochs: 4000000000 was given, which makes"),
        ((*TRAIN, "--run.epochs", "9" * 30), "run.epochs: 9999999999"),
        ((*TRAIN, "--run.sample-prompt", "The \udcff"), "it must be a text in UTF-8"),
        ((*TRAIN, "--run.name", "n\udcff"), "it must be a text in UTF-8"),
        ((*TRAIN, "--optimizer.learning-rate", "inf"), "optimizer.learning_rate: inf was given; it must be a finite"),
        ((*TRAIN, "--optimizer.learning-rate", "1e308"), "optimizer.learning_rate: 1e+308 was given"),
        ((*TRAIN, "--model.context-len", "1000000000"), "model.context_len: 1000000000 was given; it must be"),
        ((*TRAIN, "--run.folder", "text.txt"), "run.folder, run.name: text.txt is a file, and runs are folders"),
        (
            ("train.py", "--config", "mini.py", "--optimizer.weight-decay", "0.5"),
            "optimizer.weight_decay is 0.5, was 0.01",
        ),
        (
            ("train.py", "--config", "mini.py", "--run.max-steps", "3"),
            "it has 30 steps already, more than the 3 asked for",
        ),
        ((*TUNE, "--run.init-from", "runs/nothing"), "runs/nothing: no such run folder; there are: "),
        ((*TUNE, "--run.init-from", "cache"), "not a run folder"),
        (
            ("finetune.py", "--config", "mini_talk.py", "--run.name", "mini"),
            "run.init_from: runs/mini is the run to be made; choose another --run.name",
        ),
        (
            (*TRAIN, "--run.init-from", "runs/mini", "--objective.name", "dpo"),
            "objective.name: dpo was given; it is about answers, and for finetune.py",
        ),
        (
            ("jaxgpt", "plan", "--config", "tiny_grpo", "--on", "v5e:1"),
            "objective.name: grpo was given; only a next_token training can be planned",
        ),
        (
            ("jaxgpt", "plan", "--config", "oasst", "--on", "v5e:1", "--run.init-from", "runs/none"),
            "run.init_from: runs/none: no such run folder",
        ),
        ((*TRAIN, "--lora.rank", "4"), "lora.rank: 4 was given; it must be None without run.init_from"),
        ((*TUNE, "--lora.rank", "0"), "lora.rank: 0 was given; it must be at least 1"),
        ((*TUNE, "--lora.rank", "4", "--optimizer.name", "muon"), "optimizer.name: 'muon' was given; it must be adamw"),
        ((*TUNE, "--model.embed-dim", "64"), "the run that it starts from says what the network is; leave it out"),
        ((*TUNE, "--data.seq-len", "64"), "data.seq_len: 64 was given; the model has positions"),
        ((*TUNE, "--data.corpus", "text.txt"), "text.txt"),
        (("jaxgpt", "chat", "runs/mini"), "finetune it first"),
        (("jaxgpt", "chat", "runs/mini_talk", "--prompt", ""), "prompt: it is empty"),
        (("jaxgpt", "chat", "runs/mini_talk", "--seed", "-1"), "seed: -1 was given; it must be at least 0 and below"),
        (("jaxgpt", "sample", "runs/mini", "--seed", "9" * 30), "it must be at least 0 and below 2**32"),
        (("jaxgpt", "sample", "runs/mini", "--temperature", "inf"), "temperature: inf was given"),
        (("jaxgpt", "sample", "a\nb"), "a b: no such run folder"),
        (("jaxgpt", "serve", "runs/mini", "--slots", "9" * 30), "it must be between 1 and 1024"),
        (("jaxgpt", "serve", "runs/mini", "--port", "0", "--host", "\udcff"), "cannot listen there"),
        (("jaxgpt", "serve", "runs/mini", "--port", "0", "--host", ""), "host: it is empty"),
        (("jaxgpt", "chat", "runs/mini_talk", "--prompt", "red " * 50), "prompt: it is 50 tokens long"),
        (("jaxgpt", "sample", "runs/mini", "--prompt", " "), "prompt: it is empty"),
        (("jaxgpt", "sample", "runs/mini", "--prompt", "red " * 48), "prompt: it is 48 tokens long"),
        (("jaxgpt", "sample", "runs/mini", "--temperature", "-1"), "temperature: -1.0 was given"),
        (("jaxgpt", "sample", "runs/mini", "--max-tokens", "0"), "max_tokens: 0 was given"),
        (("jaxgpt", "sample", "nothing"), "nothing: no such run folder"),
        (("jaxgpt", "chat", "runs/mini_talk", "--quantize", "int8"), "quantize: int8 was given; on a CPU"),
        (("jaxgpt", "report", "nothing"), "nothing: no such run folder"),
        (("jaxgpt", "compare", "runs/mini"), "compare: 1 run was given"),
        (("jaxgpt", "explain", "runs/mini", ""), "prompt: it is empty"),
        (("jaxgpt", "explain", "runs/mini", "red " * 48), "prompt: it is 48 tokens long"),
        (
            ("jaxgpt", "evaluate", "runs/mini", "--stride", "99"),
            "stride: 99 was given; it must be between 1 and the window",
        ),
    ],
    ids=lambda value: " ".join(value[-3:])[:50] if isinstance(value, tuple) else "",
)
def test_bad_input(bad, arguments, contains):
    bad(*arguments, contains=contains)


def test_bad_files(bad, workplace):
    """What is wrong inside a file is named with its place."""
    (workplace / "empty").mkdir()
    (workplace / "latin.txt").write_bytes("caf\xe9\n".encode("latin-1") * 9)
    (workplace / "short.txt").write_text("one line\n" * 4)
    (workplace / "broken.jsonl").write_text('{"messages": []}\n{"messages": [\n')
    (workplace / "without.jsonl").write_text('{"prompt": "x"}\n')
    bad(*TRAIN, "--data.corpus", "empty", contains="empty")
    bad(*TRAIN, "--data.corpus", "latin.txt", contains="UTF-8")
    bad(*TRAIN, "--data.corpus", "short.txt", contains="training windows")
    bad(*TUNE, "--data.corpus", "broken.jsonl", contains="broken.jsonl")
    bad(*TUNE, "--data.corpus", "without.jsonl", contains="messages")


def test_unknown_words_are_refused(bad, workplace):
    talk = [
        {"role": "user", "content": "The ball of Ann is red."},
        {"role": "assistant", "content": "Zwei Wörter, unbekannt hier."},
    ]
    (workplace / "foreign.jsonl").write_text((json.dumps({"messages": talk}) + "\n") * 40)
    bad(*TUNE, "--data.corpus", "foreign.jsonl", contains="of the words in the replies of foreign.jsonl are unknown")


def test_a_run_of_another_model(bad, workplace):
    shutil.copytree(workplace / "runs/mini", workplace / "runs/changed")
    path = workplace / "runs/changed/config.json"
    path.write_text(path.read_text().replace('"mlp_dim": null', '"mlp_dim": 99'))
    bad(
        "jaxgpt",
        "sample",
        "runs/changed",
        contains="a checkpoint of another model than config.json describes: block_0.mlp",
    )


def test_a_run_without_checkpoint(bad, workplace):
    shutil.copytree(workplace / "runs/mini", workplace / "runs/early")
    shutil.rmtree(workplace / "runs/early/checkpoints")
    bad("jaxgpt", "sample", "runs/early", contains="this run has no checkpoint yet")
    bad(*TUNE, "--run.init-from", "runs/early", contains="this run has no checkpoint yet")
    run = workplace / "runs/early"
    assert ("checkpoints", "there is no finished one") in verify_run(run)
    (run / "metrics.jsonl").write_text("")  # as it was before the first evaluation
    assert ("checkpoints: there is none yet", None) in verify_run(run)


@pytest.mark.parametrize(
    ("content", "contains"),
    [
        ("import sys\nsys.exit(3)\n", "odd.py, line 2: SystemExit: 3"),
        ("raise GeneratorExit\n", "odd.py, line 1: GeneratorExit"),
        ("class Odd(Exception):\n    def __str__(self):\n        raise ValueError\nraise Odd\n", "odd.py, line 4: Odd"),
        ("raise ValueError('a\\nb')\n", "odd.py, line 1: ValueError: a b"),
        ("\0", "odd.py: source code string cannot contain null bytes"),
        ("def f(): f()\nf()\n", "odd.py, line 1: RecursionError"),
        ("epochs = 10**5000", "run.epochs: a number of thousands of digits was given"),
        ("sample_prompt = 'a\\0b'", "it must be a text in UTF-8"),
    ],
)
def test_config_files_that_do_odd_things(bad, workplace, content, contains):
    if content[0] in "es":
        content = f"from jaxgpt.config import *\nconfig = Config(run=RunConfig({content}))\n"
    (workplace / "odd.py").write_text(content)
    bad("train.py", "--config", "odd.py", contains=contains)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "[" * 100_000),
        ("config.json", "\udcff"),
        ("tokenizer.json", "[" * 100_000),
        ("data.json", '{"kind": ["text"]}'),
        ("data.json", '{"kind": "text", "name": null}'),
        ("data.json", '{"kind": "text", "name": "a", "corpus": "a", "fingerprint": "f", "splits": {"valid": null}}'),
    ],
)
def test_json_of_a_run_is_refused_with_its_file(bad, workplace, finetuned, name, content):
    shutil.rmtree(workplace / "runs/odd", ignore_errors=True)
    shutil.copytree(workplace / "runs/mini", workplace / "runs/odd")
    (workplace / "runs/odd" / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    bad("jaxgpt", "sample", "runs/odd", contains=f"runs/odd/{name}")
    bad("jaxgpt", "report", "runs/odd", contains=f"runs/odd/{name}")


def test_a_name_that_is_no_step_among_checkpoints(workplace, pretrained, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    shutil.copytree(workplace / "runs/mini", workplace / "runs/squared")
    shutil.copytree(workplace / "runs/mini/checkpoints/30", workplace / "runs/squared/checkpoints/²")
    cli.main(["check", "runs/squared"])
    assert "everything is as it was saved" in capsys.readouterr().out


def test_what_needs_no_data_is_told_before_any_is_read(bad, monkeypatch):
    monkeypatch.setattr("jaxgpt.data.mixture.prepare_corpus", None)
    monkeypatch.setattr("jaxgpt.run.trackers.importlib.util.find_spec", lambda name: None)
    train = "train.py", "--config", "mini.py", "--run.name", "new"
    bad(*train, "--mesh.data", "3", contains="their product must be the number of devices")
    bad(*train, "--run.track", "wandb", contains='run.track: wandb is not installed; pip install "jaxgpt[wandb]"')
