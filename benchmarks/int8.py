"""Compiles the writing of 32 tokens for one TPU v5e, weights as floats and in eight bits: what a token costs there.

python -m benchmarks.int8, where jax[tpu] is installed; no device is needed. The network is GPT-2 of 124M, one text.
"""

import dataclasses
import importlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from jaxgpt.devices.chips import chips_elsewhere, compile_without_devices
from jaxgpt.devices.hlo import read_program
from jaxgpt.inference.decode import decode, padded
from jaxgpt.inference.slots import SequenceState, slot_state
from jaxgpt.model.gpt import padded_vocab_size
from jaxgpt.model.kv_cache import init_cache
from jaxgpt.model.parameters import abstract_params, in_int8

COUNT = 32


def cost(dtype: str, int8: bool) -> dict[str, Any]:
    """Returns what a token costs, and what memory its program needs."""
    preset = importlib.import_module("configs.gpt2").config.model
    config = dataclasses.replace(preset, dtype=dtype, attention="xla", scan_layers=False, dropout=0.0)
    chip, devices = chips_elsewhere("v5e:1")
    device = SingleDeviceSharding(devices[0])
    params = abstract_params(config)
    params = jax.eval_shape(in_int8, params) if int8 else params
    state = slot_state([SequenceState([1, 2, 3], np.zeros(2, np.uint32), -1, 0.0)], padded_vocab_size(config))
    arguments = params, jax.eval_shape(lambda: init_cache(config, 1)).layers, state
    params, layers, state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), arguments)
    banned = jax.ShapeDtypeStruct(padded(np.zeros(config.vocab_size, bool), config).shape, jnp.bool, sharding=device)
    compiled = decode.lower(params, config, layers, state, COUNT, banned).compile()
    program, memory = read_program(compiled.as_text() or ""), compiled.memory_analysis()
    return {
        "weights": "int8" if int8 else "float32",
        "dtype": dtype,
        "weights_mb": round(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params)) / 1e6, 1),
        "temporary_mb": round(memory.temp_size_in_bytes / 1e6, 1),
        "moved_mb_a_token": round(program.moved / COUNT / 1e6, 1),
        "ms_a_token": round(program.cycles / COUNT / chip.hertz * 1e3, 3),
    }


def main() -> None:
    """Prints a line for each."""
    compile_without_devices()
    for dtype, int8 in (("float32", False), ("bfloat16", False), ("bfloat16", True)):
        print(json.dumps(cost(dtype, int8)), flush=True)


if __name__ == "__main__":
    main()
