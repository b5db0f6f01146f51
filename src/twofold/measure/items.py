"""What a benchmark asks: the kinds of item, how each is put to a model and how its answer is graded.

A `Scored` item asks how likely continuations are and lets the model write nothing; most benchmarks for base
models are of this kind. An `Asked` item lets it write and looks at the text. Metrics have
lm-evaluation-harness's meanings:

    acc          1 when the right choice has the highest likelihood; for a text that must be completed, when
                 greedy decoding writes it
    acc_norm     the same with each likelihood divided by the number of characters of the choice
    perplexity   of an item -ln p of its ending; of a benchmark the exponential of the mean

`text` is what a leaked benchmark would show: the question and its right answer, without the passage it is
about and without the form of the prompt. Not covered: chat templates around items.
"""

import abc
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twofold.measure.likelihood import Likelihood

Pair = tuple[str, str]
Grades = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Item(abc.ABC):
    """One question of a benchmark.

    `part`: what it is counted under besides the whole. `group`: a sample takes as many of each (default: of
    each part). `head`: what stands before everything, worked examples too.
    """

    text: str
    part: str = ""
    group: str = ""
    head: str = ""

    @property
    def chance(self) -> float | None:
        """What guessing gives on average; None where that is about nothing."""
        return None

    @abc.abstractmethod
    def worked(self) -> str:
        """Return the question with its right answer, as an example before another question."""


@dataclass(frozen=True, kw_only=True)
class Scored(Item):
    """An item that asks for likelihoods."""

    @abc.abstractmethod
    def pairs(self, before: str) -> list[Pair]:
        """Return the (context, continuation) pairs to score; `before` stands in front of each context."""

    @abc.abstractmethod
    def grade(self, answers: Sequence[Likelihood]) -> Grades:
        """Return the metrics of the answers, one for each pair."""


@dataclass(frozen=True, kw_only=True)
class Choice(Scored):
    """A question with choices. `between` stands between the prompt and each of them."""

    prompt: str
    choices: tuple[str, ...]
    gold: int
    between: str = " "

    @property
    def chance(self) -> float:
        """One of the choices."""
        return 1 / len(self.choices)

    def worked(self) -> str:
        """See Item."""
        return self.prompt + self.between + self.choices[self.gold]

    def pairs(self, before: str) -> list[Pair]:
        """See Scored."""
        return [(before + self.prompt, self.between + choice) for choice in self.choices]

    def grade(self, answers: Sequence[Likelihood]) -> Grades:
        """Return acc and acc_norm."""
        by_character = [a.ln_p / len(c) for a, c in zip(answers, self.choices, strict=True)]
        return {
            "acc": float(best([a.ln_p for a in answers]) == self.gold),
            "acc_norm": float(best(by_character) == self.gold),
        }


@dataclass(frozen=True, kw_only=True)
class Label(Choice):
    """A question whose choices are letters or single words, so that their length says nothing: acc only."""

    def grade(self, answers: Sequence[Likelihood]) -> Grades:
        """Return acc."""
        return {"acc": super().grade(answers)["acc"]}


@dataclass(frozen=True, kw_only=True)
class Blank(Scored):
    """A sentence with a blank: the likelihood of what comes after it, given each way to fill it."""

    contexts: tuple[str, ...]
    ending: str
    gold: int

    @property
    def chance(self) -> float:
        """One of the contexts."""
        return 1 / len(self.contexts)

    def worked(self) -> str:
        """See Item."""
        return f"{self.contexts[self.gold]} {self.ending}"

    def pairs(self, before: str) -> list[Pair]:
        """See Scored."""
        return [(before + context, " " + self.ending) for context in self.contexts]

    def grade(self, answers: Sequence[Likelihood]) -> Grades:
        """Return acc."""
        return {"acc": float(best([a.ln_p for a in answers]) == self.gold)}


@dataclass(frozen=True, kw_only=True)
class Ending(Scored):
    """A text with its one right end. `ending` begins with the space that parts it from the prompt."""

    prompt: str
    ending: str

    def worked(self) -> str:
        """See Item."""
        return self.prompt + self.ending

    def pairs(self, before: str) -> list[Pair]:
        """See Scored."""
        return [(before + self.prompt, self.ending)]

    def grade(self, answers: Sequence[Likelihood]) -> Grades:
        """Return acc and perplexity (of one item: nats)."""
        return {"acc": float(answers[0].greedy), "perplexity": -answers[0].ln_p}


@dataclass(frozen=True, kw_only=True)
class Asked(Item):
    """An item that lets the model write, greedily, until one of the strings `until` or `max_tokens`.

    `answer`: what stands in a worked example, and what a right answer may look like.
    """

    prompt: str
    answer: str
    until: tuple[str, ...]
    max_tokens: int = 256

    def worked(self) -> str:
        """See Item."""
        return f"{self.prompt} {self.answer}"

    @abc.abstractmethod
    def grade(self, text: str) -> Grades:
        """Return the metrics of what the model wrote."""


def best(values: Sequence[float]) -> int:
    """Return the place of the highest value, the first of equal ones."""
    return max(range(len(values)), key=values.__getitem__)


def aggregate(metric: str, values: Sequence[float]) -> tuple[float, float]:
    """Return a metric over items and its standard error (0 for a single item).

    The error is the sample's standard deviation over the square root of n; that of a perplexity follows from
    that of its logarithm.
    """
    n = len(values)
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else 0.0
    if metric != "perplexity":
        return mean, error
    value = math.exp(min(mean, 700.0))
    return value, value * error


def letters(choices: Sequence[str]) -> str:
    """Return the choices as lines "A. first", as multiple-choice prompts list them."""
    return "\n".join(f"{chr(65 + n)}. {choice}" for n, choice in enumerate(choices))


def need(record: Mapping[str, object], key: str) -> str:
    """Return a text of a record. Raises TypeError for another kind of value, KeyError for none."""
    value = record[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a text")
    return value


def parted(query: str) -> tuple[str, dict[str, str]]:
    """Return the question of a prompt that lists its answers under letters, and the answers by letter."""
    found = {line[0]: line[3:] for line in query.splitlines() if line[1:3] == ". " and "A" <= line[0] <= "Z"}
    question = re.split(r"\n(?:Choices:\n)?A\. ", query, maxsplit=1)[0]
    return re.sub(r"(?m)^(?:Context|Question|Q):\s*", "", question).strip(), found


def lettered(record: Mapping[str, Any]) -> Label:
    """Return a question whose answers are listed under letters, as llm-foundry's files have it."""
    query, choices, gold = need(record, "query").rstrip(), tuple(record["choices"]), int(record["gold"])
    question, answers = parted(query)
    text = f"{question} {answers.get(choices[gold], '')}".strip()
    return Label(prompt=query, choices=choices, gold=gold, text=text)


def worded(record: Mapping[str, Any]) -> Choice:
    """Return a question of ARC, each of whose answers is judged by how likely its text is."""
    query, choices, gold = need(record, "query").strip(), tuple(record["choices"]), int(record["gold"])
    text = f"{query.removeprefix('Question:').strip()} {choices[gold]}"
    return Choice(prompt=f"{query}\nAnswer:", choices=choices, gold=gold, text=text)
