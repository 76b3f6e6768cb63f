"""Where the tokens of a prompt stand in the text it was made of, so that a page can draw on the text itself."""

from collections.abc import Sequence

from jaxgpt.inference.chat import fit_history
from jaxgpt.serve.schemas import Beginning
from jaxgpt.text.conversation import render_each
from jaxgpt.text.tokenizer import Tokenizer

Place = tuple[int, int, int]
"""(number of the message, first character, the one after the last)"""

SKIPPED = 8  # characters that a token may lie behind the last one that was found, where those between were rewritten


def prompt_places(asked: Beginning, tokenizer: Tokenizer, context_len: int) -> list[Place | None]:
    """Returns a place for each id of the prompt; None for control tokens, and for text that was rewritten.

    A conversation that ends with the assistant's message has it without its end, as it is continued.
    """
    special = tokenizer.special
    if asked.messages is None:
        text = asked.prompt or ""
        return [None, *_numbered(0, text_places(text, tokenizer.encode(text), tokenizer))]
    messages = render_each([message.plain() for message in asked.messages], tokenizer)
    places: list[Place | None] = [None] * len(special.start)
    for message in fit_history(messages, context_len):
        number = next(i for i, each in enumerate(messages) if each is message)
        places += [None] * len(message.opening)
        places += _numbered(number, text_places(message.message["content"], message.content_ids, tokenizer))
        places += [None] * len(message.closing)
    last = messages[-1]
    return places[: -len(last.closing)] if last.role == "assistant" else places + [None] * len(special.assistant)


def _numbered(number: int, places: Sequence[tuple[int, int] | None]) -> list[Place | None]:
    return [place and (number, *place) for place in places]


def text_places(text: str, ids: Sequence[int], tokenizer: Tokenizer) -> list[tuple[int, int] | None]:
    """Returns (first character, the one after the last) of each token of a text, None where it was rewritten."""
    places: list[tuple[int, int] | None] = []
    unknown = sorted(tokenizer.unknown(text), key=len, reverse=True)
    at, skipped = 0, False
    for id, piece in zip(ids, tokenizer.decode_stream(ids), strict=True):
        while at < len(text) and text[at].isspace():
            at += 1
        if id == tokenizer.special.unk:
            said = next((word for word in unknown if text.startswith(word, at)), "")
        else:
            said = piece.strip()
        start = text.find(said, at, at + len(said) + (SKIPPED if skipped else 0)) if said else -1
        skipped = start < 0 and (skipped or bool(piece.strip()))
        if start >= 0:
            at = start + len(said)
        places.append((start, at) if start >= 0 else None)
    return places
