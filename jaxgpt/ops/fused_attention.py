"""Kernels of causal attention that never write the weights to memory (after FlashAttention, Dao et al. 2022).

Each takes what `attention.causal_attention` takes and gives what `attention_reference` gives, up to bfloat16's
rounding. They drop no weights.
"""

import math
from functools import partial
from typing import Any

import jax
from flax import linen as nn

from jaxgpt.ops.matmul import Precision

FUSED = {"gpu": "cudnn", "tpu": "splash"}
"""Platform -> the kernel it has."""
KERNEL_RESULT = "attention"  # what jax.checkpoint knows splash's by
LANES = 128  # splash works on whole rows of a TPU's registers
WIDEST_BLOCK = 1_024  # of queries and of keys: the widest whose backward pass fits in a TPU's fast memory
BLOCKS = ("block_q", "block_kv", "block_q_dkv", "block_kv_dkv")
DQ_BLOCKS = ("block_q_dq", "block_kv_dq")


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
    compute_dtype, activations = precision
    scaled_BTNH = q_BTNH / math.sqrt(q_BTNH.shape[-1])
    q, k, v = (x.astype(compute_dtype).swapaxes(1, 2) for x in (scaled_BTNH, k_BTKH, v_BTKH))
    attend = partial(_splash, interpret)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size > 1 and not mesh.manual_axes:
        heads, kv_heads, rows = map(nn.logical_to_mesh_axes, (("batch", "heads"), ("batch", "kv_heads"), ("batch",)))
        attend = jax.shard_map(attend, in_specs=(heads, kv_heads, kv_heads, rows), out_specs=heads, check_vma=False)
    return attend(q, k, v, segments_BT).swapaxes(1, 2).astype(activations)


def splash_blocks(length: int) -> tuple[int, bool]:
    """Returns (queries and keys of a block, whether one kernel gives all gradients); blocks divide the length.

    Where one kernel does, queries meet keys and gradients values once, not once for queries and once for keys and
    values. It would write a part of the queries' gradient for each block of keys, and adding these up costs more.
    """
    width = max(width for width in range(LANES, WIDEST_BLOCK + 1, LANES) if length % width == 0)
    return width, width == length


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _splash(interpret, q_BNTH, k_BKTH, v_BKTH, segments_BT):
    return _splash_forward(interpret, q_BNTH, k_BKTH, v_BKTH, segments_BT)[0]


def _splash_forward(interpret, q_BNTH, k_BKTH, v_BKTH, segments_BT):
    from jax.experimental.pallas.ops.tpu import splash_attention as pallas

    _, N, T, _ = q_BNTH.shape
    width, in_one = splash_blocks(T)
    names = BLOCKS if in_one else BLOCKS + DQ_BLOCKS
    layouts = dict.fromkeys(("q_layout", "k_layout", "v_layout"), pallas.QKVLayout.SEQ_MINOR)
    blocks = pallas.BlockSizes(**dict.fromkeys(names, width), **layouts, use_fused_bwd_kernel=in_one)

    def attend(q, k, v):
        mask = pallas.MultiHeadMask([pallas.CausalMask((T, T))] * N)
        kernel = pallas.make_splash_mha(
            mask,
            block_sizes=blocks,
            head_shards=1,
            q_seq_shards=1,
            residual_checkpoint_name=KERNEL_RESULT,
            interpret=interpret,
        )
        segments = None if segments_BT is None else pallas.SegmentIds(segments_BT, segments_BT)
        return jax.vmap(kernel)(q, k, v, segments)

    with _KERNEL_PRECISION():
        return jax.vjp(attend, q_BNTH, k_BKTH, v_BKTH)


def _splash_backward(interpret, vjp, dy_BNTH):
    with _KERNEL_PRECISION():
        return *vjp(dy_BNTH), None


_splash.defvjp(_splash_forward, _splash_backward)
# What start_jax asks of products of float32, a TPU's compiler refuses of the kernel's, which are of bfloat16.
_KERNEL_PRECISION = partial(jax.default_matmul_precision, "default")
