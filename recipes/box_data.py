"""The data of the model in the box: what it reads, what it is tuned on, and whom to thank.

    python recipes/box_data.py --data ../shared/data --out runs/box/data

makes, from a folder of data with a MANIFEST.md that states each file's licence class:
- `text/train.jsonl.zst` and `text/val.jsonl.zst`: prose to read, of the tiers that are named, and prose of
  every kind that is held out;
- `talk/*.jsonl`: conversations to tune on, one file per set, most of them made by box_talk.py.
Only files whose class in the manifest is exactly `open` are read. What is there already is kept.

Not covered: conversations to measure with. Those made by a program resemble each other, so a loss measured on
some of them says how well the forms were learned, and nothing about conversation at large.
"""

import argparse
import dataclasses
import hashlib
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import box_calls
import box_chat
import box_devices
import box_dialogues
import box_passages
import box_recalls
import box_rounds
import box_sets
import box_sums
import box_talk
import box_thinking
import box_unknown
import zstandard
from box_turns import Talk
from box_words import Side, words

from twofold.base.errors import BadFileError, TwofoldError, UsageError
from twofold.base.files import atomic_write, write_text
from twofold.corpus.formats.jsonl import records
from twofold.corpus.opening import open_bytes
from twofold.tokens import Tokenizer

SHARDS = [f"pretrain/train-{number:02d}-of-05.jsonl.zst" for number in range(5)]
VAL = "pretrain/val.jsonl.zst"
TIERS = (1, 2, 4)  # simple and easy books, textbooks and speeches; there is more text than budget without 3
EVERY_TIER = (1, 2, 3, 4)
STEPS = 4500  # lines of them, of the talk's demo
TABLES = ("cia-factbook",)  # lists of figures, which are no prose
# How much of what is read in tuning is of each kind.
WEIGHTS = {
    "own": 0.07, "fables": 0.004, "dictionary": 0.011, "reading": 0.015, "trivia": 0.004, "questions": 0.023,
    "calls": 0.053, "sums": 0.038, "rounds": 0.05, "passages": 0.055, "unknown": 0.053, "thinking": 0.023,
    "chats": 0.045, "devices": 0.041, "recalls": 0.04, "plans": 0.095, "readings": 0.23, "text": 0.15,
}  # fmt: skip
# Programs that write conversations, and how many of them for each one of small talk.
PROGRAMS: dict[str, tuple[Callable[[random.Random, Side], Talk], float]] = {
    "calls": (box_calls.talk, 0.6), "sums": (box_sums.talk, 0.6), "rounds": (box_rounds.talk, 0.3),
    "passages": (box_passages.from_passage, 0.6), "unknown": (box_unknown.talk, 0.8),
    "thinking": (box_thinking.talk, 0.6), "chats": (box_chat.talk, 0.5),
    "devices": (box_devices.talk, 0.3), "recalls": (box_recalls.talk, 0.15),
}  # fmt: skip
OWN = {
    "title": "Conversations made by a program",
    "source": "recipes/box_talk.py and its neighbours in twofold",
    "licence": "MIT",
    "used": "small talk, sums, tales, remembering, calls of tools, passages and questions, thinking",
}
# Modules that make no conversations: when they change, those that are there are still good.
APART = ("better", "card", "check", "drills", "published", "research", "stream")
BY_HAND = {"openstax": "(c) OpenStax, Rice University, openstax.org", "eltec": "ELTeC, github.com/COST-ELTeC"}


@dataclasses.dataclass(frozen=True)
class BoxData:
    """Where the data lies.

    `text`: folder for `prepare`; `talk`: folder for `prepare_conversations`; `credits`: {title, source,
    licence, used} of every set.
    """

    text: Path
    talk: Path
    credits: list[dict[str, str]]


def build(
    data: str | Path, out: str | Path, *, tiers: Collection[int] = TIERS, shards: int = 5,
    talks: int = 16_000, seed: int = 0,
) -> BoxData:  # fmt: skip
    """Return the data of the box, written below `out`, or found there from an earlier time.

    `tiers`: of the prose to read, 1 (simplest) to 3, and 4 (textbooks and speeches). `shards`: how many of
    the five. `talks`: how many conversations to make by program. Raises BadFileError for a file that is
    missing or not open.
    """
    data, out = Path(data), Path(out)
    classes = manifest(data)
    sets = [*box_sets.SETS.values(), *box_dialogues.SETS.values()]
    for file in [*SHARDS[:shards], VAL, *(one.file for one in sets)]:
        if classes.get(file) != "open":
            raise BadFileError(
                f"{data / file}: its class in MANIFEST.md is {classes.get(file)!r}, not 'open'."
            )
    sizes = once(
        out / "text.json",
        {"tiers": sorted(tiers), "shards": shards},
        lambda: write_text_files(data, out / "text", SHARDS[:shards], tiers),
    )
    once(
        out / "talk.json",
        {"talks": talks, "seed": seed, "code": code_hash()},
        lambda: write_talk_files(data, out / "talk", talks, seed),
    )
    credits = [*prose_credits(sizes), OWN, *(credit(one) for one in sets)]
    return BoxData(out / "text", out / "talk", credits)


def once(done: Path, settings: dict[str, Any], make: Callable[[], Any]) -> Any:
    """Return what `make` returns, as kept in the file `done` if that was written with the same settings."""
    if done.exists():
        kept = json.loads(done.read_bytes())
        if kept["settings"] == settings:
            return kept["made"]
    made = make()
    write_text(done, json.dumps({"settings": settings, "made": made}, indent=1) + "\n")
    return made


def researched(folder: Path, tokenizer: Tokenizer, *, window: int, steps: int = STEPS) -> list[Path]:
    """Return the files of steps and readings of the talk's demo, made for this tokenizer and window by runs
    on the real kernel (box_research.py), or found there."""
    if not steps:
        return []
    import box_research  # needs the extra [os]

    settings = {
        "window": window, "steps": steps,
        "code": code_hash(("box_[rw]*", "company_*", "demo_*", "talk_*"), without=()),
        "tokens": len(tokenizer.vocabulary.tokens),
    }  # fmt: skip
    made = folder / hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    once(
        made / "made.json", settings, lambda: box_research.write(made, tokenizer, context=window, steps=steps)
    )
    return [made / "plans.jsonl", made / "readings.jsonl"]


def write_text_files(data: Path, folder: Path, files: list[str], tiers: Collection[int]) -> list[list[Any]]:
    """Write the prose; return [source, licence, bytes] of what there is to learn from."""
    sizes: Counter[tuple[str, str]] = Counter()

    def counted() -> Iterator[dict[str, Any]]:
        for row in prose(data, files, tiers):
            sizes[row["source"], row["licence"]] += len(row["text"].encode())
            yield row

    write_rows(folder / "train.jsonl.zst", counted())
    write_rows(folder / "val.jsonl.zst", prose(data, [VAL], EVERY_TIER, without=()))
    return [[source, licence, size] for (source, licence), size in sizes.items()]


def write_talk_files(data: Path, folder: Path, talks: int, seed: int) -> dict[str, int]:
    """Write the conversations, one file per set; return how many each has."""
    words: Counter[str] = Counter()
    for row in prose(data, SHARDS[:1], (1, 2)):
        words.update(re.findall(r"\b[a-z]+\b", row["text"]))
    counts: dict[str, int] = {}
    for name, conversations in talk(data, words, talks, seed):
        write_rows(folder / f"{name}.jsonl", ({"messages": messages} for messages in conversations))
        counts[name] = len(conversations)
    for name, (program, share) in PROGRAMS.items():
        rng = random.Random(f"{name} {seed}")
        counts[name] = max(1, round(share * talks))
        made = (dressed(rng, program(rng, "train")) for _ in range(counts[name]))
        write_rows(folder / f"{name}.jsonl", made)
    return counts


def dressed(rng: random.Random, talk: Talk) -> dict[str, Any]:
    """Return the record of a conversation, now and then after a greeting or with instructions before it."""
    record = talk.conversation().record()
    messages = list(record["messages"])
    if messages[0]["role"] == "system":  # it has its instructions
        return record
    if rng.random() < 0.1:
        asked, answer = box_talk.talk(rng, "hello", "self", "can")
        messages = [*box_sets.messages([(asked, answer)]), *messages]
    if rng.random() < 0.1:
        messages.insert(0, {"role": "system", "content": rng.choice(words("instructions"))})
    return {**record, "messages": messages}


def manifest(data: Path) -> dict[str, str]:
    """Return {file: licence class} from the tables of MANIFEST.md. Raises BadFileError when there is none."""
    path = data / "MANIFEST.md"
    if not path.exists():
        raise BadFileError(f"{path} is missing; it must state the licence class of every file.")
    classes: dict[str, str] = {}
    column: int | None = None
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            column = None
        elif "class" in cells:
            column = cells.index("class")
        elif column is not None and len(cells) > column:
            classes[cells[0]] = cells[column]
    return classes


def prose(
    data: Path, files: list[str], tiers: Collection[int], without: Collection[str] = TABLES
) -> Iterator[dict[str, Any]]:
    """Return the rows of these tiers, but for the sources `without`: {text, source, licence, tier}."""
    for file in files:
        path = data / file
        with open_bytes(path) as stream:
            for _, row in records(stream, str(path)):
                if row["tier"] in tiers and row["source"] not in without:
                    yield {key: row[key] for key in ("text", "source", "licence", "tier")}


def talk(
    data: Path, words: Counter[str], talks: int, seed: int
) -> Iterator[tuple[str, list[list[box_talk.Message]]]]:
    """Return (name, conversations) of every set to tune on. `words`: how common a word is in simple books."""
    yield "own", box_talk.made(talks, seed)
    rng = random.Random(seed + 1)
    for name, turns in (
        ("fables", box_sets.fables(data, rng)),
        ("dictionary", box_sets.dictionary(data, rng, words)),
        ("reading", box_sets.reading(data, rng)),
        ("trivia", box_sets.trivia(data, rng)),
        ("questions", box_sets.questions(data, rng)),
    ):
        yield name, [box_sets.messages(some) for some in turns]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON Lines, compressed when the name ends in `.zst`, atomically."""
    lines = (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    with atomic_write(path) as file:
        if path.suffix == ".zst":
            with zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False) as packed:
                for line in lines:
                    packed.write(line)
        else:
            file.writelines(lines)


def prose_credits(sizes: list[list[Any]]) -> list[dict[str, str]]:
    """Return the credits of the prose, largest first, the many textbooks of one publisher as one."""
    grouped: Counter[tuple[str, str]] = Counter()
    for source, licence, size in sizes:
        grouped["openstax" if source.startswith("openstax") else source, licence] += size
    return [
        {
            "title": "OpenStax textbooks" if source == "openstax" else source,
            "source": next((text for start, text in BY_HAND.items() if source.startswith(start)), source),
            "licence": licence,
            "used": f"prose to read, {size / 1e6:.1f} MB",
        }
        for (source, licence), size in grouped.most_common()
    ]


def credit(one: box_sets.Set) -> dict[str, str]:
    """Return the credit of a set to tune on."""
    return {"title": one.title, "source": one.source, "licence": one.licence, "used": one.used}


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as 1,2,4. Raises UsageError."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--tiers takes numbers such as 1,2,4, not {text!r}.") from None


def code_hash(names: Collection[str] = ("box_*",), without: Collection[str] = APART) -> str:
    """Return a hash of the files that make the data, so that data made by older ones is made again."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(
        path for name in names for end in ("py", "txt") for path in here.glob(f"{name}.{end}")
    ):
        if path.stem not in {f"box_{name}" for name in without}:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def main() -> int:
    """Build the data and say what there is; exit code 0, or that of the error."""
    parser = argparse.ArgumentParser(description="Build the data of the model in the box.")
    parser.add_argument("--data", required=True, help="folder of data with a MANIFEST.md")
    parser.add_argument("--out", default="runs/box/data", help="folder to write to (default: %(default)s)")
    parser.add_argument("--tiers", default="1,2,4", help="of the prose to read (default: %(default)s)")
    parser.add_argument("--shards", type=int, default=5, help="how many shards (default: %(default)s)")
    parser.add_argument(
        "--talks", type=int, default=16_000, help="conversations to make (default: %(default)s)"
    )
    options = parser.parse_args()
    try:
        made = build(
            options.data, options.out, tiers=numbers(options.tiers), shards=options.shards,
            talks=options.talks,
        )  # fmt: skip
    except TwofoldError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    for path in sorted([*made.text.iterdir(), *made.talk.iterdir()]):
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path}")
    for line in made.credits:
        print(f"{line['title']}: {line['licence']} ({line['used']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
