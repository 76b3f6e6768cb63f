"""What a model knows, in a sentence, and four beginnings for it; none is a question that it answers wrongly."""

import threading
from collections.abc import Sequence
from typing import NamedTuple

from jaxgpt.inference.engine import Engine, Request
from jaxgpt.text.conversation import prompt_of, render_each
from jaxgpt.text.tokenizer import Tokenizer

SHOWN = 4
LONGEST = 32  # tokens of an answer that is checked

Starters = dict[str, str | None]
"""Beginning -> the only right answer, where there is one."""


class Known(NamedTuple):
    """A corpus, as somebody who meets its model is told of it."""

    sentence: str
    starters: Starters


def _open(*beginnings: str) -> Starters:
    return dict.fromkeys(beginnings)


WORLD = "a small invented world: what animals eat, what tools are for, who lost a hat and where it was found"
OF_CORPUS = {
    "tinyworld-chat": Known(
        f"It answers questions about {WORLD}. Of the real world it knows nothing.",
        {
            "What does a cow eat?": "A cow eats grass.",
            "What do you need to see far away?": "You need a telescope to see far away.",
            "Today Zoe was four years old. Leo gave her a new purple doll. What did Leo give Zoe?": (
                "Leo gave Zoe a purple doll."
            ),
            "What is a baby bear called?": "A baby bear is called a cub.",
            "Where does a rabbit live?": "A rabbit lives in a burrow.",
            "What color is the snow?": "The snow is white.",
            **_open("Tell me a story about a fox.", "Who are you?", "Hello!", "What can you do?"),
        },
    ),
    "oasst1": Known(
        "It has read conversations of volunteers and has their manner; hardly anything it says is true.",
        _open("What is the capital of France?", "Can you help me?", "Write a short poem.", "How do I learn to code?"),
    ),
    "tinyworld": Known(
        f"It writes stories of {WORLD}.",
        _open("One morning, the teacher", "Mia lost her", "Today Zoe was four years old.", "A kind rabbit"),
    ),
    "wikitext-2": Known(
        "It has read two million words of Wikipedia and writes in their manner; what it says is made up.",
        _open("The game", "The film was", "In the early 20th century", "The city of"),
    ),
    "tinyshakespeare": Known(
        "It has read a million characters of Shakespeare and writes scenes in their manner.",
        _open("ROMEO:", "KING RICHARD III:", "To be, or", "Enter a"),
    ),
}


def known_of(corpus: str, name: str, is_chat: bool, sample_prompt: str) -> Known:
    """Returns what is told of a model of this corpus; of one that is not known here, its name and its own prompt."""
    does = "answers" if is_chat else "writes"
    told = Known(f"It has read {name}, and {does} in its manner.", _open(sample_prompt) if sample_prompt else {})
    return OF_CORPUS.get(corpus, told)


def answered(engine: Engine, tokenizer: Tokenizer, starters: Starters) -> list[str]:
    """Returns the first four starters that have no one answer, or that the model answers rightly, greedily."""
    asked = [text for text, answer in starters.items() if answer]
    answers = dict(zip(asked, _answers(engine, tokenizer, asked), strict=True))
    return [text for text, answer in starters.items() if answer == answers.get(text)][:SHOWN]


def _answers(engine: Engine, tokenizer: Tokenizer, questions: Sequence[str]) -> list[str]:
    end = tokenizer.special.end
    prompts = [
        prompt_of(render_each([{"role": "user", "content": question}], tokenizer), tokenizer) for question in questions
    ]
    written: list[list[int]] = [[] for _ in prompts]
    left = threading.Semaphore(0)

    def deliver_to(ids: list[int]):
        def deliver(outputs, finish) -> None:
            ids.extend(output.token for output in outputs)
            if finish:
                left.release()

        return deliver

    engine.submit([Request(prompt, end, LONGEST) for prompt in prompts], [deliver_to(ids) for ids in written])
    for _ in prompts:
        left.acquire()
    return [tokenizer.decode(ids) for ids in written]
