"""Plots about doing things: trips, shopping, building, working, music."""

from jaxgpt.text.corpora.tinyworld.teller import Teller
from jaxgpt.text.corpora.tinyworld.world import (
    CHILDREN,
    CLOTHES,
    COLORS,
    ELDERS,
    FRUITS,
    JOBS,
    KIND,
    LOOKS,
    PLACES,
    SAID,
    SIGHTS,
    SOME,
    STUFF,
    SWEETS,
    THEN,
    TOOLS,
    TOYS,
    TREASURES,
    WAYS,
    WENT,
    WHEN,
    a,
    sentence,
)


def trip(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    place = t.pick_for(hero, PLACES)
    way = t.pick(WAYS)
    t.say(f"{WHEN}, {hero} went to {place} {way}.", f'"Let us go to {place}," {SAID} {hero}. They went {way}.')
    t.note("went", f"{hero} went to {place}.", hero.name)
    friend = t.pick_for(hero, [*CHILDREN, *ELDERS], hero)
    t.say(f"{friend} came too[| and brought a map| and carried the bag| and sang all the way].")
    sight = t.pick(SIGHTS)
    t.say(f"There they saw {sight}.", f'"Look, {sight}!" cried {friend}.')
    t.note("saw", f"{hero} saw {sight}.", hero.name)
    t.note("where", f"{hero} is {place.at}.", hero.name)
    if t.maybe(0.4):
        t.say(f"{hero} [took a picture|waved|could not believe it]. It was a [wonderful|perfect|great] day.")
    else:
        later = t.pick_for(hero, PLACES, place)
        t.say(f"{THEN} {friend} {WENT} on to {later}, but {hero} stayed {place.at}.")


def market(t: Teller) -> None:
    hero = t.pick([*CHILDREN, *ELDERS])
    thing = t.pick_for(hero, [*CLOTHES, *TREASURES])
    t.say(
        f"{hero} went to the market to buy a {SOME} {thing}.",
        f'"I need a {SOME} {thing}," {SAID} {hero}, and went to the market.',
    )
    seller = t.pick(("farmer", "tailor", "sailor", "fisherman"))
    color = t.pick_for(hero, COLORS)
    t.say(
        f'"{a(thing).capitalize()}, please," {SAID} {hero}. "[Welcome|Hello|Good morning]! I have {a(color)} one," {SAID} the {seller}.',
        f"The {seller} had many, and {hero} [chose|liked|wanted] the {color} one.",
    )
    t.note("bought", f"{hero} bought {a(color)} {thing}.", hero.name)
    t.note("color", f"The {thing} was {color}.", f"the {thing}")
    t.say("It cost [two|three|four|five|ten] coins[, which was cheap|, which was a lot|].")
    if t.maybe():
        friend = t.pick_for(hero, CHILDREN, hero)
        t.say(
            f"[On the way home|At the gate] {hero} met {friend} and gave it away. Now {friend} had the {thing}[ and was so surprised|, and needed it more|]."
        )
        t.note("has", f"{friend} has the {thing}.", f"the {thing}")
    else:
        t.say(f"{hero} [carried|brought] it home [carefully|in a bag|with a song].")
        t.note("has", f"{hero} has the {thing}.", f"the {thing}")


def made(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    toy = t.pick_for(hero, TOYS)
    t.say(f"{WHEN}, {hero} wanted to make a {SOME} {toy}.", f'"I will make a {SOME} {toy}," {SAID} {hero}.')
    stuff = t.pick(STUFF)
    t.say(
        f"{hero.She} took some {stuff}, [a little glue|some string|a long rope|a few nails] and [a lot of time|{hero.her} best ideas|a good plan]."
    )
    t.note("made", f"{hero} made a {toy}.", hero.name)
    color = t.pick_for(hero, COLORS)
    t.say(f"When it was [done|ready|dry], {hero.she} painted it {color}.")
    t.note("color", f"The {toy} was {color}.", f"the {toy}")
    friend = t.pick_for(hero, [*CHILDREN, *ELDERS], hero)
    t.say(
        f'"[May I hold it|Does it work|Did you do that alone]?" asked {friend}.',
        f'"[Well done|How clever|That is wonderful]!" {SAID} {friend}.',
    )
    if t.maybe():
        t.say(
            f'"It is for you," {SAID} {hero}, and {friend} [did not know what to say|was very surprised|jumped for joy].'
        )
        t.note("gave", f"{hero} gave {friend} a {toy}.", hero.name, friend.name)
    else:
        t.say(
            f"{hero} was so proud that {hero.she} [showed it to everybody|ran around the house with it|slept next to it]."
        )
        t.note("felt", f"{hero} felt proud.", hero.name)


def wish(t: Teller) -> None:
    """What somebody wants to be, and what that takes."""
    hero = t.pick(CHILDREN)
    job = t.pick_for(hero, JOBS)
    t.say(
        f'"[When I grow up|One day|Soon], I [want to|will] be {a(job.name)}," {SAID} {hero}.',
        f"{WHEN}, {hero} [wanted|decided|hoped] to be {a(job.name)}.",
        f"{hero} [dreamed|talked] of being {a(job.name)} [day and night|all day|again and again].",
    )
    t.note("wish", f"{hero} wants to be {a(job.name)}.", hero.name)
    friend = t.pick_for(hero, [*CHILDREN, *ELDERS], hero)
    t.say(
        f'"What does {a(job.name)} do?" asked {friend}. "{a(job.name).capitalize()} {job.does}," {SAID} {hero}.',
        f'"[Why|Really|How lovely]!" {SAID} {friend}. "{a(job.name).capitalize()} {job.does}[| all day]."',
    )
    if t.maybe():
        t.say(
            f"{THEN} they {WENT} to see {a(job.name)} {job.at}, and {hero} [could help|asked a hundred questions|smiled|laughed|was happy|watched for hours]."
        )
        t.note("where", f"The {job} is {job.at}.", f"the {job}")
    else:
        other = t.pick_for(hero, JOBS, job)
        t.say(f'"I want to be {a(other.name)}," {SAID} {friend}, "because {a(other.name)} {other.does}."')


def village(t: Teller) -> None:
    """A model of a small world is built."""
    hero = t.pick(CHILDREN)
    stuff = t.pick(STUFF)
    t.say(f"{hero} built a small model out of {stuff}.", f"{WHEN}, {hero} made a small world out of {stuff}.")
    t.note("made", f"{hero} made a small world.", hero.name)
    first = t.pick(PLACES)
    t.say(f"First came {first}, with a {SOME} [door|tower|roof|gate|wall].")
    thing, color = t.pick(list(LOOKS.items()))
    t.say(f'"{sentence(thing)[:-1]} is {color}," {SAID} {hero}, and [mixed|took|used] some {color} paint.')
    friend = t.pick_for(hero, [*CHILDREN, *ELDERS], hero)
    t.say(
        f'"[Who lives there|Which stories do you know about it|How small is it]?" asked {friend}.',
        f'"[May I live there|I want to be in it]," [joked|said] {friend}.',
    )
    second = t.pick_for(hero, PLACES, first)
    t.say(f"{THEN} they were both in it. {hero} was {second.at} and {friend} was {first.at}.")


def work(t: Teller) -> None:
    """Something is to be done, and it takes a tool."""
    hero = t.pick(CHILDREN)
    task, tool = t.pick(list(TOOLS.items()))
    t.say(f"{WHEN}, {hero} wanted to {task}.", f'"I want to {task}," {SAID} {hero}, "but how?"')
    t.note("wanted", f"{hero} wanted to {task}.", hero.name)
    helper = t.pick_for(hero, [*CHILDREN, *ELDERS], hero)
    t.say(
        f'"You need {a(tool)} to {task}," {SAID} {helper}.',
        f'{helper} [thought|laughed]. "You cannot {task} without {a(tool)}!"',
        f"{hero} asked {helper}, who [had|found] {a(tool)}.",
    )
    t.note("helped", f"{hero} had help from {helper}.", hero.name)
    t.note("used", f"{hero} used {a(tool)}.", hero.name)
    t.say(f"It [was easy|was hard|was fun|took a while|took all day], but {hero} had help from {helper}.")
    t.say(
        f'"[We did it|Hooray|Finally]!" cried {hero}.',
        f"{hero} was [proud|done|happy] [in the end|before dinner].",
        f'"I could not do it without you," {SAID} {hero}.',
    )


def picnic(t: Teller) -> None:
    first = t.pick(CHILDREN)
    second = t.pick_for(first, CHILDREN, first)
    place = t.pick_for(first, PLACES)
    t.say(
        f"{WHEN}, {first} and {second} had a picnic {place.at}.",
        f'"Let us have a picnic {place.at}," {SAID} {first} to {second}.',
    )
    food = t.pick_for(first, SWEETS)
    fruit = t.pick_for(first, FRUITS)
    t.say(f"{first} brought {a(food)} and {second} brought {a(fruit)}.")
    t.note("brought", f"{first} brought {a(food)}.", first.name)
    t.note("brought", f"{second} brought {a(fruit)}.", second.name)
    thief = t.pick(("fly", "crow", "wolf", "raccoon", "puppy", "ant"))
    eaten, left, victim = t.pick(((food, fruit, first), (fruit, food, second)))
    t.say(f"[But then|Suddenly] a {KIND} {thief} came, and [soon|now] the {thief} had the {eaten}!")
    t.note("has", f"The {thief} has the {eaten}.", f"the {eaten}")
    t.say(f'"[Stop|Hey|Thief]!" cried {victim}.', f"{victim} [laughed|sighed|ran after it].")
    t.say(
        f"So they shared the {left}, and it was [enough|good too|the best they ever had].",
        f"They still had the {left}[, and the sun was shining|].",
    )


def music(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    tune = t.pick(("drum", "flute", "guitar", "piano", "trumpet", "violin", "bell"))
    t.say(f"{hero} [learned|wanted] to play the {tune}.", f"Every [day|evening], {hero} played the {tune}.")
    t.note("played", f"{hero} played the {tune}.", hero.name)
    t.say(
        "At first it sounded [awful|terrible|funny], and [the dog|the cat|Dad] [ran away|left the room|covered both ears]."
    )
    teacher = t.pick_for(hero, [*CHILDREN, *ELDERS], hero)
    t.say(
        f'"[Try again|Do not give up|Play slowly|Practice every day]," {SAID} {teacher}.',
        f"{teacher} [listened|showed {hero.them} how|smiled].",
    )
    place = t.pick_for(hero, PLACES)
    t.say(
        f"In the [spring|summer|winter|autumn], {hero} played {place.at}.",
        f"One night there was a concert {place.at}.",
    )
    t.say(f"People [danced|sang along|clapped their hands], and {teacher} was [proud|moved|amazed].")
    feeling = t.pick(("proud", "shy", "great", "like a star"))
    t.say(f"{hero} felt {feeling}.")
    t.note("felt", f"{hero} felt {feeling}.", hero.name)


PLOTS = (trip, market, made, wish, village, work, picnic, music)
