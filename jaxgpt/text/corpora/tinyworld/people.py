"""Plots about people: finding, losing, giving, looking for each other."""

from jaxgpt.text.corpora.tinyworld.teller import Teller
from jaxgpt.text.corpora.tinyworld.world import (
    CHILDREN,
    COLORS,
    DISHES,
    ELDERS,
    FRUITS,
    GLAD,
    NEIGHBOR,
    PLACES,
    SAID,
    SIGHED,
    SOME,
    SPOTS,
    SWEETS,
    THEN,
    TOYS,
    TREASURES,
    WAYS,
    WENT,
    WHEN,
    a,
)


def lost(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    toy = t.pick_for(hero, TOYS)
    t.say(
        f"{WHEN}, {hero} could not find {hero.her} {SOME} {toy}.",
        f"{hero} had lost {hero.her} {SOME} {toy}[| again].",
        f'"Oh no! My {SOME} {toy} is gone!" cried {hero}.',
    )
    t.say(
        f"{hero.She} was so sad that {hero.she} [almost cried|did not want to play|could not eat|sat down and cried]."
    )
    t.note("lost", f"{hero} lost {hero.her} {toy}.", hero.name)
    t.note("why", f"{hero} was sad because {hero.she} lost {hero.her} {toy}.", hero.name, "sad")
    wrong = t.pick(SPOTS)
    t.say(f"{hero.She} looked {wrong}[| and found only dust| and found an old sock| again and again].")
    helper = t.pick_for(hero, CHILDREN, hero)
    spot = t.other(SPOTS, wrong)
    t.say(
        f'Then {helper} [called|shouted], "I see it! The {toy} is {spot}!"',
        f'"Where is my {toy}?" asked {hero}. "The {toy} is {spot}," {SAID} {helper}.',
        f'"Look, the {toy} is {spot}," {SAID} {helper}. And there it was!',
    )
    t.note("helped", f"{hero} had help from {helper}.", hero.name)
    t.note("where", f"The {toy} is {spot}.", f"the {toy}")
    t.say(
        f"So {hero} had help from {helper}, and [hugged|kissed|thanked] {helper.them}.",
        f"It was good that {hero} had help from {helper}, and [they laughed|they danced|they smiled|they sang].",
    )


def found(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    place = t.pick_for(hero, PLACES)
    t.say(
        f"{WHEN}, {hero} was [walking|playing|sitting] {place.at}.",
        f"{hero} liked to [play|walk|dream] {place.at}.",
    )
    color = t.pick_for(hero, COLORS)
    thing = t.pick_for(hero, TREASURES)
    t.say(
        f"There {hero.she} found a {SOME} {color} {thing} [in the grass|under a leaf|between two stones].",
        f"Something [was shining|was lying] on the ground. It was a {SOME} {color} {thing}!",
    )
    t.note("found", f"{hero} found {a(color)} {thing}.", hero.name)
    t.note("found at", f"{hero} found the {thing} {place.at}.", hero.name, f"the {thing}")
    t.note("color", f"The {thing} was {color}.", f"the {thing}")
    owner = t.pick_for(hero, CHILDREN, hero)
    if t.maybe():
        t.say(
            f'"Whose {thing} is this?" {hero.she} asked. "It is mine!" {SAID} {owner}.',
            f"But {hero.she} knew that it was the {thing} of {owner}.",
        )
        t.say(f"So {hero} gave it back[ with a smile| at once|]. {owner} was very {GLAD}.")
        t.note("has", f"{owner} has the {thing}.", f"the {thing}")
    else:
        t.say(f'"[How pretty|How lovely|What a treasure]!" {SAID} {owner}. "[You should keep it|It is yours now]."')
        t.say(f"{hero} put it [in {hero.her} pocket|in a little box|next to {hero.her} bed] and was {GLAD}.")
        t.note("has", f"{hero} has the {thing}.", f"the {thing}")


def gift(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    t.say(
        f"It was the birthday of {hero}.",
        f"Today {hero} was [four|five|ten] years old.",
        f'"Happy birthday, {hero}!" [sang|cried] the whole family.',
    )
    giver = t.pick_for(hero, [*CHILDREN, *ELDERS], hero)
    color = t.pick_for(hero, COLORS)
    toy = t.pick_for(hero, TOYS)
    t.say(
        f"{giver} gave {hero.them} a {SOME} {color} {toy}.",
        f"{giver} came with a [big|heavy|tiny] box, and inside was a {SOME} {color} {toy}.",
        f'"This is for you," {SAID} {giver}. It was a {SOME} {color} {toy}!',
    )
    t.note("gave", f"{giver} gave {hero} {a(color)} {toy}.", giver.name, hero.name)
    t.note("has", f"{hero} has the {toy}.", f"the {toy}")
    t.note("color", f"The {toy} was {color}.", f"the {toy}")
    sweet = t.pick_for(hero, SWEETS)
    t.say(f"{THEN} everyone [had|ate|got] {a(sweet)}[| and sang a song| and played games].")
    t.say(
        f'"It is the best birthday ever," {SAID} {hero}.',
        f"{hero} took the {toy} to bed that night.",
        f"{hero} [thanked|hugged] {giver} [again and again|with both arms].",
    )


def swap(t: Teller) -> None:
    first = t.pick(CHILDREN)
    toy = t.pick_for(first, TOYS)
    second = t.pick_for(first, CHILDREN, first)
    thing = t.pick_for(first, TREASURES)
    t.say(
        f"{first} had a {SOME} {toy} and {second} had a {SOME} {thing}.",
        f"{first} [came|walked by] with a {SOME} {toy}. {second} was holding a {SOME} {thing}.",
    )
    t.say(
        f'"[Shall we|Do you want to] trade?" asked {first}.',
        f'"I like your {thing}," {SAID} {first}. "[Do you want|Would you like] my {toy}?"',
    )
    if t.maybe(0.6):
        t.say(f'"[Yes|Of course|Why not]," {SAID} {second}, and they traded.')
        t.say(f"[Now|So] {second} had the {toy} and {first} had the {thing}.")
        t.note("got", f"{first} has the {thing}.", first.name)
        t.say(f"Both were {GLAD}[| with the trade].")
    else:
        t.say(f'"No, [thank you|sorry]," {SIGHED} {second}. "[Grandma|Grandpa|My uncle|My aunt] gave it to me."')
        t.note("got", f"{first} has the {toy}.", first.name)
        t.say(
            f"So {first} had the {toy} and {second} had the {thing}, but they [shared|played with] both all [day|afternoon]."
        )


def dinner(t: Teller) -> None:
    """Two children are somewhere, one moves on, and the one who asks is told where they are now."""
    first = t.pick(CHILDREN)
    place = t.pick_for(first, PLACES)
    second = t.pick_for(first, CHILDREN, first)
    there = t.pick_for(first, PLACES, place)
    t.say(f"{WHEN}, {first} was {place.at} and {second} was {there.at}.")
    mover = t.pick((first, second))
    last = t.pick_for(first, PLACES, place, there)
    t.say(f"{THEN} {mover} {WENT} to {last}.")
    if mover is first:
        t.note("where", f"{second} is {there.at}.", second.name)
    else:
        t.note("where", f"{first} is {place.at}.", first.name)
    seeker = t.pick(ELDERS)
    t.say(
        f"{seeker} was [looking for them|calling them], for [dinner was ready|it was getting dark|it was late|it was time to go home|the soup was hot]."
    )
    sought = t.pick((first, second))
    at = last if sought is mover else place if sought is first else there
    t.say(f'"Where is {sought}?" {seeker.she} asked. "{sought} is {at.at}," said {NEIGHBOR}.')
    t.note("where", f"{sought} is {at.at}.", sought.name)
    t.say(f"So {seeker} {WENT} to {at}[| too] and [found {sought.them}|called {sought.them}|waved to {sought.them}].")


def hide(t: Teller) -> None:
    t.say(
        f"{WHEN}, the children played hide and seek.",
        '"One, two, three! I am coming!"',
        "It was a [rainy|gray|quiet] day, so they played hide and seek.",
    )
    first = t.pick(CHILDREN)
    spot = t.pick(SPOTS)
    second = t.pick_for(first, CHILDREN, first)
    corner = t.other(SPOTS, spot)
    t.say(f"{first} hid {spot}[, and|, but] {second} hid {corner}.")
    seeker = t.pick_for(first, CHILDREN, first, second)
    t.say(f"{seeker} looked [everywhere|high and low|here and there].")
    caught = t.pick((first, second))
    where = spot if caught is first else corner
    t.say(
        f"[Somebody laughed|Somebody sneezed|A foot was showing] {where}, and {seeker} found {caught}.",
        f'"There you are!" So {seeker} found {caught} {where}.',
    )
    winner = second if caught is first else first
    t.say(f"But nobody found {winner}, who [fell asleep|won the game|waited until dinner].")


def broken(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    thing = t.pick(DISHES)
    t.say(f"{WHEN}, {hero} [dropped|broke] a {SOME} {thing}.", f"Crash! {hero} had dropped a {SOME} {thing}.")
    t.note("broke", f"{hero} broke a {thing}.", hero.name)
    owner = t.pick(ELDERS)
    t.say(f"It was the [favorite|best] {thing} of {owner}.")
    t.say(f"{hero} was afraid [to tell the truth|and hid the pieces|and sad|and cried|and ran away].")
    t.note("why", f"{hero} was afraid because {hero.she} broke a {thing}.", hero.name, "afraid")
    t.say(
        f'"[Do not cry|Do not worry|I am not angry|Oh dear|Never mind|Come here]," {SAID} {owner}. "[We can fix it|It was only a {thing}|I love you more|It was old|Let us clean up|Thank you for telling me]."'
    )
    t.say(
        f"{THEN} they [fixed it with glue|swept the floor|bought a new one|laughed about it], and {hero} was {GLAD}[| again]."
    )


def shared(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    food = t.pick_for(hero, [*SWEETS, *FRUITS])
    t.say(f"{hero} had {a(food)}[| for lunch| in {hero.her} bag].", f"{WHEN}, {hero} [bought|got] {a(food)}.")
    friend = t.pick_for(hero, CHILDREN, hero)
    t.say(
        f"{friend} had nothing[| to eat] and was hungry.",
        f'"I am so hungry," {SIGHED} {friend}. "I have nothing to eat."',
    )
    t.note("why", f"{friend} was hungry because {friend.she} had nothing to eat.", friend.name, "hungry")
    t.say(
        f"So {hero} [cut|broke] the {food} in two and gave {friend} [half|the bigger half|one piece].",
        f'"We can share my {food}," {SAID} {hero}.',
    )
    place = t.pick_for(hero, PLACES)
    t.say(f"They sat {place.at} and ate[| slowly| together].", f"They ate it {place.at}.")
    t.note("where", f"{friend} is {place.at}.", friend.name)
    t.say(
        "[Sharing|Everything] [tastes better|is better] with a friend.",
        f'"You are a [good|true|real] friend," {SAID} {friend}.',
        f'"Tomorrow I will bring you [a treat|something too]," {SAID} {friend}.',
    )


def letter(t: Teller) -> None:
    """A letter invites somebody somewhere."""
    writer = t.pick([*CHILDREN, *ELDERS])
    reader = t.other(CHILDREN, writer)
    t.say(f"{writer} wrote a letter to {reader}.", f"{WHEN}, {writer} wrote a letter to {reader}.")
    place = t.pick_for(reader, PLACES)
    t.say(
        f'It said, "[Dear|My dear] {reader}, [please|you must] come to {place}. [I miss you|I have a surprise|Bring a friend]!"'
    )
    t.say(f"{reader} read it [twice|aloud|slowly|at once] and was {GLAD}.")
    way = t.pick(WAYS)
    t.say(f"{reader.She} [packed a bag|ran home|kissed the baby|laughed|shouted for joy] and went there {way}.")
    t.note("where", f"{reader} is {place.at}.", reader.name)
    if t.maybe():
        t.say(f'Soon {reader} was {place.at}. "[I am so glad you came|At last you are here]!" {SAID} {writer}.')
    else:
        t.say(f"Soon {reader} was {place.at}, and {writer} [waited|stood] there with {a(t.pick_for(reader, SWEETS))}.")


PLOTS = (lost, found, gift, swap, dinner, hide, broken, shared, letter)
