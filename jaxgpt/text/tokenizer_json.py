"""Reading tokenizers made elsewhere: Hugging Face's tokenizer.json, and GPT-2's vocab.json with merges.txt.

A byte-level BPE in the order of its merges, as GPT-2's, becomes our own, which encodes several times quicker. Any other
is run by `tokenizers` itself. What chat needs beyond the tokens that are there follows after the last id: none moves.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxgpt.errors import UserError, clipped
from jaxgpt.files import parse_json, read_text
from jaxgpt.text.bpe_tokenizer import NAMES, PATTERNS, BpeTokenizer, from_written, irregular
from jaxgpt.text.imported_tokenizer import ChatFormat, ImportedTokenizer
from jaxgpt.text.tokenizer import Tokenizer

ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
"""What ends a document, by its usual names."""
BEGINS = ("<|begin_of_text|>", "<s>", "<bos>", "[CLS]")


def import_tokenizer(path: Path, chat: ChatFormat | None = None) -> Tokenizer:
    """Returns the tokenizer of a file or a folder; raises UserError where there is none that can be read.

    `chat` is how the model that it belongs to was taught to talk, which takes the place of our own special tokens.
    """
    if path.is_dir():
        if (path / "tokenizer.json").is_file():
            return import_tokenizer(path / "tokenizer.json", chat)
        if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
            return _from_vocab_and_merges(path)
        kind = " (SentencePiece's tokenizer.model alone cannot be read)" if (path / "tokenizer.model").exists() else ""
        raise UserError(f"data.tokenizer: {path} has no tokenizer.json, and no vocab.json with merges.txt{kind}")
    try:
        content = parse_json(read_text(path))
    except OSError as error:
        raise UserError(f"data.tokenizer: {path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"data.tokenizer: {path} is not JSON ({clipped(str(error))})") from None
    ours = _as_ours(content)
    if ours is not None and (chat is None or chat == ChatFormat(*NAMES[1:])):
        return ours
    return _as_it_is(content, str(path), chat, _stated(path.parent))


def _stated(folder: Path) -> dict[str, Any]:
    """Returns the tokens that begin and end a text by a folder's tokenizer_config.json, where there is one."""
    try:
        config = parse_json(read_text(folder / "tokenizer_config.json"))
        tokens = {field: config.get(f"{field}_token") for field in ("bos", "eos")}
    except (OSError, ValueError, AttributeError):
        return {}
    return {field: token["content"] if isinstance(token, dict) else token for field, token in tokens.items() if token}


def ids_of_folder(path: Path) -> int:
    """Returns how many ids the tokenizer of a folder, which `import_tokenizer` could read, has by itself."""
    if not (path / "tokenizer.json").is_file():
        return len(parse_json(read_text(path / "vocab.json")))
    from tokenizers import Tokenizer as HuggingFace

    ids = HuggingFace.from_file(str(path / "tokenizer.json")).get_vocab().values()
    return max(ids, default=-1) + 1


def _from_vocab_and_merges(folder: Path) -> Tokenizer:
    try:
        vocab = parse_json(read_text(folder / "vocab.json"))
        lines = read_text(folder / "merges.txt").splitlines()
        merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    except ValueError as error:
        raise UserError(f"data.tokenizer: {folder / 'vocab.json'} is not JSON ({clipped(str(error))})") from None
    tokens = _in_order_of_merges(vocab, merges, [name for name in (NAMES[0],) if name in vocab])
    if tokens is None:
        raise UserError(
            f"data.tokenizer: {folder} is no vocabulary of GPT-2's kind (bytes first, then each merge in its order); "
            "give its tokenizer.json"
        )
    return BpeTokenizer(tokens, "gpt2")


def _as_ours(content: Any) -> BpeTokenizer | None:
    """Returns a tokenizer.json as our own BPE, where that gives the same ids; else None."""
    try:
        model, added = content["model"], {token["content"]: token["id"] for token in content.get("added_tokens", [])}
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        pattern = _pattern(content["pre_tokenizer"])
        plain = model["type"] == "BPE" and not content.get("normalizer") and not model.get("dropout")
        plain = plain and not model.get("ignore_merges") and not model.get("byte_fallback")
        vocab = model["vocab"] | added
        if not plain or pattern is None or tuple(added) not in ((), NAMES[:1], NAMES):
            return None
        tokens = _in_order_of_merges(vocab, merges, list(added))
    except (KeyError, TypeError, AttributeError):
        return None
    return None if tokens is None else BpeTokenizer(tokens, pattern)


def _pattern(pre_tokenizer: Any) -> str | None:
    """Returns the name of the way text is split before merging, where it is one of ours."""
    if pre_tokenizer["type"] == "ByteLevel":
        return "gpt2" if pre_tokenizer.get("use_regex", True) and not pre_tokenizer["add_prefix_space"] else None
    if pre_tokenizer["type"] != "Sequence" or len(pre_tokenizer["pretokenizers"]) != 2:
        return None
    split, to_bytes = pre_tokenizer["pretokenizers"]
    if split["type"] != "Split" or split["behavior"] != "Isolated" or split["invert"]:
        return None
    if to_bytes["type"] != "ByteLevel" or to_bytes["add_prefix_space"] or to_bytes.get("use_regex", True):
        return None
    return next((name for name, pattern in PATTERNS.items() if pattern == split["pattern"].get("Regex")), None)


def _in_order_of_merges(vocab: Any, merges: Sequence[tuple[str, ...]], last: Sequence[str]) -> tuple[bytes, ...] | None:
    """Returns the tokens by id: the bytes, then what each merge makes, then only those of `last`. Else None."""
    try:
        by_id = sorted(vocab, key=vocab.__getitem__)
        tokens = tuple(from_written(token) for token in by_id[: len(by_id) - len(last)])
        made = [from_written(left + right) for left, right in merges]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    in_order = list(tokens[256:]) == made and sorted(vocab.values()) == list(range(len(by_id)))
    return tokens if in_order and by_id[len(tokens) :] == list(last) and not irregular(tokens) else None


def _as_it_is(
    content: Any, source: str, chat: ChatFormat | None = None, stated: Mapping[str, Any] = MappingProxyType({})
) -> ImportedTokenizer:
    """Returns a tokenizer that `tokenizers` reads, with the special tokens it lacks added after its last id.

    What begins and ends a text has one of the usual names, or the one that is `stated`: of a model that talks that is
    often the end of a message.
    """
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as HuggingFace

    try:
        tokenizer = HuggingFace.from_str(json.dumps(content))
    except Exception as error:  # whatever it raises, the file is not one it can read
        raise UserError(f"data.tokenizer: {source} is no tokenizer.json ({clipped(str(error))})") from None
    there = tokenizer.get_vocab()
    eos = next((name for name in (*ENDS, stated.get("eos")) if name in there), NAMES[0])
    bos = next((name for name in (*BEGINS, stated.get("bos")) if name in there), eos)
    names = {"eos": eos, "bos": bos}
    if chat is None:
        names |= dict(zip(("system", "user", "assistant", "end"), NAMES[1:], strict=True))
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names.values() if name not in there])
    return ImportedTokenizer(tokenizer.to_str(), tuple(names.items()), chat)
