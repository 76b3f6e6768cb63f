"""Bits for dropout: of any key a fair choice, and never the same ones twice in one array, however large it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxgpt.ops import dropout as ops
from jaxgpt.ops.dropout import dropout, hashed_bits
from jaxgpt.ops.sharding import DATA_AXIS


def test_a_share_of_the_entries_is_dropped_and_the_others_scaled():
    y = np.asarray(dropout(jnp.ones((512, 256)), jax.random.key(3), 0.1))
    assert np.mean(y == 0) == pytest.approx(0.1, abs=0.003)
    np.testing.assert_allclose(y[y > 0], 1 / 0.9, rtol=1e-6)


@pytest.mark.parametrize(("counters", "split"), [(8 * 16, 1), (16, 2), (4, 3)])
def test_an_array_too_large_for_one_counter_repeats_nothing(monkeypatch, counters, split):
    shape, key = (64, 8, 16), jax.random.key(1)
    whole = hashed_bits(key, shape)
    monkeypatch.setattr(ops, "COUNTERS", counters)
    bits = np.asarray(hashed_bits(key, shape)).reshape(-1, int(np.prod(shape[split:])))
    assert len(np.unique(bits)) == bits.size
    assert len(np.unique(bits, axis=0)) == len(bits)
    assert np.mean(bits >= 2**31) == pytest.approx(0.5, abs=0.02)
    assert (np.asarray(whole).reshape(bits.shape)[0] == bits[0]).all()


@pytest.mark.parametrize("counters", [2**32, 8 * 16, 16])
def test_devices_that_work_apart_draw_the_bits_of_their_rows(monkeypatch, counters):
    monkeypatch.setattr(ops, "COUNTERS", counters)
    shape, key = (64, 8, 16), jax.random.key(1)
    mesh, rows = jax.make_mesh((8,), (DATA_AXIS,)), PartitionSpec(DATA_AXIS)
    with jax.set_mesh(mesh):
        apart = jax.shard_map(lambda: hashed_bits(key, (8, 8, 16)), in_specs=(), out_specs=rows, check_vma=False)
        found = jax.jit(apart)()
    assert (np.asarray(found) == np.asarray(hashed_bits(key, shape))).all()


EXPECTED = [[1104893158, 2478059931, 1799901765], [3044194468, 1057209891, 2582178541]]


def test_counters_do_not_change_what_small_arrays_get():
    """Runs that were trained before resume with the same bits."""
    assert np.asarray(hashed_bits(jax.random.key(7), (2, 3))).tolist() == EXPECTED
