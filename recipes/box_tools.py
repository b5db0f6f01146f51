"""Tools for the conversations of the model in the box: what may be on offer, under changing names.

A tool of one kind (a calculator, a search …) comes under several names, descriptions and names of arguments,
so that the model has to read what is on offer and cannot learn a name by heart. Half of the time a tool comes
in its first form, which is that of twofold's own tools and tasks (twofold/environments).
"""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from twofold.environments._calls import schema
from twofold.environments._sums import evaluate
from twofold.environments._sums import spell as shown

USUAL = 0.5  # share of tools in their first form


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of tool. `arguments`: what each is called, by meaning, in several words; and its type."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    arguments: dict[str, tuple[tuple[str, ...], str]]


KINDS: dict[str, Kind] = {
    "calculator": Kind(
        ("calculator", "calculate", "calc", "compute", "arithmetic"),
        ("Works out a sum.", "Does arithmetic.", "Returns the value of an expression.",
         "Adds, subtracts, multiplies, divides."),
        {"expression": (("expression", "sum", "input", "formula"), "string")},
    ),
    "search": Kind(
        ("search", "web_search", "browse", "find_pages", "internet_search"),
        ("Searches the web.", "Looks things up on the internet.", "Returns what pages say about a query.",
         "Finds facts on the web."),
        {"query": (("query", "q", "text", "terms"), "string")},
    ),
    "look_up": Kind(
        ("look_up", "search_files", "find_notes", "search_documents"),
        ("Searches the files.", "Finds passages in the user's files.", "Looks through notes."),
        {"query": (("query", "text", "words"), "string")},
    ),
    "plot": Kind(
        ("plot", "draw_chart", "make_plot", "chart"),
        ("Draws a chart.", "Plots points, with a trend line if asked.", "Makes a chart of x and y."),
        {"x": (("x", "xs"), "array"), "y": (("y", "ys"), "array"), "title": (("title", "heading"), "string"),
         "trend": (("trend", "trend_line"), "boolean")},
    ),
    "python": Kind(
        ("python", "run_python", "code"),
        ("Runs Python.", "Runs a program and shows its output.", "A Python interpreter."),
        {"code": (("code", "program", "source"), "string")},
    ),
    "image": Kind(
        ("image", "draw_image", "make_image", "paint"),
        ("Draws a picture.", "Makes an image from words.", "Paints what the prompt says."),
        {"prompt": (("prompt", "words", "text"), "string")},
    ),
    "set_timer": Kind(
        ("set_timer", "timer", "start_timer"),
        ("Rings after a while.", "Starts a timer.", "Rings after some minutes."),
        {"minutes": (("minutes", "in_minutes"), "integer"), "label": (("label", "text"), "string")},
    ),
    "convert": Kind(
        ("convert", "convert_units", "unit_converter"),
        ("Converts units.", "Changes an amount into another unit."),
        {"amount": (("amount", "value"), "number"), "source": (("source", "from_unit"), "string"),
         "target": (("target", "to_unit"), "string")},
    ),
    "add_item": Kind(
        ("add_item", "add_to_list", "note_item"),
        ("Adds to a list.", "Writes something on a list."),
        {"list": (("list", "list_name"), "string"), "item": (("item", "thing"), "string")},
    ),
    "weather": Kind(
        ("weather", "get_weather", "forecast"),
        ("Tells the weather of a place.", "Returns today's weather."),
        {"place": (("place", "city", "location"), "string")},
    ),
    "clock": Kind(
        ("clock", "get_time", "now"), ("Tells the date and time.", "Returns the time now."), {},
    ),
    "read_file": Kind(
        ("read_file", "open_file", "show_file"), ("Reads a file.", "Returns the text of a file."),
        {"path": (("path", "file"), "string")},
    ),
    "send_message": Kind(
        ("send_message", "write_message", "message"), ("Sends a message.", "Writes to somebody."),
        {"to": (("to", "recipient"), "string"), "text": (("text", "body"), "string")},
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool as it is on offer in one conversation. `spelled`: its arguments' names by their meaning."""

    kind: str
    name: str
    spelled: dict[str, str]
    schema: dict[str, Any]

    def call(self, **arguments: Any) -> dict[str, Any]:
        """Return the assistant's message that calls the tool; `arguments` by meaning."""
        given = {self.spelled[meaning]: value for meaning, value in arguments.items()}
        return {"role": "assistant", "content": "", "tool_calls": [{"name": self.name, "arguments": given}]}


def tool(rng: random.Random, kind: str) -> Tool:
    """Return a tool of a kind, in its first form or another."""
    described = KINDS[kind]
    usual = rng.random() < USUAL
    name = described.names[0] if usual else rng.choice(described.names)
    text = described.descriptions[0] if usual else rng.choice(described.descriptions)
    spelled = {
        meaning: words[0] if usual else rng.choice(words)
        for meaning, (words, _) in described.arguments.items()
    }
    types = {spelled[meaning]: type_ for meaning, (_, type_) in described.arguments.items()}
    return Tool(kind, name, spelled, schema(name, text, **types))


def offer(
    rng: random.Random, needed: Sequence[str], others: int, without: Sequence[str] = ()
) -> dict[str, Tool]:
    """Return tools by kind, in random order: those needed, and `others` of other kinds but for `without`."""
    rest = [kind for kind in KINDS if kind not in needed and kind not in without]
    kinds = [*needed, *rng.sample(rest, min(others, len(rest)))]
    rng.shuffle(kinds)
    return {kind: tool(rng, kind) for kind in kinds}


def schemas(tools: Mapping[str, Tool]) -> list[dict[str, Any]]:
    """Return the schemas of tools, as a conversation file holds them."""
    return [one.schema for one in tools.values()]


def result(text: str) -> dict[str, Any]:
    """Return the message in which a tool answers."""
    return {"role": "tool", "content": text}


def value(expression: str) -> Fraction:
    """Return the exact value of a sum."""
    return evaluate(expression)[0]


def calculated(expression: str) -> str:
    """Return what the calculator shows for a sum."""
    return shown(value(expression))
