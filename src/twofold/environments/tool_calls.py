"""Tool calls: somebody asks for something, and the right answer is the right call with the right arguments.

Two of five tools are on offer, with one to three arguments; requests come in several phrasings. The reward
grows in steps, so that there is something to learn from before all is right: a call that can be read 0.2, of
the right tool 0.3, its arguments 0.5 in equal shares (none while there are arguments that do not exist).
Not covered: several calls in one answer, requests that need no call.
"""

import random
from collections.abc import Iterator
from typing import Any

from twofold.environments import Episode, Problem, Split, only
from twofold.environments._calls import read, schema, spell

ANSWER_TOKENS = 96
TOOLS = [
    schema("calculator", "Works out a sum.", expression="string"),
    schema("set_timer", "Rings after a while.", minutes="integer", label="string"),
    schema("convert", "Converts units.", amount="number", source="string", target="string"),
    schema("add_item", "Adds to a list.", list="string", item="string"),
    schema("look_up", "Searches the files.", query="string"),
]
OFFERED = 2  # of them in a problem
THINGS = ("milk", "bread", "rice", "soap", "apples", "paper", "string", "tea", "salt", "oats", "honey")
LISTS = ("shopping", "garden", "travel", "kitchen", "school", "repair")
CHORES = ("the eggs", "the cake", "the laundry", "a walk", "the soup", "a break", "the oven", "the tea")
UNITS = (("km", "miles"), ("kg", "pounds"), ("litres", "gallons"), ("metres", "feet"), ("hours", "days"))
TOPICS = ("solar panels", "the old bridge", "honey bees", "steam engines", "maps", "the rent", "tides")
PHRASINGS: dict[str, tuple[str, ...]] = {
    "calculator": ("What is {expression}?", "Work out {expression} for me.", "How much is {expression}?"),
    "set_timer": ("Set a timer of {minutes} minutes for {label}.", "Ring in {minutes} minutes for {label}.",
                  "Remind me of {label} in {minutes} minutes."),
    "convert": ("How many {target} are {amount} {source}?", "Convert {amount} {source} to {target}.",
                "What are {amount} {source} in {target}?"),
    "add_item": ("Put {item} on the {list} list.", "Add {item} to my {list} list.",
                 "The {list} list needs {item}."),
    "look_up": ("What do my files say about {query}?", "Search for {query}.", "Find notes on {query}."),
}  # fmt: skip


def problems(seed: int, split: Split) -> Iterator[Problem]:
    """Return requests in an endless stream."""
    return only(split, _all(random.Random(f"tool_calls {seed} {split}")))


def _all(chance: random.Random) -> Iterator[Problem]:
    while True:
        name = chance.choice(tuple(PHRASINGS))
        arguments = _arguments(name, chance)
        text = chance.choice(PHRASINGS[name]).format(**arguments)
        right = [tool for tool in TOOLS if tool["function"]["name"] == name]
        tools = right + chance.sample([tool for tool in TOOLS if tool not in right], OFFERED - 1)
        chance.shuffle(tools)
        # The same request in other words, or among other tools, is the same problem.
        yield Problem(text, spell(name, arguments), {"name": name, "arguments": arguments}, tools)


def _arguments(name: str, chance: random.Random) -> dict[str, Any]:
    if name == "calculator":
        return {"expression": f"{chance.randint(2, 999)} {chance.choice('+-*')} {chance.randint(2, 99)}"}
    if name == "set_timer":
        return {"minutes": chance.randint(2, 90), "label": chance.choice(CHORES)}
    if name == "convert":
        source, target = chance.choice(UNITS)[:: chance.choice((1, -1))]
        return {"amount": chance.randint(2, 500), "source": source, "target": target}
    if name == "add_item":
        first, second = chance.sample(THINGS, 2)
        return {"list": chance.choice(LISTS), "item": chance.choice((first, f"{first} and {second}"))}
    first, second = chance.sample(TOPICS, 2)
    return {"query": chance.choice((first, f"{first} and {second}"))}


def begin(problem: Problem, seed: int = 0) -> Episode:
    """Return an attempt: one answer, judged as it stands; there is no chance in it."""
    return Episode(problem, reward)


def reward(problem: Problem, answer: str) -> float:
    """Return what a call is worth: 0.2 readable, 0.3 the right tool, 0.5 the right arguments."""
    call = read(answer)
    if call is None:
        return 0.0
    (name, given), right = call, problem.facts["arguments"]
    if name != problem.facts["name"]:
        return 0.2
    hits = sum(given.get(key) == value for key, value in right.items())
    shares = hits / len(right) if given.keys() <= right.keys() else 0.0
    return 1.0 if shares == 1 else 0.5 + 0.5 * shares


def solve(episode: Episode) -> str:
    """Return the right call."""
    facts = episode.problem.facts
    return spell(facts["name"], facts["arguments"])
