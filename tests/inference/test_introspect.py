"""Looking inside: what is seen is what the model computes, and looking changes nothing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgpt.config import ModelConfig
from jaxgpt.data.batch import Batch
from jaxgpt.inference import introspect
from jaxgpt.model.gpt import GPT, logits, unembedding
from jaxgpt.ops.cross_entropy import token_losses

SMALL = ModelConfig(vocab_size=40, context_len=16, embed_dim=16, num_heads=4, num_layers=2)
TOKENS = [1, 9, 12, 9, 30]


def parameters(config: ModelConfig):
    tree = nn.unbox(jax.jit(GPT(config).init)(jax.random.key(0), jnp.zeros((1, 4), jnp.int32)))["params"]
    return jax.tree.map(lambda x: 10 * x, tree)  # far enough from 0 for attention to have preferences


@partial(jax.jit, static_argnums=1)
def hidden(params, config: ModelConfig, tokens_BT):
    return GPT(config).apply({"params": params}, tokens_BT)[0]


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        ModelConfig(**(vars(SMALL) | {"num_kv_heads": 2, "positions": "rotary", "norm": "rmsnorm", "remat": "full"})),
        pytest.param(
            ModelConfig(**(vars(SMALL) | {"tie_embeddings": False, "dtype": "bfloat16"})), marks=pytest.mark.long
        ),
    ],
    ids=["plain", "grouped, rotary, remat", "untied, bfloat16"],
)
def test_what_is_seen_is_what_the_model_computes(config):
    params = parameters(config)
    seen = introspect.activations(params, config, TOKENS)
    assert seen.weights_LNTS.shape == (2, 4, 5, 5)
    assert seen.residual_KTD.shape == (3, 5, 16)
    assert seen.log_p_KTV.shape == (3, 5, 40)
    np.testing.assert_allclose(seen.weights_LNTS.sum(-1), 1, atol=0.02)
    assert np.all(np.triu(seen.weights_LNTS, 1) == 0)
    hidden_BTD = hidden(params, config, jnp.asarray([TOKENS]))
    log_p = jax.nn.log_softmax(logits(unembedding(params), hidden_BTD, config.vocab_size))[0, :, :40]
    tolerance = 0.5 if config.dtype == "bfloat16" else 1e-4
    np.testing.assert_allclose(seen.log_p_KTV[-1], log_p, atol=tolerance)
    last = introspect.last_activations(params, config, TOKENS)
    np.testing.assert_allclose(last.weights_LNS, seen.weights_LNTS[:, :, -1], atol=tolerance)
    np.testing.assert_allclose(last.residual_KD, seen.residual_KTD[:, -1], atol=tolerance)
    np.testing.assert_allclose(last.log_p_KV, seen.log_p_KTV[:, -1], atol=tolerance)


def test_a_token_enters_as_who_it_is_plus_where_it_sits():
    params = parameters(SMALL)
    seen = introspect.activations(params, SMALL, TOKENS)
    expected = params["token_embedding"][np.array(TOKENS)] + params["position_embedding"][: len(TOKENS)]
    np.testing.assert_allclose(seen.residual_KTD[0], expected, rtol=1e-6)


def test_who_does_not_look_pays_nothing(monkeypatch):
    """The program of the loss is the same to the letter as that of a model without anything sown."""
    params = parameters(SMALL)

    def program() -> str:
        def loss(params):
            return GPT(SMALL).apply({"params": params}, jnp.asarray([TOKENS]))[0].sum()

        return str(jax.make_jaxpr(jax.grad(loss))(params))

    sown = program()
    monkeypatch.setattr(nn.Module, "sow", lambda *arguments, **options: False)
    assert program() == sown


def test_losses_are_those_of_training():
    params = parameters(SMALL)
    rng = np.random.default_rng(0)
    tokens, targets = rng.integers(0, 40, (2, 3, 8)).astype(np.int32)
    batch = Batch(tokens, targets, np.ones((3, 8), np.float32))
    lost = introspect.losses(params, SMALL, batch)
    hidden_BTD = hidden(params, SMALL, tokens)
    expected = token_losses(hidden_BTD, unembedding(params), jnp.asarray(targets), 40)
    np.testing.assert_allclose(lost.nats_BT, expected, rtol=1e-4, atol=1e-4)
    assert lost.guess_BT.shape == (3, 8)
    assert lost.guess_BT.max() < 40


def test_projection_finds_the_plane_that_points_lie_in():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(50, 2)) * (3, 1)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    xy, share = introspect.project(np.pad(plane, ((0, 0), (0, 4))) @ rotation + 5)
    assert share == pytest.approx(1)
    centred = plane - plane.mean(axis=0)

    def distances(rows):
        return np.linalg.norm(rows[:, None] - rows[None], axis=-1)

    np.testing.assert_allclose(distances(xy), distances(centred), atol=1e-6)


def test_neighbours_point_the_same_way_whatever_their_length():
    rows = introspect.directions(np.array([[1.0, 0], [5, 0.1], [0, 3], [-1, 0]]))
    assert [word for word, _ in introspect.neighbours(rows, 0, 3)] == [1, 2, 3]
    assert introspect.neighbours(rows, 0, 3)[2][1] == pytest.approx(-1)
    assert introspect.neighbours_of_each(rows, [3, 0], 2)[1] == introspect.neighbours(rows, 0, 2)


def test_clusters_are_of_one_direction_and_the_same_every_time():
    rng = np.random.default_rng(0)
    rows = introspect.directions(np.repeat(np.eye(3, 8), 20, axis=0) + 0.1 * rng.normal(size=(60, 8)))
    found = introspect.clusters(rows, 3)
    assert [len(set(found[start : start + 20].tolist())) for start in (0, 20, 40)] == [1, 1, 1]
    assert set(found.tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(found, introspect.clusters(rows, 3))
    assert introspect.clusters(rows[:2], 6).max() < 2


def test_a_head_that_looks_after_the_same_token_copies(monkeypatch):
    """Token t of the second time looks at the one after its first time; another head looks at itself."""
    T = SMALL.context_len
    copies_TT = np.eye(T, k=1 - T // 2)
    monkeypatch.setattr(introspect, "_attention_weights", lambda *_: np.stack([[copies_TT, np.eye(T)]]))
    np.testing.assert_array_equal(introspect.copying({}, SMALL, np.arange(10)), [[1, 0]])


def test_similarity_of_positions():
    similarity = introspect.position_similarity(parameters(SMALL), SMALL)
    assert similarity.shape == (16, 16)
    np.testing.assert_allclose(np.diag(similarity), 1, rtol=1e-5)
    rotary = ModelConfig(**(vars(SMALL) | {"positions": "rotary"}))
    similarity = introspect.position_similarity({}, rotary)
    for distance in range(16):
        np.testing.assert_allclose(np.diag(similarity, distance), similarity[0, distance], atol=1e-5)


def test_a_head_that_looks_one_back_is_known_by_it():
    before = np.array([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    assert introspect.habit(before) == introspect.Habit(itself=0, before=1, first=0)
    assert introspect.habit(np.ones((1, 1))).itself == 1
