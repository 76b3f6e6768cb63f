"""Conversations to ids and a loss mask: the only renderer, for training and for talking.

Every message is `<role> tokens <end>`, or as the template of an imported model has it:

    messages   user: Hello!             assistant: Hi there.
    tokens     <user> Hello ! <end>     <assistant> Hi there . <end>
    mask       0      0     0 0         0           1  1     1 1

The mask marks what the model must learn to say: the assistant's tokens and the end token that closes them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxgpt.text.tokenizer import Tokenizer

Message = dict[str, str]
"""{"role": one of ROLES, "content": text}"""

ROLES = ("system", "user", "assistant")


class Rendered(NamedTuple):
    """A message, and its ids."""

    message: Message
    opening: Sequence[int]
    content_ids: list[int]
    """What is said, without role and end."""
    closing: Sequence[int]
    """The end token, and what stands before the next message."""

    @property
    def role(self) -> str:
        return self.message["role"]

    @property
    def ids(self) -> list[int]:
        return [*self.opening, *self.content_ids, *self.closing]

    @property
    def mask(self) -> list[int]:
        supervised = int(self.role == "assistant")
        said = [supervised] * (len(self.content_ids) + 1)
        return [0] * len(self.opening) + said + [0] * (len(self.closing) - 1)


def render_message(message: Message, tokenizer: Tokenizer) -> Rendered:
    """Returns one message rendered. Control tokens typed in its content are text."""
    special = tokenizer.special
    opening = {"system": special.system, "user": special.user, "assistant": special.assistant}[message["role"]]
    said = tokenizer.encode(message["content"].strip())
    return Rendered(message, opening, said, (special.end, *special.after))


def render_each(messages: Sequence[Message], tokenizer: Tokenizer) -> list[Rendered]:
    """Returns each message of a conversation rendered."""
    return [render_message(message, tokenizer) for message in messages]


def joined(messages: Sequence[Rendered], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Returns (ids, mask) of a conversation."""
    start = list(tokenizer.special.start)
    ids = [id for message in messages for id in message.ids]
    return start + ids, [0] * len(start) + [m for message in messages for m in message.mask]


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Returns (ids, mask) of a conversation that is not rendered yet."""
    return joined(render_each(messages, tokenizer), tokenizer)


def prompt_of(messages: Sequence[Rendered], tokenizer: Tokenizer) -> list[int]:
    """Returns the ids after which the assistant speaks."""
    return [*joined(messages, tokenizer)[0], *tokenizer.special.assistant]


def size(messages: Sequence[Rendered]) -> int:
    """Returns how many ids messages have together."""
    return sum(len(message.ids) for message in messages)


def exchanges(messages: Sequence[Rendered]) -> tuple[list[Rendered], list[list[Rendered]]]:
    """Returns (leading system messages, exchanges): an exchange is a user message and all up to the next one."""
    system: list[Rendered] = []
    found: list[list[Rendered]] = []
    for message in messages:
        if message.role == "system" and not found:
            system.append(message)
        elif message.role == "user" or not found:
            found.append([message])
        else:
            found[-1].append(message)
    return system, found


def fit(messages: Sequence[Rendered], limit: int) -> list[Rendered]:
    """Returns the latest whole exchanges that have at most `limit` ids, system messages kept; maybe none.

    When the last exchange alone is too long, the one before it may be the latest that fits.
    """
    system, turns = exchanges(messages)
    ends = (_latest(system, turns[:end], limit) for end in range(len(turns), 0, -1))
    return next(filter(None, ends), [])


def fit_answered(messages: Sequence[Rendered], limit: int) -> list[Rendered]:
    """Returns what `fit` does, for training: the last exchange has an answer and ends with it; maybe none.

    What comes after the last answer teaches nothing and goes first; an exchange without an answer may stand before.
    """
    system, turns = exchanges(messages)
    for end in range(len(turns), 0, -1):
        answers = [place for place, message in enumerate(turns[end - 1], start=1) if message.role == "assistant"]
        last = turns[end - 1][: answers[-1] if answers else 0]
        if last and (kept := _latest(system, [*turns[: end - 1], last], limit)):
            return kept
    return []


def answered(messages: Sequence[Message]) -> Sequence[Message]:
    """Returns the messages up to the assistant's last one; none where it says nothing."""
    ends = [place for place, message in enumerate(messages, start=1) if message["role"] == "assistant"]
    return messages[: ends[-1] if ends else 0]


def _latest(system: list[Rendered], turns: list[list[Rendered]], limit: int) -> list[Rendered]:
    """Returns the system messages and the last of the turns, as many as fit; nothing where the last one does not."""
    room = limit - size(system)
    kept: list[Rendered] = []
    for turn in reversed(turns):
        room -= size(turn)
        if room < 0:
            break
        kept = turn + kept
    return system + kept if kept else []


def show_mask(messages: Sequence[Message], tokenizer: Tokenizer) -> str:
    """Returns the tokens of a conversation, a line a message, what is supervised in [brackets]."""
    lines = []
    for message in render_each(messages, tokenizer):
        tokens = [tokenizer.token_text(id) for id in message.ids]
        if any(message.mask):
            first, last = len(message.opening), sum(message.mask) + len(message.opening) - 1
            tokens[first] = f"[{tokens[first]}"
            tokens[last] += "]"
        lines.append("    " + " ".join(tokens))
    return "\n".join(lines)
