"""From tokens to text, piece by piece: no part of a text that ends it gets out, and no half of a character."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxgpt.inference.slots import TokenOutput
from jaxgpt.text.tokenizer import Tokenizer


class Piece(NamedTuple):
    """A token, what it adds to the text, its log-probability, and the likeliest in its place, which have none."""

    token: int
    text: str
    """Nothing where it ends in the middle of a character; the whole character comes with its last token."""
    name: str
    """The text, or what the token looks like where it adds none: never nothing."""
    logprob: float | None
    """None where nothing comes before the token."""
    candidates: Sequence["Piece"] = ()


class Writer:
    """Turns one text's tokens into pieces. What may be the beginning of a stop text is held back until it is known."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self.count = 0  # of tokens written
        self._before: list[int] = []  # those that decide how the next token is written
        self._fed: deque[int] = deque()
        self._texts = tokenizer.decode_stream(self._feed())
        for token in prompt:
            self._text_of(token)
            self._go_on(token)
        self._held: list[Piece] = []

    def _feed(self) -> Iterator[int]:
        while True:
            yield self._fed.popleft()

    def _text_of(self, token: int) -> str:
        self._fed.append(token)
        return next(self._texts)

    def _go_on(self, token: int) -> None:
        """Notes a token. The line decides where a token is a line break; elsewhere the last whole characters do."""
        newline = self._tokenizer.special.newline
        if token == newline:
            self._before.clear()
        elif newline is None and "\ufffd" not in self._tokenizer.decode([token]):
            self._before = [token]
        else:
            self._before.append(token)

    def _text_instead(self, token: int) -> str:
        """Returns what a token would add to the text that is being written."""
        *_, text = self._tokenizer.decode_stream([*self._before, token])
        return text

    def _piece(self, token: int, text: str, logprob: float | None, candidates: Sequence[Piece] = ()) -> Piece:
        return Piece(token, text, text or self._tokenizer.token_text(token), logprob, candidates)

    def _take(self, output: TokenOutput) -> Piece:
        text = self._text_of(output.token)
        others = [
            self._piece(token, text if token == output.token else self._text_instead(token), logprob)
            for token, logprob in output.candidates
        ]
        self._go_on(output.token)
        return self._piece(output.token, text, output.logprob, others)

    def read(self, outputs: Sequence[TokenOutput]) -> list[Piece]:
        """Returns the pieces of a prompt, which comes before all that is written; no stop text ends it."""
        return list(map(self._take, outputs))

    def end(self, output: TokenOutput) -> Piece:
        """Returns the piece of the token that has ended the text, to which it adds nothing."""
        others = [self._piece(token, self._text_instead(token), logprob) for token, logprob in output.candidates]
        return self._piece(output.token, "", output.logprob, others)

    def write(self, outputs: Sequence[TokenOutput]) -> tuple[list[Piece], bool]:
        """Returns (the pieces that may go out, whether a stop text has come); after that there is nothing more."""
        for output in outputs:
            self._held.append(self._take(output))
            self.count += 1
            if self._stops:
                held = "".join(piece.text for piece in self._held)
                found = [place for place in map(held.find, self._stops) if place >= 0]
                if found:
                    return self._release(min(found), cut=True), True
        held = "".join(piece.text for piece in self._held)
        return self._release(len(held) - _possible_beginning(held, self._stops)), False

    def rest(self) -> list[Piece]:
        """Returns what was held back, when nothing more will come."""
        released, self._held = self._held, []
        return released

    def _release(self, length: int, cut: bool = False) -> list[Piece]:
        """Returns the pieces within the first `length` characters; with `cut`, part of the next one too, if any.

        A token that adds no text waits for the one that its character comes with.
        """
        count = whole = size = 0
        for number, piece in enumerate(self._held, start=1):
            size += len(piece.text)
            if piece.text and size <= length:
                count, whole = number, size
        released, self._held = self._held[:count], self._held[count:]
        if cut and whole < length:
            piece = next(piece for piece in self._held if piece.text)
            text = piece.text[: length - whole]
            released.append(piece._replace(text=text, name=text))
        return released


def _possible_beginning(text: str, stops: Sequence[str]) -> int:
    """Returns the length of the longest end of `text` that a stop text begins with."""
    longest = max(map(len, stops), default=1) - 1
    ends = range(min(longest, len(text)), 0, -1)
    return next((size for size in ends if any(stop.startswith(text[-size:]) for stop in stops)), 0)
