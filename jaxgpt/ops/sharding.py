"""What an operation asks of the mesh in force."""

import math
from typing import Any

import jax
from flax import linen as nn


def batch_shards() -> int:
    """Returns over how many devices the mesh in force divides a batch; 1 where there is none."""
    axes: Any = (nn.logical_to_mesh_axes(("batch",)) or (None,))[0] or ()
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes))
