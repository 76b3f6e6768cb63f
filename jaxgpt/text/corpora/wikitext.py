"""WikiText-2 as lines: Wikipedia's good articles, split into words by its makers (Merity et al., 2016)."""

from jaxgpt.text.corpora.files import read_lines
from jaxgpt.text.corpora.hub import HubCorpus, Row


def lines_of_rows(rows: list[Row]) -> list[str]:
    """Returns the lines of the official file from the hub's rows, which end in a newline or are empty.

    In the official files a blank line is a single space. With one <eos> per line, blank ones included, the
    splits have 2,088,628, 217,646 and 245,569 tokens.
    """
    return [row["text"].removesuffix("\n") or " " for row in rows]


WIKITEXT_2 = HubCorpus(
    name="wikitext-2",
    repository="Salesforce/wikitext",
    config="wikitext-2-v1",
    columns=("text",),
    hub_splits={"train": "train", "valid": "validation", "test": "test"},
    files={"train": "wiki.train.tokens", "valid": "wiki.valid.tokens", "test": "wiki.test.tokens"},
    read_file=read_lines,
    read_rows=lines_of_rows,
)
