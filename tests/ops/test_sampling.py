"""Drawing the next word: what each setting rules out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.config import Sampling
from jaxgpt.errors import UserError
from jaxgpt.ops.sampling import GREEDY, Settings, categorical, filter_logits, sample, sample_each

P = jnp.array([0.5, 0.2, 0.15, 0.1, 0.05])
LOGITS = jnp.log(P)[None, :]


def allowed(**settings) -> list[int]:
    settings = {"top_p": None} | settings
    return np.flatnonzero(np.isfinite(filter_logits(LOGITS, Sampling(**settings))[0])).tolist()


def test_what_each_filter_keeps():
    assert allowed() == [0, 1, 2, 3, 4]
    assert allowed(top_k=2) == [0, 1]
    assert allowed(top_k=99) == [0, 1, 2, 3, 4]
    assert allowed(top_p=0.6) == [0, 1]
    assert allowed(top_p=0.01) == [0]
    assert allowed(top_p=1.0) == [0, 1, 2, 3, 4]
    assert allowed(min_p=0.25) == [0, 1, 2]
    assert allowed(min_p=1.0) == [0]
    assert allowed(top_k=4, top_p=0.8, min_p=0.35) == [0, 1]


def test_what_is_ruled_out_stays_out():
    logits = LOGITS.at[0, 0].set(-jnp.inf)
    for sampling in (GREEDY, Sampling(), Sampling(top_k=1), Sampling(temperature=100.0, top_p=None)):
        tokens = jax.vmap(lambda key, s=sampling: sample(key, logits, s))(jax.random.split(jax.random.key(0), 200))
        assert not jnp.any(tokens == 0)


def test_greedy_takes_the_likeliest():
    assert sample(jax.random.key(0), LOGITS, GREEDY).tolist() == [0]


def test_draws_follow_the_probabilities():
    logits = jnp.broadcast_to(LOGITS, (20_000, 5))
    tokens = sample(jax.random.key(0), logits, Sampling(temperature=1.0, top_p=None))
    np.testing.assert_allclose(np.bincount(tokens, minlength=5) / 20_000, P, atol=0.01)
    colder = sample(jax.random.key(0), logits, Sampling(temperature=0.5, top_p=None))
    expected = P**2 / jnp.sum(P**2)
    np.testing.assert_allclose(np.bincount(colder, minlength=5) / 20_000, expected, atol=0.01)


def test_no_token_without_probability_is_drawn():
    """1,000 words are eight groups, the last one padded; only three far apart may come."""
    logits = jnp.full(1_000, -jnp.inf).at[jnp.array([127, 128, 999])].set(jnp.log(jnp.array([0.5, 0.3, 0.2])))
    tokens = categorical(jax.random.key(0), jnp.broadcast_to(logits, (20_000, 1_000)))
    assert set(np.unique(tokens)) == {127, 128, 999}
    share = np.bincount(tokens, minlength=1_000)[[127, 128, 999]] / 20_000
    np.testing.assert_allclose(share, [0.5, 0.3, 0.2], atol=0.01)


def as_values(settings: list[Sampling]) -> Settings:
    columns = ((s.temperature, s.top_k or 0, s.top_p or 1.0, s.min_p or 0.0) for s in settings)
    return Settings(*(jnp.array(column) for column in zip(*columns, strict=True)))


@pytest.mark.parametrize("temperatures", [(0, 0.5, 1.0, 1.5), (0.7,), (0,)])
def test_rows_with_own_settings_draw_what_each_draws_alone(temperatures):
    rows = 60
    logits = 3 * jax.random.normal(jax.random.key(1), (rows, 1_000))
    keys = jax.random.split(jax.random.key(2), rows)
    settings = [
        Sampling(
            temperatures[i % len(temperatures)],
            top_k=(None, 1, 7, 300)[i % 4],
            top_p=(0.01, 0.3, 0.9, 0.999, None)[i % 5],
            min_p=(None, None, 0.1)[i % 3],
        )
        for i in range(rows)
    ]
    alone = [
        sample(jax.random.fold_in(key, i), row[None], s)[0]
        for i, (key, row, s) in enumerate(zip(keys, logits, settings, strict=True))
    ]
    assert sample_each(keys, jnp.arange(rows), logits, as_values(settings)).tolist() == [int(token) for token in alone]


@pytest.mark.parametrize(
    "sampling", [Sampling(1.0, top_p=5e-324), Sampling(1e-40, top_p=None), Sampling(1e-9, top_p=1e-40)]
)
def test_what_rounds_to_nothing_leaves_the_likeliest(sampling):
    scores = 100 * LOGITS
    key = jax.random.key(0)
    assert sample(key, scores, sampling).tolist() == [0]
    assert sample_each(key[None], jnp.zeros(1, int), scores, as_values([sampling])).tolist() == [0]


@pytest.mark.parametrize(
    "settings", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"min_p": -0.1}]
)
def test_settings_out_of_range(settings):
    (name,) = settings
    with pytest.raises(UserError, match=f"{name}: .* must be"):
        Sampling(**settings)
