"""A batch: what one training step sees, as plain arrays of one static shape."""

from typing import Any, NamedTuple

Array = Any  # numpy's on the host, jax's on the devices
BRANCHES = 2**16  # segments n * BRANCHES + 1, + 2 and so on all go on from segment n * BRANCHES, n above 0


class Batch(NamedTuple):
    """`[batch, seq_len]` arrays: tokens and targets int32, weights float32; segments and positions where packed.

    targets[b, t] is the token that follows tokens[b, t]; weights is 1 where it counts in the loss, else 0. Segments
    keep apart what shares a row, or let texts go on from one (ops.attention.attention_mask). What preferences and
    rewards need beside them is float32, and 0 where weights are.
    """

    tokens: Array
    targets: Array
    weights: Array
    segments: Array | None = None
    positions: Array | None = None
    reference: Array | None = None
    """Log-probabilities of the targets in the run that training started from, in nats."""
    drawn: Array | None = None
    """Those they were drawn with, where steps have been made since; None where they are the parameters' own."""
    advantages: Array | None = None
    """How much better the answer that a target is of was than its group."""
    rehearsed: Array | None = None
    """1 where a target is of text that is rehearsed: it counts in a loss of its own beside the objective's, else 0."""

    def per_device(self, num_devices: int) -> "Batch":
        """Returns the [num_devices, batch / num_devices, seq_len] view that pmap takes."""
        return Batch(*(x if x is None else x.reshape(num_devices, -1, *x.shape[1:]) for x in self))
