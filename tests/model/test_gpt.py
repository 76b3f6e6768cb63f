"""The network: its shapes, that it looks only back, and that its options are what they say."""

import dataclasses
import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.ad_checkpoint import print_saved_residuals

from jaxgpt.config import ModelConfig
from jaxgpt.data.batch import BRANCHES
from jaxgpt.model.attention import Attention
from jaxgpt.model.gpt import GPT, KEPT, Block, Mlp, logits, padded_vocab_size, unembedding
from jaxgpt.model.kv_cache import init_cache
from jaxgpt.model.layers import Dropout, Linear, Norm, apply_rope
from jaxgpt.model.parameters import PARTS, abstract_params, parameter_kind, parameter_part
from jaxgpt.ops.attention import attention_mask
from jaxgpt.ops.matmul import precision
from tests.compiling import QUICK

SMALL = ModelConfig(vocab_size=100, context_len=16, embed_dim=32, num_heads=4, num_layers=2, dropout=0.0)
OPTIONS = {
    "plain": {},
    "rotary": {"positions": "rotary"},
    "rmsnorm": {"norm": "rmsnorm"},
    "swiglu": {"mlp": "swiglu"},
    "grouped": {"num_kv_heads": 2},
    "one_kv_head": {"num_kv_heads": 1},
    "qk_norm": {"qk_norm": True},
    "untied": {"tie_embeddings": False},
    "remat": {"remat": "full"},
    "remat_dots": {"remat": "dots"},
    "mixed": {"dtype": "mixed"},
    "bfloat16": {"dtype": "bfloat16"},
    "all": {"positions": "rotary", "norm": "rmsnorm", "mlp": "swiglu", "num_kv_heads": 2, "qk_norm": True},
}


ALONE = "rmsnorm", "swiglu", "grouped", "qk_norm", "remat_dots", "one_kv_head"  # what "all" has, and others are near


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.long) if name in ALONE else name for name in OPTIONS], name="config"
)
def _config(request) -> ModelConfig:
    return dataclasses.replace(SMALL, **OPTIONS[request.param])


# Each program here runs once or twice on a few numbers: LLVM would work on it a hundred times longer than it runs.
jit = functools.partial(jax.jit, compiler_options=QUICK)


@functools.cache
def init(config: ModelConfig):
    return nn.unbox(jit(GPT(config).init)(jax.random.key(0), jnp.zeros((1, 4), jnp.int32)))["params"]


@functools.partial(jit, static_argnums=0)
def apply(config: ModelConfig, params, *inputs):
    """Returns what the model gives. One program: to compile each of its operations alone takes longer still."""
    return GPT(config).apply({"params": params}, *inputs)


# The tests below share their shapes, so that they share their programs: 2 x 12 tokens without a cache, 2 x 5 with one.
def random_tokens(batch: int, length: int) -> jax.Array:
    return jax.random.randint(jax.random.key(7), (batch, length), 0, SMALL.vocab_size)


def test_shapes_of_every_module(config):
    B, T, D, N = 2, 8, config.embed_dim, config.num_heads
    x_BTD = jnp.ones((B, T, D))
    positions_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
    segments_BT = jnp.ones((B, T), jnp.int32)
    chex.assert_shape(attention_mask(segments_BT), (B, T, T))
    key = jax.random.key(0)

    def output(module: nn.Module, *inputs):
        """Returns the shapes that a module gives: they need no arithmetic, so nothing is compiled."""
        return jax.eval_shape(module.init_with_output, key, *inputs)[0]

    y_BTD, cache = output(Attention(config), x_BTD, segments_BT, positions_BT)
    chex.assert_shape(y_BTD, (B, T, D))
    assert cache is None
    chex.assert_shape(output(Mlp(config), x_BTD), (B, T, D))
    y_BTD, _ = output(Block(config), x_BTD, segments_BT, positions_BT, None)
    chex.assert_shape(y_BTD, (B, T, D))
    chex.assert_shape(output(Norm(config.norm), x_BTD), (B, T, D))
    rotated = jax.eval_shape(lambda x_BTNH: apply_rope(x_BTNH, positions_BT, config), jnp.ones((B, T, N, D // N)))
    chex.assert_shape(rotated, (B, T, N, D // N))
    dropped = jax.eval_shape(lambda x_BTD: Dropout(0.5).apply({}, x_BTD, rngs={"dropout": key}), x_BTD)
    chex.assert_shape(dropped, (B, T, D))
    linear = Linear("BTD,DNH->BTNH", (D, N, 5), ("embed", "heads", "head_dim"), nn.initializers.ones, bias_axes=2)
    chex.assert_shape(output(linear, x_BTD), (B, T, N, 5))

    params = init(config)
    T = 12
    hidden_BTD, cache = apply(config, params, random_tokens(B, T))
    chex.assert_shape(hidden_BTD, (B, T, D))
    chex.assert_type(hidden_BTD, precision(config.dtype).activations)
    chex.assert_shape(unembedding(params), (padded_vocab_size(config), D))
    scores_BTV = logits(unembedding(params), hidden_BTD, config.vocab_size)
    chex.assert_shape(scores_BTV, (B, T, 128))
    chex.assert_type(scores_BTV, jnp.float32)
    assert jnp.all(scores_BTV[..., 100:] == -jnp.inf)
    chex.assert_trees_all_equal_dtypes(params, jax.tree.map(lambda x: x.astype(jnp.float32), params))


def test_cache_shapes(config):
    B, T = 2, 5
    cache = init_cache(config, B)
    _, cache = apply(config, init(config), random_tokens(B, T), None, None, cache)
    kv_heads = config.num_kv_heads or config.num_heads
    head_dim = config.embed_dim // config.num_heads
    assert len(cache.layers) == 2
    chex.assert_shape(jax.tree.leaves(cache.layers), (B, kv_heads, config.context_len, head_dim))
    assert cache.lengths_B.tolist() == [T] * B


def test_no_token_sees_a_later_one(config):
    """The gradient of one position's output reaches the embeddings of that position and earlier ones only."""
    params = init(config)
    tokens_BT = jnp.arange(10)[None, :]  # ten different tokens: their embedding rows tell positions apart

    @jit
    @jax.grad
    def gradient_of_output_at(embedding, position):
        hidden_BTD, _ = GPT(config).apply({"params": {**params, "token_embedding": embedding}}, tokens_BT)
        return jnp.sum(jnp.square(hidden_BTD[0, position].astype(jnp.float32)) * jnp.arange(config.embed_dim))

    for position in (0, 4, 9):
        gradient = gradient_of_output_at(params["token_embedding"], position)
        reached = jnp.any(gradient[:10] != 0, axis=1)
        assert reached.tolist() == [row <= position for row in range(10)]


def test_cached_equals_uncached(config):
    params, tokens_BT = init(config), random_tokens(2, 12)
    whole_BTD, _ = apply(config, params, tokens_BT)
    cache, pieces = init_cache(config, 2), []
    for start, stop in ((0, 5), (5, 6), (6, 7), (7, 12)):
        piece, cache = apply(config, params, tokens_BT[:, start:stop], None, None, cache)
        pieces.append(piece)
    whole, cached = (
        logits(unembedding(params), x, 100)[..., :100] for x in (whole_BTD, jnp.concatenate(pieces, axis=1))
    )
    # bfloat16 rounds hidden states to 3 digits, in another order of additions.
    np.testing.assert_allclose(cached, whole, atol=0.05 if config.dtype != "float32" else 1e-5)


def test_rows_of_any_length_equal_rows_alone(config):
    """A short prompt padded on the right in a batch gives what it gives alone, also after the next token."""
    params, tokens_BT = init(config), random_tokens(2, 5)
    together, cache = apply(config, params, tokens_BT, None, None, init_cache(config, 2))
    cache = cache._replace(lengths_B=jnp.array([5, 3]))
    following, _ = apply(config, params, tokens_BT[:, :1], None, None, cache)
    alone, cache = apply(config, params, tokens_BT[1:, :3], None, None, init_cache(config, 1))
    alone_following, _ = apply(config, params, tokens_BT[1:, :1], None, None, cache)
    tolerance = 0.1 if config.dtype != "float32" else 1e-5
    np.testing.assert_allclose(together[1, :3].astype("f4"), alone[0].astype("f4"), atol=tolerance)
    np.testing.assert_allclose(following[1].astype("f4"), alone_following[0].astype("f4"), atol=tolerance)


def test_a_cache_takes_no_segments(config):
    with pytest.raises(ValueError, match="with a cache"):
        apply(config, init(config), random_tokens(1, 2), jnp.ones((1, 2)), None, init_cache(config, 1))


def test_mask_literally():
    segments_BT = jnp.array([[1, 1, 2, 2]])
    assert attention_mask(segments_BT).astype(int).tolist() == [
        [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    ]
    one, other = BRANCHES, 2 * BRANCHES
    segments_BT = jnp.array([[one, one + 1, one + 2, other], [other, other + 1, other + 1, 0]])
    assert attention_mask(segments_BT).astype(int).tolist() == [
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]],
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]],
    ]


def test_packed_segments_do_not_leak(config):
    """Two conversations in one row give exactly what each gives in a row of its own."""
    params = init(config)
    first, second = random_tokens(1, 5), random_tokens(1, 11)[:, 5:]
    packed = jnp.concatenate([first, second], axis=1)
    segments_BT = jnp.array([[1] * 5 + [2] * 6])
    positions_BT = jnp.array([[*range(5), *range(6)]])
    together, _ = apply(config, params, packed, segments_BT, positions_BT)
    tolerance = 0.1 if config.dtype != "float32" else 1e-5
    for part, tokens in ((together[:, :5], first), (together[:, 5:], second)):
        alone, _ = apply(config, params, tokens)
        np.testing.assert_allclose(part.astype("f4"), alone.astype("f4"), atol=tolerance)


def test_reference_parameters():
    """base.py's model, counted by hand: 12 D^2 + 13 D a block, as in GPT-2."""
    config = ModelConfig()
    shapes = jax.eval_shape(lambda: nn.unbox(GPT(config).init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))))
    D = 128
    expected = 30_080 * D + 128 * D + 4 * (12 * D * D + 13 * D) + 2 * D
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) == expected


def test_initialisation_is_gpt2s():
    config = ModelConfig(vocab_size=1000, embed_dim=256, num_heads=4, num_layers=2)
    params = init(config)
    block = params["block_1"]
    assert np.std(params["token_embedding"]) == pytest.approx(0.02, rel=0.02)
    assert np.std(block["attention"]["query"]["kernel"]) == pytest.approx(0.02, rel=0.02)
    assert np.std(block["attention"]["out"]["kernel"]) == pytest.approx(0.02 / 2, rel=0.02)
    assert np.std(block["mlp"]["down"]["kernel"]) == pytest.approx(0.02 / 2, rel=0.02)
    assert not np.any(block["mlp"]["up"]["bias"])
    assert np.all(np.asarray(block["mlp_norm"]["scale"]) == 1)


def test_every_parameter_has_logical_axes(config):
    boxed = jax.eval_shape(GPT(config).init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    leaves = jax.tree.leaves(boxed, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned))
    for leaf in leaves:
        assert isinstance(leaf, nn.LogicallyPartitioned)
        assert len(leaf.names) == leaf.value.ndim


def test_dropout_changes_training_only():
    config = dataclasses.replace(SMALL, dropout=0.5)
    params, tokens_BT = init(config), random_tokens(1, 8)

    @jit
    def hidden(key=None):
        return GPT(config).apply({"params": params}, tokens_BT, rngs=None if key is None else {"dropout": key})[0]

    np.testing.assert_array_equal(hidden(), hidden())
    assert jnp.any(hidden(jax.random.key(0)) != hidden(jax.random.key(1)))


def written_out(config: ModelConfig, params, tokens_T: np.ndarray) -> np.ndarray:
    """Returns the network's scores of the next token by its formulas, one text, in float64 with numpy alone."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    T, N = len(tokens_T), config.num_heads
    K, H = config.num_kv_heads or N, config.embed_dim // N

    def norm(p, x):
        if config.norm == "layernorm":
            x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
        return x * p["scale"] + p.get("bias", 0.0)

    def rotated(x_TnH):
        angles_TH = np.arange(T)[:, None] * 10_000.0 ** (-np.arange(H // 2) / (H // 2))
        sin, cos = np.sin(angles_TH)[:, None], np.cos(angles_TH)[:, None]
        a, b = x_TnH[..., : H // 2], x_TnH[..., H // 2 :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(p, x):
        q, k, v = (
            np.einsum("TD,DNH->TNH", x, p[name]["kernel"]) + p[name]["bias"] for name in ("query", "key", "value")
        )
        if config.qk_norm:
            q, k = norm(p["query_norm"], q), norm(p["key_norm"], k)
        if config.positions == "rotary":
            q, k = rotated(q), rotated(k)
        heads = []
        for n in range(N):
            scores = q[:, n] @ k[:, n * K // N].T / np.sqrt(H)
            weights = np.exp(np.where(np.tril(np.ones((T, T), bool)), scores, -np.inf))
            heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, n * K // N])
        return np.einsum("TNH,NHD->TD", np.stack(heads, 1), p["out"]["kernel"]) + p["out"]["bias"]

    def mlp(p, x):
        up = x @ p["up"]["kernel"] + p["up"]["bias"]
        if config.mlp == "gelu":
            h = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
        else:
            gate = x @ p["gate"]["kernel"] + p["gate"]["bias"]
            h = gate / (1 + np.exp(-gate)) * up
        return h @ p["down"]["kernel"] + p["down"]["bias"]

    x = params["token_embedding"][tokens_T]
    if config.positions == "learned":
        x = x + params["position_embedding"][:T]
    for i in range(config.num_layers):
        p = params[f"block_{i}"]
        x = x + attention(p["attention"], norm(p["attention_norm"], x))
        x = x + mlp(p["mlp"], norm(p["mlp_norm"], x))
    head = params["token_embedding"] if config.tie_embeddings else params["head"]
    return norm(params["final_norm"], x) @ head[: config.vocab_size].T


def test_the_network_is_its_formulas_written_out(config):
    """Whatever is exchanged for something like it, an activation, a norm, a scale, shows here."""
    if config.dtype != "float32":
        config = dataclasses.replace(config, dtype="float32")
    rng = np.random.default_rng(5)
    params = jax.tree.map(lambda x: x * 6 + 0.3 * rng.standard_normal(x.shape, np.float32), init(config))
    tokens_BT = random_tokens(2, 12)
    hidden_BTD, _ = apply(config, params, tokens_BT)
    scores_TV = logits(unembedding(params), hidden_BTD, config.vocab_size)[0, :, : config.vocab_size]
    expected_TV = written_out(config, params, np.asarray(tokens_BT[0]))
    np.testing.assert_allclose(scores_TV, expected_TV, atol=2e-4 * np.abs(expected_TV).max())


@pytest.mark.parametrize("field", ["mlp", "positions", "norm", "dtype"])
def test_a_choice_that_is_not_built_is_refused(field):
    """A choice added to the config alone must not train as another one."""
    with pytest.raises((ValueError, KeyError), match="new"):
        init(dataclasses.replace(SMALL, **{field: "new"}))


def test_every_parameter_has_a_kind_and_a_part(config):
    """Also where parameters still carry the names of their axes, as while they are laid out on the mesh."""
    boxed = jax.eval_shape(GPT(config).init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    for params in (init(config), boxed):
        leaves = jax.tree_util.tree_leaves_with_path(params)
        kinds = {jax.tree_util.keystr(path, simple=True, separator="."): parameter_kind(path) for path, _ in leaves}
        assert {parameter_part(path) for path, _ in leaves} <= set(PARTS)
        for name, kind in kinds.items():
            expected = "embedding" if "embedding" in name or name.startswith("head") else "vector"
            assert kind == ("matrix" if "kernel" in name else expected), name


@pytest.mark.parametrize("kernel", ["cudnn", "splash"])
def test_shapes_need_no_kernel_of_another_machine(kernel):
    config = ModelConfig(num_layers=1, attention=kernel)
    chex.assert_trees_all_equal_shapes(abstract_params(config), abstract_params(ModelConfig(num_layers=1)))


@pytest.mark.parametrize(("remat", "kept"), [("dots", 5), ("full", 0)])
def test_remat_keeps_the_products_it_says(remat, kept, capsys):
    config = ModelConfig(embed_dim=16, num_heads=2, dropout=0.0)
    x_BTD, positions_BT = jnp.zeros((2, 8, 16)), jnp.zeros((2, 8), jnp.int32)
    block = Block(config)
    params = jax.eval_shape(block.init, jax.random.key(0), x_BTD, None, positions_BT, None)
    params = jax.tree.map(lambda x: jnp.zeros(x.shape), nn.unbox(params))
    again = jax.checkpoint(lambda p, x: block.apply(p, x, None, positions_BT, None)[0], policy=KEPT[remat])
    print_saved_residuals(lambda p, x: jnp.sum(again(p, x)), params, x_BTD)
    # Query, key, value, out and up; the gradient needs no result of down.
    assert len(re.findall(r"dot_general from \S*ops/matmul", capsys.readouterr().out)) == kept
