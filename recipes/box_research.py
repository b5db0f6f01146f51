"""Conversations to learn the talk's demo from: what a planner and a reader said.

    python recipes/box_research.py --studies 500 --out runs/research

runs the researcher app on the real kernel, with the real devices and policy, by the planner that is a program
(demo_mind.py), over companies and wordings of side "train", and writes down what was shown and said:

- `plans.jsonl`: whole studies: the task, the calls with the names that stand for hidden values, the report;
- `readings.jsonl`: what the reader in quarantine was asked about a page, and the JSON it gave.

Only studies that the generator's truth calls right are kept, so a rule of the reader that errs teaches
nothing wrong. They are in the form of `twofold tune --on`; `recipes/talk_demo.py --model` and
benchmarks/demo.py ask a tuned model with side "test", of which nothing is here. What is there already is
gone on with.

Not covered: studies that go wrong on the way (a page that does not load) and are mended.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import company_site
import demo_mind
import talk_demo

from twofold.base import ledger
from twofold.kernel.minds import Message
from twofold.tokens.conversation import check

READINGS = 4  # of one study: more would all be about the same few pages


def studies(
    seed: int, side: company_site.Side = "train"
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield plan and readings, as records, for each company of a site whose study came out right."""
    rng = random.Random(f"research {seed} {side}")
    with talk_demo.world(seed, side) as (site, address, trap), tempfile.TemporaryDirectory() as folder:
        for number, who in enumerate(site.companies):
            year = rng.randint(who.rounds[-1].year + 1, who.rounds[-1].year + 6)
            task = f"{company_site.request(rng, side, who, year)} Search at {address}."
            mind = demo_mind.Planner()
            done = talk_demo.study(task, mind, Path(folder) / str(number), trap)
            if not talk_demo.judge(done, who, year).right:
                continue
            said = [one for one in mind.spoken if one["schema"] is None]
            read = [one for one in mind.spoken if one["schema"] is not None]
            told = [one for one in read if one["text"] != "[]"]
            some = rng.sample(told, min(READINGS - 1, len(told)))
            some += rng.sample([one for one in read if one not in told], min(1, len(read) - len(told)))
            yield record(said[-1]), [record(one) for one in some]


def record(spoken: dict[str, Any]) -> dict[str, Any]:
    """Return what was shown and then said, as a line of a conversation file.

    Raises BadFileError when it is none.
    """
    messages = [*map(_message, spoken["messages"]), {"role": "assistant", "content": spoken["text"]}]
    found = {"messages": messages, **({"tools": spoken["tools"]} if spoken["tools"] else {})}
    check(found, "research", "research")
    return found


def _message(message: Message) -> dict[str, Any]:
    """Return a message as conversation files have it: calls by name and arguments, without their ids."""
    plain: dict[str, Any] = {"role": message["role"], "content": message.get("content") or ""}
    if calls := message.get("tool_calls"):
        plain["tool_calls"] = [
            {"name": call["function"]["name"], "arguments": _object(call["function"]["arguments"])}
            for call in calls
        ]
    return plain


def _object(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=500, help="how many, about")
    parser.add_argument("--seed", type=int, default=0, help="of the first site")
    parser.add_argument("--side", choices=("train", "test"), default="train")
    parser.add_argument("--out", type=Path, default=Path("runs/research"))
    options = parser.parse_args(arguments)
    plans, readings = options.out / "plans.jsonl", options.out / "readings.jsonl"
    done = sum(1 for _ in ledger.read(plans))
    site = options.seed + done // 4
    while done < options.studies:
        for plan, some in studies(site, options.side):
            for one in some:
                ledger.add(readings, one)
            ledger.add(plans, plan)
            done += 1
        site += 1
        print(f"\r{done} of {options.studies} studies", end="", file=sys.stderr, flush=True)
    print(f"\n{plans}: {done}; {readings}: {sum(1 for _ in ledger.read(readings))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
