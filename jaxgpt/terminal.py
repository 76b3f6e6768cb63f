"""A model at the terminal: what it writes, printed safely, and a conversation with it."""

import contextlib
import dataclasses
import json
import select
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jax

from jaxgpt.config import Sampling
from jaxgpt.errors import UserError, clipped
from jaxgpt.files import parse_json
from jaxgpt.inference.chat import fit_history, reply
from jaxgpt.run.load import Trained
from jaxgpt.text.conversation import Rendered, render_message
from jaxgpt.text.tokenizer import for_terminal, tell_unknown

PASTE_SECONDS = 0.05
HELP = """  /new                 forget what was said
  /retry               another reply to the last message
  /system TEXT         what the model is told before all else; without TEXT: nothing
  /temperature NUMBER  how daring it is; 0 always takes the likeliest token; without NUMBER: what it is now
  /save FILE           add the conversation to a file of JSON lines, as finetuning reads them
  /help                this list
  /quit                leave, as Ctrl-D does
  Ctrl-C ends a reply. A message that begins with / is written with two: //."""


def _print_piece(piece: str) -> None:
    """Prints what a model has written: as it is, or to a terminal without what a terminal would obey."""
    print(for_terminal(piece) if sys.stdout.isatty() else piece, end="", flush=True)


def print_stream(pieces: Iterable[str]) -> None:
    """Prints all that a model writes, as it comes, and a line's end."""
    for piece in pieces:
        _print_piece(piece)
    print(flush=True)


@dataclass
class Conversation:
    """What was said so far, and how the model is to answer."""

    trained: Trained
    sampling: Sampling
    max_tokens: int
    key: jax.Array
    messages: list[Rendered] = field(default_factory=list)
    replies: int = 0
    """Given so far, those that were asked for again included: each is drawn with a key of its own."""

    def say(self, words: str) -> None:
        """Prints the reply to what the user says; what does not fit the context is forgotten, or refused."""
        tell_unknown(self.trained.run.tokenizer, words)
        self.answer([*self.messages, self._rendered("user", words)])

    def answer(self, messages: list[Rendered]) -> None:
        """Prints a reply to the last of these messages; Ctrl-C ends the reply, not the conversation."""
        try:
            fitted = fit_history(messages, self.trained.config.model.context_len)
        except UserError as error:
            print(f"({error})")
            return
        if dropped := len(messages) - len(fitted):
            print(f"(the oldest {dropped} messages no longer fit and are forgotten)")
        model, tokenizer = self.trained.config.model, self.trained.run.tokenizer
        key, pieces = jax.random.fold_in(self.key, self.replies), []
        with contextlib.suppress(KeyboardInterrupt), _keys_unseen():
            print("model> ", end="", flush=True)
            params, count = self.trained.params, self.max_tokens
            for piece in reply(params, model, tokenizer, fitted, key, self.sampling, count):
                pieces.append(piece)
                _print_piece(piece)
        print()
        self.messages = [*fitted, self._rendered("assistant", "".join(pieces))]
        self.replies += 1

    def obey(self, command: str, rest: str) -> None:
        """Does what a line that begins with / asks for; says what there is where it is none of these."""
        if command == "new":
            self.messages = self._system()
            print("(forgotten)")
        elif command == "retry" and self.messages[-1:] and self.messages[-1].message["role"] == "assistant":
            self.answer(self.messages[:-1])
        elif command == "retry":
            print("(nothing was said yet)")
        elif command == "system":
            said = self.messages[len(self._system()) :]
            self.messages = [*([self._rendered("system", rest)] if rest else []), *said]
            print("(the model is told so from now on)" if rest else "(the model is told nothing before all else)")
        elif command == "temperature":
            self._set_temperature(rest)
        elif command == "save":
            self._save(rest)
        elif command == "help":
            print(HELP)
        else:
            print(f"(there is no /{clipped(command)}; /help lists what there is)")

    def _rendered(self, role: str, content: str) -> Rendered:
        return render_message({"role": role, "content": content}, self.trained.run.tokenizer)

    def _system(self) -> list[Rendered]:
        return [message for message in self.messages[:1] if message.message["role"] == "system"]

    def _set_temperature(self, text: str) -> None:
        try:
            if text:
                self.sampling = dataclasses.replace(self.sampling, temperature=float(text))
        except (ValueError, UserError):
            print(f"(temperature: {clipped(text)} was given; it must be a number from 0 up)")
            return
        print(f"(temperature {self.sampling.temperature:g})")

    def _save(self, name: str) -> None:
        if not name:
            print("(no file was given; for example /save talks.jsonl)")
            return
        line = json.dumps({"messages": [message.message for message in self.messages]}, ensure_ascii=False)
        try:
            file = Path(name).expanduser()
            if file.exists() and not _holds_conversations(file):
                print(f"(not saved: {clipped(name)} is there, and holds no conversations; give another file)")
                return
            with file.open("a", encoding="utf-8") as opened:
                opened.write(line + "\n")
        except (OSError, ValueError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            print(f"(not saved: {clipped(why)}; give a file: /save talks.jsonl)")
            return
        print(f"({len(self.messages)} messages added to {name})")


def _holds_conversations(file: Path) -> bool:
    """Returns whether a file is one of conversations, by its first line, or empty."""
    with file.open(encoding="utf-8", errors="replace") as opened:
        line = opened.readline()
    try:
        return not line or "messages" in parse_json(line)
    except (ValueError, TypeError):
        return False


def converse(conversation: Conversation) -> None:
    """Talks until the user leaves. A line that begins with / is a command, with // a message that begins so."""
    with contextlib.suppress(ImportError):  # brings line editing, history, and pastes of several lines
        import readline  # noqa: F401
    while (said := _ask()) is not None:
        if said.startswith("/") and not said.startswith("//"):
            command, _, rest = said[1:].partition(" ")
            if command == "quit":
                return
            conversation.obey(command, rest.strip())
        elif said:
            conversation.say(said.removeprefix("/"))


def _ask() -> str | None:
    """Returns what the user says next, a paste of several lines as one message; None where they leave."""
    try:
        lines = [input("you> ")]
        with contextlib.suppress(EOFError):  # of a terminal: it is asked again next time
            while _more_is_pasted():
                lines.append(input())
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    return "\n".join(lines).strip()


def _more_is_pasted() -> bool:
    """Returns whether a terminal holds more already: nobody types a second line in the blink of an eye."""
    return sys.stdin.isatty() and bool(select.select([sys.stdin], [], [], PASTE_SECONDS)[0])


@contextlib.contextmanager
def _keys_unseen() -> Iterator[None]:
    """Keeps a terminal from showing keys in the middle of a reply; they are there when it asks again."""
    try:
        import termios
    except ImportError:  # as on Windows
        yield
        return
    try:
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
    except (OSError, ValueError, termios.error):  # no terminal
        yield
        return
    unseen = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(terminal, termios.TCSANOW, unseen)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
