"""Explaining: every line is read off the user's own model."""

import re

import numpy as np
import pytest

from jaxgpt.errors import UserError
from jaxgpt.inference.introspect import activations
from jaxgpt.report.explain import explain, tokens_of
from jaxgpt.run.load import load_trained


@pytest.fixture(scope="module")
def trained(mini):
    return load_trained(mini)


def test_the_walk_is_the_models_own(trained):
    told = "\n".join(explain(trained, "The ball"))
    tokens = tokens_of(trained, "The ball")
    assert tokens[0] == trained.run.tokenizer.special.bos
    seen = activations(trained.params, trained.config.model, tokens)
    assert "ids [3] -> x [3, 16]" in told
    for vector in (trained.params["token_embedding"][tokens[1]], seen.residual_KTD[0, 1]):
        assert " ".join(f"{x:+.2f}" for x in vector[:3]) in told
    assert all(f"{number}. Block {number - 1}." in told for number in (2, 3))
    p_V = np.exp(seen.log_p_KTV[-1, -1])
    likeliest = trained.run.tokenizer.words[int(p_V.argmax())]
    assert re.search(rf"4\. The next token.*\n   {re.escape(likeliest)} +{p_V.max():.1%}", told)


def test_attention_adds_up(trained):
    told = list(explain(trained, "The ball of Ann"))
    shares = [float(share) for line in told if "head 1: " in line for share in re.findall(r"(\d+)%", line)]
    assert len(shares) == 6  # three places in each of two blocks
    assert all(0 < sum(shares[i : i + 3]) <= 101 for i in (0, 3))


def test_what_cannot_be_read_is_said(trained):
    with pytest.raises(UserError, match="prompt: it is empty"):
        list(explain(trained, " "))
    with pytest.raises(UserError, match="prompt: it is 50 tokens long"):
        list(explain(trained, "ball " * 50))
