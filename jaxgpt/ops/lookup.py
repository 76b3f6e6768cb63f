"""Rows of a table: its shards are gathered in the activations' precision, its gradient is summed in its own."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgpt.ops.int8 import Int8, dequantize


def lookup_reference(table_VD: jax.Array, tokens: jax.Array) -> jax.Array:
    """Returns the rows of these tokens."""
    return table_VD[tokens]


def lookup(table_VD: jax.Array | Int8, tokens: jax.Array, dtype: jnp.dtype, axis: str) -> jax.Array:
    """Returns the rows of these tokens in `dtype`; `axis` is the logical one of the table's rows.

    Of a table of eight bits only these rows become floats.
    """
    if isinstance(table_VD, Int8):
        return dequantize(jax.tree.map(lambda x: x[tokens], table_VD)).astype(dtype)
    rows: Any = _rows(table_VD, tokens, dtype, axis)
    return rows


def gathered(table_VD: Any, dtype: jnp.dtype, axis: str = "vocab") -> jax.Array:
    """Returns a table in `dtype`, its columns whole on every device: cast first, as half the bytes are sent then."""
    return nn.with_logical_constraint(table_VD.astype(dtype), (axis, "act_embed"))


def summed_over_shards(dtable_VD: jax.Array, axis: str = "vocab") -> jax.Array:
    """Returns the gradient of a table that was gathered, added up over the batch's shards.

    Said in one way for embedding and head: the compiler adds them first where they are one table, and sends one.
    """
    return nn.with_logical_constraint(dtable_VD, (axis, "act_embed"))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _rows(table_VD, tokens, dtype, axis):
    return _rows_forward(table_VD, tokens, dtype, axis)[0]


def _rows_forward(table_VD, tokens, dtype, axis):
    return gathered(table_VD, dtype, axis)[tokens], (table_VD, tokens)


def _rows_backward(dtype, axis, residuals, drows):
    table_VD, tokens = residuals
    dtable_VD = jnp.zeros_like(table_VD).at[tokens].add(drows.astype(table_VD.dtype))
    return summed_over_shards(dtable_VD, axis), None


_rows.defvjp(_rows_forward, _rows_backward)
