"""Conversations to ids and a loss mask: the only renderer, for training and for talking.

Every message is `<role> words <end>`:

    messages   user: Hello!             assistant: Hi there.
    words      <user> Hello ! <end>     <assistant> Hi there . <end>
    mask       0      0     0 0         0           1  1     1 1

The mask marks what the model must learn to say: the assistant's words and the end token that closes them.
"""

from collections.abc import Sequence

from jaxgpt.text.tokenizer import Tokenizer

Message = dict[str, str]

ROLES = ("system", "user", "assistant")


def render_message(message: Message, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Returns (ids, mask) of one message. Control tokens typed in its content are text."""
    role_id = {
        "system": tokenizer.system_id,
        "user": tokenizer.user_id,
        "assistant": tokenizer.assistant_id,
    }[message["role"]]
    words = list(tokenizer.encode(message["content"].strip()))
    supervised = int(message["role"] == "assistant")
    return [role_id, *words, tokenizer.end_id], [0] + [supervised] * (len(words) + 1)


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Returns (ids, mask) of a conversation."""
    ids: list[int] = []
    mask: list[int] = []
    for message in messages:
        message_ids, message_mask = render_message(message, tokenizer)
        ids += message_ids
        mask += message_mask
    return ids, mask


def render_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Returns the ids after which the assistant speaks."""
    ids, _ = render(messages, tokenizer)
    return [*ids, tokenizer.assistant_id]


def exchanges(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """Returns (leading system messages, exchanges): an exchange is a user message and all up to the next one."""
    system: list[Message] = []
    found: list[list[Message]] = []
    for message in messages:
        if message["role"] == "system" and not found:
            system.append(message)
        elif message["role"] == "user" or not found:
            found.append([message])
        else:
            found[-1].append(message)
    return system, found


def fit(messages: Sequence[Message], tokenizer: Tokenizer, limit: int) -> list[Message]:
    """Returns the latest whole exchanges that render to at most `limit` ids, system messages kept; maybe none.

    When the last exchange alone is too long, the one before it may be the latest that fits.
    """
    system, turns = exchanges(messages)
    ends = (_latest(system, turns[:end], tokenizer, limit) for end in range(len(turns), 0, -1))
    return next(filter(None, ends), [])


def fit_answered(messages: Sequence[Message], tokenizer: Tokenizer, limit: int) -> list[Message]:
    """Returns what `fit` does, for training: the last exchange has an answer and ends with it; maybe none.

    What comes after the last answer teaches nothing and goes first; an exchange without an answer may stand before.
    """
    system, turns = exchanges(messages)
    for end in range(len(turns), 0, -1):
        last = list(answered(turns[end - 1]))
        if last and (kept := _latest(system, [*turns[: end - 1], last], tokenizer, limit)):
            return kept
    return []


def answered(messages: Sequence[Message]) -> Sequence[Message]:
    """Returns the messages up to the assistant's last one; none where it says nothing."""
    ends = [i for i, message in enumerate(messages, start=1) if message["role"] == "assistant"]
    return messages[: ends[-1] if ends else 0]


def _latest(system: list[Message], turns: list[list[Message]], tokenizer: Tokenizer, limit: int) -> list[Message]:
    """Returns the system messages and the last of the turns, as many as fit; nothing where the last one does not."""
    room = limit - len(render(system, tokenizer)[0])
    kept: list[Message] = []
    for turn in reversed(turns):
        room -= len(render(turn, tokenizer)[0])
        if room < 0:
            break
        kept = turn + kept
    return system + kept if kept else []


def show_mask(messages: Sequence[Message], tokenizer: Tokenizer) -> str:
    """Returns the rendered words of a conversation, a line a message, what is supervised in [brackets]."""
    lines = []
    for message in messages:
        ids, mask = render_message(message, tokenizer)
        words = [tokenizer.words[id] for id in ids]
        first = mask.index(1) if any(mask) else len(words)
        plain, learned = " ".join(words[:first]), " ".join(words[first:])
        lines.append(f"    {plain} [{learned}]" if learned else f"    {plain}")
    return "\n".join(lines)
