"""The loop of `improve`: imitation steps if there are any, then rounds of trying and learning from rewards.

A round takes problems, lets the engine write several answers to each (an engine made from the weights as they
are now), asks the task what they are worth, and learns from that. What a step or round does depends on the
seed and its number alone, so a run that was killed goes on as if nothing had happened. The clock only decides
how many rounds there are.

Steps are counted through: first those of imitation, then one for each round.

Not covered: rollouts on a GPU, several processes.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from twofold.base import runlog
from twofold.base.errors import TwofoldError
from twofold.base.runlog import RunLog
from twofold.environments import Problem, attempt, draw
from twofold.measure.attempts import Attempt, play, scores
from twofold.run import Engine, open_model
from twofold.tokens import Tokenizer
from twofold.train import checkpoint
from twofold.train.examples import Examples
from twofold.train.export import to_model
from twofold.train.keeper import Keeper, Rule
from twofold.train.optimiser import OptimizerConfig
from twofold.train.policy import Sample, advantages
from twofold.train.reinforce import Learning, Student
from twofold.train.schedule import Schedule
from twofold.train.stopping import Stopped, Stopping
from twofold.train.transformer import Transformer
from twofold.train.watching import Watch

IMITATION_TESTS = 4  # on the way through imitation
MODES = ("greedy", "sampled")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """What the steps and rounds of a run do, fixed before the first one.

    `imitation`: the schedule of the imitation steps of `imitate_batch` examples, None if there are none.
    A round takes `problems` × `group` attempts. `rounds`: how many, None = as many as `budget_s` seconds
    allow. Rates rise over `warmup` rounds, and fall to 0 over the last share `decay` of so many rounds.
    """

    learning: Learning
    seed: int
    imitation: Schedule | None
    imitate_batch: int
    rounds: int | None
    budget_s: float | None
    problems: int
    group: int
    warmup: int
    decay: float
    max_tokens: int | None
    test_problems: int
    eval_every: int
    engine_type: str
    sequences: int
    threads: int
    optimizer: OptimizerConfig
    imitation_optimizer: OptimizerConfig

    @property
    def imitation_steps(self) -> int:
        """How many steps of imitation there are."""
        return self.imitation.steps if self.imitation else 0

    def scale(self, number: int) -> float:
        """Return the factor on all rates in a round, counted from 0."""
        rising = (number + 1) / max(1, self.warmup)
        if self.rounds is None or not self.decay:
            return min(1.0, rising)
        return min(1.0, rising, (self.rounds - number) / (self.decay * self.rounds))


class Rounds:
    """One run of `improve` in its folder: the network, its optimiser, and where it stands."""

    def __init__(
        self, net: Transformer, task: ModuleType, tokenizer: Tokenizer, examples: Examples | None,
        plan: RoundPlan, folder: Path, watch: Watch,
    ) -> None:  # fmt: skip
        """Start at step 0; `resume` goes to where the run was last saved."""
        self.net, self.task, self.tokenizer, self.examples = net, task, tokenizer, examples
        self.plan, self.folder, self.watch = plan, folder, watch
        self.student = Student(net, plan.learning)
        self._rates(imitating=plan.imitation is not None)
        self.tests = draw(task, plan.test_problems, seed=plan.seed, split="test")
        self.keeper = Keeper(folder / "checkpoints", Rule(), lambda text: watch.say(text, "yellow"))
        self.step = 0
        self.tokens = 0
        self.finished = False
        self.fresh = True
        self.before_s = 0.0
        self._began = time.monotonic()
        self.pace_s = 0.0  # of a round, of late
        self.evaluation_s = 0.0  # of the last one

    @property
    def elapsed_s(self) -> float:
        """Seconds in the loop, over all sessions that count."""
        return self.before_s + time.monotonic() - self._began

    @property
    def round(self) -> int:
        """Rounds done."""
        return max(0, self.step - self.plan.imitation_steps)

    # ---- what is kept

    def resume(self) -> bool:
        """Go to where the run was last saved, if it was; return whether."""
        found = self.keeper.newest()
        if found is None:
            return False
        facts, self.fresh = found.facts, False
        try:
            self.step = found.step
            self._rates(imitating=facts["imitating"])
            with torch.no_grad():
                for name, parameter in self.net.named().items():
                    parameter.copy_(found.tensors[f"model.{name}"])
            self.student.optimiser.load_state_dict(_below("optimiser.", found.tensors))
            if reference := _below("reference.", found.tensors):
                self.student.stay_near(reference)
            self.tokens, self.finished = facts["tokens"], facts["finished"]
            self.before_s, self.pace_s = facts["elapsed_s"], facts["pace_s"]
            self.evaluation_s = facts["evaluation_s"]
        except (KeyError, RuntimeError, TypeError) as error:
            where = self.folder / "checkpoints"
            raise TwofoldError(f"The checkpoint in {where} is not of this run ({error}).") from error
        return True

    def state(self) -> checkpoint.State:
        """Return where the run stands; the tensors are its own, not copies."""
        tensors = {f"model.{name}": parameter.detach() for name, parameter in self.net.named().items()}
        kept = {"optimiser": self.student.optimiser.state_dict(), "reference": self.student.reference()}
        tensors |= {f"{part}.{name}": tensor for part, held in kept.items() for name, tensor in held.items()}
        facts = {
            "imitating": self._imitating, "tokens": self.tokens, "finished": self.finished,
            "elapsed_s": self.elapsed_s, "pace_s": self.pace_s, "evaluation_s": self.evaluation_s, "due": [],
        }  # fmt: skip
        return checkpoint.State(self.step, tensors, facts)

    def _rates(self, *, imitating: bool) -> None:
        """Begin a stage with a new optimiser and that stage's rates."""
        self._imitating = imitating
        self.student.begin(self.plan.imitation_optimizer if imitating else self.plan.optimizer)

    # ---- the loop

    def go(self) -> None:
        """Train to the end. Raises Stopped after Ctrl-C or SIGTERM, when everything is saved."""
        self._began = time.monotonic()
        log = RunLog(self.folder / "metrics.jsonl", resume_step=None if self.fresh else self.step)
        with log, Stopping() as stopping, self.watch.running():
            try:
                if self.fresh:
                    self._evaluate(log)
                while not self._done():
                    self.keeper.offer(self.step, self.state, wanted=self._wanted(), log_error=log.behind)
                    stopping.check()
                    if self.step < self.plan.imitation_steps:
                        self._imitate(log)
                    else:
                        self._round(log, stopping)
                if not self.finished and self._evaluated() != self.step:
                    self._evaluate(log)
                self.finished = True
                self._save(log, finished=True)
            except Stopped:
                self._save(log, finished=False)
                raise
            finally:
                self.keeper.close()

    def _wanted(self) -> bool | None:
        """A checkpoint after each round; among steps of imitation when it is time for one."""
        return True if self.round else None

    def _save(self, log: RunLog, *, finished: bool) -> None:
        if log.catch_up() is not None or not self.keeper.save(self.state, finished=finished):
            raise TwofoldError(
                f"Step {self.step:,} could not be saved: make room on the disk, and go on from what was "
                f"saved before with --resume {self.folder}."
            )

    def _done(self) -> bool:
        if self.finished:
            return True
        if self.step < self.plan.imitation_steps:
            return False
        if self.plan.rounds is not None and self.round >= self.plan.rounds:
            return True
        if self.plan.budget_s is None:
            return self.plan.rounds is None
        return self.elapsed_s + self.pace_s + self.evaluation_s > self.plan.budget_s

    def _imitate(self, log: RunLog) -> None:
        """Learn from the next examples."""
        assert self.examples is not None and self.plan.imitation is not None
        began = time.perf_counter()
        scale = self.plan.imitation.scale(self.step)
        samples = self.examples.batch(self.step, self.plan.imitate_batch, self.plan.seed)
        loss_nats, norm = self.student.supervised(samples, scale)
        self._count(samples)
        seconds = time.perf_counter() - began
        log.write(
            step=self.step, phase="imitation", loss_nats=loss_nats, gradient_norm=norm, lr_scale=scale,
            tokens=self.tokens, tokens_per_s=sum(map(len, samples)) / seconds, elapsed_s=self.elapsed_s,
        )  # fmt: skip
        self.watch.imitated(self, loss_nats)
        steps = self.plan.imitation_steps
        if self.step == steps or self.step % max(1, -(-steps // IMITATION_TESTS)) == 0:
            self._evaluate(log)

    def _round(self, log: RunLog, stopping: Stopping) -> None:
        """Try problems, and learn from what the attempts were worth."""
        began = time.perf_counter()
        if self.round == 0:
            self._rates(imitating=False)
            if self.plan.learning.kl > 0:
                self.student.stay_near(self.net.named())
        with stopping.abandoning():  # nothing has changed yet
            attempts = self._attempts()
        tried_s = time.perf_counter() - began
        samples, figures = self._judged(attempts)
        scale = self.plan.scale(self.round)
        figures |= self.student.learn(samples, scale, seed=self.plan.seed * 7919 + self.step)
        self._count(samples)
        pace_s = time.perf_counter() - began
        self.pace_s = pace_s if not self.pace_s else 0.7 * self.pace_s + 0.3 * pace_s
        written = sum(len(turn.answer.ids) for one in attempts for turn in one.turns)
        log.write(
            step=self.step, phase="reward", round=self.round, **figures, lr_scale=scale,
            answer_tokens=written, tokens=self.tokens, rollout_s=tried_s, learning_s=pace_s - tried_s,
            elapsed_s=self.elapsed_s,
        )  # fmt: skip
        self.watch.tried(self, figures)
        if self.plan.eval_every and self.round % self.plan.eval_every == 0:
            self._evaluate(log)

    def _count(self, samples: Sequence[Sample]) -> None:
        self.step += 1
        self.tokens += sum(map(len, samples))

    # ---- trying

    def engine(self) -> Engine:
        """Return an engine with the weights as they are now."""
        return open_model(
            to_model(self.net, self.tokenizer, {"name": "as it is now"}), file_type=self.plan.engine_type,
            threads=self.plan.threads, sequences=self.plan.sequences,
        )  # fmt: skip

    def _attempts(self) -> list[Attempt]:
        """Return the attempts of this round, those at one problem side by side."""
        plan = self.plan
        number = plan.seed * 1_000_003 + self.round + 1
        problems: list[Problem] = draw(self.task, plan.problems, seed=number, split="train")
        repeated = [problem for problem in problems for _ in range(plan.group)]
        return play(
            self.task, repeated, self.engine(), seed=number, temperature=plan.learning.temperature,
            max_tokens=plan.max_tokens, watch=self.watch.attempts,
        )  # fmt: skip

    def _judged(self, attempts: Sequence[Attempt]) -> tuple[list[Sample], dict[str, Any]]:
        """Return what there is to learn from, and the figures of the attempts."""
        group = self.plan.group
        groups = [attempts[start : start + group] for start in range(0, len(attempts), group)]
        samples: list[Sample] = []
        telling = 0
        for members in groups:
            rewards = [one.reward for one in members]
            weights = advantages(rewards)
            if self.plan.learning.method == "expert":
                weights = [float(reward >= 1) for reward in rewards]
            telling += len(set(rewards)) > 1
            for one, weight in zip(members, weights, strict=True):
                for turn in one.turns if weight else []:
                    samples.append(Sample(turn.prompt, turn.answer.ids, turn.answer.log_p, weight))
        turns = [turn for one in attempts for turn in one.turns]
        figures = {
            "reward": sum(one.reward for one in attempts) / len(attempts),
            "solved": sum(one.reward >= 1 for one in attempts) / len(attempts),
            "telling_groups": telling / len(groups),
            "turns": len(turns) / len(attempts),
            "turn_tokens": sum(len(turn.answer.ids) for turn in turns) / max(1, len(turns)),
            "samples": len(samples),
        }
        return samples, figures

    # ---- measuring

    def _evaluate(self, log: RunLog) -> None:
        """Measure on the problems for testing, and write that down."""
        began = time.perf_counter()
        record: dict[str, Any] = {"step": self.step, "phase": "test", "round": self.round}
        engine = self.engine()
        for mode in MODES:
            temperature = self.plan.learning.temperature if mode == "sampled" else 0.0
            done = play(
                self.task, self.tests, engine, seed=self.plan.seed, temperature=temperature,
                max_tokens=self.plan.max_tokens, watch=self.watch.attempts,
            )  # fmt: skip
            record[f"rewards_{mode}"] = [one.reward for one in done]
        self.evaluation_s = time.perf_counter() - began
        log.write(**record, tokens=self.tokens, elapsed_s=self.elapsed_s)
        self.watch.tested(self, {mode: scores(record[f"rewards_{mode}"]) for mode in MODES})

    def _evaluated(self) -> int | None:
        """Return the step of the last evaluation."""
        found = evaluations(self.folder)
        return found[-1]["step"] if found else None


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run's tests, in order: step, round, rewards_greedy, rewards_sampled."""
    path = folder / "metrics.jsonl"
    return [r for r in runlog.read(path) if r.get("phase") == "test"] if path.exists() else []


def solver_rewards(task: ModuleType, tests: Sequence[Problem]) -> list[float]:
    """Return what the task's own solver earns on the same problems."""
    return [attempt(task, problem, task.solve, seed=n).reward for n, problem in enumerate(tests)]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
