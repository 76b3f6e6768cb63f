"""How the world is, as questions that each have several wordings and one answer."""

from typing import NamedTuple

from jaxgpt.text.corpora.tinyworld.world import ANIMALS, JOBS, LOOKS, NEEDS, TOOLS, WEATHER, a, sentence


class Fact(NamedTuple):
    """Something true of the whole world; `questions` are the WORDINGS of its kind."""

    kind: str
    questions: tuple[str, ...]
    answer: str


# Five of each kind, in the same order for all its facts: three are train's, one is valid's, one test's.
WORDINGS = {
    "eats": (
        "What does {it} eat?",
        "What does {it} like to eat?",
        "Do you know what {it} eats?",
        "Tell me what {it} eats.",
        "What do you give {it} to eat?",
    ),
    "says": (
        "What does {it} say?",
        "What sound does {it} make?",
        "Do you know what {it} says?",
        "Tell me what {it} says.",
        "How does {it} sound?",
    ),
    "lives": (
        "Where does {it} live?",
        "Where is the home of {it}?",
        "Do you know where {it} lives?",
        "Tell me where {it} lives.",
        "Where does {it} sleep?",
    ),
    "baby": (
        "What is {baby} called?",
        "What do you call {baby}?",
        "Do you know what {baby} is called?",
        "Tell me what {baby} is called.",
        "What is the name of {baby}?",
    ),
    "looks": (
        "What color is {thing}?",
        "Which color is {thing}?",
        "Do you know what color {thing} is?",
        "Tell me what color {thing} is.",
        "What is the color of {thing}?",
    ),
    "weather": (
        "What happens when {weather}?",
        "What do you see when {weather}?",
        "Do you know what happens when {weather}?",
        "Tell me what happens when {weather}.",
        "When {weather}, what happens?",
    ),
    "wear": (
        "What do you wear when {weather}?",
        "What should I wear when {weather}?",
        "Do you know what to wear when {weather}?",
        "Tell me what to wear when {weather}.",
        "When {weather}, what do you wear?",
    ),
    "tool": (
        "What do you need to {work}?",
        "What should I use to {work}?",
        "Do you know what you need to {work}?",
        "Tell me what you need to {work}.",
        "How do you {work}?",
    ),
    "need": (
        "What do you do when you are {feeling}?",
        "What should I do when I am {feeling}?",
        "Do you know what to do when you are {feeling}?",
        "Tell me what to do when I am {feeling}.",
        "When you are {feeling}, what do you do?",
    ),
    "job": (
        "What does {it} do?",
        "What is the work of {it}?",
        "Do you know what {it} does?",
        "Tell me what {it} does.",
        "What does {it} do all day?",
    ),
}


def _fact(kind: str, answer: str, **names: str) -> Fact:
    return Fact(kind, tuple(wording.format(**names) for wording in WORDINGS[kind]), answer)


def _facts() -> list[Fact]:
    facts = []
    for animal in ANIMALS:
        it, baby = a(animal.name), f"a baby {animal.name}"
        if animal.eats:
            facts.append(_fact("eats", sentence(f"{it} eats {animal.eats}"), it=it))
        if animal.says:
            facts.append(_fact("says", sentence(f"{it} says {animal.says}"), it=it))
        if animal.lives:
            facts.append(_fact("lives", sentence(f"{it} lives {animal.lives}"), it=it))
        if animal.baby:
            facts.append(_fact("baby", sentence(f"{baby} is called {a(animal.baby)}"), baby=baby))
    for thing, color in LOOKS.items():
        facts.append(_fact("looks", sentence(f"{thing} is {color}"), thing=thing))
    for weather, (_, effect, clothes, _) in WEATHER.items():
        facts.append(_fact("weather", f"When {weather}, {effect}.", weather=weather))
        facts.append(_fact("wear", f"When {weather}, you wear {clothes}.", weather=weather))
    for work, tool in TOOLS.items():
        facts.append(_fact("tool", f"You need {a(tool)} to {work}.", work=work))
    for feeling, cure in NEEDS.items():
        facts.append(_fact("need", f"When you are {feeling}, you {cure}.", feeling=feeling))
    for job in JOBS:
        it = a(job.name)
        facts.append(_fact("job", sentence(f"{it} {job.does}"), it=it))
    return facts


FACTS = _facts()
SPLITS = ("test", "valid", "train", "train", "train")


def wordings(split: str) -> list[list[str]]:
    """Returns for each fact the wordings kept for this split: three for train, one each for valid and test."""
    return [
        [question for place, question in enumerate(fact.questions) if SPLITS[(number + place) % len(SPLITS)] == split]
        for number, fact in enumerate(FACTS)
    ]
