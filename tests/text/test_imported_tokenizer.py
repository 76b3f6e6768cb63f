"""Tokenizers from elsewhere: the same ids, none moved, and refused in words where they cannot be read."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from jaxgpt.errors import UserError
from jaxgpt.text.bpe_tokenizer import BpeTokenizer
from jaxgpt.text.imported_tokenizer import ImportedTokenizer
from jaxgpt.text.tokenizer_json import import_tokenizer
from jaxgpt.text.vocabulary import Recipe, check_choice, find_tokenizer, load_tokenizer, make_tokenizer, save_tokenizer
from jaxgpt.text.word_tokenizer import SPECIAL, WordTokenizer

TEXTS = [
    "The cat sat on the mat.",
    "don't  you\n\nsee 12345?",
    "naïve l'été 你好 👩‍👩‍👧",
    "the <|endoftext|> <|end|> </s> cat",
]


def gpt2_like(special=("<|endoftext|>",)) -> Tokenizer:
    """A byte-level BPE as GPT-2's, learned from a few texts; its special tokens come last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS[:3] * 5, trainer)
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def written(tokenizer: Tokenizer, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    tokenizer.encode_special_tokens = True
    return tokenizer.encode(text, add_special_tokens=False).ids


def test_a_vocabulary_as_gpt2s_becomes_our_own(tmp_path):
    theirs = gpt2_like()
    ours = import_tokenizer(written(theirs, tmp_path))
    assert isinstance(ours, BpeTokenizer)
    assert ours.pattern == "gpt2"
    assert ours.special.eos == theirs.token_to_id("<|endoftext|>")
    for text in TEXTS:
        assert ours.encode(text) == plain_ids(theirs, text)
    assert ours.special.user == (theirs.get_vocab_size() + 1,)  # what is added moves no id


def test_vocab_and_merges_are_the_same_tokenizer(tmp_path):
    theirs = gpt2_like()
    whole = import_tokenizer(written(theirs, tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    content = json.loads(theirs.to_str())
    vocab = content["model"]["vocab"] | {"<|endoftext|>": theirs.token_to_id("<|endoftext|>")}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    assert import_tokenizer(tmp_path) == whole


def other_kinds() -> dict[str, Tokenizer]:
    lower = gpt2_like()
    lower.normalizer = normalizers.Lowercase()
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.train_from_iterator(
        TEXTS * 5,
        trainers.UnigramTrainer(
            vocab_size=100, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
        ),
    )
    return {"two special tokens": gpt2_like(("<|endoftext|>", "<|pad|>")), "lower case": lower, "unigram": unigram}


@pytest.mark.parametrize("kind", ["two special tokens", "lower case", "unigram"])
def test_any_other_is_run_as_it_is(kind, tmp_path):
    theirs = other_kinds()[kind]
    ours = import_tokenizer(written(theirs, tmp_path))
    assert isinstance(ours, ImportedTokenizer)
    assert ours.vocab_size > theirs.get_vocab_size()
    for text in TEXTS:
        ids = ours.encode(text)
        expected = plain_ids(theirs, text)
        if "</s>" not in text:  # which Unigram takes for its token
            assert ids == expected
        assert [part.tolist() for part in ours.encode_batch([text, text]).ids] == [ids, ids]
        assert not set(ids) & (set(ours.special.ids) - {ours.special.unk})
        assert "".join(ours.decode_stream(ids)) == ours.decode(ids)
    assert ours.decode(ours.special.user) == "<|user|>"
    assert all(ours.token_text(id).strip() for id in range(ours.vocab_size))
    save_tokenizer(ours, tmp_path / "ours.json")
    again = load_tokenizer(tmp_path / "ours.json")
    assert (again.fingerprint, again.special, again.encode(TEXTS[0])) == (
        ours.fingerprint,
        ours.special,
        ours.encode(TEXTS[0]),
    )


def test_tokens_of_unusual_names_are_those_that_the_folder_states(tmp_path):
    """Else a text would begin and end with a token that the model never saw."""
    theirs = gpt2_like(("<<begin>>", "<<end>>"))
    written(theirs, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": {"content": "<<begin>>"}, "eos_token": "<<end>>", "pad_token": None})
    )
    special = import_tokenizer(tmp_path).special
    assert (special.bos, special.eos) == (theirs.token_to_id("<<begin>>"), theirs.token_to_id("<<end>>"))
    (tmp_path / "tokenizer_config.json").write_text("[]")
    assert import_tokenizer(tmp_path).special.eos == theirs.get_vocab_size()


@pytest.mark.parametrize("kind", ["words", "unigram"])
def test_what_is_unknown_is_the_models_own_token(kind, tmp_path):
    if kind == "words":
        theirs = Tokenizer(models.WordLevel({"[UNK]": 0, "cat": 1}, unk_token="[UNK]"))
        theirs.pre_tokenizer = pre_tokenizers.Whitespace()
    else:
        pieces = [("[UNK]", 0.0), ("c", -1.0), ("a", -1.0), ("t", -1.0), ("cat", -0.5)]
        theirs = Tokenizer(models.Unigram(pieces, unk_id=0))
        theirs.pre_tokenizer = pre_tokenizers.Whitespace()
    ours = import_tokenizer(written(theirs, tmp_path))
    assert ours.special.unk == 0
    assert ours.unknown("cat dog") == ["dog"]
    assert ours.encode_batch(["cat dog"]).unknown_bytes == 3


def test_the_tokenizer_of_a_run_is_taken_as_it_is(tmp_path):
    words = WordTokenizer((*SPECIAL, "a"))
    save_tokenizer(words, tmp_path / "tokenizer.json")
    assert find_tokenizer(tmp_path) == words


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", "not a tokenizer file, which is JSON"),
        ("tokenizer.json", "[]", "is no tokenizer.json"),
        ("tokenizer.json", '{"model": {"type": "none"}}', "is no tokenizer.json"),
        ("tokenizer.json", '{"kind": "word"}', "format and kind are"),
        ("tokenizer.model", "x", r"no tokenizer\.json, and no vocab\.json with merges\.txt \(SentencePiece's"),
    ],
)
def test_what_is_none_is_refused_in_words(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        find_tokenizer(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_vocabulary_of_another_order_is_refused(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1}))
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(UserError, match="is no vocabulary of GPT-2's kind"):
        import_tokenizer(tmp_path)


def test_a_recipe_is_made_by_its_kind(tmp_path):
    def read():
        return iter(TEXTS)

    made = {kind: make_tokenizer(Recipe(kind, 300), read, 0, False)[0] for kind in ("word", "bpe", "byte", "char")}
    assert {kind: tokenizer.kind for kind, tokenizer in made.items()} == {kind: kind for kind in made}
    written(gpt2_like(), tmp_path)
    imported, told = make_tokenizer(Recipe(str(tmp_path), 300), read, 0, False)
    assert told == f"vocabulary of {imported.vocab_size}: that of {tmp_path}"
    with pytest.raises(
        UserError, match=r"data\.tokenizer: 'syllables' was given; it must be word, bpe, byte, char, or"
    ):
        check_choice("syllables")


def test_a_large_text_is_sampled_evenly_and_that_is_said():
    taken = []

    def read():
        for number in range(100):
            taken.append(number)
            yield f"{'a' if number % 4 == 0 else 'b'} c"

    tokenizer, told = make_tokenizer(Recipe("char", 300, sample=100), read, 400, False)
    assert tokenizer.characters == ("\n", " ", "a", "c")
    assert "one in 4 parts of the text" in told
    assert len(taken) == 100


def test_the_identity_of_a_recipe_changes_with_its_files(tmp_path):
    path = written(gpt2_like(), tmp_path)
    before = Recipe(str(path), 300).identity
    assert before == Recipe(str(path), 300).identity != Recipe("bpe", 300).identity
    written(gpt2_like(("<|endoftext|>", "<|pad|>")), tmp_path)
    assert before != Recipe(str(path), 300).identity


def test_ids_without_a_token_have_a_place_and_a_mark(tmp_path):
    content = json.loads(other_kinds()["two special tokens"].to_str())
    content["added_tokens"][-1]["id"] += 5
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    ours = import_tokenizer(tmp_path)
    assert max(ours.special.ids) < ours.vocab_size
    assert all(ours.token_text(id).strip() for id in range(ours.vocab_size))
