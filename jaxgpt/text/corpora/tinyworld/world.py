"""The small world as data: who lives in it, where, with what, and how things are there."""

from typing import NamedTuple


class Person(NamedTuple):
    name: str
    she: str
    She: str
    her: str  # whose: her kite, his kite
    them: str  # whom: saw her, saw him
    likes: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name


class Place(NamedTuple):
    name: str
    at: str

    def __str__(self) -> str:
        return f"the {self.name}"


class Animal(NamedTuple):
    """An animal; an empty field is something the world does not say."""

    name: str
    eats: str = ""
    says: str = ""
    lives: str = ""
    baby: str = ""

    def __str__(self) -> str:
        return self.name


class Job(NamedTuple):
    name: str
    does: str
    at: str

    def __str__(self) -> str:
        return self.name


def _female(name: str) -> Person:
    return Person(name, "she", "She", "her", "her")


def _male(name: str) -> Person:
    return Person(name, "he", "He", "his", "him")


def a(noun: str) -> str:
    """Returns the noun with its indefinite article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def sentence(words: str) -> str:
    """Returns the words with a capital first letter and a full stop."""
    return f"{words[0].upper()}{words[1:]}."


GIRLS = ["Mia", "Lily", "Anna", "Emma", "Rosa", "Zoe", "Nina", "Lucy"]
BOYS = ["Tom", "Ben", "Max", "Sam", "Leo", "Jack", "Finn", "Paul"]
ELDERS = [_female("Mom"), _male("Dad"), _female("Grandma"), _male("Grandpa")]
PETS = ["Rex", "Spot", "Fluffy", "Daisy", "Biscuit", "Pip", "Bella", "Coco", "Pepper", "Honey"]

PLACES = [
    *(Place(name, f"in the {name}") for name in ["garden", "park", "kitchen", "barn", "forest", "field", "library", "market", "bakery", "attic", "cellar", "meadow", "orchard", "tower", "museum", "village"]),
    *(Place(name, f"at the {name}") for name in ["beach", "farm", "station", "school", "harbor", "mill"]),
    *(Place(name, f"by the {name}") for name in ["river", "lake", "pond", "well"]),
    *(Place(name, f"on the {name}") for name in ["hill", "bridge", "island"]),
]  # fmt: skip
SPOTS = [
    "under the bed", "under the table", "under the stairs", "under the rug", "behind the door", "behind the sofa",
    "behind the curtain", "behind the clock", "in the basket", "in the drawer", "in the closet", "in the bathtub",
    "on the shelf", "on the roof", "on the piano", "next to the stove",
]  # fmt: skip

COLORS = [
    "red", "blue", "green", "yellow", "orange", "purple", "pink", "brown", "black", "white", "gray",
    "golden", "silver",
]  # fmt: skip
TOYS = [
    "ball", "kite", "doll", "drum", "puzzle", "train", "robot", "truck", "whistle", "bucket", "balloon",
    "bike", "crown", "flute", "guitar", "wagon", "sled", "rocket",
]  # fmt: skip
TREASURES = [
    "ring", "coin", "shell", "stone", "feather", "button", "ribbon", "key", "map", "bell", "marble",
    "pearl", "mirror", "watch", "lantern",
]  # fmt: skip
CLOTHES = ["hat", "scarf", "coat", "jacket", "shirt", "dress"]
SWEETS = ["cake", "pie", "cookie", "pancake", "muffin", "pudding", "sandwich", "pizza"]
FRUITS = ["apple", "pear", "plum", "cherry", "peach", "banana", "melon", "strawberry"]
DISHES = ["cup", "plate", "bowl", "glass", "vase", "jar", "pot"]
STUFF = ["wood", "paper", "cloth", "glass", "clay", "straw", "metal", "wool"]
WAYS = ["by bus", "by train", "by boat", "by car", "by bike", "on foot", "on a horse", "in a balloon"]
TREES = ["oak", "willow", "maple", "birch"]
FLOWERS = ["rose", "tulip", "daisy", "sunflower", "lily", "violet"]

ANIMALS = [
    Animal("cow", "grass", "moo", "in a barn", "calf"),
    Animal("horse", "hay", "neigh", "in a stable", "foal"),
    Animal("dog", "bones", "woof", "in a kennel", "puppy"),
    Animal("cat", "fish", "meow", "in a house", "kitten"),
    Animal("pig", "potatoes", "oink", "in a sty", "piglet"),
    Animal("sheep", "clover", "baa", "in a meadow", "lamb"),
    Animal("hen", "corn", "cluck", "in a coop", "chick"),
    Animal("duck", "bread", "quack", "on a pond", "duckling"),
    Animal("mouse", "cheese", "squeak", "in a wall"),
    Animal("rabbit", "carrots", "", "in a burrow", "bunny"),
    Animal("squirrel", "nuts", "", "in a tree"),
    Animal("bear", "honey", "growl", "in a cave", "cub"),
    Animal("fox", "berries", "", "in a den"),
    Animal("owl", "", "hoot", "in an oak"),
    Animal("frog", "flies", "croak", "in a swamp", "tadpole"),
    Animal("bee", "", "buzz", "in a hive"),
    Animal("monkey", "bananas", "", "in the jungle"),
    Animal("lion", "meat", "roar"),
    Animal("goat", "leaves", "", "on a mountain"),
    Animal("bird", "seeds", "tweet", "in a nest"),
    Animal("whale", "", "", "in the sea"),
    Animal("elephant", "peanuts"),
    Animal("turtle", "lettuce", "", "by a lake"),
    Animal("penguin", "", "", "on the ice"),
    Animal("hedgehog", "worms", "", "in a bush"),
]
EATERS = [animal for animal in ANIMALS if animal.eats]
SPEAKERS = [animal for animal in ANIMALS if animal.says]
PARENTS = [animal for animal in ANIMALS if animal.baby]
DWELLERS = [animal for animal in ANIMALS if animal.lives]

JOBS = [
    Job("baker", "bakes bread", "in the bakery"),
    Job("farmer", "grows corn", "at the farm"),
    Job("doctor", "helps sick people", "in the village"),
    Job("teacher", "teaches children", "at the school"),
    Job("painter", "paints pictures", "in the tower"),
    Job("sailor", "sails a ship", "at the harbor"),
    Job("driver", "drives the bus", "at the station"),
    Job("tailor", "sews clothes", "at the market"),
    Job("carpenter", "builds houses", "in the barn"),
    Job("gardener", "plants flowers", "in the garden"),
    Job("singer", "sings songs", "on the bridge"),
    Job("cook", "makes soup", "in the kitchen"),
]

# what is to be done -> what it takes
TOOLS = {
    "dig a hole": "spade", "cut paper": "pair of scissors", "open a lock": "key", "sweep the floor": "broom", "write a letter": "pencil",
    "see in the dark": "lamp", "eat soup": "spoon", "climb a wall": "ladder", "catch a fish": "net", "fix a chair": "hammer",
    "wash your hands": "bar of soap", "dry your hair": "towel", "cross a river": "boat", "see far away": "telescope",
}  # fmt: skip


class Weather(NamedTuple):
    now: str
    effect: str
    clothes: str
    treat: str


WEATHER = {
    "it rains": Weather("raining", "the streets get wet", "boots", "warm soup"),
    "it snows": Weather("snowing", "the hills turn white", "mittens", "hot chocolate"),
    "it is windy": Weather("windy", "the leaves fly around", "a jacket", "warm bread"),
    "it is hot": Weather("hot", "the ice melts", "a sun hat", "cold milk"),
    "it is cold": Weather("cold", "the lake freezes", "a warm coat", "hot tea"),
    "it is foggy": Weather("foggy", "you cannot see far", "a bright scarf", "warm milk"),
}

# feeling -> what one does about it
NEEDS = {
    "hungry": "eat something", "thirsty": "drink water", "tired": "go to sleep", "sick": "go to the doctor", "dirty": "take a bath",
    "sad": "talk to a friend", "lost": "ask for help", "bored": "read a book", "lonely": "call a friend", "cold": "sit by the fire",
}  # fmt: skip

# feeling -> where it comes from
CAUSES = {
    "hungry": ("had no lunch", "ran all day", "only had a cookie"),
    "thirsty": ("ate salty nuts", "ran in the sun", "sang all day"),
    "tired": ("read all night", "walked for hours", "worked all day"),
    "sick": ("ate too much cake", "got wet in the rain", "ate a green apple"),
    "dirty": ("fell into the mud", "played with paint", "slept in the straw"),
    "sad": ("lost a coin", "lost a ball", "had a strange dream"),
    "lost": ("took the wrong bus", "lost the map", "ran after a cat"),
    "bored": ("had nothing to do", "waited all day", "knew every game"),
    "lonely": ("was new at school", "had nobody to talk to", "was alone at home"),
    "cold": ("had no coat", "stood in the snow", "sat on the ice"),
}  # fmt: skip

LOOKS = {
    "the grass": "green", "the sky": "blue", "the snow": "white", "the sun": "yellow", "the night": "black",
    "a carrot": "orange", "a strawberry": "red", "a banana": "yellow", "a frog": "green", "a pig": "pink",
    "an elephant": "gray", "a bear": "brown", "a plum": "purple", "a pumpkin": "orange",
}  # fmt: skip

SIGHTS = [
    "a rainbow", "a waterfall", "a lighthouse", "a windmill", "a circus", "a volcano", "a ship", "an airplane", "a clown",
]  # fmt: skip


def _likes(number: int) -> frozenset[str]:
    """Everybody has a best friend, and one of everything that is liked best."""
    friend = [*BOYS, *GIRLS][number]
    tables = TOYS, TREASURES, COLORS, CLOTHES, SWEETS, FRUITS, PETS, FLOWERS
    named = PLACES, ANIMALS, JOBS
    return frozenset(
        [
            friend,
            *(table[number % len(table)] for table in tables),
            *(table[number % len(table)].name for table in named),
        ]
    )


CHILDREN = [
    (_female if number < len(GIRLS) else _male)(name)._replace(likes=_likes(number))
    for number, name in enumerate([*GIRLS, *BOYS])
]

# one of them, wherever it does not matter later
ELDER = "[Mom|Dad|Grandma|Grandpa]"
NEIGHBOR = "[the neighbor|the old man|the mailman|the gardener]"

# when, how and with what feeling things are done and said, and what they are like
THEN = "[Then|Later|Soon|After a while|The next day|Before dinner]"
WENT = "[went|walked|ran|hurried|skipped]"
GLAD = "[happy|glad|proud|pleased|thankful|excited]"
SAID = "[said|whispered|laughed|called|shouted|cried]"
SIGHED = "[said|whispered|sighed|cried|called]"
KIND = "[little|big|tiny|funny|lovely|strange|shy|kind|sweet|brave]"
TASTY = "[little|big|tiny|sweet|soft|warm|lovely|perfect|good|wonderful]"
SOME = "[little|big|new|pretty|tiny|funny|shiny|lovely|strange|heavy]"

# where most stories begin
WHEN = "[One day|One morning|One sunny afternoon|After lunch|After school|On Monday|On Sunday|Last summer|Early in the morning|Once upon a time|One evening|A long time ago]"
