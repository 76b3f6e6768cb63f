"""Plots about animals: what they eat, say, fear and do."""

from jaxgpt.text.corpora.tinyworld.teller import Teller
from jaxgpt.text.corpora.tinyworld.world import (
    ANIMALS,
    CHILDREN,
    DWELLERS,
    EATERS,
    ELDERS,
    KIND,
    PARENTS,
    PETS,
    PLACES,
    SAID,
    SIGHED,
    SOME,
    SPEAKERS,
    SPOTS,
    TOYS,
    TREES,
    WENT,
    WHEN,
    a,
)


def hungry(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    animal = t.pick_for(hero, EATERS)
    t.about.append(animal.name)
    t.say(
        f"{WHEN}, {hero} met a {KIND} {animal}.",
        f"There was once a {KIND} {animal}. {WHEN}, it met {hero}.",
        f"A {KIND} {animal} came to the house of {hero}.",
    )
    t.note("met", f"{hero} met {a(animal.name)}.", hero.name)
    t.say(
        f'"[Why are you sad|What is wrong|Can I help you|Who are you|How are you]?" asked {hero}. "I am hungry," {SIGHED} the {animal}.',
        "It looked [thin|weak|hungry|cold|wet] and [sad|tired|lost|afraid|lonely].",
    )
    t.say(
        f"{hero} [knew|remembered] what {a(animal.name)} eats and [got|brought] some {animal.eats}.",
        f"{hero} {WENT} home and [came back with|got|found] some {animal.eats}.",
        f'"{a(animal.name).capitalize()} eats {animal.eats}," {SAID} {hero}, and gave it some.',
    )
    t.note("ate", f"The {animal} ate {animal.eats}.", f"the {animal}")
    t.note("fed", f"{hero} fed the {animal}.", f"the {animal}")
    t.say(f"The {animal} ate [it all|everything|slowly|at once|until it was full].")
    t.say(
        "From that day on, they were [friends|best friends|never alone].",
        f'"Thank you, {hero}," {SAID} the {animal}. "[You are kind|I will not forget you|Come back soon|That was good|You are my friend]."',
        f"Every [day|week|winter|summer|evening], {hero} came again.",
    )


def race(t: Teller) -> None:
    first = t.pick(ANIMALS)
    second = t.other(ANIMALS, first)
    t.about += first.name, second.name
    t.say(
        f"{WHEN}, the {first} and the {second} [had|wanted to run] a race.",
        f'"I am [faster|quicker] than you," {SAID} the {first} to the {second}. So they had a race.',
    )
    start = t.pick(PLACES)
    end = t.other(PLACES, start)
    t.say(f"They {WENT} from {start} to {end}.")
    winner = t.pick((first, second))
    loser = second if winner is first else first
    t.say(
        f"[At first|In the middle|Soon] the {loser} [was ahead|was in front|was faster], but then it [fell over a root|stopped for a nap|lost its way|looked back|got tired]."
    )
    t.say(
        f"So the {winner} won[| the race| by a nose].",
        f"The {winner} [never stopped|kept going] and won the race.",
    )
    t.note("won", f"The {winner} won the race.", "the race")
    t.say(
        f'"[Well done|You were great|Next time I will win]," {SAID} the {loser}.',
        f"The {loser} [laughed|was angry|was sorry], but [only for a minute|they stayed friends].",
    )


def runaway(t: Teller) -> None:
    hero = t.pick(CHILDREN)
    animal = t.pick(ANIMALS[:9])
    t.about.append(animal.name)
    pet = t.pick_for(hero, PETS)
    t.say(f"{hero} had {a(animal.name)} called {pet}.", f"{pet} was the {animal} of {hero}.")
    t.note("name", f"The {animal} was called {pet}.", f"the {animal}")
    t.say(
        f"{WHEN}, {pet} {WENT} away[| after a butterfly| in the rain| in the dark].",
        f"{WHEN}, the gate was open and {pet} was gone.",
    )
    t.say(f'{hero} was worried[| and sad| and cried| and afraid]. "[{pet}|Come back|Oh no|Hey]! Where are you?"')
    t.note("why", f"{hero} was worried because {pet} was gone.", hero.name, "worried")
    if animal.says and t.maybe(0.7):
        place = t.pick_for(hero, PLACES)
        t.say(
            f'"Listen," said somebody {place.at}. "It says {animal.says}!"',
            f"Then {hero.she} heard a [quiet|soft|loud|little|funny] {animal.says} {place.at}.",
        )
    else:
        place = t.pick_for(hero, PLACES)
        t.say(f"[The mailman|The neighbor|An old man|The baker] had seen {pet} {place.at}.")
    t.note("was", f"{pet} was {place.at}.", pet)
    t.say(
        f"It was {pet}, [wet|dirty|safe and sound|tired|hungry|happy]!",
        f"And there was {pet}, [fast asleep|with a new friend|in the mud|in the straw].",
    )
    t.say(
        f"{hero} carried {pet} [home|all the way|to bed].",
        f"{hero} hugged {pet} [for a long time|again and again|at once].",
    )


def spring(t: Teller) -> None:
    """A young animal is born."""
    t.say(
        "It was spring on the farm.",
        f"{WHEN}, there was [big|happy|wonderful|great|good|strange] news.",
        "The farmer [came|ran|called|shouted] with [good|great|wonderful] news.",
    )
    mother = t.pick(PARENTS)
    t.about.append(mother.name)
    t.say(
        f"The {mother} had a {KIND} {mother.baby}.",
        f"The {mother} had a baby, and a baby {mother} is called {a(mother.baby)}.",
    )
    hero = t.pick(CHILDREN)
    color = t.pick(("brown", "black", "white", "gray", "golden", "yellow"))
    t.say(
        f"It was {color} and [soft|warm|small|wet|sweet|tired]. {hero} [loved it|hugged it|kissed it|carried it|gave it some milk]."
    )
    t.note("color", f"The {mother.baby} was {color}.", f"the {mother.baby}")
    name = t.pick_for(hero, PETS)
    t.say(f'"[I will|Let us|We can] call it {name}," {SAID} {hero}.', f"{hero} named it {name}.")
    t.note("name", f"The {mother.baby} was called {name}.", f"the {mother.baby}")
    t.say(
        f"The {mother.baby} [drank|laughed|sat up|stood up] and [fell asleep|fell down|slept|danced] [in the straw|in the grass|in the sun]."
    )


def visitor(t: Teller) -> None:
    """A noise in the night turns out to be an animal."""
    hero = t.pick(CHILDREN)
    t.say(
        f"It was [night|dark|late], and {hero} [could not sleep|was alone in {hero.her} room].",
        f"[Bump|Creak|Knock]! {hero} woke up in the night.",
    )
    spot = t.pick(SPOTS)
    t.say(f"Something [moved|sneezed|laughed|danced|was scratching] {spot}.")
    feeling = t.pick(("afraid", "scared", "curious"))
    t.say(f"{hero} was {feeling}, [and sat up|but got up|and called for help|but looked].")
    animal = t.pick(SPEAKERS)
    t.say(
        f'"What says {animal.says}?" {hero.she} [thought|wondered|asked].',
        f"Then {hero.she} heard a [quiet|soft|loud|little|funny] {animal.says}.",
    )
    t.about.append(animal.name)
    t.note("saw", f"{hero} saw {a(animal.name)}.", hero.name)
    t.note("was", f"The {animal} was {spot}.", f"the {animal}")
    t.say(
        f"It was only {a(animal.name)}! The {animal} was {spot}, and it was [cold|hungry|lost|lonely|tired|bored|wet]."
    )


def wise(t: Teller) -> None:
    """A child meets an animal that talks."""
    hero = t.pick(CHILDREN)
    animal = t.pick_for(hero, ANIMALS)
    tree = t.pick(TREES)
    t.about.append(animal.name)
    t.say(
        f"{hero} sat under {a(tree)}, and there was a {KIND} {animal}.",
        f"{WHEN}, a {KIND} {animal} [was sleeping|sat] under {a(tree)}. {hero} [woke it up|came near|sat down].",
    )
    t.say(
        f'"[Hello|Good morning|Good evening|Hi|Hey]! Who are you?" asked {hero}.',
        f'{hero.She} said [hello|hi|hey|good morning]. "Who are you?"',
    )
    t.say(
        f'"I am {a(animal.name)}," it said. "[I know many stories|I can answer your questions|I know everything about the world|I have no name]."',
        f'"I am {a(animal.name)}. And who are you?" "I am {hero}."',
    )
    t.note("met", f"{hero} met {a(animal.name)}.", hero.name)
    if t.maybe():
        question, answer = t.pick(EXCHANGES)
        t.say(f'"{question}" "{answer}"')
    t.say(
        f'"[Goodbye|Good night|Bye]!" {SAID} {hero}. "[Come back soon|Thanks for the story|See you tomorrow|Thank you]!"',
        f"{hero} said [goodbye|bye|thanks|good night] and {WENT} home.",
    )


def rescue(t: Teller) -> None:
    """An animal is stuck, and somebody has a tool."""
    animal = t.pick(DWELLERS)
    t.about.append(animal.name)
    trouble, tool = t.pick(TROUBLES)
    t.say(f"{WHEN}, a {KIND} {animal} {trouble}.", f'"Help!" cried a {KIND} {animal} that {trouble}.')
    hero = t.pick(CHILDREN)
    t.say(
        f"{hero} [heard it|saw it] and [ran|hurried] to get {a(tool)}.",
        f'"[Wait|Hold on]!" {SAID} {hero}. "I have {a(tool)}."',
    )
    t.note("used", f"{hero} used {a(tool)}.", hero.name)
    t.note("helped", f"{hero} helped the {animal}.", f"the {animal}")
    t.say(
        "[One, two, three|Slowly, slowly|With a big pull], and it was free[ again|]!",
        f"{hero.She} [worked hard|was very careful|pulled and pulled], and soon it was free.",
    )
    t.say(
        f"{a(animal.name).capitalize()} lives {animal.lives}, so {hero} took it there.",
        f"The {animal} went home and told [its family|everybody] about {hero}.",
        f'"[You saved me|You are very brave|How can I thank you]!" {SAID} the {animal}.',
    )


def parrot(t: Teller) -> None:
    """A bird repeats what it hears, word for word."""
    hero = t.pick(CHILDREN)
    name = t.pick_for(hero, PETS)
    t.about.append("parrot")
    t.say(
        f"{hero} had a parrot called {name} that [repeated|learned] everything.",
        f"{WHEN}, {hero} talked to {name}, the [old|green|clever] parrot.",
    )
    t.note("name", f"The parrot was called {name}.", "the parrot")
    for _ in range(2):
        person = t.pick([*CHILDREN, *ELDERS])
        word = t.pick(SOME[1:-1].split("|"))
        line = f"{person} has a {word} {t.pick_for(hero, TOYS)} {t.pick_for(hero, PLACES).at}"
        t.say(f'"{line}," {SAID} {hero}. "{line}," {SAID} {name}.')


EXCHANGES = [
    ("How are you?", "I am fine, thank you."),
    ("Can you tell me a story?", "Of course I can."),
    ("Do you want to hear a story?", "Yes, please."),
    ("What can you do?", "I can answer questions."),
    ("Thank you!", "You are welcome!"),
]

TROUBLES = [
    ("fell into a hole", "rope"), ("was stuck in the mud", "shovel"), ("sat on a high branch", "ladder"), ("fell into the river", "net"),
    ("was caught in a fence", "pair of scissors"), ("was locked in a shed", "key"), ("was lost in the dark", "lamp"),
]  # fmt: skip

PLOTS = (hungry, race, runaway, spring, visitor, wise, rescue, parrot)
