"""Two models on the same items: is the second better, or worse, or is it noise?

Each item (a conversation, a passage) costs a model some nats. Both models are asked about the same items, and
what counts is the difference item by item: most of the spread between items is common to both and drops out
(a paired test). The figure is bits per byte, a ratio of sums; its standard error is that of a ratio estimator
(Cochran, Sampling Techniques, 3rd ed., section 6.4), and 1.96 of them on each side are the interval. With
fewer than 30 items the normal distribution is too hopeful, and Student's is taken instead.

An answer costs what the model needs to write it, the end of its turn included; a passage likewise. Of two
answers of which one is better, it costs to say that one rather than the other. On a benchmark (tasks/) it is
the share of right answers; its error is that of the mean of the differences.
Not covered: more than two models.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twofold.base.errors import UsageError
from twofold.measure.bits_per_byte import bits_per_byte
from twofold.measure.likelihood import Scorer
from twofold.tokens.conversation import Conversation, encode
from twofold.tokens.pair import SIDES, Pair, answer_ids

if TYPE_CHECKING:
    from twofold.run import Engine

GENERAL = "general text"
BITS, RIGHT = "bits per byte", "share right"
TASKS = ("blimp", "arc_easy", "piqa")  # grammar, knowledge, everyday sense; quickly asked
TASK_ITEMS = 400
PAIRS = "comparisons (bits per pair)"
_BATCH = 128  # tokens handed to the engine at once
# Student's t, two-sided 95 %, for 1 to 29 degrees of freedom.
_STUDENT = (
    12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one item costs a model: `nats`, for `bytes` of text."""

    nats: float
    bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of items before and after; `error` is half of the difference's interval.

    None where a single item tells nothing about the spread. `unit`: BITS (fewer are better) or RIGHT.
    """

    name: str
    items: int
    before: float
    after: float
    error: float | None
    unit: str = BITS

    @property
    def difference(self) -> float:
        """After less before."""
        return self.after - self.before

    @property
    def gain(self) -> float:
        """The difference, above 0 where it is better."""
        return -self.difference if self.unit == BITS else self.difference

    @property
    def better(self) -> bool:
        """Whether it is better beyond doubt: the interval lies above 0."""
        return self.error is not None and self.gain - self.error > 0

    def worse(self, margin: float) -> bool:
        """Return whether it is worse beyond doubt and by more than `margin`, a share of what it was.

        Of bits per byte, a share of one bit at least: of its own answers a model is so sure that a share of
        what they cost is next to nothing.
        """
        before = max(self.before, 1.0) if self.unit == BITS else self.before
        return -self.gain > margin * before and -self.gain > (self.error or 0.0)

    def record(self) -> dict[str, float | int | str | None]:
        """Return the row as JSON holds it."""
        return dataclasses.asdict(self)

    def score(self) -> dict[str, float | str]:
        """Return the row as a score of a model's card."""
        name = f"{self.unit}, {self.name}"
        return {
            "name": name,
            "value": round(self.after, 4),
            "before": round(self.before, 4),
            "split": "held out",
        }


HEADINGS = ("bits per byte", "items", "before", "after", "difference")


def spelled(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the rows as people read them, a text per column of HEADINGS."""
    found: list[tuple[str, ...]] = []
    for one in rows:
        name, scale, form, unit = one.name, 1, ".4f", ""
        if one.unit == RIGHT:
            name, scale, form, unit = f"{one.name}, right", 100, ".1f", " %"
        error = f" ± {scale * one.error:{form}}" if one.error is not None else ""
        before, after = (f"{scale * value:{form}}{unit}" for value in (one.before, one.after))
        cells = (before, after, f"{scale * one.difference:+{form}}{error}")
        found.append((name, f"{one.items:,}", *cells))
    return found


def row(name: str, before: Sequence[Cost], after: Sequence[Cost]) -> Row:
    """Return the comparison of two models' costs of the same items. Raises UsageError when there are none."""
    if not before or len(before) != len(after):
        raise UsageError(f"There is nothing to compare on: {name}.")
    bits = 1 / math.log(2)
    size = np.array([cost.bytes for cost in before], float)
    first, second = (np.array([cost.nats for cost in costs]) * bits for costs in (before, after))
    gain = second - first
    ratio, n = float(gain.sum() / size.sum()), len(size)
    error = None
    if n > 1:
        spread = float(np.sqrt(n / (n - 1) * np.square(gain - ratio * size).sum()) / size.sum())
        error = (_STUDENT[n - 2] if n <= len(_STUDENT) + 1 else 1.96) * spread
    was = float(first.sum() / size.sum())
    return Row(name=name, items=n, before=was, after=was + ratio, error=error)


def of_task(before: "Engine", after: "Engine", name: str, data: Path, items: int = TASK_ITEMS) -> Row:
    """Return the comparison on the first `items` questions of a benchmark, whose files are in `data`.

    The engines need two sequences or more. Raises UsageError and BadFileError as evaluation.prepare does.
    """
    from twofold.measure.evaluation import Answers, evaluate, prepare

    task = prepare(name, data, limit=items)
    first, second = (evaluate(engine, task, Answers({})) for engine in (before, after))
    right = [[one[task.headline] for one in report.grades] for report in (first, second)]
    gain = np.subtract(right[1], right[0])
    error = 1.96 * float(gain.std(ddof=1)) / math.sqrt(len(gain)) if len(gain) > 1 else None
    was, now = (float(np.mean(some)) for some in right)
    return Row(name=name, items=len(gain), before=was, after=now, error=error, unit=RIGHT)


def tasks_at_hand(names: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the folder of benchmarks, and which of them lie there; None and nothing without a folder."""
    from twofold.measure import evaluation, records

    try:
        place = records.folder(None)
    except UsageError:
        return None, []
    return place, [name for name in names if evaluation.available(name, place)]


def of_answers(engine: "Engine", conversations: Sequence[Conversation]) -> list[Cost]:
    """Return what the assistant's words cost the model, conversation by conversation.

    A conversation longer than the model's window is read as far as it goes.
    """
    costs = []
    for conversation in conversations:
        ids, mask = encode(conversation, engine.tokenizer)
        ids, mask = ids[1 : engine.context + 1], mask[1 : engine.context + 1]
        wanted = np.array([*mask[1:], 0], bool)
        nats = 0.0
        for at in range(0, len(ids) - 1, _BATCH):
            tokens = ids[at : at + _BATCH]
            positions = np.arange(at, at + len(tokens))
            chosen = wanted[positions]
            logits_NV = engine.forward(tokens, np.zeros(len(tokens)), positions, chosen)
            targets = np.asarray(ids)[positions[chosen] + 1]
            nats += sum(_cost(logits, target) for logits, target in zip(logits_NV, targets, strict=True))
        costs.append(Cost(nats, max(1, conversation.learned_bytes)))
    return costs


def of_passages(engine: "Engine", passages: Sequence[str]) -> list[Cost]:
    """Return what each passage of plain text costs the model."""
    scores = [bits_per_byte(engine, [passage]) for passage in passages]
    return [Cost(score.nats, score.bytes) for score in scores]


def of_pairs(engine: "Engine", pairs: Sequence[Pair]) -> list[Cost]:
    """Return what it costs the model to say the better of two answers, given that it says one of them.

    −ln p(chosen)/(p(chosen) + p(rejected)) for each pair, over one "byte", so that the figure is per pair.
    """
    texts = [answer_ids(pair.conversation(side), engine.tokenizer) for pair in pairs for side in SIDES]
    ln_p = np.array([one.ln_p for one in Scorer(engine).of_tokens(texts)]).reshape(-1, 2)
    return [Cost(float(nats), 1) for nats in np.logaddexp(0, ln_p[:, 1] - ln_p[:, 0])]


def general_text() -> list[str]:
    """Return passages of public-domain English that no recipe here trains on, about 40 kB."""
    found: list[str] = json.loads((resources.files("twofold.measure") / "prose.json").read_text("utf-8"))[
        "passages"
    ]
    return found


def compare(
    before: "Engine",
    after: "Engine",
    conversations: dict[str, list[Conversation]],
    *,
    pairs: Sequence[Pair] = (),
    most: int = 400,
    text: Sequence[str] | None = None,
    tasks: Sequence[str] = (),
    progress: Callable[[str], object] | None = None,
) -> list[Row]:
    """Return a row per kind of conversation, one for pairs if there are any, one for general text, and one
    for each benchmark at hand.

    `most`: conversations of each kind and pairs, the first ones. `text`: passages instead of the general
    ones. `tasks`: benchmarks; the engines need two sequences for them. `progress` hears what is being
    measured.
    """
    rows = []
    for name, some in conversations.items():
        if not some:
            continue
        if progress is not None:
            progress(name)
        both = [of_answers(engine, some[:most]) for engine in (before, after)]
        rows.append(row(name, *both))
    if pairs:
        rows.append(row(PAIRS, *(of_pairs(engine, pairs[:most]) for engine in (before, after))))
    if progress is not None:
        progress(GENERAL)
    passages = general_text() if text is None else text
    rows.append(row(GENERAL, *(of_passages(engine, passages) for engine in (before, after))))
    place, there = tasks_at_hand(tasks)
    for name in there:
        if progress is not None:
            progress(name)
        assert place is not None
        rows.append(of_task(before, after, name, place))
    return rows


def _cost(logits_V: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", target: int) -> float:
    """Return -ln p of the target."""
    shifted = (logits_V - logits_V.max()).astype(np.float64)
    return float(np.log(np.exp(shifted).sum()) - shifted[int(target)])
