"""Stop texts over any tokens: nothing of one gets out, all before it does, and no half of a character is shown."""

import pytest

from jaxgpt.inference.decode import TokenOutput
from jaxgpt.serve.streaming import Writer
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.text.vocabulary import Recipe, make_tokenizer

TEXT = 'One day, Tim said: "the naïve café is 🙂🙂 there." The end.'


@pytest.fixture(scope="module", params=["word", "bpe", "byte", "char"], name="tokenizer")
def _tokenizer(request) -> Tokenizer:
    recipe = Recipe(request.param, {"bpe": 290}.get(request.param, 300), "gpt4", 10**6)
    return make_tokenizer(recipe, lambda: iter([TEXT] * 3), len(TEXT) * 3, False)[0]


def write(tokenizer: Tokenizer, ids: list[int], stops: list[str], at_once: int = 1) -> tuple[list[str], bool]:
    """Returns (what goes out at each write, whether a stop text came)."""
    writer, out = Writer(tokenizer, [], stops), []
    for start in range(0, len(ids), at_once):
        pieces, stopped = writer.write([TokenOutput(id, 0.0, []) for id in ids[start : start + at_once]])
        out.append("".join(piece.text for piece in pieces))
        if stopped:
            return out, True
    return [*out, "".join(piece.text for piece in writer.rest())], False


@pytest.mark.parametrize("at_once", [1, 3])
def test_every_part_of_a_text_stops_it_where_it_begins(tokenizer, at_once):
    ids = tokenizer.encode(TEXT)
    whole = "".join(write(tokenizer, ids, [])[0])
    assert "🙂" in whole or tokenizer.kind == "word"
    for length in (1, 2, 5, 11):
        for start in range(len(whole) - length + 1):
            stop = whole[start : start + length]
            out, stopped = write(tokenizer, ids, [stop], at_once)
            assert stopped
            assert "".join(out) == whole[: whole.index(stop)]


def test_of_several_the_first_that_comes_counts(tokenizer):
    ids = tokenizer.encode(TEXT)
    whole = "".join(write(tokenizer, ids, [])[0])
    out, stopped = write(tokenizer, ids, ["The end", "Tim", "said: ", "never"])
    assert stopped
    assert "".join(out) == whole[: whole.index("Tim")]


def test_what_only_begins_like_a_stop_text_goes_out(tokenizer):
    ids = tokenizer.encode(TEXT)
    whole = "".join(write(tokenizer, ids, [])[0])
    out, stopped = write(tokenizer, ids, ["Tim sings", "there. Then", whole + "more"])
    assert not stopped
    assert "".join(out) == whole


def test_no_half_of_a_character_is_shown(tokenizer):
    for part in write(tokenizer, tokenizer.encode(TEXT), [])[0]:
        assert "�" not in part


def test_what_would_have_come_instead_is_text_too(tokenizer):
    ids = tokenizer.encode(TEXT)
    writer = Writer(tokenizer, [], [])
    for id, other in zip(ids, reversed(ids), strict=True):
        (piece,), _ = writer.write([TokenOutput(id, -1.0, [(id, -1.0), (other, -2.0)])])
        assert piece.candidates[0] == (piece.text, -1.0)
        assert isinstance(piece.candidates[1][0], str)
