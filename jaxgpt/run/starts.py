"""What a run's starts were and ran on: run.json, the latest first, the earlier ones in it."""

import json
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxgpt.buckets import is_in_bucket
from jaxgpt.files import parse_json, write_text


def machine() -> dict[str, Any]:
    """Returns what the numbers of a run depend on beside its config: versions and devices."""
    import jax

    packages = ("jaxgpt", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in packages},
        "devices": [str(device.device_kind) for device in jax.devices()],
        "processes": jax.process_count(),
        "git": _git_commit(),
    }


def _version(package: str) -> str | None:
    """Returns a package's version; None where it is not installed, as jaxgpt itself in a bare checkout."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Returns the commit of the checkout this program runs from, marked where files differ from it; None elsewhere."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if dirty.stdout.strip() else "")


def record_start(path: Path, step: int, recovered: list[str], settled: dict[str, str]) -> list[str]:
    """Adds this start to the run's run.json; returns what differs from the machine of the start before.

    `recovered` tells which checkpoints were damaged and passed over, `settled` what the machine decided of the config.
    """
    file = path / "run.json"
    try:
        earlier = parse_json(file.read_text(encoding="utf-8"))
        starts = [*earlier.pop("earlier", []), earlier]
    except FileNotFoundError:
        starts = []
    except (OSError, ValueError, AttributeError, TypeError) as error:
        if is_in_bucket(path) and isinstance(error, OSError):
            raise
        starts = []
    command = shlex.join(["python", *sys.orig_argv[1:]])
    started = {"from_step": step, "started": datetime.now(UTC).isoformat(timespec="seconds"), "command": command}
    now = started | machine() | ({"damaged": recovered} if recovered else {})
    now |= {"settled": settled} if settled else {}
    write_text(file, json.dumps(now | {"earlier": starts}, indent=2) + "\n")
    if not starts or step == 0:
        return []
    before = starts[-1]
    return [
        f"{name}: {now[name]} now, {before.get(name)} before"
        for name in ("packages", "devices", "processes", "python")
        if before.get(name) != now[name]
    ]
