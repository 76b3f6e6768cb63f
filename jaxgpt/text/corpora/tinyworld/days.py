"""Plots about how days go: weather, cooking, school, work, travel, sleep."""

from jaxgpt.text.corpora.tinyworld.facts import FACTS, wordings
from jaxgpt.text.corpora.tinyworld.teller import Teller
from jaxgpt.text.corpora.tinyworld.world import (
    CAUSES,
    CHILDREN,
    COLORS,
    ELDER,
    ELDERS,
    FLOWERS,
    FRUITS,
    KIND,
    NEEDS,
    PLACES,
    SAID,
    SIGHED,
    SOME,
    SWEETS,
    WEATHER,
    WHEN,
    a,
)

QUESTIONS = wordings("train")


def weather(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    weather, (now, effect, clothes, treat) = t.pick(list(WEATHER.items()))
    t.say(
        f'"[Look outside|Look, {hero}|Wake up, {hero}]!" said {ELDER}. "It is {now}!"',
        f"{WHEN}, {hero} looked out of the window. It was {now}.",
        f"It was {now}, and {hero} wanted to [go out|play outside|see it].",
    )
    t.note("weather", f"It was {now}.", "that day")
    t.say(
        f"{hero} put on {clothes} and [ran outside|opened the door|went out].",
        f'"When {weather}, you wear {clothes}," {SAID} {hero}.',
    )
    t.note("wore", f"{hero} wore {clothes}.", hero.name)
    friend = t.pick_for(hero, CHILDREN, hero)
    place = t.pick_for(hero, PLACES)
    t.say(f"{hero.She} met {friend} {place.at}.", f"{friend} was {place.at} already.")
    t.note("where", f"{friend} is {place.at}.", friend.name)
    t.say(f'"When {weather}, {effect}," {SAID} {friend}.', f"They saw that {effect} when {weather}.")
    t.say(
        f"They [played|walked|sang] until {hero} was [tired|hungry|cold|bored|happy|dirty].",
        f"At home there was {treat} for [both of them|everyone|{hero}].",
    )


def lesson(t: Teller) -> None:
    """A teacher asks how the world is."""
    t.say(
        "The teacher had [some questions|a few questions|two questions] [today|this morning|for the children].",
        f"{WHEN}, the teacher [asked about the world|talked about the world].",
        "The teacher [smiled|stood up|held up a picture|sat down] and [asked|began|spoke].",
    )
    first = t.pick(range(len(FACTS)))
    t.say(f'"{t.pick(QUESTIONS[first])}"')
    pupil = t.pick(CHILDREN)
    answer = FACTS[first].answer[:-1]
    t.say(f'"{answer}," said {pupil}.', f'{pupil} [raised a hand|knew it]. "{answer}!"')
    t.say(
        '"[Very good|That is right|Yes]!"',
        '"[Good answer|Correct|Exactly|Wonderful]!"',
    )
    second = t.other(range(len(FACTS)), first)
    if t.maybe():
        t.say(f"Then it was the turn of {t.other(CHILDREN, pupil)}.")
    t.say(f'"{t.pick(QUESTIONS[second])}"')
    t.say(f'"{FACTS[second].answer}"')
    t.say("[Then the bell rang|Everybody clapped|They all learned something|The teacher was happy].")


def cooking(t: Teller) -> None:
    cook = t.pick([*CHILDREN, *ELDERS])
    sweet = t.pick([*SWEETS, "soup", "salad"])
    fruit = t.pick([*FRUITS, "tomato", "pumpkin", "carrot"])
    t.say(
        f"{cook} was [making|cooking] {some(sweet)} [in the big pot|in the kitchen|for dinner].",
        f'"Today I will make {some(sweet)}," {SAID} {cook}.',
    )
    t.note("made", f"{cook} made {some(sweet)}.", cook.name)
    t.say(
        f"{cook.She} took [flour|milk|butter|salt] and [sugar|eggs|rice|oil], and {a(fruit)} [from the garden|from the market|from the basket]."
    )
    helper = t.pick_for(cook, CHILDREN, cook)
    t.say(
        f'{cook} had help from {helper}, who [stirred|tasted|smelled] it. "[It needs more sugar|It is hot|It smells good]!"',
        f"{cook} had help from {helper}, who [asked to taste it|wanted to lick the spoon].",
    )
    t.note("helped", f"{cook} had help from {helper}.", cook.name)
    if t.maybe(0.7):
        t.say(f"Soon the {sweet} was on the table, and [it was delicious|it tasted wonderful|nothing was left]!")
    else:
        t.say(
            f"But the {sweet} was [burned|too sweet|too salty|still raw]! They laughed and ate [bread|eggs|cheese] instead."
        )


def some(food: str) -> str:
    return food if food in ("soup", "salad", "pizza") else a(food)


def bedtime(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    elder = t.pick(ELDERS)
    t.say(
        f"It was [late|dark|night|time for bed], but {hero} [was not tired|could not sleep|wanted a story|was hungry|was thirsty|sat up].",
        f'"Time for bed, {hero}," {SAID} {elder}.',
    )
    subject = t.pick(["king", "queen", "pirate", "dragon", "giant", "witch", "knight", "wizard"])
    t.say(
        f"{elder} told {hero.them} a story about {a(subject)} [in a castle|on the moon|with a magic hat|without a crown|on an island|in a cave].",
        f"So {elder} [read|sang] about a {KIND} {subject}.",
    )
    t.note("story", f"{elder} told a story about {a(subject)}.", elder.name)
    t.say(
        f'"[Is it true|Was it long ago|Where was that|And then|Was it magic]?" asked {hero}. "[Maybe|Who knows|Every word of it|Yes|Long ago|Listen]," {SAID} {elder}.',
        f"{hero} [listened|was quiet|asked many questions|laughed|held {hero.her} pillow tight].",
    )
    t.say(
        f"{hero} closed {hero.her} eyes and [dreamed of|dreamed about] the {subject}.",
        f'"Good night, {hero}," [whispered|said] {elder}, and {hero} was already asleep.',
    )


def unwell(t: Teller) -> None:
    """Somebody does not feel well, and something helps."""
    hero = t.pick(CHILDREN)
    feeling, cure = t.pick(list(NEEDS.items()))
    t.say(
        f"{WHEN}, {hero} was {feeling}.",
        f'"I am {feeling}," {SIGHED} {hero}.',
        f"{hero} had a [long|hard|strange] day and was {feeling}.",
    )
    cause = t.pick(CAUSES[feeling])
    t.say(f"{hero.She} {cause}.")
    friend = t.pick_for(hero, [*CHILDREN, *ELDERS], hero)
    t.say(
        f'"When you are {feeling}, you {cure}," {SAID} {friend}.',
        f'"[Poor {hero}|Oh dear|My poor child]," {SIGHED} {friend}. "You should {cure}."',
    )
    t.note("helped", f"{hero} had help from {friend}.", hero.name)
    t.say(
        f"{hero} had help from {friend} and [soon|after a while] felt [better|fine|great|like new|happy].",
        f"It was good advice. {hero} had help from {friend} and [smiled again|could laugh again].",
    )


def plant(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    flower = t.pick_for(hero, FLOWERS)
    t.say(f"{hero} had a {SOME} seed.", f"{WHEN}, {hero} got a {SOME} seed from {ELDER}.")
    t.say(f"{hero.She} [dug a hole|filled a pot with earth] and planted it.")
    place = t.pick_for(hero, PLACES)
    t.say(
        f"{hero.She} put it {place.at} and gave it water every [day|morning|evening].",
        f"{hero.She} waited {place.at} for [a week|a month|a long time].",
    )
    color = t.pick_for(hero, COLORS)
    t.say(
        f"Then {a(color)} {flower} [grew|came up|opened].",
        f"At last there was a flower. It was {a(color)} {flower}!",
    )
    t.note("grew", f"{hero} grew {a(color)} {flower}.", hero.name)
    t.note("color", f"The {flower} was {color}.", f"the {flower}")
    friend = t.pick_for(hero, [*CHILDREN, *ELDERS], hero)
    t.say(
        f"{hero} gave the {flower} to {friend}, who [put it in a vase|smelled it and smiled].",
        f'"How [beautiful|lovely]!" {SAID} {friend}. "May I have it?" And {hero} gave it to {friend.them}.',
    )


PLOTS = (weather, lesson, cooking, bedtime, unwell, plant)
