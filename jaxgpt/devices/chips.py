"""Chips: what their vendors publish of them, and topologies of chips that are not here, for compilers to aim at."""

import os
from dataclasses import dataclass
from typing import Any

import jax

from jaxgpt.errors import UserError, clipped, first_line, shown


@dataclass(frozen=True)
class Chip:
    """What one device of JAX is, as its vendor states it."""

    kind: str
    """How jax.Device.device_kind begins."""
    flops: float
    """Dense bfloat16 operations a second."""
    memory: float = 0.0
    """Bytes; 0 for what is in this table for its peak alone."""
    bandwidth: float = 0.0
    """Bytes of memory a second."""
    links: float = 0.0
    """Bytes a second to other chips, one way."""
    hertz: float = 0.0
    """TPUs: cycles a second of the compiler's estimates, by which a product of 8,192 squares is 88 % of the peak."""
    scratch: int = 0
    """TPUs: KiB of memory on the chip that one operation may use; 0: as many as the compiler allows by itself."""
    float32: float = 0.0
    """GPUs: operations a second in float32, without TF32."""

    def peak(self, dtype: str) -> float:
        """Returns the operations a second of products in this dtype of a model."""
        return self.float32 if dtype == "float32" and self.float32 else self.flops


CHIPS = {
    "v5e": Chip("TPU v5 lite", 197e12, 16 * 2**30, 819e9, 200e9, 1.5e9, 40_960),
    "v5p": Chip("TPU v5", 459e12, 95 * 2**30, 2_765e9, 600e9, 1.71e9, 32_768),
    "v6e": Chip("TPU v6 lite", 918e12, 32 * 2**30, 1_640e9, 448e9, 2.19e9, 49_152),
    "v4": Chip("TPU v4", 275e12),
    "v3": Chip("TPU v3", 61.5e12),  # of a core, which is a device to JAX
    "h100": Chip("NVIDIA H100 80GB HBM3", 989e12, 80e9, 3_352e9, 450e9, float32=67e12),
    "h100-pcie": Chip("NVIDIA H100 PCIe", 756e12),
    "h200": Chip("NVIDIA H200", 989e12),
    "b200": Chip("NVIDIA B200", 2_250e12),
    "a100": Chip("NVIDIA A100", 312e12, 80e9, 2_039e9, 300e9, float32=19.5e12),  # SXM, of 80 GB
    "l4": Chip("NVIDIA L4", 121e12),
}
PLANNED = [name for name, chip in CHIPS.items() if chip.memory]
TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024  threads_per_warp: 32  shared_memory_per_block: 49152
  shared_memory_per_core: {per_core}  shared_memory_per_block_optin: {per_block}
  threads_per_core_limit: 2048  core_count: {cores}  fpus_per_core: {units}  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535  block_dim_limit_z: 65535  memory_bandwidth: {bandwidth:.0f}  l2_cache_size: {cache}
  clock_rate_ghz: {gigahertz}  device_memory_size: {memory}  registers_per_core_limit: 65536
  cuda_compute_capability {{ major: {capability} minor: 0 }}  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
device_description_str: "{kind}"
"""
"""What XLA's compiler asks of a GPU that is not here."""
GPUS = {
    "h100": {
        "capability": 9,
        "cores": 132,
        "units": 128,
        "gigahertz": 1.98,
        "memory": 84_929_347_584,
        "cache": 52_428_800,
        "per_core": 233_472,
        "per_block": 232_448,
    },
    "a100": {
        "capability": 8,
        "cores": 108,
        "units": 64,
        "gigahertz": 1.41,
        "memory": 85_520_809_984,
        "cache": 41_943_040,
        "per_core": 167_936,
        "per_block": 166_912,
    },
}


def published(kind: str) -> Chip | None:
    """Returns the chip of a device's kind, or None where it is not in the table."""
    known = [chip for chip in CHIPS.values() if kind.startswith(chip.kind)]
    return max(known, key=lambda chip: len(chip.kind), default=None)


def compiler_options(kind: str) -> dict[str, str | bool]:
    """Returns what the compiler is told of a kind of device beyond what it assumes.

    Left to itself a TPU's compiler makes a gradient that chips share piece by piece, and passes the pieces around in a
    ring. Of GPT-2's 768 columns over 16 chips a piece has 48, and a product works on 128 at a time.
    """
    chip = published(kind)
    if chip is None or not chip.scratch:
        return {}
    return {
        "xla_tpu_scoped_vmem_limit_kib": str(chip.scratch),
        "xla_tpu_enable_windowed_einsum_for_reduce_scatter": False,
    }


def compile_without_devices() -> None:
    """Keeps JAX on the CPU, and libtpu from looking for chips. Call it before JAX finds its devices."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_default_matmul_precision", "highest")  # as start_jax has it
    os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")  # of no meaning here; silences a warning
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"  # it would need a GPU


def chips_elsewhere(on: str) -> tuple[Chip, list[Any]]:
    """Returns (the chip, devices to compile for) of "v5e:4x4" or "h100:8".

    Raises UserError for a name that is not known, and where the compiler for it is not installed.
    """
    name, _, layout = on.partition(":")
    chip = CHIPS.get(name)
    if chip is None or not chip.memory:
        raise UserError(
            f"on: {shown(on)} was given; it must be a chip ({', '.join(PLANNED)}) and how many, as v5e:1, v5e:4x4, "
            "v5p:4x4x4, h100:8 or a100:1"
        )
    if not chip.hertz:
        return chip, _gpus(on, name, layout)
    axes = 3 if name == "v5p" else 2
    alone, smallest = layout in ("", "1"), "x".join("221"[:axes])
    topology = _topology(on, "tpu", topology_name=f"{name}:{smallest if alone else layout}")
    return chip, topology.devices[:1] if alone else topology.devices


def _gpus(on: str, name: str, layout: str) -> list[Any]:
    if layout and (not layout.isdecimal() or int(layout) < 1):
        raise UserError(f"on: {shown(on)} was given; of GPUs it must be a number, as {name}:8")
    target = TARGET.format(kind=CHIPS[name].kind, bandwidth=CHIPS[name].bandwidth, **GPUS[name])
    return _topology(on, "cuda", platform="cuda", target_config=target, topology=f"1x1x{layout or 1}").devices


def _topology(on: str, extra: str, **what: str) -> Any:
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(**{"platform": "tpu", **what})
    except Exception as error:  # what a plugin says that is not there, or that knows no such topology
        why = clipped(first_line(error))
        raise UserError(
            f'on: {shown(on)} cannot be compiled for here ({why}); it needs pip install "jaxgpt[{extra}]", and of TPUs '
            "an arrangement that exists, such as v5e:2x2, v5e:4x4 or v5p:2x2x1"
        ) from None
