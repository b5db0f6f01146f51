"""Two hundred turns with a real model in a window that holds a few: as a process, and as `twofold chat`.

    python tests/soak/long_talk.py [--model MODEL] [--turns 200] [--window 2048]

Something is told in turn 3 and asked for in the last. Whatever the model makes of it (the one in the box is
too small to answer), the window must fit every time, what was told must stand in the last one, nothing may be
lost, and a fork and the journal must give the same RAM. Takes a minute or two with the model in the box.
"""

import argparse
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

FACT = "Remember this: the code of the garage is 4711."
ASKED = "What is the code of the garage?"
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


def said(turn: int, turns: int) -> str:
    """Return what the user says in a turn."""
    if turn == turns - 1:
        return ASKED
    return FACT if turn == 2 else f"Tell me about {TOPICS[turn % len(TOPICS)]}, number {turn}."


class Watched(Local):
    """A model whose windows are looked at."""

    def __init__(self, engine: run.Engine) -> None:
        super().__init__(engine)
        self.longest, self.newest = 0, ""

    def say(self, turn: Turn) -> Said:
        self.longest = max(self.longest, self.count(turn.messages))
        self.newest = "\n".join(str(message["content"]) for message in turn.messages)
        return super().say(replace(turn, max_tokens=min(40, turn.max_tokens)))


def as_process(engine: run.Engine, turns: int) -> list[str]:
    """Return what went wrong with a process."""
    mind, wrong = Watched(engine), []
    with tempfile.TemporaryDirectory() as folder:
        system = System(Path(folder), minds=lambda name: mind, devices={}, policy=ByCapability())
        pid = system.spawn(Program(message=said(0, turns), stays=True))
        system.run()
        for turn in range(1, turns):
            system.tell(pid, said(turn, turns))
            system.run()
        state = system.state(pid)
        total = sum(page.tokens for page in state.pages)
        print(f"process: {len(state.pages)} pages, about {total:,} tokens; longest window {mind.longest:,}")
        print(f"  answer: {state.answer!r}")
        if mind.longest > engine.context:
            wrong.append("a window was too long")
        if "4711" not in mind.newest:
            wrong.append("what was told does not stand in the last window of the process")
        if len(state.pages) != 2 * turns or state.stopped:
            wrong.append(f"pages are missing: {len(state.pages)}; {state.stopped}")
        if ram_of(folded(system.events(pid))) != ram_of(state):
            wrong.append("the journal gives another RAM")
        if ram_of(system.state(system.fork(pid))) != ram_of(state):
            wrong.append("a fork has another RAM")
        system.close()
    return wrong


def as_chat(engine: run.Engine, turns: int) -> list[str]:
    """Return what went wrong with a chat."""
    chat = Conversation(engine, models.Generation(max_tokens=40, seed=0, temperature=0.0))
    notes = Console(quiet=True)
    for turn in range(turns):
        chat.answer(said(turn, turns), notes)
    ids, out, _ = chat.fit()
    wrong = [] if len(chat.messages) == 2 * turns else ["messages of the chat are missing"]
    window = engine.tokenizer.decode(ids)
    print(
        f"chat: {len(chat.messages)} messages, {out} parts out of the window, which has {len(ids):,} tokens"
    )
    return wrong if "4711" in window else [*wrong, "what was told does not stand in the chat's last window"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="box")
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--window", type=int, default=2048, help="at most; a model's own may be smaller")
    options = parser.parse_args()
    path = models.find(options.model)
    context = min(options.window, run.load(path, threads=1).context)
    wrong = []
    for what in (as_process, as_chat):
        began = time.monotonic()
        wrong += what(run.load(path, context=context), options.turns)
        print(f"  {time.monotonic() - began:.0f} s")
    print("\n".join(wrong) or f"{options.turns} turns in a window of {context:,} tokens: all is well.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
