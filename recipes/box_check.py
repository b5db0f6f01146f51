"""What the model in the box can do, ability by ability, on items that nothing was trained on.

    python recipes/box_check.py src/twofold/box/model.gguf --json scores.json --show 3

Items are answers out of conversations that the box's programs write with names, companies and wordings that
are held out: the model reads the conversation up to there as it should be and answers greedily, through
run.c. A call of a tool is right when it is the same call, by name and every argument; a text when it holds
the words that matter. About two minutes at most for the usual 120 conversations of each program.

Not covered: whether answers read well, and what nobody wrote a program for.
"""

import argparse
import collections
import dataclasses
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import box_data
import box_rounds
import box_sets
import box_sums
import box_unknown
from box_turns import OWN_KEYS, Message, Talk, plain, right
from box_words import Side
from rich.console import Console
from rich.table import Table

from twofold.base.errors import TwofoldError
from twofold.base.files import write_text
from twofold.corpus.formats.jsonl import records
from twofold.corpus.opening import open_bytes
from twofold.measure.attempts import Prompts, wilson
from twofold.run import Engine, answers
from twofold.run import load as open_engine
from twofold.tokens import Tokenizer

COUNT = 120
MOST_TOKENS = 320
SITES = 3  # of four companies each, for the demo on the kernel
SEQUENCES = 32
DEMO = "demo, wholly right"
KERNEL = "demo on the kernel"
NATURAL = "eval/clinc150_test.jsonl.zst"
PEOPLES = "people's wordings, declines"
DECLINES = ("not know", "not told", "not say")


@dataclasses.dataclass(frozen=True)
class Item:
    """One answer to be given: what is read before it, the right one, and the conversation it belongs to."""

    group: str
    messages: list[Message]
    tools: list[dict[str, Any]]
    answer: Message
    talk: int


def items(count: int = COUNT, seed: int = 0, side: Side = "test") -> list[Item]:
    """Return the items of `count` conversations of each program, and of some whole demos."""
    rng = random.Random(f"check {seed} {side}")
    talks = [box_rounds.demo(rng, side, whole=True) for _ in range(max(1, count // 6))]
    for name, (program, _) in box_data.PROGRAMS.items():
        some = max(1, count // 2) if name == "rounds" else count  # these are long
        talks += [program(rng, side) for _ in range(some)]
    for program in (box_unknown.known, box_unknown.harmful, box_unknown.private, box_sums.by_heart):
        talks += [program(rng, side) for _ in range(max(1, count // 3))]
    return [item for number, talk in enumerate(talks) for item in parts(talk, number)]


def on_the_kernel(tokenizer: Tokenizer, window: int, sites: int, seed: int = 0) -> list[Item]:
    """Return the steps and readings of the talk's demo on the real kernel, for companies that are held out:
    each after what is right so far, as a model with this tokenizer and window is shown it."""
    import box_research  # needs the extra [os]
    import demo_mind

    shown = demo_mind.Window(tokenizer, window)
    found = []
    for site in range(sites):
        for steps, readings in box_research.studies(1000 * (seed + 1) + site, shown, "test"):
            for part, lines in (("report", steps), ("readings", readings)):
                for line in lines:
                    *before, answer = line["messages"]
                    name = "calls" if answer.get("tool_calls") else part
                    ideal = answer if name == "calls" else {**answer, "exactly": answer["content"]}
                    found.append(Item(f"{KERNEL}, {name}", before, [], ideal, -1))
    return found


def natural(data: Path, count: int, seed: int) -> list[Item]:
    """Return people's own wordings of what it cannot do or know, of CLINC150's test part."""
    path = data / NATURAL
    if not path.exists():
        return []
    with open_bytes(path) as stream:
        rows = [row for _, row in records(stream, str(path)) if row["label"] in box_sets.answers()]
    answer = {"role": "assistant", "content": "", "either": ["cannot", "not know"]}
    return [
        Item(PEOPLES, [{"role": "user", "content": row["text"]}], [], answer, -1)
        for row in random.Random(seed).sample(rows, min(count, len(rows)))
    ]


def parts(talk: Talk, number: int) -> list[Item]:
    """Return the answers of a conversation that can be judged, each with what comes before it."""
    conversation = talk.conversation()
    found = []
    for at, message in enumerate(talk.messages):
        judged = any(message.get(key) for key in ("tool_calls", "must", "never"))
        if message["role"] == "assistant" and judged:
            before = conversation.messages[:at]
            found.append(Item(group(talk, message), before, conversation.tools or [], message, number))
    return found


def group(talk: Talk, message: Message) -> str:
    """Return what an answer shows."""
    if message.get("tool_calls"):
        return f"{talk.ability}, calls"
    if talk.ability == "passage":
        return "passage, not said" if message["must"] == ["not say"] else "passage, said"
    if talk.ability in ("unknown", "remember") and message["must"][:1] == ["not know"]:
        return "unknown, says so"
    if talk.ability == "refuse":
        return "harmless, not refused" if message["never"] else "harmful, refused"
    return f"{talk.ability}, words" if talk.ability in ("demo", "tools", "calculator") else talk.ability


def ask(engine: Engine, some: Sequence[Item], temperature: float = 0.0) -> list[str]:
    """Return the model's answer to each item; nothing where an item does not fit its window."""
    prompts = Prompts(engine.tokenizer)
    ids = [
        engine.tokenizer.chat(item.messages, tools=item.tools or None, add_generation_prompt=True)
        for item in some
    ]
    fit = [n for n, one in enumerate(ids) if len(one) + 8 < engine.context]
    found = answers(engine, [ids[n] for n in fit], temperature=temperature, max_tokens=MOST_TOKENS, seeds=fit)
    said = [""] * len(some)
    for n, answer in zip(fit, found, strict=True):
        said[n] = prompts.text(answer)
    return said


def score(some: Sequence[Item], said: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return {group: {right, of, share, low, high}}, with Wilson's intervals for 95 %.

    `demo, wholly right`: conversations of the demo in which every answer is. `don't know, precision`: of all
    answers that decline, the share that should.
    """
    verdicts = [right(item.answer, text) for item, text in zip(some, said, strict=True)]
    found: dict[str, list[bool]] = collections.defaultdict(list)
    demos: dict[int, bool] = {}
    declined: list[bool] = []
    for item, verdict, text in zip(some, verdicts, said, strict=True):
        found[item.group].append(verdict)
        if item.group.startswith("demo,"):
            demos[item.talk] = demos.get(item.talk, True) and verdict
        if declines(text):
            declined.append(item.group == PEOPLES or declines(item.answer["content"]))
    found[DEMO] = [*demos.values()]
    found["don't know, precision"] = declined
    return {name: share(found[name]) for name in sorted(found)}


def declines(text: str) -> bool:
    """Return whether an answer says that it does not know."""
    return any(f" {words} " in plain(text) for words in DECLINES)


def share(verdicts: Sequence[bool]) -> dict[str, float]:
    """Return how many are true, of how many, the share and its interval."""
    low, high = wilson(sum(verdicts), len(verdicts)) if verdicts else (0.0, 1.0)
    mean = sum(verdicts) / max(1, len(verdicts))
    return {"right": sum(verdicts), "of": len(verdicts), "share": mean, "low": low, "high": high}


def overall(scores: dict[str, dict[str, float]]) -> float:
    """Return the mean of the shares, every group alike."""
    return sum(one["share"] for one in scores.values()) / len(scores)


def check(
    model: Path,
    *,
    count: int = COUNT,
    seed: int = 0,
    threads: int | None = None,
    data: Path | None = None,
    sites: int = 0,
) -> dict[str, Any]:
    """Return {scores, wrong} of a model; `wrong` are items with the answer that was given, by group.

    `data`: the folder of data, for people's own wordings. `sites`: for the demo on the kernel.
    """
    engine = open_engine(model, sequences=SEQUENCES, threads=threads)
    some = items(count, seed) + (natural(data, 2 * count, seed) if data else [])
    some += on_the_kernel(engine.tokenizer, engine.context, sites, seed)
    said = ask(engine, some)
    wrong: dict[str, list[dict[str, Any]]] = {}
    for item, text in zip(some, said, strict=True):
        if not right(item.answer, text):
            ideal = {key: value for key, value in item.answer.items() if key not in (*OWN_KEYS, "role")}
            entry = {"asked": item.messages[-1]["content"], "right": ideal, "said": text}
            wrong.setdefault(item.group, []).append(entry)
    return {"scores": score(some, said), "wrong": wrong}


def table(scores: dict[str, dict[str, float]]) -> Table:
    """Return the scores as a table."""
    shown = Table("", "right", "of", "%", "95 %", box=None, pad_edge=False, header_style="dim")
    for column in shown.columns[1:]:
        column.justify = "right"
    for name, one in scores.items():
        interval = f"{100 * one['low']:.0f} to {100 * one['high']:.0f}"
        shown.add_row(name, f"{one['right']:,}", f"{one['of']:,}", f"{100 * one['share']:.1f}", interval)
    return shown


def main() -> int:
    """Check a model, print the table; exit code 0, or that of the error."""
    parser = argparse.ArgumentParser(description="What the model in the box can do.")
    parser.add_argument("model", type=Path, help="a model.gguf")
    parser.add_argument("--count", type=int, default=COUNT, help="conversations of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other items (%(default)s)")
    parser.add_argument("--data", type=Path, help="folder of data, to ask in people's own wordings too")
    parser.add_argument(
        "--sites", type=int, default=SITES, help="of the demo on the kernel (%(default)s; 0 leaves it out)"
    )
    parser.add_argument("--threads", type=int, help="of the CPU (default: all)")
    parser.add_argument("--json", type=Path, help="write scores and wrong answers here")
    parser.add_argument("--show", type=int, default=0, help="so many wrong answers of each kind")
    said = parser.parse_args()
    console = Console()
    try:
        found = check(
            said.model, count=said.count, seed=said.seed, threads=said.threads, data=said.data,
            sites=said.sites,
        )  # fmt: skip
    except TwofoldError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    console.print(table(found["scores"]))
    console.print(f"mean of all lines: {100 * overall(found['scores']):.1f} %")
    for name, some in found["wrong"].items():
        for one in some[: said.show]:
            console.print(f"{name}: {json.dumps(one, ensure_ascii=False)}", markup=False, highlight=False)
    if said.json:
        write_text(said.json, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
