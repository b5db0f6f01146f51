"""What the kernel of the LLM OS costs: a thousand processes, a system call, a fork, a shared prefix.

    python benchmarks/processes.py [--processes 1000] [--calls 300] [--no-model]

Minds and devices here answer at once, so what is measured is the kernel: journal, policy, scheduling. The
rival of a system call is the same with the state folded anew from the journal each time, as event-sourced
agents commonly do it. The fork is of a process of 8,192 tokens, at its end and in its middle. With a model
(the one in the box) it is seen how much of a fork's prompt is taken from what its parent had read.
"""

import argparse
import gc
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pairs import figure, table

from twofold.kernel.capabilities import Capability
from twofold.kernel.device import Context, Effect, Function, Returned
from twofold.kernel.minds import Mind, Said, Turn, find
from twofold.kernel.policy import Rules
from twofold.kernel.process import Program, State, fold
from twofold.kernel.system import System
from twofold.tokens.speech import Call

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
MAY = (Capability(device="read"), Capability(device="write"))


class Nothing:
    """A device that returns at once."""

    def __init__(self, name: str, effect: Effect) -> None:
        self.function = Function(
            name=name, description="Nothing.", parameters=SCHEMA, effect=effect, trusted=True
        )

    def functions(self) -> Sequence[Function]:
        return [self.function]

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        return Returned(value=1)

    def close(self) -> None:
        pass


class Calling:
    """A mind that calls a function so many times, and then answers."""

    context = 1 << 20

    def __init__(self, name: str, calls: int) -> None:
        self.name, self.calls, self.seconds = name, calls, 0.0

    def tokens(self, text: str) -> int:
        return max(1, len(text) // 4)

    def count(self, messages: Sequence[Any], tools: Sequence[Any] = ()) -> int:
        return len(messages)

    def say(self, turn: Turn) -> Said:
        done = sum(message["role"] == "tool" for message in turn.messages)
        if done >= self.calls:
            return Said(text="Done.")
        return Said(calls=[Call(self.name, f'{{"n": {n}}}') for n in range(min(100, self.calls - done))])

    def close(self) -> None:
        pass


def system(folder: Path, mind: Mind, workers: int = 8) -> System:
    devices = {"read": Nothing("read", Effect.READ), "write": Nothing("write", Effect.WRITE)}
    return System(folder, minds=lambda name: mind, devices=devices, policy=Rules(), workers=workers)


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def timed(work: Callable[[], Any]) -> float:
    """Return how long that took, in milliseconds."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def worked(work: Callable[[], Any]) -> tuple[float, float]:
    """Return how long that took, and how much of a processor, in milliseconds."""
    start = time.process_time()
    wall = timed(work)
    return wall, (time.process_time() - start) * 1000


def many(count: int) -> list[list[str]]:
    """A thousand processes: each calls three times, and waits for its user."""
    with tempfile.TemporaryDirectory() as name:
        found = system(Path(name), Calling("read", 3))
        gc.collect()
        before = resident_mb()
        program = Program(message="Do what there is to do. " * 20, capabilities=MAY, stays=True)
        spawned = timed(lambda: [found.spawn(program) for _ in range(count)])
        ran, busy = worked(lambda: found.run(seconds=600))
        gc.collect()
        grown = resident_mb() - before
        waiting = sum(state.waits == "user" for state in found.processes())
        assert waiting == count, f"{waiting} of {count} have answered"
        events = sum(found.journal.heads().values())
        size = found.journal.path.stat().st_size
        found.close()
    steps = count * (2 + 3 * 2)  # sayings; of each call a decision and the call itself
    return [
        [f"{count:,} processes: memory of each", f"{grown * 1000 / count:,.0f} kB"],
        ["to begin one", f"{figure(spawned / count)} ms"],
        [
            f"a step, scheduled among {count:,}",
            f"{figure(ran / steps)} ms, {figure(busy / steps)} of a processor",
        ],
        ["journal of each", f"{size / count / 1000:,.0f} kB, {events / count:.0f} events"],
    ]


def calls(count: int, effect: str) -> tuple[float, float, float]:
    """Return ms of a system call beyond its device, of processor time, and of the same folding the
    journal."""
    with tempfile.TemporaryDirectory() as name:
        found = system(Path(name), Calling(effect, count), workers=1)
        pid = found.spawn(Program(message="Go.", capabilities=MAY))
        wall, busy = worked(lambda: found.run(seconds=600))
        ms = wall / count
        assert found.state(pid).exit == "done", found.state(pid)

        def refold() -> None:
            state: State | None = None
            for event in found.events(pid):
                state = fold(state, event)

        again = statistics.median(timed(refold) for _ in range(5))
        found.close()
    return (
        ms,
        busy / count,
        ms + 3 * again / 2,
    )  # three events a call, each after a fold of half the journal on average


def forks(repeats: int = 50) -> list[list[str]]:
    """A process of 8,192 tokens: 128 turns of 64."""
    with tempfile.TemporaryDirectory() as name:
        found = system(Path(name), Calling("read", 0), workers=1)
        pid = found.spawn(Program(message="w " * 128, capabilities=MAY, stays=True))
        while sum(page.tokens for page in found.state(pid).pages) < 8192:
            found.tell(pid, "w " * 128)
        seq = found.state(pid).seq
        last = [timed(lambda: found.fork(pid)) for _ in range(repeats)]
        middle = [timed(lambda: found.fork(pid, seq // 2)) for _ in range(repeats)]
        found.close()
    shown = [f"{figure(statistics.median(x))} ms (at most {figure(max(x))})" for x in (last, middle)]
    return [["fork of 8,192 tokens, at its end", shown[0]], ["in its middle", shown[1]]]


def prefixes() -> list[list[str]]:
    """Four forks of one process of the model in the box, each told something else."""
    with tempfile.TemporaryDirectory() as name:
        mind = find("box")
        found = System(Path(name), minds=lambda _: mind, devices={}, policy=Rules())
        program = Program(
            message="Tell me about rivers. " * 12, instructions="Answer in one short sentence.", stays=True
        )
        pid = found.spawn(program)
        found.run(seconds=120)
        words = ("And lakes?", "And seas?", "And rain?", "And snow?")
        made = [found.fork(pid, said=word) for word in words]
        found.run(seconds=120)
        said = [[e.body["tokens"] for e in found.events(one) if e.kind == "said"] for one in made]
        found.close()
    prompt, cached = (sum(one[-1][key] for one in said) for key in ("prompt", "cached"))
    return [["prompts of four forks, taken from their parent", f"{cached:,} of {prompt:,} tokens"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--no-model", action="store_true")
    given = parser.parse_args()
    rows = many(given.processes)
    for effect, what in (
        ("read", "a system call beyond its device"),
        ("write", "one that is put on the disk first"),
    ):
        ms, busy, rival = calls(given.calls, effect)
        rows.append([what, f"{figure(ms)} ms, {figure(busy)} of a processor"])
        rows.append(["  the same, folding the journal each time", f"{figure(rival)} ms"])
    rows += forks()
    if not given.no_model:
        rows += prefixes()
    print(table(["what", "measured"], rows))


if __name__ == "__main__":
    main()
