"""Turns text into the ids of its words and ids into readable text, by a vocabulary built from a corpus."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgpt.errors import UserError, clipped, shown
from jaxgpt.files import parse_json, write_text
from jaxgpt.text.moses import join_stream, split

UNK, EOS = "<unk>", "<eos>"  # a word outside the vocabulary; the end of a line
SPECIAL = (UNK, EOS, "<pad>", "<system>", "<user>", "<assistant>", "<end>")  # ids 0 to 6 of every vocabulary

_FORMAT = 1  # of the file and of the way text is split: a change of either is another tokenizer


class Encoded(NamedTuple):
    """The ids [N] int32 of a corpus, and what cannot be read back from them."""

    ids: np.ndarray
    unknown: int
    """Words outside the vocabulary; those that the text itself has as <unk> are not counted."""
    unknown_bytes: int
    """Bytes in UTF-8 of these words together."""


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary: `words[id]` is the word of an id, the special ones first."""

    words: tuple[str, ...]

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    @property
    def unk_id(self) -> int:
        return SPECIAL.index(UNK)

    @property
    def eos_id(self) -> int:
        return SPECIAL.index(EOS)

    @property
    def pad_id(self) -> int:
        return SPECIAL.index("<pad>")

    @property
    def system_id(self) -> int:
        return SPECIAL.index("<system>")

    @property
    def user_id(self) -> int:
        return SPECIAL.index("<user>")

    @property
    def assistant_id(self) -> int:
        return SPECIAL.index("<assistant>")

    @property
    def end_id(self) -> int:
        return SPECIAL.index("<end>")

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the vocabulary in hexadecimal digits: equal tokenizers have equal ones anywhere."""
        content = json.dumps(["word", _FORMAT, *self.words])
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def _text_ids(self) -> dict[str, int]:
        """The ids that text can have. Of the special words only WikiText's own <unk> is one of them."""
        ids = {word: id for id, word in enumerate(self.words) if id >= len(SPECIAL)}
        return {UNK: self.unk_id, **ids}

    def encode(self, text: str) -> list[int]:
        """The ids of the words of `text`, with <eos> for each line break; control words in it are text."""
        ids: list[int] = []
        for number, line in enumerate(text.split("\n")):
            if number:
                ids.append(self.eos_id)
            ids.extend(self._text_ids.get(word, self.unk_id) for word in split(line))
        return ids

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` that are not in the vocabulary, in their order, each once."""
        words = (word for line in text.split("\n") for word in split(line))
        return list(dict.fromkeys(word for word in words if word not in self._text_ids))

    def encode_lines(self, lines: Iterable[str], tokenized: bool = False) -> np.ndarray:
        """The ids [N] int32 of the words of a corpus, every line, blank ones too, followed by <eos>."""
        return self.encode_corpus(lines, tokenized).ids

    def encode_corpus(self, lines: Iterable[str], tokenized: bool = False) -> Encoded:
        """What `encode_lines` gives, with what is lost in it; `tokenized` as in `split`."""
        get, unk_id, eos_id = self._text_ids.get, self.unk_id, self.eos_id
        unknown: list[int] = []  # the bytes of each unknown word

        def iterate() -> Iterator[int]:
            for line in lines:
                for word in split(line, tokenized):
                    id = get(word)
                    if id is None:
                        unknown.append(len(word.encode("utf-8", "surrogatepass")))
                        id = unk_id
                    yield id
                yield eos_id

        ids = np.fromiter(iterate(), np.int32)
        return Encoded(ids, len(unknown), sum(unknown))

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text of `ids`: <eos> is a line break, other special words stand as they are written."""
        return "".join(self.decode_stream(ids))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yields for each id, as it comes, its piece of `decode(ids)`."""
        for is_line_end, run in groupby(ids, key=lambda id: id == self.eos_id):
            if is_line_end:
                yield from ("\n" for _ in run)
            else:
                yield from join_stream(self.words[id] for id in run)

    def to_dict(self) -> dict[str, Any]:
        """Everything about the tokenizer in the types of JSON."""
        return {"format": _FORMAT, "kind": "word", "fingerprint": self.fingerprint, "words": list(self.words)}

    def save(self, path: Path | str) -> None:
        """Writes the tokenizer as JSON, whole or not at all."""
        write_text(Path(path), json.dumps(self.to_dict(), indent=0) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Reads what `save` wrote. Raises UserError when the file is missing or not what was written."""
        try:
            content = parse_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: the tokenizer cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"{path}: not a tokenizer file, which is JSON ({error}); make it anew") from error
        return cls.from_dict(content, source=str(path))

    @classmethod
    def from_dict(cls, content: Any, source: str = "tokenizer") -> "Tokenizer":
        """The tokenizer that `to_dict` described; raises UserError, naming `source`, where it is damaged."""
        found = (content.get("format"), content.get("kind")) if isinstance(content, dict) else type(content).__name__
        if found != (_FORMAT, "word"):
            read = f"this version reads ({_FORMAT}, 'word')"
            raise UserError(f"{source}: format and kind are {clipped(str(found))}, {read}; make it anew")
        words = content.get("words")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UserError(f"{source}: `words` must be a list of words; make the tokenizer anew")
        if tuple(words[: len(SPECIAL)]) != SPECIAL:
            raise UserError(f"{source}: `words` must begin with {' '.join(SPECIAL)}; make the tokenizer anew")
        if len(set(words)) != len(words):
            twice = Counter(words).most_common(1)[0][0]
            raise UserError(f"{source}: {shown(twice)} is more than once among `words`; make the tokenizer anew")
        tokenizer = cls(tuple(words))
        if content.get("fingerprint") != tokenizer.fingerprint:
            raise UserError(f"{source}: `words` do not match `fingerprint`, the file was changed; make it anew")
        return tokenizer


def build_tokenizer(lines: Iterable[str], vocab_size: int) -> Tokenizer:
    """The tokenizer of the most frequent words of `lines`, at most `vocab_size` words with the special ones.

    Raises UserError where `vocab_size` leaves no room for a word.
    """
    return tokenizer_from_counts(count_words(lines), vocab_size)


def count_words(lines: Iterable[str], tokenized: bool = False) -> Counter[str]:
    """How often each word is in `lines`, with one <eos> for each line; `tokenized` as in `split`."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(split(line, tokenized))
        counts[EOS] += 1
    return counts


def leave_unknown(counts: Counter[str], vocab_size: int) -> Counter[str]:
    """The counts less the words seen once, where all words fit in the vocabulary and none is <unk>; else as they are.

    A model that never sees <unk> in training gives it no probability, and each unknown word of another text costs it
    about 13 nats. Words seen once teach it what an unknown word is like, and lose next to nothing by it.
    """
    types = counts.keys() - set(SPECIAL)
    if counts[UNK] or len(types) > vocab_size - len(SPECIAL):
        return counts
    return Counter({word: count for word, count in counts.items() if count > 1 or word in SPECIAL})


def tokenizer_from_counts(counts: Counter[str], vocab_size: int) -> Tokenizer:
    """The tokenizer that `build_tokenizer` makes, from words counted already; ties go by alphabet."""
    if vocab_size <= len(SPECIAL):
        least = len(SPECIAL) + 1
        raise UserError(f"vocab_size: {vocab_size} given, but {len(SPECIAL)} words are special: give {least} or more")
    words = sorted(counts.keys() - set(SPECIAL), key=lambda word: (-counts[word], word))
    return Tokenizer(SPECIAL + tuple(words[: vocab_size - len(SPECIAL)]))
