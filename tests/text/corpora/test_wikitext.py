"""WikiText-2: the hub's rows and the official files are the same lines."""

from jaxgpt.text.corpora.wikitext import WIKITEXT_2


def test_hub_rows_give_the_lines_of_the_official_file(tmp_path):
    official = " \n = Robert Boulter = \n \n Robert Boulter is an English <unk> . \n"
    file = tmp_path / "wiki.train.tokens"
    file.write_text(official, encoding="utf-8")
    rows = [{"text": text} for text in ["", " = Robert Boulter = \n", "", " Robert Boulter is an English <unk> . \n"]]

    (piece,) = WIKITEXT_2.read_rows(rows)
    lines = piece.text.split("\n")

    assert lines == [" ", " = Robert Boulter = ", " ", " Robert Boulter is an English <unk> . "]
    assert [piece] == list(WIKITEXT_2.read_file(file))
    assert "".join(f"{line}\n" for line in lines) == official


def test_an_eos_per_line_counts_blank_lines_too():
    (piece,) = WIKITEXT_2.read_rows([{"text": ""}, {"text": " = A = \n"}, {"text": ""}])
    assert sum(len(line.split()) + 1 for line in piece.text.split("\n")) == 6
