"""A run's tokenizer as the files that transformers and `tokenizers` read, where they can express it."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from jaxgpt.config import ModelConfig
from jaxgpt.convert.chat_template import format_of, template_of
from jaxgpt.files import write_text
from jaxgpt.run.folder import Run
from jaxgpt.text.bpe_tokenizer import NAMES, PATTERNS, BpeTokenizer, written
from jaxgpt.text.char_tokenizer import CharTokenizer
from jaxgpt.text.imported_tokenizer import ImportedTokenizer
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.text.word_tokenizer import EOS, UNK, WordTokenizer

EACH_CHARACTER = r"[\s\S]"
BLANKS = r"[\s\x1c-\x1f\x85]+"  # what Python splits words at
BETWEEN_BLANKS = "its tokenizer takes text whose words stand between blanks, as WikiText's: 'The end .', not 'The end.'"
IDS_ONLY = (
    "no tokenizer goes along: its words are split by rules that tokenizer.json cannot express. The model takes ids as "
    "jaxgpt's word tokenizer gives them: python -m jaxgpt tokenize TEXT --with RUN --ids"
)


def write_tokenizer(folder: Path, run: Run, model: ModelConfig) -> list[str]:
    """Writes tokenizer.json, tokenizer_config.json and the chat template; returns what is to be said about them."""
    tokenizer = run.tokenizer
    content = _content(tokenizer, run, model)
    if content is None:
        return [IDS_ONLY]
    write_text(folder / "tokenizer.json", json.dumps(content, ensure_ascii=False) + "\n")
    special, form = tokenizer.special, format_of(tokenizer)
    chat = run.data.is_chat
    ends = special.end if chat else special.eos
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.context_len,
        "bos_token": _name(tokenizer, special.bos),
        "eos_token": _name(tokenizer, ends),
        "pad_token": _name(tokenizer, special.pad),
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "add_eos_token": False,
    }
    if special.unk is not None:
        config["unk_token"] = _name(tokenizer, special.unk)
    if chat:
        config["chat_template"] = template_of(form)
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    return [BETWEEN_BLANKS] if isinstance(tokenizer, WordTokenizer) else []


def _name(tokenizer: Tokenizer, id: int) -> str:
    return tokenizer.decode([id]) if not isinstance(tokenizer, WordTokenizer) else tokenizer.words[id]


def _content(tokenizer: Tokenizer, run: Run, model: ModelConfig) -> dict[str, Any] | None:
    """Returns a tokenizer.json that gives the same ids, or None where it could not."""
    if isinstance(tokenizer, ImportedTokenizer):
        return _without(json.loads(tokenizer.content), model.vocab_size)
    if isinstance(tokenizer, BpeTokenizer):
        return _without(_bpe(tokenizer), model.vocab_size)
    if isinstance(tokenizer, CharTokenizer):
        return _chars(tokenizer)
    if isinstance(tokenizer, WordTokenizer) and run.data.tokenized and not run.data.is_chat:
        return _words(tokenizer)
    return None


def _without(content: dict[str, Any], vocab_size: int) -> dict[str, Any]:
    """Returns a tokenizer without the tokens that were added to it and that its model does not have."""
    return content | {"added_tokens": [token for token in content["added_tokens"] if token["id"] < vocab_size]}


def _bpe(tokenizer: BpeTokenizer) -> dict[str, Any]:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocab = {written(token): id for id, token in enumerate(tokenizer.tokens)}
    model = Tokenizer(models.BPE(vocab, merges_of(tokenizer)))
    split = pre_tokenizers.Split(Regex(PATTERNS[tokenizer.pattern]), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])  # type: ignore[assignment]
    if tokenizer.pattern == "gpt2":
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    model.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    model.add_special_tokens(list(NAMES))
    return json.loads(model.to_str())


def merges_of(tokenizer: BpeTokenizer) -> list[tuple[str, str]]:
    """Returns the two tokens that each merge joins: what the token's bytes become by the merges before it."""
    ranks = {token: rank for rank, token in enumerate(tokenizer.tokens)}
    merges = []
    for rank, token in enumerate(tokenizer.tokens[256:], start=256):
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            pairs = [ranks.get(left + right, rank) for left, right in pairwise(parts)]
            least = min(pairs)
            if least >= rank:
                break
            at = pairs.index(least)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        assert len(parts) == 2, f"no pair of earlier tokens makes {token!r}"
        merges.append((written(parts[0]), written(parts[1])))
    return merges


def _chars(tokenizer: CharTokenizer) -> dict[str, Any]:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    from jaxgpt.text.char_tokenizer import NAMES as OWN

    vocab = {token: id for id, token in enumerate([*OWN, *tokenizer.characters])}
    model = Tokenizer(models.WordLevel(vocab, OWN[0]))
    model.pre_tokenizer = pre_tokenizers.Split(Regex(EACH_CHARACTER), "isolated")  # type: ignore[assignment]
    model.decoder = decoders.Fuse()  # type: ignore[assignment]
    model.add_special_tokens(list(OWN))
    return json.loads(model.to_str())


def is_of_words(content: dict[str, Any]) -> bool:
    """Returns whether a tokenizer.json knows whole words, and not characters, which are listed in the same way."""
    split = content.get("pre_tokenizer") or {}
    return content["model"]["type"] == "WordLevel" and split.get("pattern") != {"Regex": EACH_CHARACTER}


def _words(tokenizer: WordTokenizer) -> dict[str, Any]:
    """Returns the tokenizer of text whose words stand between blanks, as WikiText's do."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    model = Tokenizer(models.WordLevel({word: id for id, word in enumerate(tokenizer.words)}, UNK))
    model.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("\n", f" {EOS} ")])  # type: ignore[assignment]
    model.pre_tokenizer = pre_tokenizers.Split(Regex(BLANKS), "removed")  # type: ignore[assignment]
    # A blank before each token but the first, and but for those with a prefix that no word can have.
    spaced = decoders.WordPiece(prefix=" ", cleanup=False)
    model.decoder = decoders.Sequence([spaced, decoders.Replace(f" {EOS}", "\n")])  # type: ignore[assignment]
    return json.loads(model.to_str())
