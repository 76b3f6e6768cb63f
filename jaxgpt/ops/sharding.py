"""What an operation asks of the mesh in force."""

import math
from typing import Any

import jax
from flax import linen as nn

DATA_AXIS = "data"  # of the mesh: devices along it differ in their rows of the batch only


def batch_shards() -> int:
    """Returns over how many devices the mesh in force divides a batch; 1 where there is none."""
    axes: Any = (nn.logical_to_mesh_axes(("batch",)) or (None,))[0] or ()
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes))


def rows_of_batch(rows: int) -> tuple[jax.Array | int, int]:
    """Returns (how many rows of the batch come before these, how many it has in all).

    Where each device works by itself (`mesh.summed_over_devices`) an operation sees that device's rows only.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if DATA_AXIS not in mesh.manual_axes:
        return 0, rows
    return jax.lax.axis_index(DATA_AXIS) * rows, mesh.shape[DATA_AXIS] * rows
