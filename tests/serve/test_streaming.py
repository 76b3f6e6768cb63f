"""From tokens to a client: every kind of tokenizer, any way to cut a text, stop texts at any place in it."""

import json
import tempfile
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFace
from tokenizers import decoders, models, normalizers, trainers

from jaxgpt.inference.slots import TokenOutput
from jaxgpt.inference.writer import Writer
from jaxgpt.serve.responses import ChatReply, CompletionReply
from jaxgpt.text.bpe_tokenizer import byte_tokenizer, train_bpe_tokenizer
from jaxgpt.text.char_tokenizer import train_char_tokenizer
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.text.tokenizer_json import import_tokenizer
from jaxgpt.text.word_tokenizer import train_word_tokenizer

TEXT = 'The cat said "naïve 👩‍🚀!" and ran home.\nThe cat ran 我们 home, and home again 😀😀.'


def with_byte_fallback() -> Tokenizer:
    """A tokenizer as Llama's, which `tokenizers` runs: blanks are ▁, and what it does not have is spelled in bytes."""
    tokenizer = HuggingFace(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=first[:3], show_progress=False)
    tokenizer.train_from_iterator(["The cat ran home, and said"] * 3, trainer)
    content = json.loads(tokenizer.to_str())
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] |= {name: len(vocab) + place for place, name in enumerate(first[3:])}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.json").write_text(json.dumps(content))
        return import_tokenizer(Path(folder))


BPE, _ = train_bpe_tokenizer([TEXT] * 3, 300)
TOKENIZERS = {
    "word": train_word_tokenizer([TEXT] * 3, 100)[0],
    "bpe": BPE,
    "byte": byte_tokenizer(),
    "char": train_char_tokenizer([TEXT], 100)[0],
    "imported": with_byte_fallback(),
}


def outputs(ids, candidates=()) -> list[TokenOutput]:
    return [TokenOutput(id, -1.0, [(other, -2.0) for other in candidates]) for id in ids]


def written(tokenizer: Tokenizer, ids, stops, sizes=(1,)) -> tuple[list[str], bool]:
    """Returns (what goes out each time the engine delivers, the sizes in turn; whether a stop text came)."""
    writer, left, parts, turn = Writer(tokenizer, [], stops), iter(outputs(ids)), [], 0
    while chunk := list(islice(left, sizes[turn % len(sizes)])):
        pieces, stopped = writer.write(chunk)
        parts.append("".join(piece.text for piece in pieces))
        if stopped:
            return parts, True
        turn += 1
    return [*parts, "".join(piece.text for piece in writer.rest())], False


def first_stop(text: str, stops) -> int | None:
    """Returns where the text ends: at the stop text that is whole first; None where none comes."""
    for end in range(1, len(text) + 1):
        found = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if found:
            return min(found)
    return None


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_stop_text_is_cut_exactly_wherever_it_is(kind, data):
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(TEXT)
    text = tokenizer.decode(ids)
    first = data.draw(st.integers(0, len(text) - 1))
    stop = text[first : first + data.draw(st.integers(1, 12))]
    sizes = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    parts, stopped = written(tokenizer, ids, [stop, "never to come"], sizes)
    assert stopped
    assert "".join(parts) == text[: text.find(stop)]


@settings(max_examples=60, deadline=None)
@given(text=st.text("ab😀 \n", max_size=30), stops=st.lists(st.text("ab😀 \n", min_size=1, max_size=4), max_size=3))
def test_of_several_stop_texts_the_first_that_is_whole_ends(text, stops):
    ids = TOKENIZERS["byte"].encode(text)
    parts, stopped = written(TOKENIZERS["byte"], ids, stops)
    end = first_stop(text, stops)
    assert stopped == (end is not None)
    assert "".join(parts) == text[:end]
    assert "\ufffd" not in "".join(parts)


def test_a_stop_text_over_three_tokens_from_the_middle_of_one():
    ids = BPE.encode("The cat ran home")
    assert [BPE.token_text(id) for id in ids] == ["The", "␣cat", "␣ran", "␣home"]
    assert written(BPE, ids, ["at ran ho"]) == (["The", "", "", " c"], True)
    assert written(BPE, ids, ["at ran he"]) == (["The", "", "", " cat ran home", ""], False)


def test_half_a_character_waits_for_the_rest_of_it():
    byte = TOKENIZERS["byte"]
    assert written(byte, byte.encode("a😀b"), [])[0] == ["a", "", "", "", "😀", "b", ""]
    assert written(byte, byte.encode("a😀")[:-1], [])[0] == ["a", "", "", "", ""]  # it never ends
    assert written(byte, byte.encode("a😀b"), ["😀"]) == (["a", "", "", "", ""], True)


def test_every_token_has_a_name_and_their_bytes_make_the_text():
    byte = TOKENIZERS["byte"]
    ids = byte.encode("é\n")
    pieces, _ = Writer(byte, [], []).write(outputs(ids, candidates=[0xA9, 0xC3, ord("e")]))
    content = ChatReply(3).whole(0, pieces, "length")["logprobs"]["content"]
    assert [token["token"] for token in content] == ["⟨c3⟩", "é", "\n"]
    assert bytes(byte for token in content for byte in token["bytes"]).decode() == "é\n"
    # After ⟨c3⟩, its second byte makes é, another first byte shows that the character was none.
    assert [other["token"] for other in content[1]["top_logprobs"]] == ["é", "\ufffd", "\ufffde"]
    told = CompletionReply(3, 1).whole(0, pieces, "length")
    assert (told["text"], told["logprobs"]["text_offset"], told["token_ids"]) == ("é\n", [0, 0, 1], ids)
    assert [len(others) for others in told["logprobs"]["top_logprobs"]] == [3, 3, 3]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_candidate_adds_what_it_would_add_to_the_whole_text(kind):
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(TEXT)
    for other in (ids[0], ids[-1], ids[len(ids) // 2]):
        writer = Writer(tokenizer, ids[:3], [])
        pieces, _ = writer.write(outputs(ids[3:], [other]))
        for place, piece in enumerate([*pieces, *writer.rest()], start=3):
            *_, text = tokenizer.decode_stream([*ids[:place], other])
            assert piece.candidates[0].text == text, place


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_a_model_writes_is_written(kind, data):
    """Bytes that are no text too."""
    tokenizer = TOKENIZERS[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=20))
    parts, stopped = written(tokenizer, [*ids, *tokenizer.encode("home")], ["never to come"])
    assert not stopped
    assert "".join(parts).endswith("home")


def test_bytes_of_any_vocabulary_look_alike():
    imported = TOKENIZERS["imported"]
    assert [imported.token_text(id) for id in imported.encode("é\n")] == ["␣", "⟨c3⟩", "⟨a9⟩", "⏎"]
