"""A folder's chat template, which is a Jinja program, as markers around messages; and the other way round.

What a template does is found out by running it, in Jinja's sandbox, on a few conversations, and the markers found are
taken only where they give back what it wrote, to the last character.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxgpt.convert.folder import read_json
from jaxgpt.errors import UserError, clipped
from jaxgpt.files import read_text
from jaxgpt.text.conversation import Message
from jaxgpt.text.imported_tokenizer import ChatFormat
from jaxgpt.text.tokenizer import Tokenizer

CHATS = (
    ("user",),
    ("user", "assistant", "user"),
    ("system", "user"),
    ("system", "user", "assistant", "user", "assistant", "user"),
)


def read_template(path: Path) -> tuple[str | None, dict[str, Any]]:
    """Returns (a folder's chat template or None, the names of special tokens that templates use)."""
    config = read_json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
    config = config if isinstance(config, dict) else {}
    names = {}
    for key in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(key)
        names[key] = value.get("content") if isinstance(value, dict) else value
    template = config.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default")
    if (path / "chat_template.jinja").is_file():
        template = read_text(path / "chat_template.jinja")
    return template if isinstance(template, str) else None, names


def chat_format(template: str, names: dict[str, Any], special: Iterable[str]) -> tuple[ChatFormat | None, str]:
    """Returns (the markers that do what a template does, or None; what is to be said about it)."""
    special = sorted({name for name in special if name}, key=len, reverse=True)
    try:
        written = {chat: _render(template, _chat(chat), names) for chat in CHATS}
        found = _markers(written, special)
    except Exception as error:  # a template may do anything, and fail in any way
        return None, f"its chat template cannot be expressed by markers ({clipped(str(error))})"
    wrong = [chat for chat, text in written.items() if _expected(found, _chat(chat)) != text]
    if not wrong:
        return found, "its chat template is markers around messages, and is kept"
    if all(chat[0] != "system" for chat in wrong):
        return found, "its chat template is kept, but for the system message that it adds where there is none"
    return None, "its chat template cannot be expressed by markers"


def _chat(roles: Sequence[str]) -> list[Message]:
    return [{"role": role, "content": f"Words{number}of{role}"} for number, role in enumerate(roles)]


def _render(template: str, messages: list[Message], names: dict[str, Any]) -> str:
    """Returns what a template writes, as transformers runs it."""
    from jinja2 import Environment, ext, sandbox

    def fail(message: str) -> None:
        raise UserError(message)

    environment: Environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[ext.loopcontrols]
    )
    environment.globals |= {"raise_exception": fail}
    known = {name: value for name, value in names.items() if value is not None}
    return environment.from_string(template).render(messages=messages, add_generation_prompt=True, **known)


def _markers(written: dict[tuple[str, ...], str], special: Sequence[str]) -> ChatFormat:
    """Returns the markers by what stands before, between and after the messages; ValueError where there are none."""
    one, two, three, _ = CHATS
    before, between, next_user, after = _around(written[two], _chat(two))
    before_system, *_ = _around(written[three], _chat(three))
    end = _first_special(between, special)
    if not after.startswith(end) or not next_user.startswith(end):
        raise ValueError("messages of different roles end differently")
    user = _common_end(_around(written[one], _chat(one))[0], next_user.removeprefix(end))
    user = user[_first_place(user, special) :]
    gap = next_user.removeprefix(end).removesuffix(user)
    start = before.removesuffix(user)
    if not before_system.startswith(start):  # it adds a system message of its own
        start = next((name for name in special if before_system.startswith(name) and before.startswith(name)), "")
        start = start if before_system.removeprefix(start)[:1] == "<" else ""
    assistant = between.removeprefix(end).removeprefix(gap)
    return ChatFormat(before_system.removeprefix(start), user, assistant, end, gap, start)


def _around(text: str, messages: list[Message]) -> list[str]:
    """Returns what of a text stands before, between and after the messages."""
    parts = []
    for message in messages:
        part, found, text = text.partition(message["content"])
        if not found:
            raise ValueError(f"it leaves out what the {message['role']} says")
        parts.append(part)
    return [*parts, text]


def _first_special(text: str, special: Sequence[str]) -> str:
    for name in special:
        if text.startswith(name):
            return name
    raise ValueError("a message does not end with a special token")


def _first_place(text: str, special: Sequence[str]) -> int:
    places = [text.find(name) for name in special if name in text]
    if not places:
        raise ValueError("a message does not begin with a special token")
    return min(places)


def _common_end(one: str, other: str) -> str:
    length = next((n for n, (a, b) in enumerate(zip(one[::-1], other[::-1], strict=False)) if a != b), None)
    length = min(len(one), len(other)) if length is None else length
    return one[len(one) - length :]


def _expected(form: ChatFormat, messages: list[Message]) -> str:
    said = (getattr(form, m["role"]) + m["content"].strip() + form.end + form.after for m in messages)
    return form.start + "".join(said) + form.assistant


def format_of(tokenizer: Tokenizer) -> ChatFormat:
    """Returns the markers by which a tokenizer's conversations are rendered, in text."""
    special = tokenizer.special
    parts = {name: getattr(special, name) for name in ("system", "user", "assistant", "after", "start")}
    texts = {name: tokenizer.decode(ids) for name, ids in parts.items()}
    return ChatFormat(end=tokenizer.decode([special.end]), **texts)


def template_of(form: ChatFormat) -> str:
    """Returns a Jinja template that writes exactly what conversations are rendered as in training."""
    begins = "".join(
        f"{{% {test} message['role'] == '{role}' %}}{{{{ {_quoted(getattr(form, role))} }}}}"
        for test, role in (("if", "system"), ("elif", "user"), ("elif", "assistant"))
    )
    unknown = "{% else %}{{ raise_exception('roles are system, user and assistant') }}{% endif %}"
    said = f"{{{{ message['content'] | trim }}}}{{{{ {_quoted(form.end + form.after)} }}}}"
    start = f"{{{{ {_quoted(form.start)} }}}}" if form.start else ""
    asks = f"{{% if add_generation_prompt %}}{{{{ {_quoted(form.assistant)} }}}}{{% endif %}}"
    return f"{start}{{% for message in messages %}}{begins}{unknown}{said}{{% endfor %}}{asks}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
