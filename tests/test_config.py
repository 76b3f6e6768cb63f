"""The config: its numbers, its file, its command line, and everything that cannot be."""

import dataclasses
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tyro

from jaxgpt.allowed import check_window, validate
from jaxgpt.command_line import parse_train
from jaxgpt.config import Config, DataConfig, ModelConfig, differences
from jaxgpt.config_file import load_config_file, to_finetune
from jaxgpt.config_json import from_json, to_json
from jaxgpt.entry import errors_in_words
from jaxgpt.errors import UserError

ROOT = Path(__file__).parents[1]
PRESETS = sorted((ROOT / "configs").glob("*.py"))


def test_base_is_the_reference():
    config = load_config_file(str(ROOT / "configs/base.py"))
    model, data, optimizer = config.model, config.data, config.optimizer
    assert (model.vocab_size, model.embed_dim, model.num_heads, model.num_layers) == (30_000, 128, 4, 4)
    assert (model.dropout, model.positions, data.seq_len, data.batch_size) == (0.1, "learned", 128, 32)
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == ("adamw", 3e-4, 0.01)
    assert (optimizer.grad_clip, optimizer.schedule, config.run.epochs) == (1.0, "constant", 1)
    assert (data.corpus, data.fallback, config.run.name) == ("wikitext-2", "tinyworld", "base")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_load_and_survive_json(preset):
    config = load_config_file(str(preset))
    assert config.run.name == preset.stem
    assert from_json(to_json(config), "test") == config
    if config.run.init_from is not None:  # finetuning takes the model from its run
        assert config.model == ModelConfig()


def test_the_command_line_goes_over_the_file():
    arguments = ["--config", str(ROOT / "configs/base.py"), "--optimizer.learning-rate", "1e-3", "--run.restart"]
    parsed = parse_train("unused.py", "", [*arguments, "--model.num-kv-heads", "2", "--dry-run"])
    config = parsed.settings
    assert parsed.dry_run
    assert (config.optimizer.learning_rate, config.run.restart, config.model.num_kv_heads) == (1e-3, True, 2)
    assert config.model.vocab_size == 30_000


def test_differences_are_named():
    one = Config()
    other = dataclasses.replace(one, data=DataConfig(batch_size=8))
    assert differences(one, other) == [("data.batch_size", 32, 8)]
    assert differences(one, one) == []


OUT_OF_RANGE = [
    ("model", "vocab_size", 3),
    ("model", "context_len", 0),
    ("model", "num_heads", 3),
    ("model", "num_heads", 0),
    ("model", "num_kv_heads", 3),
    ("model", "num_layers", 0),
    ("model", "depth", 0),
    ("model", "depth", 257),
    ("model", "embed_dim", -4),
    ("model", "mlp_dim", 0),
    ("model", "dropout", 1.0),
    ("model", "dropout", float("nan")),
    ("data", "seq_len", 1),
    ("data", "batch_size", 0),
    ("optimizer", "grad_accumulation_steps", 5),
    ("optimizer", "learning_rate", 0.0),
    ("optimizer", "muon_learning_rate", -1.0),
    ("optimizer", "grad_clip", 0.0),
    ("optimizer", "weight_decay", -0.1),
    ("optimizer", "beta1", 1.0),
    ("optimizer", "beta2", -0.1),
    ("optimizer", "warmup_steps", -1),
    ("optimizer", "final_lr_fraction", 1.5),
    ("optimizer", "decay_fraction", 0.0),
    ("mesh", "data", 0),
    ("mesh", "data", -2),
    ("mesh", "fsdp", 0),
    ("mesh", "tensor", 0),
    ("run", "name", "a/b"),
    ("run", "name", ".."),
    ("run", "seed", -1),
    ("run", "epochs", 0),
    ("run", "log_every", 0),
    ("run", "eval_every", 0),
    ("run", "max_steps", 0),
    ("run", "train_tokens", 0),
    ("run", "sample_tokens", 0),
    ("run", "sample_prompt", " "),
]
WRONG_TYPE = [
    ("model", "dropout", "a lot"),
    ("model", "num_layers", 2.5),
    ("model", "num_layers", True),
    ("model", "positions", "sinusoidal"),
    ("model", "tie_embeddings", 1),
    ("data", "corpus", None),
    ("optimizer", "schedule", ["cosine"]),
    ("run", "epochs", None),
]


@pytest.mark.parametrize(("section", "field", "value"), OUT_OF_RANGE + WRONG_TYPE)
def test_what_cannot_be_is_named(section, field, value):
    """Values inside a config file are not checked by the command line's parser."""
    part = dataclasses.replace(getattr(Config(), section), **{field: value})
    config = dataclasses.replace(Config(), **{section: part})
    with pytest.raises(UserError, match=rf"^{section}\.{field}: {re.escape(repr(value))} was given; it must be "):
        validate(config)


def test_rotary_needs_pairs_and_windows_need_positions():
    with pytest.raises(UserError, match="even number of dimensions per head"):
        validate(Config(model=ModelConfig(embed_dim=12, num_heads=4, positions="rotary")))
    with pytest.raises(UserError, match=r"data\.seq_len: 256 .* positions for model\.context_len = 128"):
        check_window(Config(data=DataConfig(seq_len=256)))


FILES = {
    "typo": (
        "config = Config(model=ModelConfig(embed_dims=3))",
        "line 2: .* no field embed_dims; perhaps you meant embed_dim",
    ),
    "section": ("config = Config(modle=ModelConfig())", "no field modle; perhaps you meant model"),
    "syntax": ("config = Config(", "line 2: "),
    "crash": ("\nconfig = 1 / 0", "line 3: ZeroDivisionError"),
    "nothing": ("x = 1", "no `config = Config"),
    "other": ("config = {}", "no `config = Config"),
    "range": ("config = Config(model=ModelConfig(num_heads=5))", r"model\.num_heads: 5 was given"),
    "type": ("config = Config(data=3)", "data: 3 was given; it must be a DataConfig"),
}


@pytest.mark.parametrize("kind", FILES)
def test_broken_config_files(tmp_path, kind):
    text, message = FILES[kind]
    path = tmp_path / "mine.py"
    path.write_text(f"from jaxgpt.config import Config, ModelConfig\n{text}\n")
    with pytest.raises(UserError, match=f"(?s)mine.py.*{message}"):
        load_config_file(str(path))


def test_a_missing_file_gets_a_guess(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"bsae\.py is no file, and no preset; perhaps you meant configs/base\.py"):
        load_config_file("configs/bsae.py")
    for arguments in (["--config"], ["--config", "--dry-run"]):
        with pytest.raises(UserError, match="--config: no file was given"):
            parse_train("configs/base.py", "", arguments)


@pytest.mark.parametrize("text", ["", "[]", "{}x", '{"model": {"wings": 2}}', '{"model": 3}', '{"flags": {}}'])
def test_broken_config_json(text):
    with pytest.raises(UserError, match=r"^some/config\.json: not a config of this version"):
        from_json(text, "some/config.json")


@pytest.mark.parametrize("command", [["train.py"], ["finetune.py"], ["-m", "jaxgpt"], ["-m", "jaxgpt", "chat"]])
def test_help_is_quick_and_needs_no_jax(command):
    began = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *command, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    assert run.returncode == 0
    assert not re.search(r"\| +(jax|flax|numpy|datasets|orbax)\b", run.stderr)
    assert seconds < 5  # about 0.3 s on a quiet machine
    if command[0].endswith(".py"):
        sections = [
            section for section in dataclasses.fields(Config) if (*command, section.name) != ("finetune.py", "model")
        ]
        for section in sections:
            for field in dataclasses.fields(getattr(Config(), section.name)):
                assert (
                    f"{section.name}.{'no-' if field.name == 'tie_embeddings' else ''}{field.name.replace('_', '-')}"
                    in run.stdout
                )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--optimizer.lerning-rate", "perhaps you meant --optimizer.learning-rate"),
        ("--optimizer.lr=3", "perhaps you meant --optimizer.learning-rate"),
        ("--n_layer", "perhaps you meant --model.num-layers"),
        ("--batch_size", "perhaps you meant --data.batch-size"),
        ("--zzzzzzzzzz", "--help lists them all"),
    ],
)
def test_a_setting_that_is_not_gets_a_guess(typed, meant):
    with pytest.raises(UserError, match=f"^{typed.split('=')[0]}: no such setting; .*{meant}"):
        parse_train("base", "", [typed, "1"])


def test_settings_are_taken_with_dashes_and_underscores():
    for typed in (["--run.max-steps", "7"], ["--run.max_steps=7"]):
        assert parse_train("base", "", typed).settings.run.max_steps == 7


def test_where_the_network_is_given_model_is_no_setting(capsys):
    with pytest.raises(UserError, match=r"^--model\.dropout: the run that it starts from says what the network is"):
        parse_train("oasst", "", ["--model.dropout", "0.1"], is_model_given=True)
    with pytest.raises(SystemExit):
        parse_train("oasst", "", ["--help"], prog="jaxgpt finetune", is_model_given=True)
    told = capsys.readouterr().out
    assert told.startswith("usage: jaxgpt finetune")
    assert "--optimizer.learning-rate" in told
    assert "--model." not in told
    assert parse_train("oasst", "", [], is_model_given=True).settings == load_config_file("oasst")


def test_presets_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config_file("tiny") == load_config_file(str(ROOT / "configs/tiny.py"))
    for path in (ROOT / "configs").glob("*.py"):
        assert load_config_file(path.stem).run.name == path.stem
    with pytest.raises(UserError, match=r"--config: tinny is no file, and no preset; perhaps you meant tiny$"):
        load_config_file("tinny")
    with pytest.raises(UserError, match=r"configs/tiny\.py is no file, and no preset; perhaps you meant tiny$"):
        load_config_file("configs/tiny.py")
    (tmp_path / "tiny.py").write_text("from jaxgpt.config import Config\nconfig = Config()\n")
    assert load_config_file("tiny.py").run.name == "tiny"
    assert load_config_file("tiny.py") != load_config_file("tiny")


@pytest.mark.parametrize(
    ("preset", "context_len", "window"),
    [("oasst", 128, ""), ("oasst", 64, " --data.seq-len 64"), ("dpo", 128, ""), ("dpo", 64, " --data.seq-len 128")],
)
def test_what_is_told_to_be_next_has_a_window_that_the_model_takes(preset, context_len, window):
    told = to_finetune(preset, "runs/a b", context_len)
    assert told == f"python -m jaxgpt finetune {preset} --run.init-from 'runs/a b'{window}"


@pytest.mark.parametrize("no_color", ["", "1"])
def test_help_obeys_no_color(no_color, monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("tyro._fmtlib._FORCE_ANSI", True)
    monkeypatch.setitem(tyro._experimental_options, "ansi_codes", True)
    with pytest.raises(SystemExit), errors_in_words():
        parse_train("base", "", ["--help"])
    assert ("\x1b[" in capsys.readouterr().out) == (not no_color)


def test_the_config_of_a_run_of_version_0_1_is_read():
    """Its fields had other names."""
    sections = json.loads(to_json(Config(model=ModelConfig(tie_embeddings=False), data=DataConfig(pack_lines=True))))
    sections["model"]["tied_head"] = sections["model"].pop("tie_embeddings")
    sections["model"]["remat"] = False
    sections["data"]["whole_lines"] = sections["data"].pop("pack_lines")
    del sections["data"]["tokenized"]
    sections["optimizer"]["accumulate"] = 4
    del sections["optimizer"]["grad_accumulation_steps"]
    config = from_json(json.dumps(sections), "config.json")
    assert (config.model.tie_embeddings, config.data.pack_lines, config.optimizer.grad_accumulation_steps) == (
        False,
        True,
        4,
    )


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--model.num-layers", "six"], "--model.num-layers: 'six' was given; it must be a whole number; see "),
        (["--run.max_steps", "6.5"], "--run.max-steps: '6.5' was given; it must be a whole number or None; see "),
        (["--optimizer.grad-clip", "one"], "--optimizer.grad-clip: 'one' was given; it must be a number; see "),
        (["tiny"], "tiny: it is no option; a preset is given by --config tiny"),
        (
            ["--model.positions", "rotory"],
            "'rotory' for argument '--model.positions'. Expected one of ('learned', 'rotary'); see ",
        ),
        (["--run.name"], "Missing value for argument '--run.name'. Expected 1 values; see jaxgpt train --help"),
        (["--data.mask-documents", "yes"], "Unrecognized options: yes; see jaxgpt train --help"),
        (["--config", "base", "--config=tiny"], "--config: more than one was given"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(typed, told):
    with pytest.raises(UserError) as error:
        parse_train("base", "", typed, prog="jaxgpt train")
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert not set("│╭─╮╰╯") & set(str(error.value))
