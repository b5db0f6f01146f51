"""Small lessons for the model in the box: sums, spelling, opposites, colours, days, capitals, animals.

Every function returns one exchange, (question, answer), drawn at random from tables and templates in this
file. A question has many wordings and an answer few, since a very small model learns the pattern of the
answer from seeing it often. Everything here was written for twofold.
"""

# ruff: noqa: SIM905 (a list of words reads best as one line of text)

import random
from collections.abc import Callable, Sequence

Exchange = tuple[str, str]

NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()


def pairs(text: str) -> list[tuple[str, str]]:
    """Return the pairs written as `a: b` and parted by `;` in `text`."""
    found = [entry.split(":") for entry in " ".join(text.split()).split(";") if entry.strip()]
    return [(left.strip(), right.strip()) for left, right in found]


OPPOSITES = pairs(
    """hot: cold; big: small; up: down; left: right; day: night; good: bad; happy: sad; fast: slow; new:
    old; high: low; open: closed; wet: dry; light: dark; hard: soft; long: short; full: empty; early:
    late; rich: poor; strong: weak; loud: quiet; near: far; in: out; over: under; first: last; young:
    old; thick: thin; wide: narrow; clean: dirty; true: false; sweet: sour; inside: outside; push:
    pull; win: lose; begin: end; come: go; give: take; love: hate; laugh: cry; buy: sell; remember:
    forget; rise: fall; friend: enemy; war: peace; life: death; north: south; east: west; summer:
    winter; heavy: light; brave: afraid; kind: cruel; wise: foolish; easy: difficult; smooth: rough;
    sharp: blunt; deep: shallow; awake: asleep; before: after; always: never; everything: nothing;
    question: answer; float: sink"""
)
COLOURS = pairs(
    """grass: green; the sky on a clear day: blue; snow: white; coal: black; a lemon: yellow; blood: red;
    a ripe tomato: red; a carrot: orange; milk: white; a raven: black; a leaf in summer: green; the
    sun in a child's picture: yellow; a frog: green; a flamingo: pink; an elephant: grey; chocolate:
    brown; a banana: yellow; a strawberry: red; a polar bear: white; an orange: orange; gold: yellow;
    silver: grey; a crow: black; a swan: white; the bark of a tree: brown; an emerald: green; a ruby:
    red; a sapphire: blue; a pumpkin: orange; a plum: purple; salt: white; soot: black; a cucumber:
    green; a fire engine: red; the deep sea: blue; a chick: yellow; a fox: red; a mouse: grey; a pea:
    green"""
)
MIXTURES = [
    ("red", "yellow", "orange"),
    ("blue", "yellow", "green"),
    ("red", "blue", "purple"),
    ("black", "white", "grey"),
    ("red", "white", "pink"),
]
CAPITALS = pairs(
    """France: Paris; England: London; Germany: Berlin; Italy: Rome; Spain: Madrid; Portugal: Lisbon;
    Austria: Vienna; Greece: Athens; Russia: Moscow; Poland: Warsaw; Sweden: Stockholm; Norway: Oslo;
    Denmark: Copenhagen; Finland: Helsinki; Ireland: Dublin; Scotland: Edinburgh; Belgium: Brussels;
    the Netherlands: Amsterdam; Switzerland: Bern; Hungary: Budapest; Egypt: Cairo; Kenya: Nairobi;
    Japan: Tokyo; China: Beijing; India: New Delhi; Turkey: Ankara; Iran: Tehran; Iraq: Baghdad;
    Thailand: Bangkok; Vietnam: Hanoi; South Korea: Seoul; Indonesia: Jakarta; Australia: Canberra;
    New Zealand: Wellington; Canada: Ottawa; Mexico: Mexico City; Cuba: Havana; Brazil: Brasilia;
    Argentina: Buenos Aires; Chile: Santiago; Peru: Lima; Colombia: Bogota; the United States:
    Washington; Iceland: Reykjavik; Ukraine: Kyiv; Romania: Bucharest; Bulgaria: Sofia; the Czech
    Republic: Prague"""
)
SOUNDS = pairs(
    """dog: barks; cat: says meow; cow: moos; sheep: says baa; horse: neighs; pig: grunts; duck: quacks;
    hen: clucks; cock: crows; lion: roars; wolf: howls; bee: buzzes; frog: croaks; owl: hoots; mouse:
    squeaks; snake: hisses; crow: caws; goat: bleats; donkey: brays; bird: sings; bear: growls;
    cricket: chirps"""
)
YOUNG = pairs(
    """dog: puppy; cat: kitten; cow: calf; sheep: lamb; horse: foal; pig: piglet; duck: duckling; hen:
    chick; goat: kid; lion: cub; bear: cub; frog: tadpole; swan: cygnet; deer: fawn; goose: gosling;
    wolf: cub; fox: cub; owl: owlet; kangaroo: joey; elephant: calf; whale: calf; eagle: eaglet;
    butterfly: caterpillar"""
)
HOMES = pairs(
    """bee: a hive; bird: a nest; rabbit: a burrow; dog: a kennel; spider: a web; horse: a stable; pig: a
    sty; fish: the water; bear: a den; lion: a den; ant: an anthill; mole: a hole under the ground;
    frog: a pond; whale: the sea; camel: the desert; fox: a den; snail: its own shell; monkey: the
    trees; hen: a coop; cow: a barn; owl: a hollow tree; squirrel: the trees; penguin: the cold south;
    shark: the sea"""
)
LEGS = pairs(
    """dog: four; cat: four; bird: two; spider: eight; ant: six; bee: six; horse: four; snake: no; fish:
    no; hen: two; cow: four; fly: six; frog: four; man: two; worm: no; elephant: four; beetle: six;
    duck: two; mouse: four; butterfly: six; lion: four; octopus: no legs but eight arms; snail: no;
    crab: ten"""
)
PLURALS = pairs(
    """mouse: mice; child: children; foot: feet; tooth: teeth; goose: geese; man: men; woman: women; ox:
    oxen; sheep: sheep; fish: fish; leaf: leaves; wolf: wolves; knife: knives; wife: wives; baby:
    babies; box: boxes; cat: cats; dog: dogs; tree: trees; city: cities; berry: berries; fox: foxes;
    bus: buses; shelf: shelves; house: houses; story: stories; loaf: loaves; dish: dishes; hero:
    heroes; deer: deer; life: lives"""
)
PASTS = pairs(
    """go: went; see: saw; run: ran; eat: ate; sing: sang; come: came; give: gave; take: took; make:
    made; find: found; think: thought; bring: brought; write: wrote; speak: spoke; know: knew; fly:
    flew; swim: swam; drink: drank; sit: sat; stand: stood; tell: told; say: said; buy: bought; sleep:
    slept; keep: kept; leave: left; lose: lost; fall: fell; begin: began; break: broke; wear: wore;
    walk: walked; play: played"""
)
RHYMES = pairs(
    """cat: hat; dog: frog; sun: run; moon: spoon; tree: bee; house: mouse; night: light; day: play;
    king: ring; bed: red; star: far; rain: train; snow: grow; ball: tall; book: look; fish: dish;
    cake: lake; bear: chair; hill: mill; boat: goat; sky: fly; sea: key; head: bread; ship: trip;
    song: long; well: bell; gold: old"""
)
KINDS = {
    "fruits": "an apple, a pear, a plum, a cherry, a grape, a lemon, an orange, a peach, a fig, a banana",
    "animals": "a dog, a cat, a horse, a lion, a bear, a fox, a rabbit, a sheep, a cow, a wolf, a deer",
    "birds": "a crow, an owl, a swan, a duck, an eagle, a robin, a goose, a sparrow, a swallow, a dove",
    "colours": "red, blue, green, yellow, black, white, brown, pink, orange, purple, grey",
    "flowers": "a rose, a lily, a daisy, a tulip, a violet, a poppy, a sunflower, a bluebell",
    "trees": "an oak, a pine, a birch, a willow, an elm, an ash, a beech, a fir, a maple",
    "tools": "a hammer, a saw, a spade, an axe, a rake, a knife, a file, a drill",
    "vegetables": "a carrot, a cabbage, an onion, a potato, a turnip, a bean, a pea, a cucumber",
    "metals": "iron, gold, silver, copper, lead, tin, zinc",
    "insects": "an ant, a bee, a fly, a beetle, a moth, a butterfly, a cricket, a wasp",
    "planets": "Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus, Neptune",
    "seasons": "spring, summer, autumn, winter",
}
WORDS = (
    "cat dog sun moon star tree house bird fish boat king queen bread water apple garden river stone horse "
    "mouse lion bear light night green black white happy little friend mother father sister brother window "
    "table chair school summer winter spring autumn flower castle dragon forest island mountain morning "
    "evening yellow orange purple butter cheese kitchen candle lantern pocket button basket ladder hammer "
    "needle thread feather shadow silver golden story letter paper pencil ship wind rain snow cloud storm "
    "wolf fox duck goose sheep goat frog crow owl bee ant hill lake sea sand gold ring bell door room bed "
    "road bridge field farm barn mill milk egg cake honey sugar salt soup foot hand head nose mouth"
).split()


ANIMALS_KNOWN = sorted({name for name, _ in SOUNDS + YOUNG + HOMES} - {"man"})


def article(word: str) -> str:
    """Return the word with `a` or `an` before it."""
    return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"


def capital(text: str) -> str:
    """Return the text with its first letter upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def addition(rng: random.Random) -> Exchange:
    """Return a sum, difference, product or quotient of small numbers."""
    sign = rng.choice("+++---**/")
    a, b = (
        (rng.randint(0, 10), rng.randint(0, 10)) if sign == "*" else (rng.randint(0, 20), rng.randint(0, 20))
    )
    if sign == "-" and b > a:
        a, b = b, a
    if sign == "/":
        b = rng.randint(1, 10)
        a = b * rng.randint(0, 10)
    result = {"+": a + b, "-": a - b, "*": a * b, "/": a // (b or 1)}[sign]
    word = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}[sign]
    if rng.random() < 0.3:
        left, right = (NUMBERS[a], NUMBERS[b]) if rng.random() < 0.5 and a <= 20 else (str(a), str(b))
        question = rng.choice(
            ["What is {} {} {}?", "How much is {} {} {}?", "{} {} {}?", "Can you work out {} {} {}?"]
        )
        return capital(question.format(left, word, right)), f"{a} {sign} {b} = {result}."
    shown = {"*": rng.choice("*x")}.get(sign, sign)
    gap = rng.choice([" ", " ", ""])
    sum_ = f"{a}{gap}{shown}{gap}{b}"
    question = rng.choice(
        ["What is {}?", "{}?", "{} =", "{}", "How much is {}?", "Calculate {}.", "Work out {}."]
    )
    return question.format(sum_), f"{a} {sign} {b} = {result}."


def word_problem(rng: random.Random) -> Exchange:
    """Return a sum told as a little story."""
    thing = rng.choice("apples eggs coins books marbles buttons nuts cakes pens stones".split())
    a, b = rng.randint(2, 10), rng.randint(1, 10)
    if rng.random() < 0.5:
        more = rng.choice(["get {} more", "find {} more", "buy {} more", "am given {} more"]).format(b)
        return (
            f"I have {a} {thing} and {more}. How many do I have now?",
            f"{a} + {b} = {a + b}. You have {a + b} {thing}.",
        )
    a += b
    less = rng.choice(["lose {}", "give away {}", "sell {}", "drop {}"]).format(b)
    left = f"{a - b} {thing}" if a - b != 1 else f"1 {thing[:-1]}"
    return f"I have {a} {thing} and {less}. How many are left?", f"{a} - {b} = {a - b}. You have {left} left."


def counting(rng: random.Random) -> Exchange:
    """Return counting up or down, what comes next, or which of two is bigger."""
    kind = rng.randrange(5)
    a = rng.randint(1, 15)
    if kind == 0:
        end = rng.choice([3, 5, 8, 10, 12, 15, 20])
        question = rng.choice(
            ["Count to {}.", "Can you count to {}?", "Please count up to {}.", "Count from 1 to {}."]
        )
        return question.format(end), ", ".join(map(str, range(1, end + 1))) + "."
    if kind == 1:
        start = rng.choice([3, 5, 10])
        question = rng.choice(["Count down from {}.", "Can you count backwards from {}?"])
        return question.format(start), ", ".join(map(str, range(start, 0, -1))) + "."
    if kind == 2:
        question = rng.choice(
            ["What comes after {}?", "Which number comes after {}?", "What is the next number after {}?"]
        )
        return question.format(a), f"After {a} comes {a + 1}."
    if kind == 3:
        return f"Which number comes before {a + 1}?", f"Before {a + 1} comes {a}."
    b = a + rng.randint(1, 15)
    first, second = rng.sample([a, b], 2)
    return (
        f"Which is {rng.choice(['bigger', 'larger', 'more'])}, {first} or {second}?",
        f"{b} is bigger than {a}.",
    )


def spelling(rng: random.Random) -> Exchange:
    """Return how a short word is spelled, its first or last letter, or how many letters it has."""
    word = rng.choice(WORDS)
    kind = rng.randrange(6)
    if kind == 0:
        return (
            f"What letter does {word} begin with?",
            f"{capital(word)} begins with the letter {word[0].upper()}.",
        )
    if kind == 1:
        return f"What is the last letter of {word}?", f"The last letter of {word} is {word[-1].upper()}."
    question = rng.choice(
        [
            "How do you spell {}?",
            "Spell {}.",
            "Can you spell {}?",
            "How is {} spelled?",
            "Please spell the word {}.",
        ]
    )
    return question.format(word), f"{capital(word)} is spelled {'-'.join(word.upper())}."


def opposite(rng: random.Random) -> Exchange:
    """Return the opposite of a word."""
    left, right = rng.choice(OPPOSITES)
    if left not in ("young", "heavy") and rng.random() < 0.5:  # their opposites have other opposites
        left, right = right, left
    question = rng.choice(
        [
            "What is the opposite of {}?",
            "Opposite of {}?",
            "Tell me the opposite of {}.",
            "What word is the opposite of {}?",
        ]
    )
    return question.format(left), f"The opposite of {left} is {right}."


def colour(rng: random.Random) -> Exchange:
    """Return the colour of a thing, or of two paints mixed."""
    if rng.random() < 0.25:
        a, b, mixed = rng.choice(MIXTURES)
        a, b = rng.sample([a, b], 2)
        question = rng.choice(
            ["What do you get when you mix {} and {}?", "What colour do {} and {} make?", "Mix {} and {}."]
        )
        return question.format(a, b), f"{capital(a)} and {b} make {mixed}."
    thing, its = rng.choice(COLOURS)
    question = rng.choice(
        ["What colour is {}?", "What color is {}?", "Tell me the colour of {}.", "Which colour is {}?"]
    )
    return question.format(thing), f"{capital(thing)} is {its}."


def day_or_month(rng: random.Random) -> Exchange:
    """Return what follows or comes before a day or month, and the like."""
    names, kind = (DAYS, "day") if rng.random() < 0.5 else (MONTHS, "month")
    at = rng.randrange(len(names))
    name, after, before = names[at], names[(at + 1) % len(names)], names[at - 1]
    choice = rng.randrange(4)
    if choice == 0:
        question = rng.choice(
            [f"What {kind} comes after {name}?", f"Which {kind} follows {name}?", f"What comes after {name}?"]
        )
        return question, f"After {name} comes {after}."
    if choice == 1:
        return rng.choice(
            [f"What {kind} comes before {name}?", f"What comes before {name}?"]
        ), f"Before {name} comes {before}."
    if choice == 2 and kind == "month":
        extra = " In a leap year it has 29." if name == "February" else ""
        return f"How many days does {name} have?", f"{name} has {MONTH_DAYS[at]} days.{extra}"
    if choice == 2:
        return f"If today is {name}, what day is tomorrow?", f"If today is {name}, tomorrow is {after}."
    if rng.random() < 0.3:
        return f"Name the {kind}s of the {'week' if kind == 'day' else 'year'}.", ", ".join(names) + "."
    return (
        f"Which is the {ORDINALS[at]} {kind} of the {'week' if kind == 'day' else 'year'}?",
        f"The {ORDINALS[at]} {kind} is {name}.",
    )


def capital_city(rng: random.Random) -> Exchange:
    """Return the capital of a country, or the country of a capital."""
    country, city = rng.choice(CAPITALS)
    if rng.random() < 0.25:
        question = rng.choice(["Where is {}?", "In which country is {}?", "What country is {} in?"])
        return question.format(city), f"{city} is the capital of {country}."
    question = rng.choice(
        [
            "What is the capital of {}?",
            "What's the capital of {}?",
            "Capital of {}?",
            "Tell me the capital of {}.",
            "Do you know the capital of {}?",
        ]
    )
    return question.format(country), f"The capital of {country} is {city}."


def animal(rng: random.Random) -> Exchange:
    """Return what an animal says, where it lives, its young, or its legs."""
    kind = rng.randrange(4)
    name, fact = rng.choice((SOUNDS, YOUNG, HOMES, LEGS)[kind])
    a = article(name)
    if kind == 0:
        return rng.choice(
            [f"What sound does {a} make?", f"What does {a} say?", f"What noise does {a} make?"]
        ), f"{capital(a)} {fact}."
    if kind == 1:
        return rng.choice(
            [f"What is a young {name} called?", f"What is a baby {name} called?"]
        ), f"A young {name} is called {article(fact)}."
    if kind == 2:
        return f"Where does {a} live?", f"{capital(a)} lives in {fact}."
    return rng.choice(
        [f"How many legs does {a} have?", f"How many legs has {a}?"]
    ), f"{capital(a)} has {fact}{'' if 'legs' in fact else ' legs'}."


def grammar(rng: random.Random) -> Exchange:
    """Return a plural, a past tense or a rhyme."""
    kind = rng.randrange(3)
    word, answer = rng.choice((PLURALS, PASTS, RHYMES)[kind])
    if kind == 0:
        return rng.choice(
            [f"What is the plural of {word}?", f"One {word}, two what?"]
        ), f"The plural of {word} is {answer}."
    if kind == 1:
        return f"What is the past tense of {word}?", f"The past tense of {word} is {answer}."
    return rng.choice(
        [f"What rhymes with {word}?", f"Give me a word that rhymes with {word}."]
    ), f"{capital(answer)} rhymes with {word}."


def listing(rng: random.Random) -> Exchange:
    """Return two to four things of a kind."""
    kind = rng.choice(list(KINDS))
    number = rng.randint(2, 4)
    *first, last = rng.sample(KINDS[kind].split(", "), number)
    question = rng.choice(["Name {} {}.", "Can you name {} {}?", "Tell me {} {}.", "Give me {} {}."])
    return question.format(NUMBERS[number], kind), f"{capital(', '.join(first))} and {last}."


LESSONS: Sequence[Callable[[random.Random], Exchange]] = (
    addition,
    addition,
    addition,
    word_problem,
    counting,
    spelling,
    opposite,
    opposite,
    colour,
    day_or_month,
    capital_city,
    capital_city,
    animal,
    animal,
    grammar,
    listing,
)


def lesson(rng: random.Random) -> Exchange:
    """Return one exchange of any kind in this file."""
    return rng.choice(LESSONS)(rng)
