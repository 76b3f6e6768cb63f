"""Any text as text of a page or a chart: what it holds is neither markup nor a character that XML has not."""

import html
import re

# XML 1.0 has no control characters but tab and line ends, no halves of surrogate pairs, and not these two.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def escape(text: str) -> str:
    """Returns text with markup escaped, in attributes too, and a replacement character for what cannot be written."""
    return html.escape(_NOT_XML.sub("\ufffd", text))
