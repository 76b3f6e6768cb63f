"""The word tokenizer: text becomes the ids of its words and ids readable text, by the frequent words of a corpus."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from jaxgpt.errors import UserError, clipped, kind_in_json, shown
from jaxgpt.text.moses import join_stream, split
from jaxgpt.text.tokenizer import Encoded, Special, visible

UNK, EOS = "<unk>", "<eos>"  # a word outside the vocabulary; the end of a line
SPECIAL = (UNK, EOS, "<pad>", "<system>", "<user>", "<assistant>", "<end>")  # ids 0 to 6 of every vocabulary
UNK_ID, EOS_ID = 0, 1
WORD_SPECIAL = Special(
    unk=UNK_ID, bos=EOS_ID, eos=EOS_ID, newline=EOS_ID, pad=2, system=(3,), user=(4,), assistant=(5,), end=6
)

_FORMAT = 1  # of the file and of the way text is split: a change of either is another tokenizer


@dataclass(frozen=True)
class WordTokenizer:
    """A vocabulary: `words[id]` is the word of an id, the special ones first. A line break is the token <eos>."""

    words: tuple[str, ...]

    @property
    def kind(self) -> str:
        return "word"

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    @property
    def special(self) -> Special:
        return WORD_SPECIAL

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the vocabulary in hexadecimal digits: equal tokenizers have equal ones anywhere."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(["word", _FORMAT, *self.words]).encode()).hexdigest()

    @cached_property
    def _text_ids(self) -> dict[str, int]:
        """The ids that text can have. Of the special words only WikiText's own <unk> is one of them."""
        ids = {word: id for id, word in enumerate(self.words) if id >= len(SPECIAL)}
        return {UNK: UNK_ID, **ids}

    def encode(self, text: str) -> list[int]:
        """Returns the ids of the words of `text`, with <eos> for each line break; control words in it are text."""
        return self.encode_batch([text]).ids[0].tolist()

    def encode_batch(self, texts: Sequence[str], tokenized: bool = False) -> Encoded:
        """Returns what `encode` gives for each text, and what is lost in it; `tokenized` as in `split`."""
        get, ids, unknown = self._text_ids.get, [], []
        for text in texts:
            found: list[int] = []
            for number, line in enumerate(text.split("\n")):
                if number:
                    found.append(EOS_ID)
                words = split(line, tokenized)
                of_line = [get(word, -1) for word in words]
                if -1 in of_line:
                    lost = [word for word, id in zip(words, of_line, strict=True) if id < 0]
                    unknown += [len(word.encode("utf-8", "surrogatepass")) for word in lost]
                    of_line = [UNK_ID if id < 0 else id for id in of_line]
                found += of_line
            ids.append(np.array(found, np.int32))
        return Encoded(ids, len(unknown), sum(unknown))

    def unknown(self, text: str) -> list[str]:
        """Returns the words of `text` that are not in the vocabulary, in their order, each once."""
        words = (word for line in text.split("\n") for word in split(line))
        return list(dict.fromkeys(word for word in words if word not in self._text_ids))

    def token_text(self, id: int) -> str:
        """Returns the word of an id as it is shown to people: a character that cannot be seen by its number."""
        return self.words[id] if id < len(SPECIAL) else visible(self.words[id].encode("utf-8", "surrogatepass"))

    def decode(self, ids: Iterable[int]) -> str:
        """Returns readable text of `ids`: <eos> is a line break, other special words stand as they are written."""
        return "".join(self.decode_stream(ids))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yields for each id, as it comes, its piece of `decode(ids)`."""
        for is_line_end, run in groupby(ids, key=lambda id: id == EOS_ID):
            if is_line_end:
                yield from ("\n" for _ in run)
            else:
                yield from join_stream(self.words[id] for id in run)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything about the tokenizer in the types of JSON."""
        return {"format": _FORMAT, "kind": "word", "fingerprint": self.fingerprint, "words": list(self.words)}

    @classmethod
    def from_dict(cls, content: Any, source: str = "tokenizer") -> "WordTokenizer":
        """Returns the tokenizer that `to_dict` described; raises UserError, naming `source`, where it is damaged."""
        found = (content.get("format"), content.get("kind")) if isinstance(content, dict) else kind_in_json(content)
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


def train_word_tokenizer(texts: Iterable[str], vocab_size: int, tokenized: bool = False) -> tuple[WordTokenizer, str]:
    """Returns (the tokenizer of the most frequent words of these texts, how it came about in words)."""
    counts = count_words(texts, tokenized)
    kept = leave_unknown(counts, vocab_size)
    tokenizer = tokenizer_from_counts(kept, vocab_size)
    told = (
        f"{len(counts):,} types of words in train, <eos> counted; "
        f"vocabulary of {tokenizer.vocab_size:,}, {len(SPECIAL)} of them special tokens"
    )
    if left_out := len(counts) - len(kept):
        told += f"\n  {left_out:,} words that are seen once are encoded as <unk>, so that the model learns what that is"
    return tokenizer, told


def count_words(texts: Iterable[str], tokenized: bool = False) -> Counter[str]:
    """Returns how often each word is in these texts, with an <eos> for the end of each of their lines.

    `tokenized` as in `split`.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        for line in text.split("\n"):
            counts.update(split(line, tokenized))
            counts[EOS] += 1
    return counts


def leave_unknown(counts: Counter[str], vocab_size: int) -> Counter[str]:
    """Returns the counts less the words seen once, where all words fit in the vocabulary and none is <unk>.

    Elsewhere it returns them as they are. A model that never sees <unk> in training gives it no probability, and each
    unknown word of another text costs it about 13 nats. Words seen once teach it what an unknown word is like, and lose
    next to nothing by it.
    """
    types = counts.keys() - set(SPECIAL)
    if counts[UNK] or len(types) > vocab_size - len(SPECIAL):
        return counts
    return Counter({word: count for word, count in counts.items() if count > 1 or word in SPECIAL})


def tokenizer_from_counts(counts: Counter[str], vocab_size: int) -> WordTokenizer:
    """Returns the tokenizer of the most frequent words, at most `vocab_size` with the special ones; ties by alphabet.

    Raises UserError where `vocab_size` leaves no room for a word.
    """
    if vocab_size <= len(SPECIAL):
        least = len(SPECIAL) + 1
        raise UserError(f"vocab_size: {vocab_size} given, but {len(SPECIAL)} words are special: give {least} or more")
    words = sorted(counts.keys() - set(SPECIAL), key=lambda word: (-counts[word], word))
    return WordTokenizer(SPECIAL + tuple(words[: vocab_size - len(SPECIAL)]))
