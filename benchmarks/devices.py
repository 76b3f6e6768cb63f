"""Compiles the train step for chips that are not here, and keeps what the compilers say: cost, memory, what is sent.

With --measure it runs the cases of the chips that are here, and lays beside that what the compilers had said.

python -m benchmarks.devices                    # every case whose compiler is installed; some minutes each
python -m benchmarks.devices --check            # one block for v5e:2x2, against the figures in devices.json
python -m benchmarks.devices --check --on h100:1
python -m benchmarks.devices --measure --peer ../nanoGPT/model.py
"""

import json
import os
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import tyro

from benchmarks.entrant import Entrant
from benchmarks.measure import fitting, measure, table
from jaxgpt.config import Config, DataConfig, MeshConfig, ModelConfig, OptimizerConfig
from jaxgpt.devices.chips import chips_elsewhere, compile_without_devices
from jaxgpt.errors import UserError

KEPT = Path(__file__).with_name("devices.json")
RESULTS = Path("benchmarks/results")
MAY_GROW = 1.1


@dataclass(frozen=True)
class Options:
    """Compile the train step for chips that are not here."""

    check: bool = False
    """Compile one block only, and fail where its cost or memory has grown by more than a tenth."""
    on: str | None = None
    """Only the cases for these chips; of --check the chips it compiles for. None: all; v5e:2x2."""
    measure: bool = False
    """Run the cases that are for as many chips as are here, of their platform, whichever chip; nothing is compiled for
    others."""
    peer: Path | None = None
    """With --measure on one device: a file with nanoGPT's GPT and GPTConfig; it takes turns, compiled, in bfloat16."""
    keep: bool = False
    """Write what was found to benchmarks/devices.json, which --check compares with."""


def gpt2(layers: int, rows: int, seq_len: int = 1_024, mesh: MeshConfig = MeshConfig(), **model: Any) -> Config:  # noqa: B008
    """Returns GPT-2's shape of so many blocks, and a batch of so many rows over all chips."""
    sizes = {"vocab_size": 50_257, "embed_dim": 768, "num_heads": 12, "dropout": 0.0, "dtype": "bfloat16"} | model
    return Config(
        model=ModelConfig(context_len=seq_len, num_layers=layers, **sizes),
        data=DataConfig(seq_len=seq_len, batch_size=rows),
        optimizer=OptimizerConfig(warmup_steps=10, schedule="cosine"),
        mesh=mesh,
    )


CASES: dict[str, tuple[str, Config]] = {
    "GPT-2 124M, 1 chip": ("v5e:1", gpt2(12, 8)),
    "GPT-2 124M in a loop, 1 chip": ("v5e:1", gpt2(12, 8, scan_layers=True)),
    "48 blocks in a loop, 1 chip": ("v5e:1", gpt2(48, 8, remat="full")),
    "2 blocks, 1 chip": ("v5e:1", gpt2(2, 8)),
    "2 blocks, 4 chips, data": ("v5e:2x2", gpt2(2, 32)),
    "2 blocks, 4 chips, fsdp": ("v5e:2x2", gpt2(2, 32, mesh=MeshConfig(fsdp=4))),
    "2 blocks, 16 chips, fsdp": ("v5e:4x4", gpt2(2, 128, mesh=MeshConfig(fsdp=16))),
    "2 blocks, 16 chips, data 4, fsdp 4": ("v5e:4x4", gpt2(2, 128, mesh=MeshConfig(data=4, fsdp=4))),
    "1 block, 1 chip": ("v5e:1", gpt2(1, 8)),
    "1 block, 256 chips, data": ("v5e:16x16", gpt2(1, 2_048)),
    "2 blocks, T = 8,192, 1 chip": ("v5e:1", gpt2(2, 1, 8_192)),
    "1.3B, 64 chips, fsdp": (
        "v5p:4x4x4",
        gpt2(24, 256, 2_048, MeshConfig(fsdp=64), embed_dim=2_048, num_heads=16, scan_layers=False),
    ),
    "1.3B, 64 chips, data 4, fsdp 16": (
        "v5p:4x4x4",
        gpt2(24, 256, 2_048, MeshConfig(data=4, fsdp=16), embed_dim=2_048, num_heads=16, scan_layers=False),
    ),
    "1.3B in a loop, 64 chips, fsdp": (
        "v5p:4x4x4",
        gpt2(24, 256, 2_048, MeshConfig(fsdp=64), embed_dim=2_048, num_heads=16, remat="full"),
    ),
    "GPT-2 124M, 1 GPU": ("h100:1", gpt2(12, 8)),
    "2 blocks, 8 GPUs, data": ("h100:8", gpt2(2, 64)),
    "2 blocks, 8 GPUs, fsdp": ("h100:8", gpt2(2, 64, mesh=MeshConfig(fsdp=8))),
    "2 blocks, T = 8,192, 1 GPU": ("h100:1", gpt2(2, 1, 8_192)),
    "48 blocks in a loop, 1 GPU": ("h100:1", gpt2(48, 8)),
}


def compiled_for(on: str, config: Config) -> dict[str, Any]:
    """Returns what the compiler says of a step on these chips, in the units that the names say."""
    from jaxgpt.training.estimate import estimate

    found = estimate(config, on)
    return {
        "on": on,
        "mesh": dict(found.mesh.shape),
        "attention": found.config.model.attention,
        "compile_seconds": round(found.compile_seconds, 1),
        "million_cycles": round(found.program.cycles / 1e6, 2),
        "kernels": found.program.kernels,
        "moved_gb": round(found.program.moved / 1e9, 2),
        "temporary_gb": round(found.temporary / 1e9, 3),
        "program_mb": round(found.code / 1e6, 1),
        "sent_mb": {kind: round(size / 1e6, 1) for kind, (_, size) in found.program.sent.items()},
        "computing_ms": round(found.compute_seconds * 1e3, 2),
        "sending_ms": round(found.link_seconds * 1e3, 2),
        "mfu": round(found.mfu(found.compute_seconds), 3),
    }


def grown(found: dict[str, Any], kept: dict[str, Any]) -> list[str]:
    """Returns what has grown by more than it may, in words."""
    cost = "million_cycles" if kept["million_cycles"] else "moved_gb"
    return [
        f"{name}: {found[name]} now, {kept[name]} before"
        for name in (cost, "temporary_gb")
        if found[name] > MAY_GROW * kept[name]
    ]


def check(on: str, keep: bool) -> None:
    """Compiles one block; exits with 1 where it has grown."""
    _, chips = chips_elsewhere(on)
    found = compiled_for(on, gpt2(1, 8 * len(chips)))
    print(json.dumps(found))
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    if keep:
        KEPT.write_text(json.dumps(kept | {on: found | {"jax": metadata.version("jax")}}, indent=2) + "\n")
        return
    if on not in kept:
        raise UserError(f"on: {on} was given; {KEPT} has figures of {', '.join(kept) or 'nothing'}")
    if worse := grown(found, kept[on]):
        sys.exit(f"grown by more than {MAY_GROW - 1:.0%} since jax {kept[on]['jax']}: {'; '.join(worse)}")
    print(f"no more than {MAY_GROW - 1:.0%} above what was kept of jax {kept[on]['jax']}")


def measure_here(options: Options) -> None:
    """Prints what the cases of the devices here take, and keeps it."""
    if options.on is not None or options.keep:
        raise UserError("measure: it is of the devices that are here; leave out --on and --keep")
    RESULTS.mkdir(parents=True, exist_ok=True)
    said = RESULTS / "devices.json"
    promised = json.loads(said.read_text(encoding="utf-8")) if said.exists() else {}
    rows: list[dict[str, Any]] = []
    with (RESULTS / "log.txt").open("w") as log:
        limit = Entrant("limit", "benchmarks.limit", {"cache_dir": DataConfig().cache_dir}, log)
        limit.close()
        here = limit.first
        cases = fitting(CASES, here["platform"], here["devices"])
        what = f"{here['devices']} x {here['device']}"
        if not cases:
            raise UserError(f"measure: no case is for {what}; on others see benchmarks.train")
        if options.peer is not None and not (options.peer.is_file() and here["devices"] == 1):
            raise UserError(f"peer: {options.peer} was given; it must be a file, and there must be one device")
        reached = {dtype: f"{rate / 1e12:.0f} TFLOP/s in {dtype}" for dtype, rate in here["flops_per_second"].items()}
        print(f"{what}; products reach {', '.join(reached.values())}", flush=True)
        if not promised:
            print(
                f"{said} is not there, so nothing is laid beside: run benchmarks.devices where compilers are",
                flush=True,
            )
        if options.peer is not None:
            os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # two share the memory
        for name, (_, config) in cases.items():
            peer = None if options.peer is None else str(options.peer)
            try:
                new = measure(name, config, peer, promised.get(name, {}), log)
            except RuntimeError as error:  # memory may not be enough
                print(f"{name}: {error}", flush=True)
                continue
            rows += new
            print(table(new), flush=True)
            (RESULTS / "measured.json").write_text(json.dumps({"here": here, "rows": rows}, indent=2) + "\n")


def main() -> None:
    options = tyro.cli(Options)
    if options.measure:
        measure_here(options)
        return
    compile_without_devices()
    if options.check:
        check(options.on or "v5e:2x2", options.keep)
        return
    rows = {}
    for name, (on, config) in CASES.items():
        if options.on not in (None, on):
            continue
        try:
            rows[name] = compiled_for(on, config)
        except UserError as error:  # its compiler is not here
            print(f"{name}: {error}", flush=True)
            continue
        print(f"{name}: {json.dumps(rows[name])}", flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "devices.json").write_text(json.dumps(rows | {"jax": metadata.version("jax")}, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
