"""Compiled programs, read: loops counted, what is moved and sent, against programs whose figures are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgpt.devices.hlo import read_program


def compiled(function, *shapes, **jit) -> str:
    return jax.jit(function, **jit).lower(*shapes).compile().as_text()


def test_a_loop_counts_as_often_as_it_runs():
    def loop(length):
        def body(x, _):
            return jnp.sin(x @ x), None

        return compiled(lambda x: jax.lax.scan(body, x, length=length)[0], jax.ShapeDtypeStruct((64, 64), jnp.float32))

    once, often = read_program(loop(10)), read_program(loop(30))
    assert 2.5 < often.moved / once.moved < 3.0  # what stands around the loop is there once
    assert often.kernels - once.kernels >= 20


def test_of_a_condition_the_branch_that_moves_least_counts():
    x = jax.ShapeDtypeStruct((2**20,), jnp.float32)

    def moved(*branches) -> float:
        return read_program(compiled(lambda x: jax.lax.cond(x[0] > 0, *branches, x), x)).moved

    def little(x):
        return x.sum()

    def much(x):
        return jnp.sort(x)[7]

    assert moved(much, little) == pytest.approx(moved(little, little), rel=0.01)
    assert moved(much, little) < 0.6 * moved(much, much)


def test_a_loop_moves_the_parts_it_is_at():
    def loop(length):
        def body(x, w):
            return jnp.sin(x @ w), x

        shapes = jax.ShapeDtypeStruct((64, 64), jnp.float32), jax.ShapeDtypeStruct((length, 64, 64), jnp.float32)
        return compiled(lambda x, w: jax.lax.scan(body, x, w), *shapes)

    once, often = read_program(loop(10)), read_program(loop(40))
    assert 3.5 < often.moved / once.moved < 4.5  # and not 16, as if all were read and written each time


def test_what_is_moved_is_what_is_read_and_written():
    n = 2**20
    program = read_program(compiled(lambda x: x + 1, jax.ShapeDtypeStruct((n,), jnp.float32)))
    assert program.moved == 2 * 4 * n
    assert program.sent == {}


def test_collectives_are_found_with_their_bytes():
    mesh = Mesh(np.array(jax.devices()), ("data",))
    rows, whole = (NamedSharding(mesh, PartitionSpec(*names)) for names in (("data",), ()))
    x, w = (jax.ShapeDtypeStruct(shape, jnp.float32, sharding=rows) for shape in ((16, 32), (32, 128)))
    summed = read_program(compiled(lambda x: x.sum(0), x, out_shardings=whole))
    assert summed.sent == {"all-reduce": (1, 2 * 32 * 4)}
    gathered = read_program(compiled(lambda w: w * 2, w, out_shardings=whole))
    assert gathered.sent == {"all-gather": (1, 32 * 128 * 4)}


TPU = """
ENTRY %main.1 (x: bf16[8,128]) -> bf16[8,128] {
  %x = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %t = (s32[], bf16[8,128]{1,0:T(8,128)(2,1)}) tuple(%x, %x)
  %w = (s32[], bf16[8,128]{1,0:T(8,128)(2,1)}) while(%t), condition=%less.2, body=%body.3
  ROOT %y = bf16[8,128]{1,0} copy(%x), backend_config={"estimated_cycles":"7"}
}

%less.2 (s: (s32[], bf16[8,128])) -> pred[] {
  %s = (s32[], bf16[8,128]) parameter(0)
  %c = s32[] constant(12)
  ROOT %less = pred[] compare(%s, %c), direction=LT
}

%body.3 (s: (s32[], bf16[8,128])) -> (s32[], bf16[8,128]) {
  %s = (s32[], bf16[8,128]) parameter(0)
  %p = bf16[8,128]{1,0:T(8,128)(2,1)} get-tuple-element(%s), index=1
  ROOT %d = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%p), calls=%f.4, backend_config={"estimated_cycles":"100"}
}

%f.4 (p: bf16[8,128]) -> bf16[8,128] {
  %p = bf16[8,128] parameter(0)
  ROOT %n = bf16[8,128] negate(%p)
}
"""


def test_a_tpus_estimate_is_summed_over_its_loops():
    program = read_program(TPU)
    assert program.cycles == 7 + 12 * 100
    assert program.unpriced == 0
    unknown = read_program(TPU.replace('"100"', f'"{2**63 - 1}"'))
    assert (unknown.cycles, unknown.unpriced) == (7, 12 * 2 * 8 * 128 * 2)
    assert program.kernels == 1 + 12 * 1 + 12  # the copy, the fusion, and the loop's own comparison


STARTED = """
ENTRY %main.1 (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %y = f32[32]{0} parameter(1)
  %r = (f32[8]{0}, f32[32]{0}) all-reduce-start(%x, %y), channel_id=1, to_apply=%add.2
  %d = (f32[8]{0}, f32[32]{0}) all-reduce-done(%r)
  %g = (f32[8]{0}, f32[64]{0}) all-gather-start(%x), channel_id=2
  ROOT %e = f32[64]{0} all-gather-done(%g)
}
"""


def test_collectives_that_are_started_count_what_they_bring():
    assert read_program(STARTED).sent == {"all-reduce": (1, 2 * 4 * (8 + 32)), "all-gather": (1, 4 * 64)}


def test_collectives_of_one_channel_all_count():
    """As JAX writes those of a shard_map."""
    again = STARTED.replace("  %g =", "  %q = f32[8]{0} all-reduce(%x), channel_id=1, to_apply=%add.2\n  %g =")
    assert read_program(again).sent["all-reduce"] == (2, 2 * 4 * (8 + 32 + 8))


INSIDE = """
ENTRY %main.1 (x: f32[64,128]) -> f32[16,128] {
  %x = f32[64,128] parameter(0)
  %w = bf16[8,128] constant(0)
  %g = bf16[32,128] fusion(%w), kind=kOutput, calls=%async_collective_fusion.1
  %h = bf16[32,128] fusion(%w), kind=kOutput, calls=%async_collective_fusion.2
  ROOT %s = f32[16,128] fusion(%x), kind=kCustom, calls=%all-reduce-scatter
}

%async_collective_fusion.1 (p: bf16[8,128]) -> bf16[32,128] {
  %p = bf16[8,128] parameter(0)
  ROOT %a = bf16[32,128] all-gather(%p), channel_id=3, dimensions={0}
}

%async_collective_fusion.2 (p: bf16[8,128]) -> bf16[32,128] {
  %p = bf16[8,128] parameter(0)
  ROOT %a = bf16[32,128] all-gather(%p), channel_id=3, dimensions={0}
}

%all-reduce-scatter (input: f32[64,128]) -> f32[16,128] {
  %input = f32[64,128] parameter(0)
  %r = f32[64,128] all-reduce(%input), channel_id=4, to_apply=%add
  ROOT %d = f32[16,128] dynamic-slice(%r), dynamic_slice_sizes={16,128}
}
"""


def test_what_a_kernel_sends_is_counted_once():
    """As TPUs' compiler writes it: a gathering spread over kernels, and a reduction that leaves each its part."""
    assert read_program(INSIDE).sent == {"all-gather": (1, 32 * 128 * 2), "reduce-scatter": (1, 64 * 128 * 4)}
