"""Messages as files have them, looked at before they are believed."""

from typing import Any

from jaxgpt.errors import UserError, shown
from jaxgpt.text.conversation import ROLES, Message


def checked_messages(value: Any, key: str, place: str) -> list[Message]:
    """Returns messages with role and content alone; raises UserError, with the key and place, for anything else."""
    if not isinstance(value, list):
        raise UserError(f'{place}: "{key}" is {type(value).__name__}; it must be a list of messages')
    messages = []
    for number, message in enumerate(value, start=1):
        given = message if isinstance(message, dict) else {}
        missing = [name for name in ("role", "content") if not isinstance(given.get(name), str)]
        if missing:
            raise UserError(
                f"{place}: message {number} has no {' and no '.join(missing)}; "
                'it must be {"role": ..., "content": ...}, both strings'
            )
        if given["role"] not in ROLES:
            raise UserError(
                f"{place}: message {number} has unknown role {shown(given['role'])}; allowed: {', '.join(ROLES)}"
            )
        messages.append({"role": given["role"], "content": given["content"]})
    return messages
