"""A small grammar for wordings, and names of things that never were.

    expand(rng, "[What is|How much is|Work out] {sum}[|, please]?")

A pattern in which [a|b|c] stands for one of its choices, nested as one likes, is a few lines long and means
thousands of sentences. `count` says how many. A part of the names is held out by a hash of the name, so that
a model can be asked about some that it was never trained on.
"""

# ruff: noqa: SIM905 (a list of words reads best as one line of text)

import dataclasses
import hashlib
import random
import re
from collections.abc import Callable, Sequence
from typing import Literal

Side = Literal["train", "test"]


@dataclasses.dataclass(frozen=True)
class Wordings:
    """Patterns for one wish: those to learn from, and others to be asked with."""

    train: tuple[str, ...]
    test: tuple[str, ...]

    def draw(self, rng: random.Random, side: Side, **fields: object) -> str:
        """Return one of the texts of a side."""
        return one(rng, self.train if side == "train" else self.test, **fields)


HELD_OUT = 8  # one in so many names
_INNERMOST = re.compile(r"\[([^\[\]]*)\]")


def expand(rng: random.Random, pattern: str, **fields: object) -> str:
    """Return one of the texts that a pattern means, then with the fields {name} filled in."""
    while found := _INNERMOST.search(pattern):
        pattern = pattern[: found.start()] + rng.choice(found[1].split("|")) + pattern[found.end() :]
    text = " ".join(pattern.split(" ")) if "\n" in pattern else re.sub(r" {2,}", " ", pattern).strip()
    for field, value in fields.items():
        text = text.replace("{" + field + "}", str(value))
    return text


def one(rng: random.Random, patterns: Sequence[str], **fields: object) -> str:
    """Return one of the texts that some patterns mean; a pattern of many texts comes more often."""
    weights = [count(pattern) ** 0.3 for pattern in patterns]
    return expand(rng, rng.choices(patterns, weights)[0], **fields)


def count(pattern: str) -> int:
    """Return how many texts a pattern means."""
    number = 0
    choices: list[list[int]] = [[1]]
    for character in pattern:
        if character == "[":
            choices.append([1])
        elif character == "|":
            choices[-1].append(1)
        elif character == "]":
            number = sum(choices.pop())
            choices[-1][-1] *= number
    return sum(choices[0])


def held_out(name: str) -> bool:
    """Return whether a name belongs to those that nothing is trained on."""
    return hashlib.sha256(name.lower().encode()).digest()[0] % HELD_OUT == 0


def name(rng: random.Random, make: Callable[[random.Random], str], side: Side) -> str:
    """Return a name that `make` gives, of this side."""
    while held_out(found := make(rng)) != (side == "test"):
        pass
    return found


FIRST = (
    "Amber Anchor Arrow Aspen Atlas Badger Basalt Beacon Birch Blue Bramble Bright Brook Canyon Cedar Cinder "
    "Clear Clover Cobalt Comet Compass Copper Coral Crest Crystal Delta Drift Echo Ember Falcon Fern Flint "
    "Forge Garnet Glacier Granite Green Harbor Hazel Helix Heron Hollow Indigo Iron Ivory Jade Juniper Kite "
    "Lantern Lark Ledger Lime Linden Lunar Maple Marble Meadow Mesa Mint Mosaic Nimbus North Oak Ocean Olive "
    "Onyx Orchid Osprey Otter Paper Pebble Pine Pixel Plain Polar Prairie Prism Quartz Quill Rapid Raven Red "
    "Reef Ridge River Robin Sable Saffron Silver Slate Solar Spark Spruce Stone Summit Swift Tandem Teal "
    "Thistle Timber Topaz Tundra Umber Valley Velvet Violet Walnut Wave Willow Winter Zephyr"
).split()
LAST = (
    "AI Robotics Labs Health Foods Energy Systems Data Mobility Software Works Bio Motors Pay Cloud Analytics "
    "Security Materials Learning Logistics Devices Networks Studio Optics Farms Marine Aviation Homes Games "
    "Audio Water Textiles Sensors Bank Insurance Travel Kitchens Batteries Chips Imaging"
).split()
STARTS = "b br c cl d dr f fl g gl h j k l m n p pl qu r s st t tr v w z".split()
MIDDLES = "a e i o u ai ea io oo".split()
ENDS = "x n r l s th nd rk va ra no ly mo ta zo lio via dex rix tum".split()
MAKES = (
    "robots|sensors|maps|batteries|chips|engines|pumps|cameras|programs|scales|drones|clocks|lamps|tests|"
    "filters|labels|engines for boats|parts for cars|solar panels|medicines|games|payment terminals|bicycles|"
    "training data|voice assistants|spreadsheets|satellites|greenhouses|water meters|hearing aids"
).split("|")
FOR = (
    "farms|hospitals|schools|shops|banks|factories|small firms|cities|airlines|kitchens|libraries|builders|"
    "fishermen|drivers|nurses|teachers|warehouses|museums|bakeries|ports|railways|laboratories|hotels|families"
).split("|")


def made_word(rng: random.Random) -> str:
    """Return a word that means nothing, capitalised."""
    syllables = "".join(rng.choice(STARTS) + rng.choice(MIDDLES) for _ in range(rng.choice((1, 1, 2))))
    return (syllables + rng.choice(ENDS)).capitalize()


def company(rng: random.Random) -> str:
    """Return the name of a company that is made up."""
    kind = rng.randrange(5)
    if kind == 0:
        return made_word(rng)
    if kind == 1:
        return f"{made_word(rng)} {rng.choice(LAST)}"
    if kind == 2:
        return f"{rng.choice(FIRST)}{rng.choice(FIRST).lower()}"
    if kind == 3:
        first, second = rng.sample(FIRST, 2)
        return f"{first} {second} {rng.choice(LAST)}"
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def town(rng: random.Random) -> str:
    """Return the name of a town that is made up."""
    ends = ("ton", "ford", "ville", "burg", "haven", "field", "mouth", "bridge", "stad", "wick", "dale")
    first = rng.choice(FIRST) if rng.random() < 0.5 else made_word(rng)
    return (
        f"{first}{rng.choice(ends)}"
        if rng.random() < 0.7
        else f"{rng.choice(('Port', 'New', 'Lake'))} {first}"
    )


def business(rng: random.Random) -> str:
    """Return what a company does: "makes robots for farms"."""
    verb = rng.choice(("makes", "sells", "builds", "designs"))
    return f"{verb} {rng.choice(MAKES)} for {rng.choice(FOR)}"
