"""One workplace for all faults, with a run of each stage that was left alone."""

from pathlib import Path

import pytest

from tests.faults.workplace import finish, furnish, outcome


@pytest.fixture(scope="session")
def place(tmp_path_factory, cache_dir) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    furnish(folder, cache_dir)
    finish(folder, "pretrain", "pretrain")
    finish(folder, "finetune", "finetune")
    return folder


@pytest.fixture(scope="session")
def left_alone(place) -> dict:
    """What an uninterrupted run of each stage leaves behind."""
    return {stage: outcome(place / "runs" / stage) for stage in ("pretrain", "finetune")}
