"""What a run would take on chips that are not here: compiled here, for there, and read from the program."""

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxgpt.config import Config
from jaxgpt.data.batch import Batch
from jaxgpt.devices.chips import Chip, chips_elsewhere
from jaxgpt.devices.hlo import Program, read_program
from jaxgpt.devices.mesh import batch_sharding, make_mesh
from jaxgpt.devices.setup import why_not_fused
from jaxgpt.errors import RunError, UserError
from jaxgpt.ops.fused_attention import FUSED, LANES, splash_blocks
from jaxgpt.run.load import find_origin
from jaxgpt.training.flops import flops_per_token, out_of_memory
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.plan import model_of, parameter_counts, settle_layers
from jaxgpt.training.progress import clock
from jaxgpt.training.step import compile_steps

SPLASH_SHARE = 0.5  # of the peak that the kernel of attention is taken to reach, where a head fills the lanes
GPU_SHARE = 0.7  # of the peak that products are taken to reach on a GPU, whose compiler estimates nothing
KERNEL_SECONDS = 2e-6  # between two kernels on a GPU
SCHEDULED = 100_000  # steps that the schedule of learning rates is laid out over: the program is the same for any


@dataclass(frozen=True)
class Estimate:
    """One step on one chip."""

    chip: Chip
    chips: int
    config: Config
    mesh: Mesh
    compile_seconds: float
    program: Program
    code: float
    """Bytes of the program, as of all the following."""
    parameters: float
    optimizer: float
    temporary: float
    flops: float
    """Of the model in a step, over all chips, as MFU counts them."""
    compute_seconds: float
    link_seconds: float

    @property
    def seconds(self) -> float:
        """A step, nothing sent while the chips compute."""
        return self.compute_seconds + self.link_seconds

    @property
    def memory(self) -> float:
        return self.code + self.parameters + self.optimizer + self.temporary

    def mfu(self, seconds: float) -> float:
        """Returns the share of the chips' peak that the model's arithmetic is."""
        return self.flops / seconds / (self.chip.peak(self.config.model.dtype) * self.chips)


def settle_elsewhere(config: Config, chip: Chip) -> Config:
    """Returns the config with what is left to the machine decided as the chip would.

    Raises UserError where a kernel of attention is asked for that the chip has not, or that cannot do it.
    """
    model = settle_layers(config).model
    model = dataclasses.replace(model, dtype="bfloat16" if model.dtype == "auto" else model.dtype)
    kernel = FUSED["tpu" if chip.hertz else "gpu"]
    why_not = why_not_fused(kernel, model, config.data.seq_len)
    if model.attention == "auto":
        model = dataclasses.replace(model, attention="xla" if why_not else kernel)
    elif model.attention != "xla" and (why_not or model.attention != kernel):
        why = f"{chip.kind} has {kernel}" if model.attention != kernel else why_not
        raise UserError(
            f"model.attention: {model.attention} was given; it cannot be had there ({why}); give auto or xla"
        )
    return dataclasses.replace(config, model=model)


def continued(config: Config) -> Config:
    """Returns the config with the model of the run that training starts from, where it names one."""
    if config.run.init_from is None:
        return config
    try:
        origin = find_origin(config.run.init_from)
    except UserError as error:
        raise UserError(f"run.init_from: {error}. Without it, as None, the config's own model is planned") from None
    model = model_of(origin, config)
    if model.embedding_rows is None:
        model = dataclasses.replace(model, vocab_size=origin.run.tokenizer.vocab_size)
    return dataclasses.replace(config, model=model)


def estimate(config: Config, on: str) -> Estimate:
    """Returns what a step of the config is on chips such as "v5e:4x4".

    Raises UserError where it cannot be there, and RunError where the compiler finds no room for it.
    """
    chip, devices = chips_elsewhere(on)
    config = settle_elsewhere(config, chip)
    mesh = make_mesh(config, devices)
    began = time.perf_counter()
    steps = compile_steps(config, make_optimizer(config.optimizer, SCHEDULED), mesh)
    try:
        compiled = steps.program(steps.abstract_state, _abstract_batch(config, mesh))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise RunError(f"{on}: IT DOES NOT FIT. {out_of_memory(config, error)}") from None
        raise
    seconds = time.perf_counter() - began
    program, memory = read_program(compiled.as_text() or ""), _memory(compiled)
    flops = (
        flops_per_token(config.model, config.data.seq_len, frozen=config.lora.rank is not None)
        * config.data.batch_size
        * config.data.seq_len
    )
    return Estimate(
        chip,
        len(devices),
        config,
        mesh,
        seconds,
        program,
        code=memory.generated_code_size_in_bytes,
        parameters=_held((steps.abstract_state.params, steps.abstract_state.frozen)),
        optimizer=_held(steps.abstract_state.opt_state),
        temporary=memory.temp_size_in_bytes,
        flops=flops,
        compute_seconds=_compute_seconds(chip, config, program, flops / len(devices), len(devices)),
        link_seconds=sum(size for _, size in program.sent.values()) / chip.links if len(devices) > 1 else 0.0,
    )


def _memory(compiled: jax.stages.Compiled) -> Any:
    return compiled.memory_analysis()


def _abstract_batch(config: Config, mesh: Mesh) -> Batch:
    def array(dtype: Any) -> Any:
        return jax.ShapeDtypeStruct((config.data.batch_size, config.data.seq_len), dtype, sharding=batch_sharding(mesh))

    packed = config.data.pack_lines or config.data.mask_documents
    return Batch(
        array(jnp.int32),
        array(jnp.int32),
        array(jnp.float32),
        segments=array(jnp.int32) if packed else None,
        positions=array(jnp.int32) if packed else None,
    )


def _held(tree: Any) -> float:
    """Returns the bytes that one chip holds of sharded arrays."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _compute_seconds(chip: Chip, config: Config, program: Program, flops: float, chips: int) -> float:
    """Returns the time of a step without collectives."""
    if not chip.hertz:
        products = flops / (GPU_SHARE * chip.peak(config.model.dtype))
        return max(program.moved / chip.bandwidth, products) + program.kernels * KERNEL_SECONDS
    seconds = program.cycles / chip.hertz + program.unpriced / chip.bandwidth
    if config.model.attention == "splash":
        lanes = min(1.0, config.model.head_size / LANES)
        seconds += splash_flops(config) / chips / (SPLASH_SHARE * lanes * chip.flops)
    return seconds


def splash_flops(config: Config) -> float:
    """Returns the operations of the kernel of attention in a step: of whole blocks, but for those that are all masked.

    Two products forward, five backward; seven where two kernels each let queries meet keys and gradients values.
    """
    model, length = config.model, config.data.seq_len
    block, in_one = splash_blocks(length)
    products = 2 * (2 if model.remat == "full" else 1) + (5 if in_one else 7)
    blocks = length // block
    pairs = config.data.batch_size * block**2 * blocks * (blocks + 1) / 2  # of a query and a key
    return products * 2 * pairs * model.num_heads * model.head_size * model.num_layers


def describe(planned: Estimate, on: str, tokens: float | None) -> list[str]:
    """Returns lines on whether it fits, how long a step and the run take, and what that assumes."""
    config, chip, program = planned.config, planned.chip, planned.program
    model, data = config.model, config.data
    step_tokens = data.batch_size * data.seq_len
    shape = " x ".join(f"{name} {size}" for name, size in planned.mesh.shape.items())
    room, needed = chip.memory, planned.memory
    fits = f"it fits: {needed / room:.0%} of {room / 1e9:.1f} GB"
    if needed > room:
        fits = f"IT DOES NOT FIT in {room / 1e9:.1f} GB: give more optimizer.grad-accumulation-steps, fsdp, or remat"
    layers = "in a loop" if model.scan_layers else "one by one"
    alone, together = planned.mfu(planned.compute_seconds), planned.mfu(planned.seconds)
    lines = [
        f"{planned.chips} x {chip.kind} ({on}), {shape}: compiled here in {planned.compile_seconds:.0f} s",
        f"model: {sum(parameter_counts(config).values()):,} parameters, {model.dtype}, attention {model.attention}, "
        f"blocks {layers}, remat {model.remat}",
        f"memory of a chip: {needed / 1e9:.2f} GB; {fits}",
        *(
            f"  {part:26} {size / 1e9:>8.2f} GB"
            for part, size in (
                ("parameters", planned.parameters),
                ("optimizer state", planned.optimizer),
                ("gradients and activations", planned.temporary),
                ("program", planned.code),
            )
        ),
        f"a step of {step_tokens:,} tokens: {planned.compute_seconds * 1e3:,.1f} ms of computing, MFU {alone:.0%}",
    ]
    if planned.link_seconds:
        sent = ", ".join(f"{n:,} {kind} ({size / 1e6:,.0f} MB)" for kind, (n, size) in sorted(program.sent.items()))
        lines += [
            f"  and {planned.link_seconds * 1e3:,.1f} ms of sending: {sent} a chip",
            f"  one after the other: {planned.seconds * 1e3:,.1f} ms, MFU {together:.0%}; at best they overlap",
        ]
    lines += [f"  {line}" for line in _assumptions(planned)]
    lines.append(f"tokens a second: {step_tokens / planned.seconds:,.0f}")
    horizon = config.run.train_tokens or (tokens and tokens * config.run.epochs)
    steps = math.ceil(horizon / step_tokens) if horizon else None
    steps = min((steps for steps in (steps, config.run.max_steps) if steps is not None), default=None)
    if steps is not None:
        seconds = steps * planned.seconds
        lines.append(
            f"the run: {steps:,} steps, {clock(seconds)}, {seconds * planned.chips / 3600:,.1f} chip hours; "
            "evaluations and checkpoints not counted"
        )
    else:
        hours = 1e9 / step_tokens * planned.seconds * planned.chips / 3600
        lines.append(f"a billion tokens: {hours:,.1f} chip hours; give --tokens for the time of a run")
    return lines


def _assumptions(planned: Estimate) -> list[str]:
    chip, model = planned.chip, planned.config.model
    if not chip.hertz:
        return [
            f"assumed: {planned.program.moved / 1e9:,.1f} GB moved at {chip.bandwidth / 1e9:,.0f} GB/s, or products at "
            f"{GPU_SHARE:.0%} of {chip.peak(model.dtype) / 1e12:,.0f} TFLOP/s, whichever is longer, and "
            f"{KERNEL_SECONDS * 1e6:.0f} us for each of {planned.program.kernels:,} kernels"
        ]
    assumed = f"assumed: the compiler's {planned.program.cycles / 1e6:,.1f} M cycles at {chip.hertz / 1e9:.2f} GHz"
    if planned.program.unpriced:
        assumed += (
            f", {planned.program.unpriced / 1e9:,.1f} GB that it has no estimate of at {chip.bandwidth / 1e9:,.0f} GB/s"
        )
    if model.attention == "splash":
        assumed += (
            f"; its kernels of attention, masked parts of blocks too, at {SPLASH_SHARE:.0%} of "
            f"{chip.flops / 1e12:,.0f} TFLOP/s, less what a head of {model.head_size} leaves of {LANES} lanes"
        )
    return [f"{assumed}; links at {chip.links / 1e9:,.0f} GB/s"]
