"""Recipes are scripts beside the package, not part of it: their folder is put on the path for their tests."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

import box_data
import box_dialogues
import box_sets


def pack(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows)))


def gloss(
    word: str, definition: str, lex: str = "noun.artifact", pos: str = "n", **more: Any
) -> dict[str, Any]:
    return {"words": [word], "pos": pos, "definition": definition, "lex": lex, "id": word + pos, **more}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a small folder of data of the shape that box_data.py expects."""
    folder = tmp_path / "data"
    text = "The lantern hung in the barn near the stove. " * 80
    for number, file in enumerate([*box_data.SHARDS, box_data.VAL]):
        rows = [
            {"text": f"{number} {tier} {text}", "source": "books", "licence": "public domain", "tier": tier}
            for tier in (1, 3)
        ]
        rows.append({**rows[0], "source": "cia-factbook"})
        pack(folder / file, rows)
    files = {name: one.file for name, one in box_sets.SETS.items()}
    pack(folder / files["fables"], [
        {"title": "The Fox and the Grapes", "text": "A Fox saw grapes.", "lesson": "Grapes are high."},
        {"title": "The Long One", "text": "long " * 300},
    ])  # fmt: skip
    pack(folder / files["dictionary"], [
        gloss("lantern", "light in a case", hypernym=["barnn"]),
        gloss("barn", "a building for hay (on a farm); or a unit", hypernym=[]),
        gloss("stove", "a kitchen appliance", hypernym=[]),
        gloss("stove", "to heat", lex="verb.change", pos="v", hypernym=[]),
        gloss("near", "an offensive word", hypernym=[]),
    ])  # fmt: skip
    passage = "The king had a golden ball. He lost it."
    pack(folder / files["reading"], [
        {"context": passage, "question": "What did the king have?", "answer": "a golden ball"},
        {"context": passage, "question": "What did he do?", "answer": "he wept"},
        {"context": "The dwarf wore a red cap.", "question": "What did he wear?", "answer": "a red cap"},
    ])  # fmt: skip
    pack(folder / files["trivia"], [
        {"topic": "trivia", "turns": ["What is a community of ants called?", "A colony"]},
        {"topic": "trivia", "turns": ["Who sang Something?", "Some Body"]},
        {"topic": "trivia", "turns": ["What is a community of wolves called?", "A pack"]},
        {"topic": "ai", "turns": ["what are you", "a robot"]},
    ])  # fmt: skip
    intents = [*box_sets.ASKED_LIKE, *(intent for some in box_sets.ANSWERED for intent in some.split())]
    pack(folder / files["questions"], [{"text": f"some {intent}", "label": intent} for intent in intents])
    call = {"service": "Rooms", "method": "Find", "params": {"city": "Rome"}, "result": {"price": "3"}}
    turns = [
        {"role": "user", "text": "Find a room.", "call": []},
        {"role": "assistant", "text": "Here is one.", "call": [call]},
    ]
    more = {name: one.file for name, one in box_dialogues.SETS.items()}
    pack(folder / more["services"], [{"turns": turns}] * 4)
    pack(folder / more["orders"], [{"turns": turns}] * 4)
    pack(folder / more["topics"], [{"turns": turns}] * 4)
    intent = {"name": "Find", "description": "Find rooms", "required_slots": ["city"], "optional_slots": {}}
    service = {
        "service_name": "Rooms",
        "slots": [{"name": "city"}],
        "intents": [intent, {**intent, "name": "Book"}],
    }
    (folder / more["schema"]).parent.mkdir(parents=True)
    (folder / more["schema"]).write_bytes(zstandard.compress(json.dumps([service]).encode()))
    lines = ["| file | what | class |", "|---|---|---|"]
    files |= more
    lines += [f"| {file} | x | open |" for file in [*box_data.SHARDS, box_data.VAL, *files.values()]]
    (folder / "MANIFEST.md").write_text("# Data\n\n" + "\n".join(lines) + "\n\nThe end | of | it\n")
    return folder
