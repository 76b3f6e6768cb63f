"""Eight virtual devices, and one compilation cache for the whole test run."""

import os

os.environ.pop("JAXGPT_DATA", None)  # tests read what they make themselves
os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import pytest
from xdist.scheduler import LoadFileScheduling

from tests.compiling import QUICK_FLAGS

jax.config.update("jax_num_cpu_devices", 8)


def pytest_configure(config):
    if not config.getoption("optimized"):
        os.environ["XLA_FLAGS"] = QUICK_FLAGS  # also of processes it starts


SHARING = "tests/commands/", "tests/report/", "tests/serve/"


class ByFile(LoadFileScheduling):
    """Gives each worker whole files, and those that share runs to one worker, which trains these once."""

    def _split_scope(self, nodeid: str) -> str:
        return next((room for room in SHARING if nodeid.startswith(room)), super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


def pytest_ignore_collect(collection_path, config):
    name = collection_path.name
    if name == "test_tmux.py" and not config.getoption("tmux"):
        return True
    return True if name in ("buckets", "clients", "parity", "trackers") and not config.getoption(name) else None


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _compile_once(cache_dir):
    jax.config.update("jax_compilation_cache_dir", f"{cache_dir}/compiled")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=10, help="how often the tests of faults kill a run")
    parser.addoption("--damages", action="store_true", help="recover from every damage to every file, not from some")
    parser.addoption("--fuzz", type=int, default=100, help="malformed inputs a fuzz test tries")
    parser.addoption("--optimized", action="store_true", help="compile as the commands do, which takes twice as long")
    parser.addoption("--parity", action="store_true", help="compare with transformers, which the extra parity installs")
    parser.addoption("--trackers", action="store_true", help="use wandb and trackio, which the extra trackers installs")
    parser.addoption("--clients", action="store_true", help="use LiteLLM and others, which the extra clients installs")
    parser.addoption("--buckets", action="store_true", help="keep runs in a bucket, which the extra buckets stands for")
    parser.addoption("--node-modules", help="folder with npm's openai; with --clients it is tested too")
    parser.addoption("--tmux", help="path of tmux; the tests in tests/commands/test_tmux.py run only with it")
    parser.addoption("--chromium", help="path of a Chromium; the tests in tests/browser run only with it")
