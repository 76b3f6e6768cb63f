"""Times the cases of benchmarks.devices on the devices at hand, beside a peer, and beside what compilers promised."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.race import Mode, run_rounds, spread, start, step_seconds
from benchmarks.shapes import Shape
from jaxgpt.config import Config
from jaxgpt.config_json import to_json
from jaxgpt.devices.chips import CHIPS, published

ROUNDS, SECONDS_A_ROUND = 5, 3.0
COLUMNS = "case", "entrant", "ms a step", "tokens/s", "MFU", "promised ms", "promised for", "memory"


def count_of(on: str) -> int:
    """Returns how many chips a name asks for: 16 of "v5e:4x4"."""
    return math.prod(int(axis) for axis in (on.partition(":")[2] or "1").split("x"))


def fitting(cases: Mapping[str, tuple[str, Config]], platform: str, count: int) -> dict[str, tuple[str, Config]]:
    """Returns the cases of so many chips of a platform, whichever chip of it they were made for."""

    def is_here(on: str) -> bool:
        made_for = "tpu" if CHIPS[on.partition(":")[0]].hertz else "gpu"
        return (made_for, count_of(on)) == (platform, count)

    return {name: (on, config) for name, (on, config) in cases.items() if is_here(on)}


def shape_of(config: Config) -> Shape:
    """Returns what a peer of this case is."""
    model, data = config.model, config.data
    sizes = model.vocab_size, model.embed_dim, model.num_layers, model.num_heads
    return Shape(*sizes, data.seq_len, data.batch_size, model.dropout)


def modes_of(config: Config, peer: str | None) -> list[Mode]:
    """Returns the program with this case's settings, and the peer of its shape, compiled, in bfloat16."""
    shape = asdict(shape_of(config))
    modes = [Mode("jaxgpt", config.model.dtype, "benchmarks.train_jaxgpt", {"config": to_json(config), "shape": shape})]
    if peer is not None:
        arguments = {"shape": shape, "peer": peer, "dtype": "bfloat16", "compiled": True}
        modes.append(Mode(Path(peer).resolve().parent.name, "bfloat16, compiled", "benchmarks.train_torch", arguments))
    return modes


def measure(name: str, config: Config, peer: str | None, promised: Mapping[str, Any], log: Any) -> list[dict[str, Any]]:
    """Returns a row of COLUMNS for each entrant of a case; they take turns, round after round."""
    shape, rows = shape_of(config), []
    with contextlib.ExitStack() as stack:
        modes = modes_of(config, peer)
        children = [stack.enter_context(contextlib.closing(start(mode, log))) for mode in modes]
        steps = max(2, math.ceil(SECONDS_A_ROUND / min(step_seconds(child) for child in children)))
        answers = run_rounds(children, ROUNDS, steps)
    here = published(children[0].first["device"])
    for mode, mine in zip(modes, answers, strict=True):
        seconds = spread([answer["seconds"] / steps for answer in mine])
        rate = shape.tokens / seconds["median"]
        peak = None if here is None else here.flops * children[0].first["devices"]
        is_ours = mode.entrant == "jaxgpt"
        rows.append(
            {
                "case": name,
                "entrant": mode.entrant,
                "ms a step": {key: round(value * 1e3, 2) for key, value in seconds.items()},
                "tokens/s": round(rate),
                "MFU": None if peak is None else round(rate * shape.flops_per_token / peak, 3),
                "promised ms": promised.get("computing_ms") if is_ours else None,
                "promised for": promised.get("on") if is_ours else None,
                "memory": f"{max(answer['device_mb'] for answer in mine) / 1e3:.1f} GB",
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Returns rows as Markdown."""

    def spelled(value: Any) -> str:
        if isinstance(value, dict):
            return f"{value['median']} ({value['min']} to {value['max']})"
        return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)

    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join([*lines, *("| " + " | ".join(spelled(row[name]) for name in COLUMNS) + " |" for row in rows)])
