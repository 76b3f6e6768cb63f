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
    sizes = [len(render(turn, tokenizer)[0]) for turn in turns]
    room = limit - len(render(system, tokenizer)[0])
    last = max((i for i, size in enumerate(sizes) if size <= room), default=None)
    if last is None:
        return []
    first = last
    while first > 0 and sum(sizes[first - 1 : last + 1]) <= room:
        first -= 1
    return system + [message for turn in turns[first : last + 1] for message in turn]


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
