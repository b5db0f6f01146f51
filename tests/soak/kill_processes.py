"""Kill programs that run processes, at random moments: nothing is lost, and nothing is done twice unasked.

    python tests/soak/kill_processes.py [--kills 100] [--seed 1]

Processes call devices that write into a ledger (SEND, slow, so that kills fall into them), read, and make
such calls from within a call. After every kill -9 another program goes on with all of them. What is in doubt
is put to the user, who here looks into the ledger and says truly whether it was done. At the end every
process must have done all it was to do, in its order, each once, and the journal must be as it was written.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.base import files
from twofold.kernel.capabilities import Capability
from twofold.kernel.device import Context, Effect, Function, Returned
from twofold.kernel.minds import Said, Turn
from twofold.kernel.policy import ByCapability
from twofold.kernel.process import Program, State
from twofold.kernel.system import System
from twofold.tokens.speech import Call

PROCESSES, STEPS = 12, 24
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Counting:
    """A mind that reads from the conversation what it has done, and does the next thing."""

    context = 1 << 20

    def tokens(self, text: str) -> int:
        return len(text)

    def count(self, messages: Sequence[Any], tools: Sequence[Any] = ()) -> int:
        return len(messages)

    def say(self, turn: Turn) -> Said:
        done = sum(message["role"] == "tool" for message in turn.messages)
        if done == STEPS:
            return Said(text="All done.")
        name = ("send", "look", "nest")[done % 3]
        return Said(calls=[Call(name, f'{{"n": {done}}}')])

    def close(self) -> None:
        pass


class Ledger:
    """A device that writes down what it does; the file is the world outside."""

    def __init__(self, path: Path) -> None:
        self.path, self.chance = path, random.Random()

    def functions(self) -> Sequence[Function]:
        effects = {"send": Effect.SEND, "look": Effect.READ, "nest": Effect.NONE}
        return [
            Function(name=name, description=name, parameters=SCHEMA, effect=effect, trusted=True)
            for name, effect in effects.items()
        ]

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        time.sleep(self.chance.uniform(0, 0.01))
        if function == "nest":
            return Returned(value=context.syscall("send", arguments))
        if function == "send":
            files.append(self.path, f"{context.pid} {arguments['n']} {context.call}\n".encode())
            time.sleep(self.chance.uniform(0, 0.01))
        return Returned(value="ok")

    def close(self) -> None:
        pass


class Part:
    """One function of the ledger as a device of its own, so that its name is short."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self.ledger, self.name = ledger, name

    def functions(self) -> Sequence[Function]:
        return [function for function in self.ledger.functions() if function.name == self.name]

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        return self.ledger.call(function, arguments, context)

    def close(self) -> None:
        pass


def opened(folder: Path) -> System:
    """Return the system of a folder."""
    ledger = Ledger(folder / "ledger.txt")
    devices = {name: Part(ledger, name) for name in ("send", "look", "nest")}
    return System(folder, minds=lambda name: Counting(), devices=devices, policy=ByCapability(), workers=4)


def written(folder: Path) -> Counter[tuple[int, str]]:
    """Return what the ledger holds: (pid, call) -> how often."""
    path = folder / "ledger.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter((int(line.split()[0]), line.split()[2]) for line in lines)


def settled(system: System, folder: Path, state: State) -> bool:
    """Say truly whether a call in doubt was done; return whether there was one."""
    if state.asks is None:
        return False
    assert state.asks.kind == "doubt", state.asks
    done = written(folder)[state.pid, state.asks.call]
    assert done <= 1
    system.answer(state.pid, "done" if done else "again")
    return True


def work(folder: Path) -> None:
    """Go on with all processes, and begin those that are missing, until all are over."""
    system = opened(folder)
    print("ready", flush=True)
    for state in system.processes():
        if not state.exit:
            system.resume(state.pid)
    held = tuple(Capability(device=name) for name in ("send", "look", "nest"))
    while len(system.processes()) < PROCESSES:
        system.spawn(Program(message="Go.", capabilities=held))
    while True:
        system.run(seconds=30)
        doubts = [settled(system, folder, state) for state in system.processes()]
        if not any(doubts) and all(state.exit for state in system.processes()):
            break
    system.close()


def check(folder: Path, doubts: int) -> None:
    """Assert that everything was done, once, and in order."""
    system = opened(folder)
    assert system.journal.verify() == []
    ledger = written(folder)
    assert all(count == 1 for count in ledger.values()), "something was done twice"
    lines = [line.split() for line in (folder / "ledger.txt").read_text().splitlines()]
    for state in system.processes():
        assert (state.exit, state.answer) == ("done", "All done."), (state.pid, state.exit, state.stopped)
        steps = [int(n) for pid, n, _ in lines if int(pid) == state.pid]
        assert steps == [n for n in range(STEPS) if n % 3 != 1], (state.pid, steps)
        results = [page.text for page in state.pages if page.kind == "result"]
        assert len(results) == STEPS
    asked = sum(e.kind == "asked" for s in system.processes() for e in system.events(s.pid))
    print(f"{len(ledger)} sends, each once; {asked} doubts were put to the user; the journal is whole.")
    assert asked or not doubts
    system.close()


def main() -> None:
    """Kill, go on, and check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    if given.work:
        work(given.work)
        return
    chance, kills, rounds = random.Random(given.seed), 0, 0
    while kills < given.kills:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            command = [sys.executable, __file__, "--work", name]
            while True:
                worker = subprocess.Popen(command, stdout=subprocess.PIPE)
                assert worker.stdout
                worker.stdout.readline()
                time.sleep(chance.uniform(0, 0.4))
                alive = worker.poll() is None
                if alive and kills < given.kills:
                    os.kill(worker.pid, signal.SIGKILL)
                    kills += 1
                worker.stdout.close()
                if worker.wait() == 0:
                    break
                assert worker.returncode == -signal.SIGKILL, worker.returncode
            rounds += 1
            print(f"{kills} kills: ", end="", flush=True)
            check(folder, kills > 20)
    print(f"{kills} kills over {rounds} rounds.")


if __name__ == "__main__":
    main()
