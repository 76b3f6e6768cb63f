"""Telling with known probability: every choice of a story is made, recorded and replayed here."""

import math
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from jaxgpt.text.corpora.tinyworld.world import Person

Option = TypeVar("Option")

# how much more often somebody has to do with what they like
LIKING = 12

_CHOICE = re.compile(r"[\[\]]")


class Teller:
    """Writes one text, making its choices with `random` and adding up their log-probability.

    A text must determine the choices behind it, so a choice is made where it is spoken, between
    options that are spoken differently. `facts` collects what the text establishes, as questions
    and answers; it costs no choice.
    """

    def __init__(self, random: Callable[[], float]):
        self.random = random
        self.text = ""
        self.log_prob = 0.0
        self.facts: dict[tuple[str, ...], str] = {}
        self.about: list[str] = []

    def pick(self, options: Sequence[Option], weights: Sequence[float] | None = None) -> Option:
        """Returns one of the options, all equally likely unless weights (of any sum) are given."""
        if weights is None:
            self.log_prob -= math.log(len(options))
            return options[int(self.random() * len(options))]
        index = 0
        left = self.random() * sum(weights) - weights[0]
        while left >= 0 and index < len(weights) - 1:
            index += 1
            left -= weights[index]
        self.log_prob += math.log(weights[index] / sum(weights))
        return options[index]

    def pick_for(self, person: Person, options: Sequence[Option], *taken: Option) -> Option:
        """Returns one of the options that are not taken yet, more often one that the person likes."""
        left = [option for option in options if option not in taken]
        return self.pick(left, [LIKING if getattr(option, "name", option) in person.likes else 1 for option in left])

    def other(self, options: Sequence[Option], *taken: Option) -> Option:
        """Returns one of the options that are not taken yet."""
        return self.pick([option for option in options if option not in taken])

    def maybe(self, share: float = 0.5) -> bool:
        """Returns True in this share of cases."""
        return self.pick((True, False), (share, 1 - share))

    def say(self, *versions: str) -> None:
        """Adds one of the versions to the text; inside it, `[a|b|c]` stands for one of a, b and c."""
        version = versions[0] if len(versions) == 1 else versions[self.pick(range(len(versions)))]
        if self.text:
            self.write(" ")
        for number, part in enumerate(_CHOICE.split(version)):
            self.write(self.pick(part.split("|")) if number % 2 else part)

    def write(self, words: str) -> None:
        self.text += words

    def note(self, kind: str, answer: str, *subjects: str) -> None:
        """Keeps that the question of this kind about these subjects has this answer, until told otherwise."""
        self.facts[kind, *subjects] = answer


class _DisagreementError(Exception):
    """What is being told is not the text that is being scored."""


class _Listener(Teller):
    """Retells a given text: follows `path`, then always the first option that fits, leaving the others on `agenda`."""

    def __init__(self, target: str, path: list[int], agenda: list[list[int]]):
        super().__init__(lambda: 0.0)
        self.target = target
        self.path = path
        self.agenda = agenda
        self.depth = 0

    def pick(self, options: Sequence[Option], weights: Sequence[float] | None = None) -> Option:
        if self.depth == len(self.path):
            fitting = [index for index, option in enumerate(options) if self.fits(option)]
            if not fitting:
                raise _DisagreementError
            self.agenda.extend([*self.path, index] for index in fitting[1:])
            self.path.append(fitting[0])
        index = self.path[self.depth]
        self.depth += 1
        self.log_prob += math.log(weights[index] / sum(weights)) if weights else -math.log(len(options))
        return options[index]

    def fits(self, option: object) -> bool:
        """Words, and whatever has a name, are picked to be spoken: the rest of the text must contain them."""
        name = getattr(option, "name", option)
        return not isinstance(name, str) or self.target.find(name, len(self.text)) >= 0

    def write(self, words: str) -> None:
        if not self.target.startswith(words, len(self.text)):
            raise _DisagreementError
        self.text += words


def log_prob(text: str, tell: Callable[[Teller], None]) -> float:
    """Returns the natural log-probability that `tell` writes exactly this text, -inf when it cannot.

    Sums over every way of making the choices that agrees with the text.
    """
    found = []
    agenda: list[list[int]] = [[]]
    while agenda:
        listener = _Listener(text, agenda.pop(), agenda)
        try:
            tell(listener)
        except _DisagreementError:
            continue
        if listener.text == text:
            found.append(listener.log_prob)
    if not found:
        return -math.inf
    top = max(found)
    return top + math.log(sum(math.exp(value - top) for value in found))
