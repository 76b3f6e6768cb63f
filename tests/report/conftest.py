"""A miniature run on a text file, trained for a few steps: what every page is made from."""

import json
import shutil
from pathlib import Path

import pytest

from jaxgpt.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig
from jaxgpt.data.prepare import prepare_text
from jaxgpt.run.folder import Run
from jaxgpt.text.corpora import open_text
from jaxgpt.training.trainer import fit

NAMES, THINGS, COLOURS = ("Ann", "Bob", "Cy"), ("ball", "box", "cup", "hat"), ("red", "green", "blue")


@pytest.fixture(scope="session")
def mini(tmp_path_factory, cache_dir) -> Path:
    """A run of 12 steps on text<b>.txt; a file may be named so, and a word may look like markup."""
    return miniature(tmp_path_factory.mktemp("mini"), cache_dir, "word", steps=12)


@pytest.fixture(scope="session")
def pieces(tmp_path_factory, cache_dir) -> Path:
    """A run of 2 steps on the same text, in pieces of words."""
    return miniature(tmp_path_factory.mktemp("pieces"), cache_dir, "bpe", steps=2)


def miniature(folder: Path, cache_dir: str, tokenizer: str, steps: int) -> Path:
    lines = [f"The {thing} of {name} is <b> {colour} ." for name in NAMES for thing in THINGS for colour in COLOURS]
    (folder / "text<b>.txt").write_text("\n".join(lines * 12) + "\n")
    config = Config(
        model=ModelConfig(
            vocab_size=100 if tokenizer == "word" else 300, context_len=32, embed_dim=16, num_heads=2, num_layers=2
        ),
        data=DataConfig(
            corpus=str(folder / "text<b>.txt"), tokenizer=tokenizer, seq_len=16, batch_size=8, cache_dir=cache_dir
        ),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        run=RunConfig(name="mini", folder=str(folder), eval_every=6, max_steps=steps),
    )
    data = prepare_text(open_text(config.data.corpus, None), config.data, vocab_size=config.model.vocab_size)
    run = Run(folder / "mini", config, data.tokenizer, data.manifest)
    said = iter(("The The The", "The ball <script>alert(1)</script>"))
    fit(run, data.sources["train"], data.sources["valid"], lambda params: next(said))
    return run.path


@pytest.fixture
def copy(mini, tmp_path) -> Path:
    """The miniature run, to be changed."""
    return Path(shutil.copytree(mini, tmp_path / "mini"))


@pytest.fixture
def change_data(copy):
    """Sets fields of what the copied run says it read."""

    def change(run: Path = copy, **values) -> None:
        path = run / "data.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change
