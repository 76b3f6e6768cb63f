"""A batch: what one training step sees, as plain arrays of one static shape."""

from typing import Any, NamedTuple

Array = Any  # numpy's on the host, jax's on the devices


class Batch(NamedTuple):
    """`[batch, seq_len]` arrays: tokens and targets int32, weights float32; segments and positions where packed.

    targets[b, t] is the token that follows tokens[b, t]; weights is 1 where it counts in the loss, else 0.
    """

    tokens: Array
    targets: Array
    weights: Array
    segments: Array | None = None
    positions: Array | None = None

    def per_device(self, num_devices: int) -> "Batch":
        """Returns the [num_devices, batch / num_devices, seq_len] view that pmap takes."""
        return Batch(*(x if x is None else x.reshape(num_devices, -1, *x.shape[1:]) for x in self))
