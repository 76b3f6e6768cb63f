"""How the world is, as questions that each have several wordings and one answer."""

from typing import NamedTuple

from jaxgpt.text.corpora.tinyworld.world import ANIMALS, JOBS, LOOKS, NEEDS, TOOLS, WEATHER, a, sentence


class Fact(NamedTuple):
    """Something true of the whole world; `questions` has five wordings, in the same order for all facts of a kind."""

    kind: str
    questions: tuple[str, ...]
    answer: str


def _facts() -> list[Fact]:
    facts = []
    for animal in ANIMALS:
        it = a(animal.name)
        if animal.eats:
            asked = (
                f"What does {it} eat?",
                f"What does {it} like to eat?",
                f"Do you know what {it} eats?",
                f"Tell me what {it} eats.",
                f"What do you give {it} to eat?",
            )
            facts.append(Fact("eats", asked, sentence(f"{it} eats {animal.eats}")))
        if animal.says:
            asked = (
                f"What does {it} say?",
                f"What sound does {it} make?",
                f"Do you know what {it} says?",
                f"Tell me what {it} says.",
                f"How does {it} sound?",
            )
            facts.append(Fact("says", asked, sentence(f"{it} says {animal.says}")))
        if animal.lives:
            asked = (
                f"Where does {it} live?",
                f"Where is the home of {it}?",
                f"Do you know where {it} lives?",
                f"Tell me where {it} lives.",
                f"Where does {it} sleep?",
            )
            facts.append(Fact("lives", asked, sentence(f"{it} lives {animal.lives}")))
        if animal.baby:
            baby = f"a baby {animal.name}"
            asked = (
                f"What is {baby} called?",
                f"What do you call {baby}?",
                f"Do you know what {baby} is called?",
                f"Tell me what {baby} is called.",
                f"What is the name of {baby}?",
            )
            facts.append(Fact("baby", asked, sentence(f"{baby} is called {a(animal.baby)}")))
    for thing, color in LOOKS.items():
        asked = (
            f"What color is {thing}?",
            f"Which color is {thing}?",
            f"Do you know what color {thing} is?",
            f"Tell me what color {thing} is.",
            f"What is the color of {thing}?",
        )
        facts.append(Fact("looks", asked, sentence(f"{thing} is {color}")))
    for weather, (_, effect, clothes, _) in WEATHER.items():
        asked = (
            f"What happens when {weather}?",
            f"What do you see when {weather}?",
            f"Do you know what happens when {weather}?",
            f"Tell me what happens when {weather}.",
            f"When {weather}, what happens?",
        )
        facts.append(Fact("weather", asked, f"When {weather}, {effect}."))
        asked = (
            f"What do you wear when {weather}?",
            f"What should I wear when {weather}?",
            f"Do you know what to wear when {weather}?",
            f"Tell me what to wear when {weather}.",
            f"When {weather}, what do you wear?",
        )
        facts.append(Fact("wear", asked, f"When {weather}, you wear {clothes}."))
    for work, tool in TOOLS.items():
        asked = (
            f"What do you need to {work}?",
            f"What should I use to {work}?",
            f"Do you know what you need to {work}?",
            f"Tell me what you need to {work}.",
            f"How do you {work}?",
        )
        facts.append(Fact("tool", asked, f"You need {a(tool)} to {work}."))
    for feeling, cure in NEEDS.items():
        asked = (
            f"What do you do when you are {feeling}?",
            f"What should I do when I am {feeling}?",
            f"Do you know what to do when you are {feeling}?",
            f"Tell me what to do when I am {feeling}.",
            f"When you are {feeling}, what do you do?",
        )
        facts.append(Fact("need", asked, f"When you are {feeling}, you {cure}."))
    for job in JOBS:
        it = a(job.name)
        asked = (
            f"What does {it} do?",
            f"What is the work of {it}?",
            f"Do you know what {it} does?",
            f"Tell me what {it} does.",
            f"What does {it} do all day?",
        )
        facts.append(Fact("job", asked, sentence(f"{it} {job.does}")))
    return facts


FACTS = _facts()
SPLITS = ("test", "valid", "train", "train", "train")


def wordings(split: str) -> list[list[str]]:
    """Returns for each fact the wordings kept for this split: three for train, one each for valid and test."""
    return [
        [question for place, question in enumerate(fact.questions) if SPLITS[(number + place) % len(SPLITS)] == split]
        for number, fact in enumerate(FACTS)
    ]
