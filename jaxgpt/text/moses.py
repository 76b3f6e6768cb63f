"""Splits text into words by WikiText's conventions, and joins words into readable text again.

WikiText was written by the Moses tokenizer: punctuation stands alone, `don't` is `don 't`, and a mark
inside a word or a number is set between at signs, `well @-@ known`, `1 @,@ 000`, `3 @.@ 5`, which tells it
from one that stood alone. Where Moses and WikiText-2 disagree, the form more frequent in WikiText-2 is used.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

# Symbols that are never part of a word. Of . , ' and - it depends on what is around them.
_ASCII_SYMBOLS = r"""!"#$%&()*+/:;=?\[\\\]^_`{|}~"""
_OTHER_SYMBOLS = (
    r"\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb-\u00bf\u00d7\u00f7"  # Latin-1
    r"\u2010-\u205f\u20a0-\u20cf\u2190-\u27ff\u2900-\u2bff"  # punctuation, currency, arrows, mathematics
    r"\u3001-\u3003\u3008-\u3020\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"  # East Asian
    r"\ufe0f\U0001f000-\U0001faff"  # pictures
    r"\u037e\u0387\u055d\u055f\u0589\u058a\u05be\u05c0\u05c3\u05c6"  # Greek, Armenian, Hebrew
    r"\u0609\u060a\u060c\u060d\u061b\u061d-\u061f\u066a\u066d\u06d4\u0700-\u070d"  # Arabic, Urdu, Syriac
    r"\u0964\u0965\u0df4\u0e4f\u0e5a\u0e5b\u0f04-\u0f12\u0f14\u0f3a-\u0f3d"  # India, Thai, Tibetan
    r"\u104a-\u104f\u10fb\u1360-\u1368\u166e\u17d4-\u17d6\u17d8-\u17da\u1800-\u180a"  # Myanmar to Mongolia
    r"\u2e00-\u2e5d\ufe10-\ufe19\ufe30-\ufe52\ufe54-\ufe61"  # supplements, small and vertical forms
)
_PICTURE = r"[\u2600-\u27bf\U0001f000-\U0001faff]"
_SYMBOL = rf"[{_ASCII_SYMBOLS}{_OTHER_SYMBOLS}]"
_CHAR = rf"[^\s.,'\-<>@{_ASCII_SYMBOLS}{_OTHER_SYMBOLS}]"  # a character of a word, in any script
_LETTER = r"[^\W\d_]"

# What a corpus is judged by: marks that stand alone between blanks, as tokenizers leave them, and marks that touch a
# word, as people write them. Hyphens, full stops inside a line and signs such as & are no evidence: tokenizers leave
# many of them where they are.
_MARK = rf'[,"();:?!{_OTHER_SYMBOLS}]'
_ALONE = re.compile(rf"{_MARK}|\.|@[-,.]@|'s|n't|<unk>")
_TOUCHING = re.compile(
    rf"""["(]\w.*|.*\w(?:[,;:?!")]|[{_OTHER_SYMBOLS}])|(?!n't).*\w['’](?:s|t|re|ve|ll|d|m)""", re.DOTALL
)
_LAST_TOUCHING = re.compile(r".*[a-z][a-z]\.", re.DOTALL)  # at the end of a line
MOST_TOUCHING = 0.05  # of the marks in tokenized text
MOST_TYPES = 1_000_000  # that are counted before they are judged: a large text has more than fit in memory
LEAST_ALONE = 0.01  # marks alone, for each word of tokenized text

_SAME_MARK = str.maketrans(
    {**dict.fromkeys("‘’‚‛`", "'"), **dict.fromkeys("“”„‟", '"'), **dict.fromkeys("‐‑", "-"), "…": "..."}
)
# Characters that a reader takes for others: letters and digits of full width, ligatures; and those nobody sees, such as
# the soft hyphen and the byte order mark.
_LOOK_ALIKES = [*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B), *range(0xFB00, 0xFB07), 0xFF07]
_SAME_CHARACTER = {code: unicodedata.normalize("NFKC", chr(code)) for code in _LOOK_ALIKES}
_SAME_CHARACTER |= {**dict.fromkeys([0xAD, 0x200B, 0x2060, 0xFEFF], ""), 0x02BC: "'"}

_ELIDED = "em|tis|twas|til|till|cause|bout|n|neath"  # 'em is not the second half of a word
_CLITICS = "s|t|re|ve|ll|d|m"
# Where something closes a quotation 'like this', an apostrophe before a letter opens it; elsewhere it is the
# second half of a word: O 'Brien.
_CLOSING_QUOTE = re.compile(rf"(?<=\S)'(?!{_CHAR})")
_OPENING_QUOTE = re.compile(rf"(?<=\s)'(?!(?:{_CLITICS})(?!{_CHAR}))")

# Moses' abbreviations, less those whose full stop WikiText mostly splits off (Jr. Inc. Ltd. Co.).
_ABBREVIATIONS = (
    "Adm|Brig|Bros|Capt|Cmdr|Col|Comdr|Cpl|Dr|Drs|Gen|Gov|Hon|Insp|Lt|Maj|Messrs|Mlle|Mme|Mr|Mrs|Ms|Op|Prof|Pvt"
    "|Rep|Rev|Sen|Sgt|Sr|St|Supt|v|vs"
)
_INNER_MARK = re.compile(
    rf"(?:(?<={_CHAR})|(?<=<unk>))-(?={_CHAR}|<unk>)"
    r"|(?<=\d)[.,](?=\d|<unk>)"
    r"|(?<=<unk>)[.,](?=\d)"
)
_AFTER_WORD = rf"(?:(?<={_LETTER})|(?<={_LETTER}\ )|(?<=<unk>)|(?<=<unk>\ ))"
_WORD = re.compile(
    rf"""
    <(?:unk|formula)>
  | (?<!\S)@[-,.]@(?!\S)
  | {_AFTER_WORD}'(?={_LETTER})(?!(?i:{_ELIDED})(?!{_CHAR})){_CHAR}+   # don 't
  | (?:(?<=\d)|(?<=\d\ ))'s(?!{_CHAR})                     # 1990 's
  | (?<!{_CHAR})(?:{_ABBREVIATIONS})\.(?!\.)
  | (?<!{_CHAR})(?:No|Nos|Nr|pp)\.(?=\ ?\d)
  | (?:{_CHAR}+\.)+{_LETTER}\.(?!\.|{_CHAR})               # U.S. e.g. Ph.D.
  | (?<!{_CHAR})[A-Z]\.(?!\.|{_CHAR})                      # the initial of a name
  | {_CHAR}+(?:\.{_CHAR}+)+                                # Amazon.com
  | {_CHAR}+-(?!-)                                         # 18- to 49 @-@ year @-@ olds
  | {_CHAR}+
  | (?<!{_CHAR})\.\d+(?!{_CHAR})                           # .50 caliber
  | \.\.+ | --+ | __+ | {_PICTURE}[{_PICTURE[1:-1]}\u200d\ufe0f]*
  | \S
    """,
    re.VERBOSE,
)


# How words are written next to each other.
_INNER = {"@-@": "-", "@,@": ",", "@.@": "."}
_CLOSING = frozenset([*".,;:!?)]}%°،؛؟۔।॥", "..."])  # no blank before
_OPENING = frozenset("([{$£€¥₹₤¿¡")  # no blank after
_JOINING = frozenset([*"/—_@\\^‑、。，！？；：（）「」『』【】《》", *_INNER])  # neither
_REPEATED = frozenset("=*#+~<>|&-")  # == is two words
_NO_QUOTE = frozenset(_ELIDED.split("|")) - {"n"}  # 'em opens no quotation; 'n' is closed like one


def is_tokenized(lines: Iterable[str]) -> bool:
    """Whether a corpus, judged by all its lines, is split into words already, as WikiText and Penn Treebank are.

    So it is when its punctuation and clitics (`'s`, `n't`, `<unk>`) are there, and stand alone throughout. In raw text
    nearly all of them touch a word; text without any is raw, too, which makes no difference.
    """
    alone = touching = total = 0
    words: Counter[str] = Counter()
    last: Counter[str] = Counter()

    def judge() -> None:
        nonlocal alone, touching, total
        alone += sum(count for word, count in words.items() if _ALONE.fullmatch(word))
        touching += sum(count for word, count in words.items() if _TOUCHING.fullmatch(word))
        touching += sum(count for word, count in last.items() if _LAST_TOUCHING.fullmatch(word))
        total += words.total()
        words.clear()
        last.clear()

    for line in lines:
        found = line.split()
        words.update(found)
        last.update(found[-1:])
        if len(words) >= MOST_TYPES:
            judge()
    judge()
    return alone > LEAST_ALONE * total and touching <= MOST_TOUCHING * (alone + touching)


def split(line: str, tokenized: bool = False) -> list[str]:
    """The words of one line of text; words joined by blanks are split into the same words again.

    Text that is `tokenized` already is only split at its blanks. In other text typographic quotes, backticks
    and hyphens become the plain ones, two apostrophes a double quote, and `…` three full stops; nothing else that
    can be seen is changed and nothing lost. Words that look alike are alike, however their characters are encoded.
    """
    if not line.isascii():
        line = line if tokenized else line.translate(_SAME_CHARACTER)
        line = unicodedata.normalize("NFC", line)
    if tokenized:
        return line.split()
    line = " ".join(line.translate(_SAME_MARK).replace("''", '"').split())
    if _CLOSING_QUOTE.search(line):
        line = _OPENING_QUOTE.sub("' ", line)
    return _WORD.findall(_INNER_MARK.sub(r" @\g<0>@ ", line))


def join(words: Iterable[str]) -> str:
    """The readable text of one line of words: punctuation attached, quotes opened and closed in turn."""
    return "".join(join_stream(words))


def join_stream(words: Iterable[str]) -> Iterator[str]:
    """Yields for each word its piece of `join(words)`; no piece depends on the words that follow it."""
    before, last = "", ""  # the two words in front of this one
    in_double = in_single = False
    touches = True  # this word follows without a blank, as at the start of a line
    for word in words:
        closes = False
        if word == '"':
            in_double = not in_double or last in _OPENING
            closes = not in_double
        elif word == "'":
            closes = in_single or _may_end_in_apostrophe(last)
            in_single = not closes
        elif last == "'" and (word[:1].isdigit() or word.lower() in _NO_QUOTE):
            in_single = False
        blank = "" if touches or closes or _touch(before, last, word) else " "
        yield blank + _INNER.get(word, word)
        before, last = last, word
        touches = word in ('"', "'") and not closes


def _touch(before: str, last: str, word: str) -> bool:
    """Whether `word` is written after `last`, which follows `before`, with no blank; quotes aside."""
    if word in _CLOSING or word in _JOINING or last in _OPENING or last in _JOINING:
        return True
    if word[:1] == "'" != word:
        return last[-1:].isalnum() or last == "<unk>"
    if word == last:
        return word in _REPEATED
    if last == "'":
        return word == "s" and _is_dotted(before)
    if last == ":":
        return before[-1:].isdigit() and word[:1].isdigit()
    if word == "–":
        return last[-1:].isdigit()
    if last == "–":
        return before[-1:].isdigit() and word[:1].isdigit()
    if word == "&":
        return _is_initials(last)
    if last == "&":
        return _is_initials(before)
    if last == "#":
        return word[:1].isdigit()
    if last == "°":
        return word in ("C", "F", "C.", "F.")
    return last == "US" and word == "$"


def _may_end_in_apostrophe(word: str) -> bool:
    """Whether an apostrophe after `word` rather belongs to it than opens a quotation: dogs' goin' L.A.'s."""
    if word[:1] == "'":
        return False
    return word == "<unk>" or word[-1:] == "s" or (len(word) > 3 and word.endswith("in")) or _is_dotted(word)


def _is_dotted(word: str) -> bool:
    return len(word) > 2 and word[-1] == "."


def _is_initials(word: str) -> bool:
    return len(word) <= 2 and word.isupper()
