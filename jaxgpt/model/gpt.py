"""The network: token plus position, a stack of causal blocks, a final norm; hidden states come out.

After GPT-2 (Radford et al. 2019). The head is apart (`unembedding`, `logits`), so that training need never
hold an array of [batch, seq_len, vocab].
"""

import math
from typing import Any, cast

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgpt.config import ModelConfig
from jaxgpt.model.attention import Attention
from jaxgpt.model.kv_cache import KVCache
from jaxgpt.model.layers import Dropout, Linear, norm_of
from jaxgpt.ops.fused_attention import KERNEL_RESULT
from jaxgpt.ops.gelu import gelu
from jaxgpt.ops.int8 import Int8
from jaxgpt.ops.lookup import lookup
from jaxgpt.ops.matmul import precision

Params = Any  # a nested dict of arrays
LORA = "lora"  # what adapters are called beside them

VOCAB_MULTIPLE = 128  # the embedding's rows are rounded up to it, so that they divide over devices and tiles
KEPT = {
    "dots": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(KERNEL_RESULT),
    ),
    "full": None,
}
"""model.remat -> what of a block is kept for the backward pass."""


def padded_vocab_size(config: ModelConfig) -> int:
    """Returns the rows of the embedding: vocab_size rounded up. The rows beyond vocab_size are never predicted."""
    return config.embedding_rows or math.ceil(config.vocab_size / VOCAB_MULTIPLE) * VOCAB_MULTIPLE


class Mlp(nn.Module):
    """Two linear maps with a nonlinearity between: GELU, or SwiGLU's gated one (Shazeer 2020)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        config, dtype = self.config, self.config.dtype
        D, F, bias = config.embed_dim, config.mlp_size, config.bias == "all"

        def up(name: str) -> jax.Array:
            init, axes = nn.initializers.normal(0.02), ("embed", "mlp")
            return Linear("BTD,DF->BTF", (D, F), axes, init, use_bias=bias, dtype=dtype, name=name)(x_BTD)

        if config.mlp == "gelu":
            h_BTF = gelu(up("up"), True)
        elif config.mlp == "gelu_exact":
            h_BTF = gelu(up("up"), False)
        elif config.mlp == "swiglu":
            h_BTF = nn.silu(up("gate")) * up("up")
        else:
            raise ValueError(f"no mlp {config.mlp!r}")
        init = nn.initializers.normal(0.02 / math.sqrt(2 * config.num_layers))
        axes = ("mlp", "embed")
        return Linear("BTF,FD->BTD", (F, D), axes, init, use_bias=bias, dtype=dtype, name="down")(h_BTF)


class Block(nn.Module):
    """Attention, then an mlp; each reads a normed copy of the residual stream and adds its result to it."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        segments_BT: jax.Array | None,
        positions_BT: jax.Array,
        cache: tuple[jax.Array, jax.Array] | None,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
        config = self.config
        normed_BTD = norm_of(config, "attention_norm")(x_BTD)
        y_BTD, cache = Attention(config, name="attention")(normed_BTD, segments_BT, positions_BT, cache)
        x_BTD = x_BTD + Dropout(config.dropout, name="attention_dropout")(y_BTD)
        y_BTD = Mlp(config, name="mlp")(norm_of(config, "mlp_norm")(x_BTD))
        x_BTD = x_BTD + Dropout(config.dropout, name="mlp_dropout")(y_BTD)
        return nn.with_logical_constraint(x_BTD, ("batch", "length", "act_embed")), cache


def scanned(block: type[nn.Module], num_layers: int) -> type[nn.Module]:
    """Returns the stack as one program of a block and a loop: the blocks' parameters share arrays, the layer first."""
    return nn.scan(
        block,
        variable_axes={"params": 0, LORA: 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=cast(Any, nn.broadcast),
        length=num_layers,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


class GPT(nn.Module):
    """apply({"params": params}, tokens_BT) returns (hidden_BTD, None); with a cache, (hidden_BTD, cache grown by T).

    `segments_BT` keeps attention inside conversations that share a row, or inside answers and the question that they
    share (ops.attention.attention_mask); segment 0 is padding. `positions_BT` counts from 0 in each of them. Both may
    be left out: one segment, positions from the start. With a cache they must be: each row continues at the cache's
    length. Dropout is on when rngs={"dropout": key} is given.
    """

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        tokens_BT: jax.Array,
        segments_BT: jax.Array | None = None,
        positions_BT: jax.Array | None = None,
        cache: KVCache | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        config = self.config
        chex.assert_rank(tokens_BT, 2)
        B, T = tokens_BT.shape
        D, L, V = config.embed_dim, config.num_layers, padded_vocab_size(config)
        if cache is not None:
            if segments_BT is not None or positions_BT is not None:
                raise ValueError("with a cache, segments and positions follow from what it holds")
            positions_BT = cache.lengths_B[:, None] + jnp.arange(T)
        elif positions_BT is None:
            positions_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
        chex.assert_shape(positions_BT, (B, T))

        def table(name: str, size: int, axis: str) -> Any:
            init = nn.with_logical_partitioning(nn.initializers.normal(0.02), (axis, "embed"))
            return self.param(name, init, (size, D))

        activations = precision(config.dtype).activations
        tokens = table("token_embedding", V, "stored_vocab")
        x_BTD = lookup(tokens, tokens_BT, activations, "vocab")  # who a token is
        if config.positions == "learned":
            positions = table("position_embedding", config.context_len, "positions")
            x_BTD = x_BTD + lookup(positions, positions_BT, activations, "positions")  # where it sits
        elif config.positions != "rotary":  # which is attention's
            raise ValueError(f"no positions {config.positions!r}")
        if not config.tie_embeddings:
            table("head", V, "stored_vocab")  # made here, used by unembedding
        x_BTD = Dropout(config.dropout, name="embedding_dropout")(x_BTD)
        x_BTD = nn.with_logical_constraint(x_BTD, ("batch", "length", "act_embed"))

        # With a cache there is no backward pass.
        block = Block if config.remat == "none" or cache is not None else nn.remat(Block, policy=KEPT[config.remat])
        layers = []
        if config.scan_layers and cache is None:
            x_BTD, _ = scanned(block, L)(config, name="blocks")(x_BTD, segments_BT, positions_BT, None)
        else:
            self.sow("intermediates", "residual_BTD", x_BTD)
            for i in range(L):
                layer = None if cache is None else cache.layers[i]
                x_BTD, layer = block(config, name=f"block_{i}")(x_BTD, segments_BT, positions_BT, layer)
                layers.append(layer)
                self.sow("intermediates", "residual_BTD", x_BTD)
        hidden_BTD = norm_of(config, "final_norm")(x_BTD)
        chex.assert_shape(hidden_BTD, (B, T, D))
        if cache is None:
            return hidden_BTD, None
        return hidden_BTD, KVCache(tuple(layers), cache.lengths_B + T)


def variables(params: Params) -> dict[str, Params]:
    """Returns what `GPT(config).apply` takes: the parameters, and apart from them the adapters that some may carry."""
    if LORA not in params:
        return {"params": params}
    return {"params": {name: x for name, x in params.items() if name != LORA}, LORA: params[LORA]}


def unembedding(params: Params) -> jax.Array:
    """Returns the [V, D] matrix that scores tokens: the token embedding itself when the head is tied."""
    return params["head"] if "head" in params else params["token_embedding"]


def logits(head_VD: jax.Array | Int8, hidden_BTD: jax.Array, vocab_size: int) -> jax.Array:
    """Returns the scores of the next token, [..., padded vocab] in float32; the padding scores -inf.

    Multiplied in the head's own dtype; `unembedding` is in that of the parameters.
    """
    if isinstance(head_VD, Int8):
        matrix_VD, scale_V = head_VD.values.astype(hidden_BTD.dtype), head_VD.scale[:, 0]
    else:
        matrix_VD, scale_V = head_VD, None
        hidden_BTD = hidden_BTD.astype(matrix_VD.dtype)
    scores = jnp.einsum("...D,VD->...V", hidden_BTD, matrix_VD, preferred_element_type=jnp.float32)
    scores = scores if scale_V is None else scores * scale_V
    return jnp.where(jnp.arange(matrix_VD.shape[0]) < vocab_size, scores, -jnp.inf)
