"""The card of the model in the box: what it read, what it scores, what it says unasked, what it cannot do."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import box_check
import box_data
import box_published

from twofold.base.files import sha256, write_text
from twofold.corpus.formats.jsonl import records
from twofold.corpus.opening import open_bytes
from twofold.environments import word_problems
from twofold.environments._calls import MOST_CALLS, read
from twofold.measure import evaluation
from twofold.measure.bits_per_byte import bits_per_byte
from twofold.parameters import load
from twofold.run import Engine, Sampler
from twofold.run import load as open_engine
from twofold.train.export import spell
from twofold.train.folder import Recipe, read_recipe

BENCHMARKS = ("blimp", "arc_easy", "arc_challenge", "piqa", "winogrande", "openbookqa", "lambada", "boolq")
CARD_SEED = 0
SAMPLING = {"temperature": 0.3, "top_p": 0.9}  # it ships with this advice: it is not sure of much
SUM = "A crate holds 48 bottles. How many are in 37 crates?"
QUESTIONS = (
    ("Hello!",),
    ("Who are you?", "Do you make mistakes?"),
    ("What is 3 + 4?",),
    ("What is the capital of France?",),
    ("What is the opposite of hot?", "Thank you!"),
    ("Tell me a story about a fox.",),
    ("My favourite colour is green.", "What is my favourite colour?"),
    ("What is a lantern?",),
    ("What is the weather today?",),
    ("Where is Port Zindale?",),
    ("What is 478 + 356? /think",),
    ("The school opens at 8:30. It is closed on Friday.\n\nWhen does it open?", "Who works there?"),
    ("I went to the zoo with my sister.", "I saw an old elephant.", "What did I see?"),
)
LIMITS = [
    "It is very small and makes things up: fluent, friendly and often wrong. Believe nothing it says.",
    "Its abilities are measured on names and wordings that it never saw, but of the programs that taught it: "
    "what people ask in their own ways goes wrong more often.",
    "It knows English only, nothing of today, and nothing about you but what you write to it.",
    "It read old books, whose views of people are often those of their time.",
    "Most of its conversations were made by a program, so it is at home in little more than those forms.",
]


def card(life: Any, tuned: dict[str, Any], rounded: Path) -> dict[str, Any]:
    """Return the card of the model in the box: that of its last stage, with data, scores and samples.

    Bits per byte are the base model's, benchmarks the base's and the shipped one's, abilities the latter's.
    """
    made = box_data.build(
        life.data, life.work / "data", tiers=life.tiers, shards=life.shards, talks=life.talks
    )
    others = box_published.published(life.data)
    measured, asked = of_base(life, others)
    checked = box_check.check(
        rounded,
        seed=CARD_SEED,
        threads=life.threads,
        data=life.data,
        sites=box_check.SITES if life.research else 0,
    )["scores"]
    asked = [*asked, *benchmarks(rounded, life.data, others, "as it ships", life.threads)]
    about = describe(life, tuned, made.credits, measured, [*samples(rounded)])
    about["scores"] = [*abilities(checked), *asked, *about["scores"]]
    about["notes"] += box_published.sources([one for one in others if asked])
    return about


def of_base(
    life: Any, others: list[box_published.Published]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the base model's bits per byte and its benchmarks; kept, since the base changes no more."""
    base = life.work / "base/model.gguf"
    made = box_data.once(
        life.work / "base-scores.json",
        {"base": sha256(base)},
        lambda: [
            scores(base.parent, life.work / "data/text/val.jsonl.zst"),
            benchmarks(base, life.data, others, "before tuning", life.threads),
        ],
    )
    return made[0], made[1]


def benchmarks(
    path: Path, data: Path, others: list[box_published.Published], when: str, threads: int | None
) -> list[dict[str, Any]]:
    """Return the scores of BENCHMARKS whose data is there, with what is published of others."""
    names = [name for name in BENCHMARKS if evaluation.available(name, data)]
    engine = open_engine(path, threads=threads, sequences=32)
    found = []
    for name in names:
        task = evaluation.prepare(name, data)
        report = evaluation.evaluate(engine, task, evaluation.Answers({"model": path.stem}))
        score = report.scores[report.headline]
        found.append({
            "name": f"{name} ({report.headline}), {when}", "value": round(100 * score.value, 1),
            "unit": "%", "error": round(100 * score.error, 1), "items": report.items,
            "chance": None if report.chance is None else round(100 * report.chance, 1),
            "others, published": box_published.beside(name, others),
        })  # fmt: skip
    return found


def abilities(checked: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Return what box_check.py measured, as scores of the card."""
    return [
        {
            "name": name, "value": round(100 * one["share"], 1), "unit": "%",
            "95 %": f"{100 * one['low']:.0f} to {100 * one['high']:.0f}", "items": one["of"],
            "split": "held-out names and wordings",
        }
        for name, one in checked.items()
    ]  # fmt: skip


def scores(base: Path, val: Path, limit_bytes: int = 60_000) -> dict[str, float]:
    """Return the base model's bits per byte on whole titles it never read: by source, and `all` together.

    `all` weighs each source by its share of the held-out text.
    """
    texts: dict[str, list[str]] = {}
    with open_bytes(val) as stream:
        for _, row in records(stream, str(val)):
            texts.setdefault(row["source"], []).append(row["text"])
    engine = open_engine(base / "model.gguf")
    found: dict[str, float] = {}
    for source, some in sorted(texts.items()):
        found[source] = bits_per_byte(engine, some, limit_bytes=limit_bytes).bits_per_byte
    sizes = {source: sum(len(text.encode()) for text in some) for source, some in texts.items()}
    found["all"] = sum(found[source] * size for source, size in sizes.items()) / sum(sizes.values())
    return {source: round(value, 4) for source, value in found.items()}


def samples(path: Path) -> Iterator[dict[str, str]]:
    """Return what the model answers to QUESTIONS, and to a sum with a tool, first try, unedited."""
    engine = open_engine(path)
    for questions in QUESTIONS:
        messages: list[dict[str, str]] = []
        for question in questions:
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": answer(engine, messages)})
        *before, last = messages
        prompt = "\n".join(f"{'>' if m['role'] == 'user' else '<'} {m['content']}" for m in before)
        yield {"prompt": f"{prompt}\n< ", "text": last["content"]}
    yield with_calculator(engine)


def with_calculator(engine: Engine) -> dict[str, str]:
    """Return a sum with a calculator on offer, whose results it sees; first try, unedited."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": SUM}]
    shown = [f"(a calculator is on offer)\n> {SUM}"]
    for _ in range(MOST_CALLS):
        said = answer(engine, messages, [word_problems.CALCULATOR])
        call = read(said)
        if call is None:
            return {"prompt": "\n".join(shown) + "\n< ", "text": said}
        got = word_problems.calculator(call[1])
        shown += [f"< {said}", f"= {got}"]
        messages += [{"role": "assistant", "content": said}, {"role": "tool", "content": got}]
    return {"prompt": "\n".join(shown), "text": ""}


def answer(engine: Engine, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    """Return the model's next answer, sampled with a fixed seed; nothing when its window is full."""
    ids = engine.tokenizer.chat(messages, tools=tools, add_generation_prompt=True)
    if len(ids) >= engine.context:
        return ""
    return "".join(engine.stream(ids, max_tokens=200, sampler=Sampler(**SAMPLING, seed=1))).strip()


def describe(
    life: Any,
    tuned: dict[str, Any],
    credits: list[dict[str, str]],
    measured: dict[str, float],
    spoken: list[dict[str, str]],
) -> dict[str, Any]:
    """Return the card, given what is to stand on it."""
    held_out = [
        {"name": "bits per byte (before tuning)", "value": value, "split": f"held-out titles, {source}"}
        for source, value in measured.items()
    ]
    stages = [
        name
        for name in ("base", "tuned", "preferred", "improved")
        if (life.work / name / "recipe.toml").exists()
    ]
    return {
        "name": "twofold-box",
        "summary": "The model in the box of twofold: a very small language model that chats a little, "
        "offline, and makes things up.",
        "license": "MIT",
        "languages": ["en"],
        "sampling": SAMPLING,
        "limits": LIMITS,
        "data": [
            {"name": one["title"], "license": one["licence"], "url": one["source"], "used": one["used"]}
            for one in credits
        ],
        "scores": [*held_out, *tuned.get("scores", [])],
        "samples": spoken,
        "training": {stage: read_recipe(life.work / stage).result for stage in stages},
        "recipe": how_to_repeat(life, stages),
        "notes": ["Made by recipes/box.py; the same command with the same data makes one like it again."],
    }


def how_to_repeat(life: Any, stages: list[str]) -> dict[str, Any]:
    """Return the settings of this life, its plans and the hashes of its data; no paths of this machine."""
    files = [*sorted((life.work / "data/text").iterdir()), *sorted((life.work / "data/talk").iterdir())]
    settings = {
        field.name: getattr(life, field.name)
        for field in dataclasses.fields(life)
        if field.name not in ("data", "out", "work", "until", "remix", "shape", "start")
    }
    return {
        "script": "recipes/box.py",
        "settings": {**settings, **dataclasses.asdict(life.shape)},
        "data_sha256": {path.name: sha256(path) for path in files},
        "plans": {stage: read_recipe(life.work / stage).plan for stage in stages},
        "earlier_bases": [recipe.plan for recipe in earlier(life.start)],
    }


def earlier(start: Path | None) -> Iterator[Recipe]:
    """Return the recipes of the bases that a base went on from, the last first."""
    while start is not None:
        recipe = read_recipe(start)
        yield recipe
        before = recipe.settings.get("start")
        start = Path(before) if before else None


def write(model: Path, page: Path) -> None:
    """Write the card of a model file as Markdown."""
    write_text(page, as_page(load(model).card))


def as_page(card: dict[str, Any]) -> str:
    """Return the card as Markdown. The loss curve stays with the run, so its picture is left out."""
    return spell(card).replace("## Loss\n\n![Loss over steps](loss.svg)\n\n", "")
