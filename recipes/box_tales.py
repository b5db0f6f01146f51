"""Very short tales for the model in the box: a hero, a want, a helper, an end.

The plots below are sentences with gaps; a tale is one opening, one plot and one ending with the gaps filled.
That makes thousands of different tales in which the hero of the request is the hero of the answer, which is
what a very small model is to learn here. All sentences were written for twofold.
"""

# ruff: noqa: SIM905 (a list of words reads best as one line of text)

import random
import re

from box_lessons import article, capital

ANIMALS = (
    "fox bear wolf lion mouse rabbit hare hedgehog squirrel frog toad owl crow duck goose swan hen cock "
    "cat dog puppy kitten horse donkey goat lamb sheep cow pig bee ant beetle butterfly snail turtle fish "
    "whale crab elephant tiger monkey camel deer mole badger otter beaver robin sparrow eagle parrot "
    "penguin seal dragon unicorn spider worm bat lizard snake crocodile giraffe zebra"
).split()
GIRLS = "girl queen princess witch grandmother shepherdess milkmaid giantess mermaid".split()
BOYS = (
    "boy king prince giant wizard fisherman baker miller farmer shepherd tailor sailor knight dwarf robot"
).split()
THINGS = (
    "boat star cloud lamp clock teapot kite snowman tree flower stone candle bell shoe button drum train "
    "lantern river moon book spoon mill pumpkin"
).split()
HEROES = ANIMALS * 3 + GIRLS * 2 + BOYS * 2 + THINGS
NATURES = (
    "little small young old kind brave shy curious lazy clever hungry cheerful lonely quiet proud tiny "
    "gentle careless patient merry"
).split()
PLACES = (
    "at the edge of a dark forest;by a clear river;on a high hill;near the sea;in an old mill;under "
    "a great oak;in a green valley;behind a farm;in a quiet village;on a small island;beside a round "
    "pond;in a snowy land;in a garden full of roses;at the foot of a mountain;in a hollow tree;near "
    "an old bridge;in a far country;beside a dusty road;in a meadow;under the roof of a barn"
).split(";")
TREASURES = (
    "a golden key;a silver bell;a red apple;a warm coat;a bright lantern;a round stone;a sweet "
    "cake;a blue feather;a wooden flute;a pot of honey;a woollen scarf;a little mirror;a jar of "
    "jam;a paper boat;a glass marble;a loaf of bread;a white flower;a copper ring"
).split(";")

# Each plot stands with its moral. {h} is the hero, {o} the helper, {H} and {O} the same at the head of a
# sentence; {t} a treasure with its article, {T} the same with `the`; {he} {him} {his} {He} are the hero's
# pronouns, {he_o} {his_o} the helper's.
PLOTS = (
    (
        "One day {h} lost {t}. {He} looked under the leaves and behind the stones, but it was gone. Then "
        '{o} came by and asked, "Why are you so sad?" {H} told {o} everything, and they looked together. '
        "Soon they found {T} in the tall grass. {H} was so glad that {he} shared {his} supper with {o}.",
        "What is shared is enjoyed twice.",
    ),
    (
        'One winter night there was a knock at the door. It was {o}, wet and cold. "May I come in?" asked '
        '{o}. "There is little room, but there is a fire," said {h}. In the morning the sun came out, and '
        "{o} gave {h} {t} as thanks. After that the two were friends.",
        "A kind deed comes back.",
    ),
    (
        "{H} wanted very much to see the world. So {he} set out with {t} and walked until evening. On the "
        'way {he} met {o}, who was crying. "I cannot find my way home," said {o}. {H} took {o} by the '
        'hand and they walked back together. "I have seen enough of the world for today," said {h}.',
        "Home is best.",
    ),
    (
        '{H} boasted every day that {he} was faster than anyone else. "Then race with me to the bridge," '
        "said {o}. {H} laughed and ran, and halfway there {he} lay down to sleep. {O} went on, step by "
        'step. When {h} woke up, {o} was already sitting on the bridge. "Well," said {h}, "next time I '
        'shall boast less."',
        "Slow and steady comes first.",
    ),
    (
        'One morning {h} found {t} on the road. "Now I am rich!" {he} cried. But then {he} heard {o} '
        'weeping. "I have lost the only thing I had," said {o}. {H} thought for a while, and then {he} '
        "gave {T} back. {O} was so happy that {he_o} sang all the way home.",
        "Give back what is not yours.",
    ),
    (
        'A great storm came in the night, and the wind broke the roof. "What shall I do?" said {h}. {O} '
        "heard it and came at once with wood and nails. They worked all day, and in the evening the roof "
        "was whole again. {H} made a big pot of soup, and they ate until nothing was left.",
        "Together the work is light.",
    ),
    (
        "{H} could not sleep. {He} counted the stars, but there were too many. {He} drank warm milk, but "
        'it did not help. "Listen to the river," said {o}, "it knows a song." {H} listened, and the river '
        "sang softly on and on. Before the song was over, {h} was fast asleep.",
        "A quiet mind finds sleep.",
    ),
    (
        "In the garden stood a tree with one red apple at the very top. {H} jumped, but {he} could not "
        'reach it. {O} jumped too, but {o} could not reach it either. "Stand on my back," said {h}. And '
        "so they picked the apple, cut it in two, and each had a half. It was the best apple of the year.",
        "Two can do what one cannot.",
    ),
    (
        "All the others laughed at {h}, because {he} was so slow. But one day smoke came over the hill. "
        '"Fire!" cried {h}, who had seen it first, since {he} always looked at everything with care. They '
        'all carried water, and the fire went out. "It is good that you take your time," said {o}, and '
        "nobody laughed any more.",
        "Take your time and look well.",
    ),
    (
        "{H} had {t} and would not share it with anyone. {He} hid it in a hole and sat on it all day. "
        '"Come and play with us!" called {o}. "I cannot," said {h}, "I must guard {T}." In the evening '
        "{he} was cold and alone. Then {he} got up, took {T} to {o}, and they both enjoyed it.",
        "What you hide gives you no joy.",
    ),
    (
        'One day {h} met {o} at the well. "The well is dry," said {o}, "and we are all thirsty." {H} '
        "began to dig, and {he} dug for three days. On the third day clear water came up. Everybody drank "
        "and danced, and {o} gave {h} {t}.",
        "Do not give up too soon.",
    ),
    (
        '{H} was afraid of the dark. "What is in the dark?" asked {o}. "I do not know," said {h}, "that '
        'is why I am afraid." So they took a lantern and looked together. They found a bush, a bench and '
        'a sleeping bird. "Is that all?" said {h}, and {he} was never afraid of the dark again.',
        "What we know we need not fear.",
    ),
    (
        "{O} was ill and could not leave {his_o} bed. {H} picked flowers, cooked soup and told funny "
        "stories. Every day {o} grew a little stronger. After a week they went out into the sun together. "
        '"You are the best doctor in the land," said {o}.',
        "Care is good medicine.",
    ),
    (
        '{H} wanted to bake a cake, but there was no flour in the house. {He} asked {o}. "I have flour, '
        'but no eggs," said {o}. So they put together what they had and baked one big cake. It was a '
        "little crooked, but it was sweet, and there was enough for all.",
        "Everyone has something to give.",
    ),
    (
        "One evening a star fell into the pond. {H} wanted to bring it back to the sky, but it was too "
        'far. "Wait until the water is still," said {o}. They waited, and then they saw that every star '
        'in the sky was in the pond too. "Nothing was lost," said {h}, and they went home.',
        "Wait, and you will see clearly.",
    ),
)
ENDINGS = (
    "",
    "",
    "And they were friends for the rest of their lives.",
    "And if they have not moved away, they live there still.",
    "That was a good day.",
    "And so the story ends.",
)


def tale(rng: random.Random, hero: str, helper: str) -> str:
    """Return a tale of about a hundred words about `hero`, in which `helper` appears (bare nouns)."""
    nature = rng.choice(NATURES)
    treasure = rng.choice(TREASURES)
    he, him, his = pronouns(hero)
    he_o, _, his_o = pronouns(helper)
    lived = rng.choice(
        [
            "Once upon a time there was {} who lived {}.",
            "There once was {} who lived {}.",
            "{} lived {}.",
            "Long ago, {} lived {}.",
        ]
    )
    opening = capital(lived.format(article(f"{nature} {hero}"), rng.choice(PLACES)))
    second = "the " + helper if helper != hero else "the other " + hero
    plot, moral = rng.choice(PLOTS)
    plot = plot.format(
        h=f"the {hero}", H=f"The {hero}", o=second, O=capital(second), t=treasure,
        T="the " + treasure.split(" ", 1)[1],
        he=he, him=him, his=his, He=capital(he), he_o=he_o, his_o=his_o,
    )  # fmt: skip
    moral = f"The moral: {moral[0].lower()}{moral[1:]}" if rng.random() < 0.3 else ""
    return " ".join(part for part in (opening, introduce(plot, helper), rng.choice(ENDINGS), moral) if part)


def introduce(plot: str, helper: str) -> str:
    """Return the plot with the helper's first appearance as `a` instead of `the`."""

    def named(found: re.Match[str]) -> str:
        return capital(article(helper)) if found[1] == "T" else article(helper)

    return re.sub(rf"\b([Tt])he {helper}\b", named, plot, count=1)


def pronouns(noun: str) -> tuple[str, str, str]:
    """Return the pronouns of a noun as subject, object and possessive."""
    if noun in GIRLS:
        return "she", "her", "her"
    return ("he", "him", "his") if noun in BOYS else ("it", "it", "its")


def request(rng: random.Random, hero: str, helper: str) -> tuple[str, bool]:
    """Return a wording of the wish for a story about `hero`, and whether it names the helper too."""
    both = rng.random() < 0.2 and helper != hero
    about = f"{article(hero)} and {article(helper)}" if both else article(hero)
    if not both and rng.random() < 0.15:
        about = rng.choice([article(f"little {hero}"), f"the {hero}"])
    wording = rng.choice(
        (
            "Tell me a story about {}.",
            "Tell me a story about {}.",
            "Tell me a short story about {}.",
            "Can you tell me a story about {}?",
            "A story about {}, please.",
            "Please tell me a tale about {}.",
            "Write a story about {}.",
            "I want to hear a story about {}.",
            "Make up a story about {}.",
            "Do you know a story about {}?",
        )
    )
    return wording.format(about), both


def story(rng: random.Random) -> list[tuple[str, str]]:
    """Return a wish for a story and the story, sometimes with a question about it, or another one."""
    hero, helper = rng.sample(sorted(set(HEROES)), 2) if rng.random() < 0.3 else rng.sample(HEROES, 2)
    if hero == helper:
        helper = "stranger"
    if rng.random() < 0.15:
        asked = rng.choice(
            (
                "Tell me a story.",
                "Tell me a story, please.",
                "Can you tell me a story?",
                "A story!",
                "Tell me a bedtime story.",
                "I want a story.",
            )
        )
    else:
        asked, _ = request(rng, hero, helper)
    turns = [(asked, tale(rng, hero, helper))]
    chance = rng.random()
    if chance < 0.12:
        question = rng.choice(
            ("Who was the story about?", "Who is the hero of the story?", "What was the story about?")
        )
        turns.append((question, f"It was about {article(hero)} and {article(helper)}."))
    elif chance < 0.25:
        other, friend = rng.sample(ANIMALS, 2)
        wish = rng.choice(
            ("Another one, please.", "Another story!", "Tell me another story.", "One more, please.")
        )
        if rng.random() < 0.5:
            wish = rng.choice(
                ("Now one about {}.", "And one about {}?", "Another one about {}, please.")
            ).format(article(other))
        turns.append((wish, tale(rng, other, friend)))
    return turns
