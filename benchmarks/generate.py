"""Lets jaxgpt and transformers write 100 tokens after 28, with the same model's shape, in turn.

python -m benchmarks.generate --batch-sizes 1 32
"""

import contextlib
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from benchmarks.race import Mode, quickest, run_rounds, spread, start
from benchmarks.shapes import PROMPT_TOKENS, SHAPES, Shape

SECONDS_A_ROUND = 2.0


@dataclass(frozen=True)
class Options:
    """Measure generation against transformers on this machine."""

    batch_sizes: tuple[int, ...] = (1, 32)
    """Prompts answered at once."""
    new_tokens: int = 100
    """Tokens written after each prompt."""
    rounds: int = 5
    """Rounds; in each both write."""
    out: Path = Path("benchmarks/results")
    """Folder for the JSON file and the log."""
    cache_dir: str = "~/.cache/jaxgpt"
    """Where compiled programs are kept."""


def race(shape: Shape, options: Options, log: Any) -> list[dict[str, Any]]:
    """Returns a row for jaxgpt and one for transformers, each in its quickest mode."""
    common = {"shape": asdict(shape), "new_tokens": options.new_tokens, "cache_dir": options.cache_dir}
    ours = [
        Mode("jaxgpt", dtype, "benchmarks.generate_jaxgpt", common | {"dtype": dtype})
        for dtype in ("float32", "mixed", "bfloat16")
    ]
    theirs = [
        Mode(
            "transformers",
            f"{dtype}{', compiled' if compiled else ''}",
            "benchmarks.generate_transformers",
            common | {"dtype": dtype, "compiled": compiled},
        )
        for dtype in ("float32", "bfloat16")
        for compiled in (False, True)
    ]
    chosen, fastest = [], float("inf")
    for modes in (ours, theirs):
        mode, trials = quickest(modes, log, print)
        if mode is None:
            raise SystemExit(f"{modes[0].entrant} could not run; see {options.out / 'log.txt'}")
        chosen.append(mode)
        fastest = min(fastest, trials[mode.label])
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(contextlib.closing(start(mode, log))) for mode in chosen]
        amount = max(1, math.ceil(SECONDS_A_ROUND / fastest))
        answers = run_rounds(children, options.rounds, amount)
    tokens = amount * shape.batch_size * options.new_tokens
    return [
        {
            "batch_size": shape.batch_size,
            "entrant": mode.entrant,
            "mode": mode.label,
            "tokens_per_second": spread([tokens / answer["seconds"] for answer in mine]),
            "jaxgpt_is_quicker_by": spread(
                [theirs["seconds"] / ours["seconds"] for theirs, ours in zip(mine, answers[0], strict=True)]
            ),
            "first_token_seconds": spread([answer["first_token_seconds"] for answer in mine]),
            "peak_mb": max(answer["peak_mb"] for answer in mine),
        }
        for mode, mine in zip(chosen, answers, strict=True)
    ]


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with (options.out / "log.txt").open("w") as log:
        for batch_size in options.batch_sizes:
            print(
                f"\nbatch {batch_size}: {options.new_tokens} tokens after {PROMPT_TOKENS}, the base model", flush=True
            )
            rows += race(replace(SHAPES["base"], batch_size=batch_size), options, log)
    print("\n| batch | entrant | quickest mode | tokens/s: median (min to max) | jaxgpt is quicker by | first token |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        rate, ratio = row["tokens_per_second"], row["jaxgpt_is_quicker_by"]
        by = "" if row["entrant"] == "jaxgpt" else f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"
        print(
            f"| {row['batch_size']} | {row['entrant']} | {row['mode']} | "
            f"{rate['median']:,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f}) | {by} | "
            f"{row['first_token_seconds']['median'] * 1e3:.1f} ms |"
        )
    (options.out / "generate.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"\n{options.out}/generate.json")


if __name__ == "__main__":
    main()
