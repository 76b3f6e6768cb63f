"""Words by WikiText's conventions: what splits where, what stays, and that joining gives the text back."""

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxgpt.text.moses import is_tokenized, join, join_stream, split

# Raw text and the words WikiText would have for it.
CONVENTIONS = {
    "don't": "don 't",
    "it's": "it 's",
    "O'Brien": "O 'Brien",
    "the 1990's": "the 1990 's",
    "the dogs' bowls": "the dogs ' bowls",
    "beat 'em up in the '80s": "beat ' em up in the ' 80s",
    "L.A.M.B.'s line": "L.A.M.B. ' s line",
    "well-known": "well @-@ known",
    "18- to 49-year-olds": "18- to 49 @-@ year @-@ olds",
    "1,000 and 1,000,000": "1 @,@ 000 and 1 @,@ 000 @,@ 000",
    "3.5 and .50": "3 @.@ 5 and .50",
    "yes,no": "yes , no",
    "Wait... what….": "Wait ... what ....",
    "He said “yes” and ‘no’.": "He said \" yes \" and ' no ' .",
    "``so-called'' `code`": "\" so @-@ called \" ' code '",
    "He said 'hello' to me.": "He said ' hello ' to me .",
    "1911–1920 — 5−3": "1911 – 1920 — 5 − 3",
    "and/or 50% of $5 (US$6) [sic]": "and / or 50 % of $ 5 ( US $ 6 ) [ sic ]",
    "AT&T #1 at 10:30, 20°C": "AT & T # 1 at 10 : 30 , 20 ° C",
    "Really?! No!": "Really ? ! No !",
    "== Title ==": "= = Title = =",
    "-5 -- or - so": "- 5 -- or - so",
    "In the U.S. and the U.K.": "In the U.S. and the U.K.",
    "Mr. Smith vs. Dr. J. Doe, e.g. at 5 p.m.": "Mr. Smith vs. Dr. J. Doe , e.g. at 5 p.m.",
    "No. 5 is here. No. Not No.": "No. 5 is here . No . Not No .",
    "He works at Acme Inc. of Ohio.": "He works at Acme Inc . of Ohio .",
    "See Amazon.com.": "See Amazon.com .",
    "https://a.org/b_c?d=1": "https : / / a.org / b _ c ? d = 1",
    "**bold** `x`": "* * bold * * ' x '",
    "1. First": "1 . First",
    "<unk>'s <unk>-based <unk>.": "<unk> 's <unk> @-@ based <unk> .",
    "<user> says <eos>, <end>": "< user > says < eos > , < end >",
    "ok😀👍 fine": "ok 😀👍 fine",
    "हिन्दी, naïve": "हिन्दी , naïve",
}

TOKENIZED = [
    " = = Career = = ",
    "He didn 't know , at 5 ' 11 \" , that O 'Brien 's dogs ' bowls cost $ 1 @,@ 000 @.@ 50 .",
    "The 1,000th performance of rock 'n'roll , by Holtz Jr. and Sons Ltd. of Los Angeles .",
    "“ It ’ s , ” he said … , the 24 ‑ hour <formula> of `Abdu 'l @-@ Bahá",
    "<unk> ( <unk> , <unk> ) pp. <unk> – 94 @,@ <unk> ; var. <unk> .. ! .69 caliber M @-@ <unk>",
    "Mid @-@ Ohio . . . at Michigan",
]

SENTENCES = [
    '"Look, Mia!" said Tom. "It\'s raining."',
    'She said, "I don\'t know," and left.',
    '"Yes." "No." "Why?"',
    "It's well-known that 1,000 is more than 3.5.",
    "O'Brien's dogs weren't in the U.S. in the 1990's.",
    "The dogs' bowls were empty (all 12 of them).",
    "Mr. and Mrs. Smith live at No. 10 St. James Street.",
    "He paid $3.50 for 50% of it; she didn't.",
    "Wait... what? No! Really?!",
    "From 1911–1920 it was hard – very hard.",
    "I love rock 'n' roll and the '80s.",
    "He called it 'a small thing' and went on.",
    '"\'Tis nothing," he said. "I\'ll go."',
    "He said: \"She told me 'no' twice.\"",
    "Use and/or as you like: 4:52 or 10:30.",
    "A long-term, state-of-the-art plan [sic] works.",
    "The word—so they say—is good.",
    "R&B and Q&A by Smith & Sons, outside at 30°C.",
    "My email is tom@example.com and see https://example.com/my_page.",
    "US$28 million, £5 and €10.",
    "== Title ==",
    "Is it #1? What is 2 + 2?",
    "Who has the ball? Mia has the ball.",
]

MARKS = """ . , ' - < > @ " ! ? ( ) [ ] _ ` ’ ‘ “ … : ; $ % & / * = – '' -- ... @-@ @,@ @.@ \u0301 ٣ ² 😀 """
WORDS = "<unk> <eos> Mr. No. U.S. US 's a B s t em 7 1990 word é # °"
PIECES = [*MARKS.split(), *WORDS.split()]
SPACED = [" ", "\t", " the ", " dog ", " 's "]
texts = st.text() | st.lists(st.sampled_from(PIECES + SPACED), max_size=14).map("".join)


@pytest.mark.parametrize(("text", "words"), CONVENTIONS.items())
def test_split_follows_wikitext(text: str, words: str) -> None:
    assert split(text) == words.split()


@pytest.mark.parametrize("line", TOKENIZED)
def test_tokenized_text_passes_unchanged(line: str) -> None:
    assert split(line, tokenized=True) == line.split()


def test_blank_line_has_no_words() -> None:
    assert split(" \n") == []


@settings(deadline=None, max_examples=500)
@given(texts)
@example(".٣vs.\u0301 ")
@example(": 1990vs. ")
def test_words_joined_by_blanks_split_into_themselves(text: str) -> None:
    words = split(text)
    assert split(" ".join(words)) == words
    assert not any(re.search(r"\s", word) or not word for word in words)


@settings(deadline=None, max_examples=500)
@given(texts)
def test_split_loses_no_character(text: str) -> None:
    def plain(text: str) -> str:  # with the marks that split writes otherwise taken as one
        text = unicodedata.normalize("NFKC", re.sub("[\u00ad\u200b\u2060\ufeff]", "", text))
        text = re.sub("[‘’‚‛`\u02bc]", "'", text)
        text = re.sub("[“”„‟]", '"', text.replace("…", "...").replace("‐", "-").replace("‑", "-"))
        return unicodedata.normalize("NFKC", re.sub(r"\s|@", "", text.replace('"', "''")))

    assert plain("".join(split(text))) == plain(text)


@pytest.mark.parametrize("text", SENTENCES)
def test_join_gives_the_text_back(text: str) -> None:
    assert join(split(text)) == text


@pytest.mark.parametrize("text", SENTENCES)
def test_joined_words_split_into_themselves(text: str) -> None:
    assert split(join(split(text))) == split(text)


def test_join_of_tokenized_text() -> None:
    line = "In 1932 , the <unk> @-@ based O 'Brien 's paid US $ 1 @,@ 000 ( 3 @.@ 5 % ) for \" the R & B \" ."
    assert join(line.split()) == "In 1932, the <unk>-based O'Brien's paid US$1,000 (3.5%) for \"the R&B\"."
    assert split(join(line.split())) == line.split()


def test_odd_quote_in_brackets_opens() -> None:
    assert join(split('He said " yes ( " no " ) .')) == 'He said "yes ("no").'


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_stream_never_takes_a_piece_back(words: list[str]) -> None:
    assert len(list(join_stream(iter(words)))) == len(words)
    for count in range(len(words)):
        assert join(words).startswith(join(words[:count]))


# Like Penn Treebank as everyone has it: lower case, no punctuation, <unk> and N as words.
TREEBANK = [
    " mr. <unk> is chairman of <unk> n.v. the dutch publishing group ",
    " the company 's net income rose N N to $ N million or N cents a share ",
    " it does n't expect a loss for the year-earlier period u.s. officials said ",
    " rudolph <unk> N years old and former chairman of consolidated gold fields plc ",
    " a spokesman for at&t could n't be reached but s&p said the <unk> are n't at risk ",
]
RAW = [
    "Wait , what did the man say to them about it",  # one mark that stands alone
    "He didn't know, and so he asked: why?",
    "It's well-known that 3.5 is more than 1,000.",
    "the quick brown fox jumps over the lazy dog",
]


def test_whether_text_is_tokenized_is_judged_by_all_its_lines():
    assert is_tokenized(TREEBANK)
    assert is_tokenized(TOKENIZED)
    assert not is_tokenized(RAW)
    assert not is_tokenized(RAW[-1:] * 50)
    assert not is_tokenized(["dont you know it isnt so"] * 50 + ["one mark , alone"])
    assert not is_tokenized(["Bonjour ! Comment ça va, mon ami ?", "« Bien », dit-il, « et toi ? »"] * 5)


def test_tokenized_text_has_a_token_for_each_of_its_words():
    for line in TREEBANK:
        assert split(line, tokenized=True) == line.split()
    assert split(TREEBANK[2]) != TREEBANK[2].split()


def test_a_raw_line_is_split_as_raw_whatever_stands_alone():
    assert split("Hello , world-wide 3.5") == ["Hello", ",", "world", "@-@", "wide", "3", "@.@", "5"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("你好，世界。", "你好 ， 世界 。"),
        ("مرحبا، كيف حالك؟", "مرحبا ، كيف حالك ؟"),
        ("यह सच है।", "यह सच है ।"),
        ("¿Qué? «Oui»", "¿ Qué ? « Oui »"),
        ("Τι είναι;", "Τι είναι ;"),
        ("רח׳ הרצל, צה״ל", "רח׳ הרצל , צה״ל"),
    ],
)
def test_punctuation_of_other_languages_stands_alone(text, words):
    assert split(text) == words.split()


@pytest.mark.parametrize(
    ("one", "other"),
    [("café", "cafe\u0301"), ("find", "\ufb01nd"), ("co\u00adop", "coop"), ("ＧＰＴ２", "GPT2"), ("п’ять", "пʼять")],
)
def test_words_that_look_alike_are_alike(one, other):
    assert split(one) == split(other)


@pytest.mark.parametrize("text", ["你好，世界。再见！", "مرحبا، كيف؟", "¿Qué tal?"])
def test_join_gives_text_of_other_languages_back(text):
    assert join(split(text)) == text
