"""One workplace for all commands, with a run of each stage; and what bad input must lead to."""

import sys
from pathlib import Path

import pytest

from jaxgpt import cli, entry
from jaxgpt.finetuning import finetune
from jaxgpt.pretraining import pretrain
from tests.commands.miniature import MODEL, TALK, shell, write_corpora

MAIN = {
    "train.py": lambda: entry.main(pretrain),
    "finetune.py": lambda: entry.main(finetune),
    "jaxgpt": cli.main,
}


@pytest.fixture(scope="session")
def workplace(tmp_path_factory, cache_dir) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    write_corpora(folder)
    (folder / "mini.py").write_text(MODEL)
    (folder / "mini_talk.py").write_text(TALK)
    (folder / "cache").symlink_to(cache_dir)
    return folder


@pytest.fixture(scope="session")
def pretrained(workplace) -> str:
    return shell(workplace, "train.py", "--config", "mini.py").stdout


@pytest.fixture(scope="session")
def finetuned(workplace, pretrained) -> str:
    return shell(workplace, "finetune.py", "--config", "mini_talk.py").stdout


@pytest.fixture
def bad(workplace, finetuned, cache_dir, monkeypatch, capsys, tmp_path):
    """Runs a command in this process, expecting exit 2 and one clear line, with nothing on disk lost."""
    monkeypatch.chdir(workplace)
    monkeypatch.delenv("JAXGPT_DATA", raising=False)

    def run(*arguments: str, contains: str) -> None:
        kept = {path: path.stat().st_mtime_ns for path in (workplace / "runs").rglob("[!.]*") if path.is_file()}
        monkeypatch.setattr(sys, "argv", [*arguments])
        with pytest.raises(SystemExit) as stopped:
            MAIN[arguments[0]]()
        err = capsys.readouterr().err
        assert stopped.value.code == 2, err
        assert err.startswith("error: ")
        assert len(err.strip().splitlines()) == 1, err
        assert contains in err, err
        assert all(path.stat().st_mtime_ns == time for path, time in kept.items())

    return run
