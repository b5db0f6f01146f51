"""Thousands of requests at a batcher from many threads, in every manner: each answer is what it ought to be.

    python tests/soak/many_requests.py [--requests 10000] [--seed 0]

A small random model with four sequences. Requests differ in prompt, length, sampler, owner, constraint and
echo; some are cancelled while they wait or run, some are read late, some in an event loop. Every answer must
be the beginning of what the engine alone gives (the whole of it, unless cancelled), and memory must not grow.
"""

import argparse
import asyncio
import random
import resource
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "parameters"), str(ROOT / "tests" / "run")]
from schemas import make  # noqa: E402
from tiny_models import random_model  # noqa: E402

from twofold.run import Sampler, open_model  # noqa: E402
from twofold.run.batcher import Ask, Batcher, Busy  # noqa: E402
from twofold.run.constraints import Grammars  # noqa: E402

MODEL = random_model("qwen3", context=256)
GRAMMARS = Grammars(MODEL.tokenizer)
STARTS = [MODEL.tokenizer.encode(text) * 8 for text in ("The ferry", " leaves at", " seven; in winter")]
THREADS, KINDS = 12, 120


def ask(kind: int, owner: str) -> Ask:
    """Return one of the requests that are made over and over."""
    chance = random.Random(kind)
    ids = chance.choice(STARTS)[: chance.randint(1, 60)] + chance.choices(range(300), k=chance.randint(1, 20))
    sampler = Sampler(temperature=chance.choice((0.0, 0.8, 1.3)), top_k=chance.choice((0, 9)), seed=kind)
    constraint = GRAMMARS.json_schema(make(kind)) if kind % 4 == 0 else None
    most = 150 if constraint else chance.randint(1, 60)
    return Ask(
        ids=ids, max_tokens=most, sampler=sampler, constraint=constraint, owner=owner, echo=kind % 7 == 1
    )


def expected() -> list[list[int]]:
    """Return the answers that the engine alone gives."""
    engine, found = open_model(MODEL, threads=1, context=256), []
    for kind in range(KINDS):
        one = ask(kind, "")
        how = {"max_tokens": one.max_tokens, "sampler": one.sampler, "constraint": one.constraint}
        steps = engine.generate(one.ids, stop_ids=MODEL.tokenizer.stop_ids, speculate=False, **how)
        found.append([step.id for step in steps])
    return found


def one_request(batcher: Batcher, right: list[list[int]], chance: random.Random) -> None:
    """Make a request in some manner; AssertionError when the answer is wrong."""
    kind = chance.randrange(KINDS)
    try:
        answering = batcher.submit(ask(kind, f"owner {chance.randrange(5)}"))
    except Busy:
        time.sleep(0.01)
        return
    cancelled_after = chance.randrange(30) if chance.random() < 0.3 else None
    if chance.random() < 0.2:
        time.sleep(0.02 * chance.random())  # read late
    ids = []

    def take(token: int) -> None:
        ids.append(token)
        if len(ids) == cancelled_after:
            answering.cancel()

    if cancelled_after == 0:
        answering.cancel()
    if chance.random() < 0.5:
        for step in answering:
            take(step.id)
    else:

        async def read() -> None:
            async for step in answering:
                take(step.id)

        asyncio.run(read())
    assert ids == right[kind][: len(ids)], f"kind {kind}: another answer"
    assert answering.finish == "cancelled" or len(ids) == len(right[kind]), (
        f"kind {kind}: not the whole answer"
    )
    assert answering.finish != "cancelled" or cancelled_after is not None
    if answering.ask.echo and answering.finish != "cancelled":
        assert [step.id for step in answering.echo] == list(answering.ask.ids)[1:]


def main() -> None:
    """Make the requests, and say what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    right = expected()
    batcher = Batcher(open_model(MODEL, threads=1, context=256, sequences=4), waiting=6, chunk=40)
    wrong: list[str] = []
    memory = []
    for part in range(10):

        def client(number: int) -> None:
            chance = random.Random(options.seed * 1000 + number)
            try:
                for _ in range(options.requests // 10 // THREADS):
                    one_request(batcher, right, chance)
            except Exception as error:
                wrong.append(str(error))

        threads = [threading.Thread(target=client, args=(part * THREADS + n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(f"{batcher.figures()}, {memory[-1]:.0f} MB at most", flush=True)
        if wrong:
            sys.exit("\n".join(wrong))
    batcher.close()
    grown = memory[-1] - memory[2]
    print(f"many requests: every answer right; {grown:+.1f} MB in the last seven tenths")
    if grown > 8:
        sys.exit("memory grows")


if __name__ == "__main__":
    main()
