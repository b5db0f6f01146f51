"""Open sets of dialogues and a dictionary, for the last part of what the model in the box is pretrained on.

They are read there as text, each side of the talk alike; none of them is tuned on, since who answers in them
is a crowd worker, not this model. Calls of services become calls of tools by the chat template, with the
called tool and some others of the same set on offer.
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from box_sets import Set

from twofold.corpus import Conversation
from twofold.corpus.formats.jsonl import records
from twofold.corpus.opening import open_bytes
from twofold.environments._calls import schema

SETS = {
    "services": Set(
        "sft/sgd_dialogues.jsonl.zst", "Schema-Guided Dialogue, training part",
        "github.com/google-research-datasets/dstc8-schema-guided-dialogue", "CC BY-SA 4.0",
        "dialogues with calls of services, read in pretraining",
    ),
    "schema": Set(
        "tools/sgd_schema.json.zst", "Schema-Guided Dialogue, services",
        "github.com/google-research-datasets/dstc8-schema-guided-dialogue", "CC BY-SA 4.0",
        "descriptions of the services in those dialogues",
    ),
    "orders": Set(
        "sft/taskmaster4_dialogues.jsonl.zst", "Taskmaster-4",
        "github.com/google-research-datasets/Taskmaster", "CC BY 4.0",
        "dialogues about orders, read in pretraining",
    ),
    "topics": Set(
        "sft/topical_chat.jsonl.zst", "Topical-Chat", "github.com/alexa/Topical-Chat", "CDLA-Sharing-1.0",
        "small talk between people, read in pretraining",
    ),
    "glosses": Set(
        "pretrain/wordnet_glosses.jsonl.zst", "Open English WordNet",
        "github.com/globalwordnet/english-wordnet", "CC BY 4.0", "dictionary entries, read in pretraining",
    ),
}  # fmt: skip
COUNTS = {"services": 2500, "orders": 2500, "topics": 1600}  # conversations taken
TURNS = 8  # of a long dialogue at a time


def rows(data: Path, name: str) -> Iterator[dict[str, Any]]:
    """Return the rows of a set."""
    path = data / SETS[name].file
    with open_bytes(path) as stream:
        for _, row in records(stream, str(path)):
            yield row


def dialogues(data: Path, rng: random.Random) -> list[Conversation]:
    """Return conversations of all the sets, in random order."""
    found: list[Conversation] = []
    found += rng.sample(some := [*services(data, rng)], min(len(some), COUNTS["services"]))
    for name in ("orders", "topics"):
        some = [Conversation(talk, name) for row in rows(data, name) for talk in pieces(row["turns"])]
        found += rng.sample(some, min(len(some), COUNTS[name]))
    rng.shuffle(found)
    return found


def pieces(turns: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Return a dialogue in pieces of some turns, whose sides are called user and assistant in turn."""
    texts: list[tuple[str, str]] = []
    for turn in turns:
        said = " ".join(turn["text"].split())
        if texts and texts[-1][0] == turn["role"]:
            texts[-1] = (turn["role"], f"{texts[-1][1]} {said}")
        elif said:
            texts.append((turn["role"], said))
    for at in range(0, len(texts) - 1, TURNS):
        part = texts[at : at + TURNS]
        part = part[: len(part) // 2 * 2]
        roles = ("user", "assistant") * TURNS
        yield [{"role": role, "content": text} for role, (_, text) in zip(roles, part, strict=False)]


def services(data: Path, rng: random.Random) -> Iterator[Conversation]:
    """Return dialogues in which services are called, up to the first answer after two calls."""
    with open_bytes(data / SETS["schema"].file) as stream:
        described = {one["service_name"]: one for one in json.loads(stream.read())}
    tools = {
        (service, intent["name"]): _tool(one, intent)
        for service, one in described.items()
        for intent in one["intents"]
    }
    for row in rows(data, "services"):
        called = {(call["service"], call["method"]) for turn in row["turns"] for call in turn.get("call", ())}
        if not called or not called <= tools.keys():
            continue
        others = rng.sample(sorted(tools.keys() - called), 1)
        messages = _messages(row["turns"])
        if messages:
            chosen = [tools[key] for key in rng.sample([*sorted(called), *others], len(called) + 1)]
            yield Conversation(messages, "services", chosen)


def _tool(service: dict[str, Any], intent: dict[str, Any]) -> dict[str, Any]:
    slots = {slot["name"]: "string" for slot in service["slots"]}
    wanted = [*intent["required_slots"], *intent["optional_slots"]]
    made = schema(intent["name"], f"{intent['description']}.", **{name: slots[name] for name in wanted})
    made["function"]["parameters"]["required"] = list(intent["required_slots"])
    return made


def _messages(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    calls = 0
    for turn in turns:
        text = " ".join(turn["text"].split())
        for call in turn.get("call", ())[:1]:
            asked = {"name": call["method"], "arguments": call["params"]}
            messages.append({"role": "assistant", "content": "", "tool_calls": [asked]})
            messages.append({"role": "tool", "content": json.dumps(call.get("result") or {})})
            calls += 1
        messages.append({"role": turn["role"], "content": text})
        if calls == 2:
            return messages
    return messages


def glosses(data: Path) -> Iterator[str]:
    """Return dictionary entries as lines of text: the word, what it means, and how it is used."""
    kinds = {"n": "noun", "v": "verb", "a": "adjective", "s": "adjective", "r": "adverb"}
    for row in rows(data, "glosses"):
        if not row["words"] or not re.fullmatch(r"[a-z][a-z' -]+", row["words"][0]):
            continue  # names of people, places and species
        also = f" (also {', '.join(row['words'][1:3])})" if len(row["words"]) > 1 else ""
        text = " ".join(row["definition"].split())
        used = f' "{row["examples"][0]}"' if row.get("examples") else ""
        yield f"{row['words'][0]}{also}, {kinds.get(row['pos'], 'word')}: {text}.{used}"
