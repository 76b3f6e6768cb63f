"""Kernels of causal attention that never write the weights to memory (after FlashAttention, Dao et al. 2022).

Each takes what `attention.causal_attention` takes and gives what `attention_reference` gives, up to bfloat16's
rounding. They drop no weights.
"""

import math
from typing import Any

import jax
from flax import linen as nn

from jaxgpt.ops.matmul import Precision

FUSED = {"gpu": "cudnn", "tpu": "splash"}
"""Platform -> the kernel it has."""
LANES = 128  # splash works on whole rows of a TPU's registers
WIDEST_BLOCK = 1_024  # of queries and of keys: the widest whose backward pass fits in a TPU's fast memory
BLOCKS = ("block_q", "block_kv", "block_q_dkv", "block_kv_dkv", "block_q_dq", "block_kv_dq")


def cudnn(
    q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, mask_BTT: jax.Array | None, precision: Precision
) -> jax.Array:
    """Returns y_BTNH by NVIDIA's kernel; without a mask each row is one text.

    Texts that share a row are kept apart by a bias: on an H100 still 2.4 times as fast as `xla` (1,024 tokens).
    """
    compute_dtype, activations = precision
    q, k, v = (x.astype(compute_dtype) for x in (q_BTNH, k_BTKH, v_BTKH))
    mask = None if mask_BTT is None else mask_BTT[:, None]
    y: Any = jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=mask is None, implementation="cudnn")
    return y.astype(activations)


def splash(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array | None,
    precision: Precision,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Returns y_BTNH by JAX's Pallas kernel for TPUs; T is a multiple of LANES.

    The compiler cannot divide a Pallas kernel: each device of the mesh in force calls it for its rows and heads.
    `interpret` runs it without a TPU, slowly.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as pallas

    compute_dtype, activations = precision
    T, H = q_BTNH.shape[1], q_BTNH.shape[-1]
    width = max(width for width in range(LANES, WIDEST_BLOCK + 1, LANES) if T % width == 0)
    blocks = pallas.BlockSizes(**dict.fromkeys(BLOCKS, width))

    def on_device(q_BNTH: jax.Array, k_BKTH: jax.Array, v_BKTH: jax.Array, *segments_BT: jax.Array) -> jax.Array:
        mask = pallas.MultiHeadMask([pallas.CausalMask((T, T))] * q_BNTH.shape[1])
        kernel = pallas.make_splash_mha(mask, block_sizes=blocks, head_shards=1, q_seq_shards=1, interpret=interpret)
        y_BNTH: Any = jax.vmap(kernel)(q_BNTH, k_BKTH, v_BKTH, *(pallas.SegmentIds(x, x) for x in segments_BT))
        return y_BNTH

    inputs = [x.astype(compute_dtype).swapaxes(1, 2) for x in (q_BTNH / math.sqrt(H), k_BTKH, v_BTKH)]
    inputs += [] if segments_BT is None else [segments_BT]
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size > 1:
        heads = nn.logical_to_mesh_axes(("batch", "heads"))
        kv_heads, rows = nn.logical_to_mesh_axes(("batch", "kv_heads")), nn.logical_to_mesh_axes(("batch",))
        specs = (heads, kv_heads, kv_heads, rows)[: len(inputs)]
        on_device = jax.shard_map(on_device, in_specs=specs, out_specs=heads, check_vma=False)
    return on_device(*inputs).swapaxes(1, 2).astype(activations)
