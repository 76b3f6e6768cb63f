"""Trains the same model on the same tokens with jaxgpt and its peers, in turn, and prints who is how quick.

python -m benchmarks.train --shapes base tiny --peers torch transformers ../nanoGPT/model.py
"""

import contextlib
import json
import math
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from benchmarks import limit
from benchmarks.entrant import Entrant
from benchmarks.race import Mode, quickest, run_rounds, spread, start, step_seconds
from benchmarks.report import markdown, plot_rates
from benchmarks.shapes import SHAPES, Shape, as_dict

SECONDS_A_ROUND = 3.0
ALIKE = 0.05  # share by which the losses of two right implementations may differ after the same few steps


@dataclass(frozen=True)
class Options:
    """Measure training against peers on this machine."""

    shapes: tuple[str, ...] = ("base", "tiny", "character")
    """Models to train, of: base, tiny, character, gpt2."""
    peers: tuple[str, ...] = ("torch", "transformers")
    """torch, transformers, or the path of a file with nanoGPT's or nanochat's GPT and GPTConfig."""
    batch_size: int | None = None
    """Windows in a step, in place of the shapes' own."""
    dropout: float | None = None
    """Dropout, in place of the shapes' own."""
    modes: tuple[str, ...] = ("float32", "mixed", "bfloat16", "float32, compiled", "bfloat16, compiled")
    """Modes that are tried; of each entrant the quickest is raced."""
    rounds: int = 5
    """Rounds; in each every entrant runs once."""
    growth: bool = False
    """Also: jaxgpt alone over sequence length, vocabulary, batch and depth."""
    out: Path = Path("benchmarks/results")
    """Folder for the JSON files, the plots and the entrants' log."""
    cache_dir: str = "~/.cache/jaxgpt"
    """Where compiled programs are kept."""


def shape_of(name: str, options: Options) -> Shape:
    """Returns the shape of this name, with the batch and the dropout that were asked for."""
    shape = SHAPES[name]
    return replace(
        shape,
        batch_size=options.batch_size or shape.batch_size,
        dropout=shape.dropout if options.dropout is None else options.dropout,
    )


def jaxgpt_modes(shape: Shape, options: Options) -> list[Mode]:
    """Returns jaxgpt in every precision."""
    return [
        Mode(
            "jaxgpt",
            dtype,
            "benchmarks.train_jaxgpt",
            {"shape": asdict(shape), "dtype": dtype, "cache_dir": options.cache_dir},
        )
        for dtype in ("float32", "mixed", "bfloat16")
        if dtype in options.modes
    ]


def peer_modes(peer: str, shape: Shape, options: Options) -> list[Mode]:
    """Returns a peer in float32 and bfloat16, eager and compiled."""
    name = peer if peer in ("torch", "transformers") else f"{Path(peer).parent.name}/{Path(peer).name}"
    return [
        Mode(
            name,
            label,
            "benchmarks.train_torch",
            {"shape": asdict(shape), "peer": peer, "dtype": dtype, "compiled": compiled},
        )
        for dtype in ("float32", "bfloat16")
        for compiled in (False, True)
        if (label := f"{dtype}{', compiled' if compiled else ''}") in options.modes
    ]


def measure_limit(options: Options, log: Any) -> dict[str, Any]:
    """Returns the machine's limits as they are now."""
    child = Entrant("limit", "benchmarks.limit", {"cache_dir": options.cache_dir}, log)
    child.close()
    return child.first


def race(name: str, shape: Shape, options: Options, log: Any) -> dict[str, Any]:
    """Returns the results of one shape."""
    print(f"\n{name}: {shape}", flush=True)
    limits = [measure_limit(options, log)]
    chosen, trials = [], {}
    for modes in (jaxgpt_modes(shape, options), *(peer_modes(peer, shape, options) for peer in options.peers)):
        if not modes:
            raise SystemExit(f"no mode is left; of --modes {', '.join(options.modes)} an entrant has none")
        mode, trials[modes[0].entrant] = quickest(modes, log, print)
        if mode is not None:
            chosen.append(mode)
    if not chosen or chosen[0].entrant != "jaxgpt":
        raise SystemExit(f"jaxgpt could not run; see {options.out / 'log.txt'}")

    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(contextlib.closing(start(mode, log))) for mode in chosen]
        steps = max(2, math.ceil(SECONDS_A_ROUND / min(step_seconds(child) for child in children)))
        answers = run_rounds(children, options.rounds, steps)
    limits.append(measure_limit(options, log))
    machine = limit.best_of(limits)

    rows = []
    for mode, child, mine in zip(chosen, children, answers, strict=True):
        rates = [steps * shape.tokens / answer["seconds"] for answer in mine]
        ratios = [theirs["seconds"] / ours["seconds"] for theirs, ours in zip(mine, answers[0], strict=True)]
        dtype = "float32" if mode.label.startswith("float32") else "bfloat16"
        used = spread(rates)["median"] * shape.flops_per_token / machine["flops_per_second"][dtype]
        rows.append(
            {
                "entrant": mode.entrant,
                "mode": mode.label,
                "tokens_per_second": spread(rates),
                "jaxgpt_is_quicker_by": spread(ratios),
                "share_of_limit": used,
                "peak_mb": max(answer["device_mb"] or answer["peak_mb"] for answer in mine),
                "first_step_seconds": child.first_step_seconds,
                "loss": [child.first["losses"][0], mine[-1]["losses"][-1]],
            }
        )
    last = [row["loss"][1] for row in rows]
    result = {
        "shape": as_dict(shape),
        "steps_a_round": steps,
        "limit": machine,
        "trials": trials,
        "rows": rows,
        "losses_alike": max(last) - min(last) <= ALIKE * min(last),
    }
    print("\n" + markdown(result))
    if not result["losses_alike"]:
        print("THE LOSSES DO NOT FALL ALIKE: these entrants do not do the same work")
    return result


GROWTH = {
    "seq_len": [replace(SHAPES["base"], seq_len=t, batch_size=4_096 // t) for t in (64, 128, 256, 512)],
    "vocab_size": [replace(SHAPES["base"], vocab_size=v) for v in (1_000, 7_500, 15_000, 30_000, 60_000)],
    "batch_size": [replace(SHAPES["base"], batch_size=b) for b in (8, 16, 32, 64)],
    "num_layers": [replace(SHAPES["base"], num_layers=n) for n in (2, 4, 8, 16)],
}


def growth(options: Options, log: Any) -> dict[str, Any]:
    """Returns what a step costs jaxgpt as one number of the base shape grows, beside what the arithmetic grows by.

    All shapes run in the mode in which this machine is quickest with the base shape.
    """
    print("\ngrowth")
    quick, _ = quickest(jaxgpt_modes(SHAPES["base"], options), log, print)
    if quick is None:
        raise SystemExit(f"jaxgpt could not run; see {options.out / 'log.txt'}")
    tables: dict[str, Any] = {"mode": quick.label}
    for axis, shapes in GROWTH.items():
        print(f"\n| {axis} | ms a step | grows by | arithmetic grows by |\n|---|---|---|---|")
        children = [start(next(m for m in jaxgpt_modes(s, options) if m.label == quick.label), log) for s in shapes]
        answers = run_rounds(children, options.rounds, 2)
        for child in children:
            child.close()
        tables[axis] = []
        for shape, mine in zip(shapes, answers, strict=True):
            seconds = spread([answer["seconds"] / 2 for answer in mine])["median"]
            flops = shape.flops_per_token * shape.tokens
            row = {"value": getattr(shape, axis), "seconds": seconds, "flops": flops}
            before = tables[axis][-1] if tables[axis] else row
            tables[axis].append(row)
            print(
                f"| {row['value']:,} | {seconds * 1e3:,.0f} | {seconds / before['seconds']:.2f} | "
                f"{flops / before['flops']:.2f} |",
                flush=True,
            )
    return tables


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    unknown = [name for name in options.shapes if name not in SHAPES]
    missing = [peer for peer in options.peers if peer not in ("torch", "transformers") and not Path(peer).is_file()]
    if unknown or missing:
        print(f"no such shape or file: {', '.join(unknown + missing)}; shapes are {', '.join(SHAPES)}", file=sys.stderr)
        raise SystemExit(2)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "log.txt").open("w") as log:
        results = {name: race(name, shape_of(name, options), options, log) for name in options.shapes}
        document: dict[str, Any] = {"races": results}
        if options.growth:
            document["growth"] = growth(options, log)
    (options.out / "train.json").write_text(json.dumps(document, indent=2) + "\n")
    print(f"\n{options.out}/train.json")
    if results:
        plot_rates(results, options.out / "train.png")
        print(f"{options.out}/train.png")


if __name__ == "__main__":
    main()
