"""Benchmarks put to a model: which questions, with which worked examples, what it answered, and the scores.

A task (tasks/) gives items. A question is an item with what stands before it. What the model is asked
decides a question's key, so answers that are kept in a file fit exactly the same question to the same model
and no other; metrics are computed from the answers when they are wanted.

Worked examples are chosen as lm-evaluation-harness 0.4 chooses them: by Python's random.Random(1234), anew
for each question in turn, or the first ones where a task says so.

Not covered: chat templates around questions, several samples of an answer.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from twofold.base.errors import BadFileError, UsageError
from twofold.base.files import append, write_text
from twofold.measure import records
from twofold.measure.items import Asked, Grades, Item, Scored, aggregate
from twofold.measure.likelihood import Likelihood, Scorer, Written
from twofold.measure.tasks import TASKS

if TYPE_CHECKING:
    from twofold.run import Engine

_SEED = 1234
_CHUNK_S = 5.0  # of likelihoods between two savings, about
_SAVE_S = 1.0  # of writing


@dataclass(frozen=True)
class Question:
    """An item with the text before it, and its key."""

    item: Item
    before: str

    @property
    def key(self) -> str:
        """A digest of all that the model is asked."""
        item = self.item
        if isinstance(item, Scored):
            asked: Any = item.pairs(self.before)
        else:
            assert isinstance(item, Asked)
            asked = [self.before + item.prompt, item.until, item.max_tokens]
        return hashlib.blake2b(json.dumps(asked).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Task:
    """A benchmark that is ready to be asked."""

    name: str
    headline: str
    shots: int
    questions: list[Question]

    @property
    def chance(self) -> float | None:
        """What guessing scores on average, where that is known for every item."""
        chances = [question.item.chance for question in self.questions]
        known = [chance for chance in chances if chance is not None]
        return sum(known) / len(known) if known and len(known) == len(chances) else None


@dataclass(frozen=True)
class Score:
    """A metric over items and its standard error."""

    value: float
    error: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a task. `parts`: items and headline score by part; `cut`: items that did not fit whole."""

    task: str
    shots: int
    items: int
    headline: str
    scores: dict[str, Score]
    chance: float | None
    parts: dict[str, tuple[int, Score]]
    cut: int
    seconds: float
    grades: list[Grades]
    """Of each item, in order."""


# ---- questions


def prepare(name: str, data: Path, *, shots: int | None = None, limit: int | None = None) -> Task:
    """Return the questions of a task from the files in `data`.

    `shots`: worked examples before each, default the task's standard. `limit`: so many items, the first
    ones, as many of each group. Raises UsageError for an unknown task or a missing file, BadFileError for
    what is wrong in one.
    """
    module = TASKS.get(name)
    everything = _items(module, name, module.DATA, data)
    if not everything:
        raise BadFileError(f"The files of {name} in {data} hold no item.")
    chosen = _sample(everything, limit)
    shots = getattr(module, "SHOTS", 0) if shots is None else shots
    return Task(name, module.HEADLINE, shots, list(_questions(module, name, data, everything, chosen, shots)))


def available(name: str, data: Path) -> bool:
    """Return whether all files of a task are there."""
    module = TASKS.get(name)
    examples = getattr(module, "EXAMPLES", ())
    return all(records.find(data, source) for source in (*module.DATA, *examples))


def _items(module: ModuleType, name: str, sources: Sequence[str], data: Path) -> list[Item]:
    found: list[Item] = []
    for source in sources:
        path = records.find(data, source)
        if path is None:
            raise UsageError(
                f"The task {name} needs the file {source}.jsonl (or .jsonl.zst, .jsonl.gz) in {data}, or in "
                "eval/ there."
            )
        for line, record in records.read(path):
            try:
                found += module.items(record, source)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise BadFileError(
                    f"{path}, line {line}: this is no record of {name} ({type(error).__name__}: {error})."
                ) from error
    return found


def _sample(everything: list[Item], limit: int | None) -> list[int]:
    """Return the numbers of the first `limit` items, as many of each group, in their order."""
    if limit is None or limit >= len(everything):
        return list(range(len(everything)))
    groups: dict[str, list[int]] = {}
    for number, item in enumerate(everything):
        groups.setdefault(item.group or item.part, []).append(number)
    rounds = max(len(group) for group in groups.values())
    turns = (group[n] for n in range(rounds) for group in groups.values() if n < len(group))
    return sorted(number for number, _ in zip(turns, range(limit), strict=False))


def _questions(
    module: ModuleType, name: str, data: Path, everything: list[Item], chosen: list[int], shots: int
) -> Iterator[Question]:
    if not shots:
        yield from (Question(everything[number], everything[number].head) for number in chosen)
        return
    sources = getattr(module, "EXAMPLES", None)
    pool = _items(module, name, sources, data) if sources else everything
    first, generator = getattr(module, "FIRST", False), random.Random(_SEED)
    for number in chosen:
        item = everything[number]
        of = [one for one in pool if one.part == item.part] if first else pool
        needed = shots if sources else shots + 1  # one of them may be the question itself
        if len(of) < needed:
            there = len(of) - needed + shots
            raise UsageError(f"The task {name} has {there} worked examples, not {shots}: give fewer --shots.")
        drawn = of if first else generator.sample(of, needed)
        others = [one for one in drawn if one is not item][:shots]
        yield Question(item, item.head + "".join(one.worked() + "\n\n" for one in others))


# ---- answers


@dataclass
class Answers:
    """Answers by key, in memory and, with a path, in a file that grows (JSON Lines).

    The first line says which model answered. A line that was cut off by a crash is dropped.
    """

    model: dict[str, Any]
    path: Path | None = None
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    unsaved: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read what is there, or begin the file. Raises UsageError when it belongs to another model."""
        if self.path is None:
            return
        head = {"twofold_eval": 1, **self.model}
        whole = self._read(self.path, head) if self.path.exists() else []
        for record in whole:
            self.kept[record["key"]] = record
        lines = [head, *whole]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    @staticmethod
    def _read(path: Path, head: dict[str, Any]) -> list[dict[str, Any]]:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        found: list[dict[str, Any]] = []
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                found.append(record if number == 1 else {"key": record["key"], **record})
            except (ValueError, KeyError, TypeError):
                if number == len(lines) and number > 1:
                    break
                raise BadFileError(
                    f"{path}, line {number}: this file holds no answers of twofold eval."
                ) from None
        if not found or not isinstance(found[0], dict) or "twofold_eval" not in found[0]:
            raise BadFileError(f"{path}: this file holds no answers of twofold eval; give another --out.")
        if found[0] != head:
            raise UsageError(
                f"{path} holds the answers of another model or window ({found[0].get('model')}): give "
                "another --out."
            )
        return found[1:]

    def add(self, record: dict[str, Any]) -> None:
        """Take in an answer; `save` puts it into the file."""
        self.kept[record["key"]] = record
        self.unsaved.append(record)

    def save(self) -> None:
        """Add what is new to the file, flushed to the disk."""
        if self.path is not None and self.unsaved:
            append(self.path, "".join(json.dumps(record) + "\n" for record in self.unsaved).encode())
        self.unsaved = []


def fingerprint(path: Path) -> str:
    """Return a digest of a model's file or folder: of its sizes and of a MiB at head, middle and end."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name if path.is_dir() else ''} {size}\n".encode())
        with open(file, "rb") as stream:
            for at in sorted({0, max(0, size // 2 - (1 << 19)), max(0, size - (1 << 20))}):
                stream.seek(at)
                digest.update(stream.read(1 << 20))
    return digest.hexdigest()[:32]


# ---- asking


def evaluate(
    engine: "Engine", task: Task, answers: Answers, progress: Callable[[int], object] | None = None
) -> Report:
    """Return the scores of a task, asking the model what `answers` does not hold.

    `progress` is called with the number of items done. What was asked is saved also when it is interrupted.
    """
    open_ = {question.key: question for question in task.questions if question.key not in answers.kept}
    done = len(task.questions) - len(open_)
    scorer = Scorer(engine)
    tell = progress or (lambda number: None)
    tell(done)
    try:
        scored = [(k, q) for k, q in open_.items() if isinstance(q.item, Scored)]
        for number in _score(scorer, task.name, scored, answers):
            tell(done + number)
        asked = [(k, q) for k, q in open_.items() if isinstance(q.item, Asked)]
        _write(scorer, task.name, asked, answers, lambda number: tell(done + len(scored) + number))
    finally:
        answers.save()
    return _report(task, answers)


def _score(
    scorer: Scorer, task: str, questions: list[tuple[str, Question]], answers: Answers
) -> Iterator[int]:
    """Ask for likelihoods in chunks of some seconds; yield the number of items done after each."""
    at, size = 0, 8
    while at < len(questions):
        chunk = questions[at : at + size]
        start = time.perf_counter()
        pairs = [q.item.pairs(q.before) for _, q in chunk if isinstance(q.item, Scored)]
        found = iter(scorer.likelihoods([pair for item in pairs for pair in item]))
        seconds = time.perf_counter() - start
        for (key, _), item in zip(chunk, pairs, strict=True):
            mine = [next(found) for _ in item]
            answers.add(
                {
                    "key": key,
                    "task": task,
                    "ln_p": [one.ln_p for one in mine],
                    "greedy": [one.greedy for one in mine],
                    "tokens": [one.tokens for one in mine],
                    "cut": max(one.cut for one in mine),
                    "seconds": round(seconds / len(chunk), 6),
                }
            )
        answers.save()
        at += len(chunk)
        yield at
        size = max(1, min(512, int(size * min(4.0, _CHUNK_S / max(seconds, 1e-3)))))


def _write(
    scorer: Scorer,
    task: str,
    questions: list[tuple[str, Question]],
    answers: Answers,
    tell: Callable[[int], object],
) -> None:
    """Let the model write its answers, those with the same ends together."""
    kinds: dict[tuple[tuple[str, ...], int], list[tuple[str, Question]]] = {}
    for key, question in questions:
        assert isinstance(question.item, Asked)
        kinds.setdefault((question.item.until, question.item.max_tokens), []).append((key, question))
    count, last = 0, time.perf_counter()
    for (until, most), group in kinds.items():
        prompts = [q.before + q.item.prompt for _, q in group if isinstance(q.item, Asked)]

        def take(number: int, written: Written, group: list[tuple[str, Question]] = group) -> None:
            nonlocal count, last
            count += 1
            now = time.perf_counter()
            record = {"key": group[number][0], "task": task, "text": written.text, "cut": written.cut}
            answers.add({**record, "seconds": round(now - last, 6)})
            if now - last >= _SAVE_S or len(answers.unsaved) >= 64:
                answers.save()
            last = now
            tell(count)

        scorer.write(prompts, until=until, max_tokens=most, took=take)


def grade(question: Question, record: dict[str, Any]) -> Grades:
    """Return the metrics of a kept answer."""
    item = question.item
    if isinstance(item, Asked):
        return item.grade(record["text"])
    assert isinstance(item, Scored)
    rows = zip(record["ln_p"], record["greedy"], record["tokens"], strict=True)
    return item.grade([Likelihood(*row) for row in rows])


def _report(task: Task, answers: Answers) -> Report:
    kept = [answers.kept[question.key] for question in task.questions]
    grades = [grade(question, record) for question, record in zip(task.questions, kept, strict=True)]
    parts: dict[str, list[float]] = {}
    for question, one in zip(task.questions, grades, strict=True):
        if question.item.part:
            parts.setdefault(question.item.part, []).append(one[task.headline])
    return Report(
        task=task.name,
        shots=task.shots,
        items=len(grades),
        headline=task.headline,
        scores=scores(task.headline, grades),
        chance=task.chance,
        parts={part: (len(of), Score(*aggregate(task.headline, of))) for part, of in sorted(parts.items())},
        cut=sum(record["cut"] > 0 for record in kept),
        seconds=sum(record["seconds"] for record in kept),
        grades=grades,
    )


def scores(headline: str, grades: Sequence[Grades]) -> dict[str, Score]:
    """Return the metrics over items, the headline first."""
    names = [headline, *(name for name in grades[0] if name != headline)]
    return {name: Score(*aggregate(name, [one[name] for one in grades])) for name in names}
