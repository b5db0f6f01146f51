"""Two hundred turns with a real model in a window that holds a few: as a process, and as `twofold chat`.

    python tests/soak/long_talk.py [--model MODEL] [--turns 200] [--window 2048] [--facts 10]

Something is told in turn 3 and asked for in the last, so many different things in as many talks. Whatever the
model makes of it, the window must fit every time, what was told must stand in the last one, nothing may be
lost, and a fork and the journal must give the same RAM. How often the model then answers is counted and
printed. Takes some 20 seconds for each talk with the model in the box. None of what is told here is in what
the model in the box was taught from (recipes/box_wordings.txt), though sentences of that kind are.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from twofold import run
from twofold.cli import models
from twofold.cli.conversation import Conversation
from twofold.kernel.minds import Said, Turn
from twofold.kernel.minds.local import Local
from twofold.kernel.policy import ByCapability
from twofold.kernel.process import Program, folded
from twofold.kernel.ram import ram_of
from twofold.kernel.system import System
from twofold.measure.attempts import wilson

# What is told, what is asked, and what an answer has to hold.
FACTS = (
    ("Remember this: the code of the garage is 4711.", "What is the code of the garage?", "4711"),
    ("My hamster is called Pepper.", "What is my hamster called?", "Pepper"),
    ("The meeting with the plumber is on Thursday.", "When is the meeting with the plumber?", "Thursday"),
    ("Please note: my locker is number 83.", "Which number is my locker?", "83"),
    ("The spare key is under the blue pot.", "Where is the spare key?", "blue pot"),
    ("My favourite soup is leek soup.", "What is my favourite soup?", "leek"),
    (
        "Remember that the ticket to the opera costs 45 euros.",
        "What does the ticket to the opera cost?",
        "45",
    ),
    (
        "The name of the neighbour's parrot is Captain.",
        "What is the name of the neighbour's parrot?",
        "Captain",
    ),
    ("Keep in mind that the train leaves at 6:40.", "When does the train leave?", "6:40"),
    ("My sister lives in the town of Harrowgate Hill.", "Where does my sister live?", "Harrowgate"),
)
TOPICS = (
    "the sea",
    "a dog",
    "my garden",
    "the old king",
    "snow",
    "a long road",
    "bread",
    "the moon",
    "winter",
)


Fact = tuple[str, str, str]


def said(turn: int, turns: int, fact: Fact) -> str:
    """Return what the user says in a turn."""
    if turn == turns - 1:
        return fact[1]
    return fact[0] if turn == 2 else f"Tell me about {TOPICS[turn % len(TOPICS)]}, number {turn}."


class Watched(Local):
    """A model whose windows are looked at."""

    def __init__(self, engine: run.Engine) -> None:
        super().__init__(engine)
        self.longest, self.newest = 0, ""

    def say(self, turn: Turn) -> Said:
        self.longest = max(self.longest, self.count(turn.messages))
        self.newest = "\n".join(str(message["content"]) for message in turn.messages)
        return super().say(replace(turn, max_tokens=min(40, turn.max_tokens)))


def as_process(engine: run.Engine, turns: int, fact: Fact) -> tuple[list[str], str]:
    """Return what went wrong with a process, and its last answer."""
    mind, wrong = Watched(engine), []
    with tempfile.TemporaryDirectory() as folder:
        system = System(Path(folder), minds=lambda name: mind, devices={}, policy=ByCapability())
        pid = system.spawn(Program(message=said(0, turns, fact), stays=True))
        system.run()
        for turn in range(1, turns):
            system.tell(pid, said(turn, turns, fact))
            system.run()
        state = system.state(pid)
        total = sum(page.tokens for page in state.pages)
        print(f"process: {len(state.pages)} pages, about {total:,} tokens; longest window {mind.longest:,}")
        if mind.longest > engine.context:
            wrong.append("a window was too long")
        if fact[0] not in mind.newest:
            wrong.append("what was told does not stand in the last window of the process")
        if len(state.pages) != 2 * turns or state.stopped:
            wrong.append(f"pages are missing: {len(state.pages)}; {state.stopped}")
        if ram_of(folded(system.events(pid))) != ram_of(state):
            wrong.append("the journal gives another RAM")
        if ram_of(system.state(system.fork(pid))) != ram_of(state):
            wrong.append("a fork has another RAM")
        system.close()
    return wrong, state.answer


def as_chat(engine: run.Engine, turns: int, fact: Fact) -> tuple[list[str], str]:
    """Return what went wrong with a chat, and its last answer."""
    chat = Conversation(engine, models.Generation(max_tokens=40, seed=0, temperature=0.0))
    notes = Console(quiet=True)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it says
        for turn in range(turns):
            chat.answer(said(turn, turns, fact), notes)
    ids, out, _ = chat.fit()
    wrong = [] if len(chat.messages) == 2 * turns else ["messages of the chat are missing"]
    window = engine.tokenizer.decode(ids)
    print(
        f"chat: {len(chat.messages)} messages, {out} parts out of the window, which has {len(ids):,} tokens"
    )
    if fact[0] not in window:
        wrong.append("what was told does not stand in the chat's last window")
    return wrong, str(chat.messages[-1]["content"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="box")
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--window", type=int, default=2048, help="at most; a model's own may be smaller")
    parser.add_argument("--facts", type=int, default=len(FACTS), help="how many of them (%(default)s)")
    options = parser.parse_args()
    path = models.find(options.model)
    context = min(options.window, run.load(path, threads=1).context)
    wrong: list[str] = []
    right = {"process": 0, "chat": 0}
    facts = FACTS[: options.facts]
    for fact in facts:
        for name, talk in (("process", as_process), ("chat", as_chat)):
            began = time.monotonic()
            missed, answer = talk(run.load(path, context=context), options.turns, fact)
            wrong += missed
            right[name] += fact[2].lower() in answer.lower()
            print(f"  {fact[1]} {answer!r} ({time.monotonic() - began:.0f} s)")
    for name, count in right.items():
        low, high = wilson(count, len(facts))
        print(f"{name}: {count} of {len(facts)} answers from turn 3 right ({low:.0%} to {high:.0%})")
    print("\n".join(wrong) or f"{options.turns} turns in a window of {context:,} tokens: all is well.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
