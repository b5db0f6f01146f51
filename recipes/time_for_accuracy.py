"""Time for accuracy: what an answer costs, and how often it is right.

    python recipes/time_for_accuracy.py --seeds 3 --out runs/time-for-accuracy

For each seed and task a fresh model of 0.5 to 0.9M parameters learns by imitation for some minutes, and is
then asked problems that it never trained on, with budgets that double. `countdown`: a checker tells a right
answer from a wrong one without knowing it. `connect4`: a game against a teacher who looks one stone ahead;
search knows the rules and not the teacher. `multiplication`: nothing tells a right answer, but the model
thinks before it answers, and answers can vote (asked for by --tasks). Beside the policy's own way
(twofold/think) stand others at the same budget, so that it is seen what turns time into accuracy: the
likeliest answer, a vote, the likeliest of many, the best of many by the checker, search without the model,
thoughts without a vote.

The same command after a crash or Ctrl-C goes on. `curve.png` and `table.md` lie in --out, and the table is
printed. A seed of countdown takes about five minutes of one core.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pass_the_teacher
from rich.console import Console
from time_for_accuracy_shown import GREEDY, Cell, plot, pooled, seconds, table

from twofold.base import files
from twofold.base.errors import TwofoldError
from twofold.environments import TASKS, Episode, Problem, draw
from twofold.measure.attempts import Prompts
from twofold.run import Engine, Sampler, load
from twofold.think import Budget, Meter, Question, ask, think
from twofold.think.games import GameSearch, ModelLiking, Position

WIDTH = 16  # answers side by side
ENOUGH = 10_000  # tokens, for one answer alone
PART = 50  # problems that are measured in one piece


@dataclass(frozen=True)
class Domain:
    """A task: how many examples a model imitates, budgets in tokens, problems, and the ways to answer.

    The first way is the policy's own. `greedy`, without a budget, is asked once.
    """

    task: str
    imitate: int
    budgets: tuple[int, ...]
    problems: int
    ways: tuple[str, ...]
    layers: int = 4


ALL = (
    Domain(
        "countdown", 20_000, (25, 50, 100, 200, 400, 800), 200,
        ("tree search, checked", "best of n, checked", "vote", "likeliest of n"),
    ),
    Domain(
        "connect4", 100_000, (200, 400, 800, 1600, 3200), 100, ("tree search", "search without the model"),
        layers=2,
    ),
    Domain(
        "multiplication", 40_000, (16, 32, 64, 128, 256), 200, ("thoughts and a vote", "thoughts alone")
    ),
)  # fmt: skip
DOMAINS = {domain.task: domain for domain in ALL}
USUAL = "countdown,connect4"


@dataclass(frozen=True)
class Study:
    """What is run."""

    out: Path
    seeds: int
    domains: tuple[Domain, ...]
    width: int = 128
    threads: int | None = None
    layers: int | None = None  # instead of the task's own


def learned(study: Study, domain: Domain, seed: int, console: Console) -> Path:
    """Return a model that has imitated the task's solver; from wherever its run stands."""
    given = pass_the_teacher.Study(
        task=domain.task, out=study.out / domain.task, seeds=study.seeds, time=None, rounds=0,
        imitate=domain.imitate, tests=50, layers=study.layers or domain.layers, width=study.width,
        threads=study.threads,
    )  # fmt: skip
    return pass_the_teacher.life(given, seed, console) / "model.gguf"


class Results:
    """What was measured, a line a cell, so that nothing is measured twice."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a line that a crash has cut is passed over."""
        self._path = path
        self.cells: list[Cell] = []
        text = path.read_text("utf-8") if path.exists() else ""
        if text and not text.endswith("\n"):
            files.append(path, b"\n")
        for line in text.splitlines():
            try:
                self.cells.append(json.loads(line))
            except ValueError:
                continue

    def find(self, what: Cell) -> Cell | None:
        """Return the cell that is `what`, if it was measured."""
        return next((cell for cell in self.cells if what.items() <= cell.items()), None)

    def add(self, cell: Cell) -> Cell:
        """Keep a cell, and return it."""
        self.cells.append(cell)
        files.append(self._path, (json.dumps(cell) + "\n").encode())
        return cell


class Asker:
    """Puts problems to a model in one way with one budget."""

    def __init__(self, engine: Engine, task: ModuleType, way: str, budget: Budget, seed: int) -> None:
        """Get ready."""
        self._engine, self._task, self._way, self._budget, self._seed = engine, task, way, budget, seed
        self._prompts = Prompts(engine.tokenizer)
        self.tokens, self.seconds, self.answers = 0, 0.0, 0

    def play_all(self, problems: list[Problem], first: int) -> Cell:
        """Return the rewards at problems, numbered from `first`, and what all the answers took."""
        rewards = [self.play(problem, number) for number, problem in enumerate(problems, first)]
        took = {"tokens": self.tokens, "seconds": self.seconds, "answers": self.answers}
        return {"rewards": rewards, **took}

    def play(self, problem: Problem, number: int) -> float:
        """Return what an attempt at a problem is worth."""
        episode: Episode = self._task.begin(problem, self._seed * 1000 + number)
        while not episode.done:
            began = time.perf_counter()
            answer, tokens = self._answer(episode, self._seed * 100_003 + number * 101 + self.answers)
            self.seconds += time.perf_counter() - began
            self.tokens += tokens
            self.answers += 1
            episode.take(answer)
        return episode.reward

    def _answer(self, episode: Episode, seed: int) -> tuple[str, int]:
        """Return an answer, and what it cost in tokens."""
        text = episode.messages[-1]["content"]
        question = ask(text, self._prompts.ids(episode), self._prompt)
        if self._way == "search without the model":
            return self._blind(question, seed)
        method = {GREEDY: "greedy", "thoughts alone": "greedy", "vote": "vote"}.get(self._way, "auto")
        if "of n" in self._way:
            method = "best"
        if "check" not in self._way and question.verifier is not None:
            question = Question(question.ids)
        found = think(
            self._engine, question, self._budget, sampler=Sampler(temperature=1.0, seed=seed),
            max_tokens=self._task.ANSWER_TOKENS, stop_ids=self._engine.tokenizer.stop_ids, method=method,
        )  # fmt: skip
        return found.text, found.tokens

    def _prompt(self, text: str) -> list[int]:
        return self._prompts.ids(Episode(Problem(text, "", {})))

    def _blind(self, question: Question, seed: int) -> tuple[str, int]:
        """Return the move of the same search where what the model likes is asked, but not looked at."""
        assert question.position is not None
        meter = Meter(self._budget)
        liking = ModelLiking(self._engine, self._prompt, meter)

        def alike(positions: Sequence[Position]) -> list[list[float]]:
            return [[1 / len(likes)] * len(likes) for likes in liking(positions)]

        search = GameSearch(question.position, alike, meter, seed=seed)
        while not meter.over and not search.done:
            search.step()
        return search.best()[0], meter.tokens


def measure(given: Study, domain: Domain, seed: int, results: Results, console: Console) -> None:
    """Let a model learn a task, and ask it in all ways with all budgets."""
    console.print(f"Seed {seed} of {given.seeds}, {domain.task}")
    began = time.monotonic()
    model = learned(given, domain, seed, console)
    task = TASKS.get(domain.task)
    problems = draw(task, domain.problems, seed=seed, split="test")
    engine = load(model, threads=given.threads, sequences=2 * WIDTH + 1)
    console.print(f"  learned after {time.monotonic() - began:.0f} s", highlight=False)
    for way, budget in [
        (GREEDY, ENOUGH),
        *((way, budget) for way in domain.ways for budget in domain.budgets),
    ]:
        cells = []
        for start in range(0, len(problems), PART):
            what = {"task": domain.task, "seed": seed, "way": way, "budget": budget, "from": start}
            asker = Asker(engine, task, way, Budget(tokens=budget), seed)
            part = problems[start : start + PART]
            cells.append(results.find(what) or results.add(what | asker.play_all(part, start)))
        share, ms = pooled(cells)[0], 1000 * seconds(cells)
        text = f"  {way}, {budget:,} tokens: {share:.1f} %, {ms:.1f} ms an answer"
        console.print(text, highlight=False)
    console.print(f"  {time.monotonic() - began:.0f} s", style="dim", highlight=False)


def study(given: Study, console: Console) -> str:
    """Return the tables of all seeds; tables and curves lie in the folder."""
    given.out.mkdir(parents=True, exist_ok=True)
    results = Results(given.out / "results.jsonl")
    names = [domain.task for domain in given.domains]
    for seed in range(given.seeds):
        for domain in given.domains:
            measure(given, domain, seed, results, console)
        text = "\n".join(table(name, results.cells) for name in names)  # after each, for the impatient
        files.write_text(given.out / "table.md", text)
        plot(names, results.cells, given.out / "curve.png")
    return text


def main() -> int:
    """Run the study; exit code 0, or that of the error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/time-for-accuracy"), help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--tasks", default=USUAL, help=f"of {', '.join(DOMAINS)} (%(default)s)")
    parser.add_argument("--threads", type=int, help="default: all cores")
    options = vars(parser.parse_args())
    names = options.pop("tasks").split(",")
    if unknown := [name for name in names if name not in DOMAINS]:
        parser.error(f"there is no task {unknown[0]!r}: choose among {', '.join(DOMAINS)}")
    try:
        given = Study(**options, domains=tuple(DOMAINS[name] for name in names))
        print(study(given, Console(stderr=True)))
    except KeyboardInterrupt:
        return 130
    except TwofoldError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
