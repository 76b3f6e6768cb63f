"""Messages as files have them, looked at before they are believed."""

from typing import Any

from jaxgpt.errors import UserError, kind_in_json, shown
from jaxgpt.text.conversation import ROLES, Message


def checked_messages(value: Any, key: str, place: str) -> list[Message]:
    """Returns messages with role and content alone; raises UserError, with the key and place, for anything else."""
    if not isinstance(value, list):
        raise UserError(f'{place}: "{key}" is {kind_in_json(value)}; it must be a list of messages')
    messages = []
    for number, message in enumerate(value, start=1):
        given = message if isinstance(message, dict) else {}
        found = {name: kind_in_json(given[name]) if name in given else "missing" for name in ("role", "content")}
        if wrong := [f"{name} is {kind}" for name, kind in found.items() if kind != "a string"]:
            raise UserError(
                f"{place}: message {number}: {' and '.join(wrong)}; "
                'it must be {"role": ..., "content": ...}, both strings'
            )
        if given["role"] not in ROLES:
            raise UserError(
                f"{place}: message {number} has unknown role {shown(given['role'])}; allowed: {', '.join(ROLES)}"
            )
        if given["role"] == "assistant" and not given["content"].strip():
            raise UserError(f"{place}: message {number}, an answer, is empty; take it out: it would be learned")
        messages.append({"role": given["role"], "content": given["content"]})
    return messages
