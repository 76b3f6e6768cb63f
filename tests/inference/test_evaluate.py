"""Evaluation in words: bits per byte count all that is needed to write the text again."""

import math

import pytest

from jaxgpt.data.manifest import TextCounts
from jaxgpt.inference.evaluate import SPELLED_BITS, bits_per_byte


def counts(**given: int) -> TextCounts:
    return TextCounts(**{"bytes": 100, "tokens": 20} | given)


def test_bits_per_byte_of_text_without_unk():
    assert bits_per_byte(4 * math.log(2), counts()) == "0.8000 over 100 bytes"


def test_unknown_words_are_spelled_in_bits_per_byte():
    """Two unknown words of five bytes together, and an <unk> that the text has: eight symbols of 257."""
    told = bits_per_byte(4 * math.log(2), counts(unk=3, unknown=2, unknown_bytes=5))
    bits = 80 + 8 * math.log2(257)
    assert told.startswith(f"{bits / 100:.4f} over 100 bytes; {8 * SPELLED_BITS / bits:.1%} of it spells what is <unk>")


def test_text_that_is_all_unknown_costs_what_its_bytes_do():
    """A model that is certain of <unk> knows nothing: 30 words of 3 bytes, each with its end."""
    told = bits_per_byte(0.0, counts(bytes=120, tokens=30, unk=30, unknown=30, unknown_bytes=90))
    assert float(told.split()[0]) == pytest.approx(math.log2(257), abs=1e-4)
