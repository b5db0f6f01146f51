"""Steps to learn the talk's demo from: what a planner and a reader were shown, and what they said.

    python recipes/box_research.py --tokenizer runs/box/tokenizer.json --out runs/research

runs the researcher app on the real kernel, with the real devices and policy, by the planner that is a program
(demo_mind.py) in the place of a model with this tokenizer and window, over companies and wordings of side
"train", and writes a line for each thing that was said:

- `plans.jsonl`: a step of a study, after what the pager had in the window then, the tools told in short; and
  for other wishes the first step alone, after little else, as that is where names are copied from a wish;
- `readings.jsonl`: what the reader in quarantine was asked about a page, and the JSON it gave; and the same
  of some of the page's sentences, rows or links only, which is as much to learn in fewer tokens. Many of
  these ask about another company that the page names, since the name is to say which sentences count.

What was said before in the same study is learned, too, where the window still shows it and all that it names;
the rest is there to be read, and has weight 0 (tokens/conversation.py). A step whose answer is learned in a
later line has none of its own: while nothing leaves the window, a study is one line. Only studies that the
generator's truth calls right are kept, so a rule of the reader that errs teaches nothing wrong; and of them
only steps that name no value which was not shown. The lines are in the form of `twofold tune --on`;
recipes/box.py tunes on them, and `recipes/talk_demo.py --model` and benchmarks/demo.py ask the tuned model
with side "test", of which nothing is here. What is there already is gone on with.

Not covered: studies that go wrong on the way (a page that does not load) and are mended.
"""

import argparse
import collections
import json
import multiprocessing
import os
import random
import re
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import company_site
import demo_mind
import demo_reader
import talk_demo
from box_data import STEPS
from box_turns import by_alphabet
from box_words import company, name

from twofold.base import ledger
from twofold.base.errors import TwofoldError
from twofold.kernel.minds import Message
from twofold.tokens import Tokenizer
from twofold.tokens.conversation import check

READINGS = 10  # of one study at most, of whole pages, one of them of a page that says nothing
CUTS = 10  # of one study, of pages of which little is left
TURNED = 0.5  # of the cuts that name another company, asked about that one
FIRSTS = 3  # for each study, of wishes about companies that no site is about
MOST_KEPT = 4  # pieces of a page in a cut
CONTEXT = 2560
TRIES = 4  # sites
_NAMES = re.compile(r"\bv\d+\b")
_ADDRESS = re.compile(r"(\[\d+\] )?http")
_LINK = re.compile(r"(?m)^\d+\. (.+) \[\d+\]$")
Record = dict[str, Any]


def studies(
    seed: int, window: demo_mind.Window, side: company_site.Side = "train", *, cuts: int = 0
) -> Iterator[tuple[list[Record], list[Record]]]:
    """Yield steps and some readings, as records, for each company of a site whose study came out right.

    `cuts`: how many readings of parts of a page there are beside those of whole ones.
    """
    rng = random.Random(f"research {seed} {side}")
    with talk_demo.world(seed, side) as (site, address, trap), tempfile.TemporaryDirectory() as folder:
        for number, who in enumerate(site.companies):
            year = rng.randint(who.rounds[-1].year + 1, who.rounds[-1].year + 6)
            task = f"{company_site.request(rng, side, who, year)} Search at {address}."
            mind = demo_mind.Planner(window=window)
            done = talk_demo.study(task, mind, Path(folder) / str(number), trap)
            if not talk_demo.judge(done, who, year).right:
                continue
            steps = [one for one in mind.spoken if one["schema"] is None and founded(one)]
            read = [one for one in mind.spoken if one["schema"] is not None]
            right = {spelled(one["text"], one["calls"]) for one in steps}
            lines = [record(one, window, right) for one in steps]
            names = [one.name for one in site.companies]
            yield lines, [record(one, window) for one in chosen(rng, read, names, cuts)]


def chosen(
    rng: random.Random, read: Sequence[dict[str, Any]], names: Sequence[str], cuts: int
) -> list[dict[str, Any]]:
    """Return some of a study's readings, one of which found nothing, and so many parts of them, with half as
    many lists of links. `names`: of the companies that the site knows."""
    told, silent = ([one for one in read if (one["text"] != "[]") == says] for says in (True, False))
    some = rng.sample(told, min(READINGS - 1, len(told))) + rng.sample(silent, min(1, len(silent)))
    pages = [one for one in read if "properties" in one["schema"]["items"]]
    parts = [cut(rng, rng.choice(pages)) for _ in range(2 * cuts)]
    parts = [turned(rng, one, names) if rng.random() < TURNED else one for one in parts]
    parts.sort(key=lambda one: one["text"] == "[]")
    lists = [one for one in read if one not in pages and len(_LINK.findall(_asked(one))) > 1]
    links = [linked(rng, rng.choice(lists), names) for _ in range(cuts // 2 if lists else 0)]
    return some + parts[:cuts] + links


def first(rng: random.Random, instructions: str, side: company_site.Side = "train") -> Record:
    """Return a wish about a company that no site tells of, and the first step to it. `instructions`: the
    app's, of which only the beginning is shown."""
    who = company_site.Company(name(rng, company, side), "", (), frozenset())
    task = company_site.request(rng, side, who, rng.randint(2021, 2031))
    task += f" Search at http://127.0.0.1:{rng.randint(1024, 65535)}."
    call, arguments = next(demo_mind.study(task))
    calls = by_alphabet([{"name": call, "arguments": arguments}])
    messages: list[Record] = [
        {"role": "system", "content": instructions.partition("\n2.")[0]},
        {"role": "user", "content": task},
        {"role": "assistant", "content": "", "tool_calls": calls},
    ]
    return {"messages": messages}


def cut(rng: random.Random, spoken: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reading of a few pieces of its page, sentences or rows of the table below their head, with
    what the rules find in them."""
    question, _, rest = _asked(spoken).partition("\n\n")
    head, *body = rest.rpartition("\n---\n")[0].split("\n")
    rows = [line for line in body if line.startswith("|")]
    plain = [line for line in body if line and line not in rows and not _ADDRESS.match(line)]
    told = [one for line in plain for one in demo_reader.sentences(line)]
    kept = {*rng.sample(some := [*told, *rows[2:]], min(len(some), rng.randint(1, MOST_KEPT)))}
    found = [one for one in told if one in kept]
    if kept & {*rows}:
        found += ["", *rows[:2], *(row for row in rows[2:] if row in kept)]
    return _reading(spoken, question, [head, *found])


def turned(rng: random.Random, spoken: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a reading with its question asked about another company that the text names; as it is where
    there is none, or where a round is told of without a name."""
    question, _, rest = _asked(spoken).partition("\n\n")
    lines = rest.rpartition("\n---\n")[0].split("\n")
    told = [one for line in lines for one in demo_reader.sentences(line)]
    whose = {one: [who for who in names if demo_reader.named(one, who)] for one in told}
    others = sorted({who for found in whose.values() for who in found if f'"{who}"' not in question})
    owned = all(whose[one] for one in told if demo_reader.ROUND.search(one))
    if not others or not owned or any(line.startswith("|") for line in lines):
        return spoken
    return _reading(spoken, _about(question, rng.choice(others)), lines)


def linked(rng: random.Random, spoken: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a reading of some of a list's links in any order, about a company that they name."""
    question, _, rest = _asked(spoken).partition("\n\n")
    titles = _LINK.findall(rest)
    some = rng.sample(titles, rng.randint(2, len(titles)))
    lines = [f"{number}. {title} [{number + 1}]" for number, title in enumerate(some, 1)]
    found = [who for title in some for who in names if demo_reader.named(title, who)]
    who = rng.choice(found or [*names])
    return _reading(spoken, _about(question, who), [rest.partition("\n")[0], *lines])


def _asked(spoken: Mapping[str, Any]) -> str:
    return str(spoken["messages"][-1]["content"])


def _about(question: str, who: str) -> str:
    """Return a question with another company's name in it."""
    return re.sub(r'"[^"]+"', f'"{who}"', question)


def _reading(spoken: Mapping[str, Any], question: str, lines: Sequence[str]) -> dict[str, Any]:
    """Return a reading of other lines, with what the rules find in them."""
    *before, asked = spoken["messages"]
    messages = [*before, {**asked, "content": "\n".join([question, "", *lines, "---", question])}]
    return {**spoken, "messages": messages, "text": demo_reader.answer(messages, spoken["schema"])}


def needed(lines: Sequence[Record]) -> list[Record]:
    """Return the lines that teach something which no later one does."""
    found: list[Record] = []
    taught: set[str] = set()
    for line in reversed(lines):
        learned = {
            json.dumps([message["content"], message.get("tool_calls")], sort_keys=True)
            for message in line["messages"]
            if message["role"] == "assistant" and message.get("weight", 1)
        }
        if learned - taught:
            found.append(line)
            taught |= learned
    return found[::-1]


def founded(spoken: Mapping[str, Any]) -> bool:
    """Return whether all values that were named had been shown."""
    said = set(_NAMES.findall(json.dumps([spoken["text"], spoken["calls"]])))
    return said <= set(_NAMES.findall(json.dumps(spoken["messages"])))


def spelled(text: str, calls: Iterable[tuple[str, Any]]) -> str:
    """Return what was said in one spelling."""
    plain = [[name, json.loads(given) if isinstance(given, str) else given] for name, given in calls]
    return json.dumps([text, plain], sort_keys=True)


def record(
    spoken: Mapping[str, Any], window: demo_mind.Window, right: Collection[str] = frozenset()
) -> Record:
    """Return what was shown and then said, as a line of a conversation file.

    `right`: what may be learned of that which was said before, as `spelled` has it. Raises BadFileError when
    it is none.
    """
    told, tools = window.teller.told(spoken["messages"], spoken["tools"])
    messages: list[Record] = []
    for message in told:
        plain = _message(message)
        if message["role"] == "assistant":
            said = [(call["name"], call["arguments"]) for call in plain.get("tool_calls", ())]
            named = set(_NAMES.findall(json.dumps(plain)))
            shown = named <= set(_NAMES.findall(json.dumps(messages)))
            plain["weight"] = int(shown and spelled(plain["content"], said) in right)
        messages.append(plain)
    calls = by_alphabet([{"name": name, "arguments": arguments} for name, arguments in spoken["calls"]])
    last = {"role": "assistant", "content": spoken["text"], **({"tool_calls": calls} if calls else {})}
    found = {"messages": [*messages, last], **({"tools": tools} if tools else {})}
    check(found, "research", "research")
    return found


def _message(message: Message) -> Record:
    """Return a message as conversation files have it: calls by name and arguments, without their ids."""
    plain: Record = {"role": message["role"], "content": message.get("content") or ""}
    if calls := message.get("tool_calls"):
        plain["tool_calls"] = [
            {"name": call["function"]["name"], "arguments": call["function"]["arguments"]} for call in calls
        ]
    return plain


def write(
    out: Path,
    tokenizer: Tokenizer,
    *,
    context: int = CONTEXT,
    steps: int = STEPS,
    seed: int = 0,
    side: company_site.Side = "train",
) -> dict[str, int]:
    """Write at least so many lines of steps, and readings, below `out`; return how many there are of each."""
    plans, readings = out / "plans.jsonl", out / "readings.jsonl"
    counts = {path.stem: sum(1 for _ in ledger.read(path)) for path in (plans, readings)}
    site = begun = seed + counts["plans"]  # another site for each, also after a break
    jobs = os.cpu_count() or 1
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(out / "tokenizer.json")
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        coming = collections.deque[Future[list[tuple[list[Record], list[Record]]]]]()
        while counts["plans"] < steps:
            while len(coming) < 2 * jobs:
                coming.append(pool.submit(_of_site, site, out / "tokenizer.json", context, side))
                site += 1
            for said, read in coming.popleft().result():
                for path, some in ((readings, read), (plans, said)):
                    for one in some:
                        ledger.add(path, one)
                    counts[path.stem] += len(some)
            if site - begun >= TRIES + len(coming) and not counts["plans"]:
                raise TwofoldError(
                    f"No study of {TRIES} sites came out right in a window of {context:,} tokens: a study "
                    "has to fit, and the extra [os] has to be installed."
                )
            print(
                f"\r{min(counts['plans'], steps):,} of {steps:,} lines", end="", file=sys.stderr, flush=True
            )
        pool.shutdown(cancel_futures=True)
    print(file=sys.stderr)
    return counts


def _of_site(
    site: int, tokenizer: Path, context: int, side: company_site.Side
) -> list[tuple[list[Record], list[Record]]]:
    """Return the lines of a site's studies."""
    window = demo_mind.Window(Tokenizer.load(tokenizer), context)
    rng = random.Random(f"firsts {site} {side}")
    found = []
    for said, read in studies(site, window, side, cuts=CUTS):
        told = str(said[0]["messages"][0]["content"])
        found.append(([*needed(said), *(first(rng, told, side) for _ in range(FIRSTS))], read))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json of the model to tune")
    parser.add_argument("--context", type=int, default=CONTEXT, help="its window, in tokens (%(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="how many, about (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first site")
    parser.add_argument("--side", choices=("train", "test"), default="train")
    parser.add_argument("--out", type=Path, default=Path("runs/research"))
    said = parser.parse_args(arguments)
    tokenizer = Tokenizer.load(said.tokenizer)
    counts = write(
        said.out, tokenizer, context=said.context, steps=said.steps, seed=said.seed, side=said.side
    )
    print(f"{said.out}: {counts['plans']:,} steps, {counts['readings']:,} readings", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
