"""Rehearsal: the model's own answers, read again while it learns something new, so that it forgets less.

A model that learns from a few conversations alone drifts in everything else it says (French 1999, Trends in
Cognitive Sciences 3(4)). Reading some of what it knew before, among the new, holds it; where that data is
gone, what the model says itself will do (Huang et al. 2024, arXiv:2403.01244). So the model is asked
general questions (questions.json), answers as it is, and these conversations are mixed in. They are drawn
at temperature 1: then what they teach a model that has not changed is zero on average, whichever way it
answers.

Not covered: rehearsing plain text; keeping the probabilities of the answers instead of the answers.
"""

import json
import re
from collections.abc import Collection, Iterator
from importlib import resources
from pathlib import Path

from twofold.base.files import write_text
from twofold.run import Engine, Sampler
from twofold.tokens.conversation import Conversation

NAME = "own answers"
LONGEST = 96  # tokens of an answer


def questions() -> list[list[str]]:
    """Return general conversations by what the user says in them, turn by turn."""
    found: list[list[str]] = json.loads(
        (resources.files("twofold.train") / "questions.json").read_text("utf-8")
    )
    return found


def plain(text: str) -> str:
    """Return a question without what makes no difference: capitals, marks, spaces."""
    return re.sub(r"\W+", " ", text).strip().casefold()


def answers(engine: Engine, *, seed: int, avoid: Collection[str] = ()) -> Iterator[Conversation]:
    """Yield what comes of asking the model all questions but those to `avoid` (as `plain` spells them)."""
    tokenizer = engine.tokenizer
    for number, turns in enumerate(questions()):
        if any(plain(turn) in avoid for turn in turns):
            continue
        messages: list[dict[str, str]] = []
        for turn in turns:
            messages.append({"role": "user", "content": turn})
            ids = tokenizer.chat(messages, add_generation_prompt=True)
            room = min(LONGEST, engine.context - len(ids))
            if room < 1:
                break
            sampler = Sampler(temperature=1.0, min_p=0.02, seed=seed + number)
            text = "".join(engine.stream(ids, max_tokens=room, sampler=sampler)).strip()
            if not text:
                break
            messages.append({"role": "assistant", "content": text})
        if messages[-1]["role"] == "user":
            messages.pop()
        if messages:
            yield Conversation(messages, NAME)


def write(engine: Engine, path: Path, *, seed: int, avoid: Collection[str] = ()) -> None:
    """Write a conversation file with the model's own answers."""
    lines = [json.dumps(one.record(), ensure_ascii=False) for one in answers(engine, seed=seed, avoid=avoid)]
    write_text(path, "".join(f"{line}\n" for line in lines))
