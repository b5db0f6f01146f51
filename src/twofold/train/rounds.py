"""The loop of `improve`: imitation steps if there are any, then rounds of trying and learning from rewards.

A round takes problems, lets the engine write several answers to each (an engine made from the weights as they
are now), asks the task what they are worth, and learns from that. What a step or round does depends on the
seed and its number alone, so a run that was killed goes on as if nothing had happened. The clock only decides
how many rounds there are.

Steps are counted through: first those of imitation, then one for each round.

Not covered: rollouts on a GPU, several processes.
"""

import copy
import dataclasses
import math
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
from twofold.environments import Problem, draw
from twofold.measure.attempts import Attempt, Prompts, Scores, play, scores
from twofold.run import Engine, open_model
from twofold.tokens import Tokenizer
from twofold.train import checkpoint
from twofold.train.examples import Examples
from twofold.train.export import to_model
from twofold.train.keeper import Keeper, Rule
from twofold.train.optimiser import Optimiser, OptimizerConfig
from twofold.train.policy import Method, Packed, Sample, Seen, Surrogate, advantages, pack
from twofold.train.schedule import Schedule
from twofold.train.stopping import Stopped, Stopping
from twofold.train.transformer import Transformer
from twofold.train.watching import Watch

MICRO_TOKENS = 4096  # that go through the network at a time
SEPARATOR = 0  # fills rows behind the last turn; nothing sees it
MODES = ("greedy", "sampled")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """What the steps and rounds of a run do, fixed before the first one.

    `imitation`: the schedule of the imitation steps of `imitate_batch` examples, None if there are none.
    A round takes `problems` × `group` attempts and `updates` steps. `rounds`: how many, None = as many as
    `budget_s` seconds allow.
    """

    method: Method
    seed: int
    imitation: Schedule | None
    imitate_batch: int
    rounds: int | None
    budget_s: float | None
    problems: int
    group: int
    updates: int
    warmup: int
    temperature: float
    max_tokens: int | None
    clip_low: float
    clip_high: float
    kl: float
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


class Rounds:
    """One run of `improve` in its folder: the network, its optimiser, and where it stands."""

    def __init__(
        self, net: Transformer, task: ModuleType, tokenizer: Tokenizer, examples: Examples | None,
        plan: RoundPlan, folder: Path, watch: Watch,
    ) -> None:  # fmt: skip
        """Start at step 0; `resume` goes to where the run was last saved."""
        self.net, self.task, self.tokenizer, self.examples = net, task, tokenizer, examples
        self.plan, self.folder, self.watch = plan, folder, watch
        self.optimiser = self._optimiser(imitating=plan.imitation is not None)
        self.tests = draw(task, plan.test_problems, seed=plan.seed, split="test")
        self.keeper = Keeper(folder / "checkpoints", Rule(), lambda text: watch.say(text, "yellow"))
        self.reference: dict[str, Tensor] = {}  # the weights before the first round, if they are needed
        self._judge: Transformer | None = None  # and the network that holds them
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
            self.optimiser = self._optimiser(imitating=facts["imitating"])
            with torch.no_grad():
                for name, parameter in self.net.named().items():
                    parameter.copy_(found.tensors[f"model.{name}"])
            self.optimiser.load_state_dict(_below("optimiser.", found.tensors))
            self.reference = _below("reference.", found.tensors)
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
        tensors |= {f"optimiser.{name}": tensor for name, tensor in self.optimiser.state_dict().items()}
        tensors |= {f"reference.{name}": tensor for name, tensor in self.reference.items()}
        facts = {
            "imitating": self._imitating, "tokens": self.tokens, "finished": self.finished,
            "elapsed_s": self.elapsed_s, "pace_s": self.pace_s, "evaluation_s": self.evaluation_s, "due": [],
        }  # fmt: skip
        return checkpoint.State(self.step, tensors, facts)

    def _optimiser(self, *, imitating: bool) -> Optimiser:
        self._imitating = imitating
        rates = self.plan.imitation_optimizer if imitating else self.plan.optimizer
        return Optimiser(self.net.named(), rates, compute=self.net.compute)

    # ---- the loop

    def go(self) -> None:
        """Train to the end. Raises Stopped after Ctrl-C or SIGTERM, when everything is saved."""
        self._began = time.monotonic()
        log = RunLog(self.folder / "metrics.jsonl", resume_step=None if self.fresh else self.step)
        with log, Stopping() as stopping, self.watch.running():
            try:
                if self.fresh:
                    self._evaluate(log, stopping)
                while not self._done():
                    self.keeper.offer(self.step, self.state, wanted=self._wanted(), log_error=log.behind)
                    stopping.check()
                    if self.step < self.plan.imitation_steps:
                        self._imitate(log)
                    else:
                        self._round(log, stopping)
                if not self.finished and self._evaluated() != self.step:
                    self._evaluate(log, stopping)
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
        loss_nats, norm = self._supervised(samples, scale)
        self._count(samples)
        seconds = time.perf_counter() - began
        log.write(
            step=self.step, phase="imitation", loss_nats=loss_nats, gradient_norm=norm, lr_scale=scale,
            tokens=self.tokens, tokens_per_s=sum(map(len, samples)) / seconds, elapsed_s=self.elapsed_s,
        )  # fmt: skip
        self.watch.imitated(self, loss_nats)
        if self.step == self.plan.imitation_steps:
            self._evaluate(log)

    def _round(self, log: RunLog, stopping: Stopping) -> None:
        """Try problems, and learn from what the attempts were worth."""
        began = time.perf_counter()
        if self._imitating or (self.plan.kl > 0 and not self.reference):
            self._begin_rounds()
        with stopping.abandoning():  # nothing has changed yet
            attempts = self._attempts()
        tried_s = time.perf_counter() - began
        samples, figures = self._judged(attempts)
        figures |= self._learn(samples)
        self._count(samples)
        pace_s = time.perf_counter() - began
        self.pace_s = pace_s if not self.pace_s else 0.7 * self.pace_s + 0.3 * pace_s
        written = sum(len(turn.answer.ids) for one in attempts for turn in one.turns)
        log.write(
            step=self.step, phase="reward", round=self.round, **figures, answer_tokens=written,
            tokens=self.tokens, rollout_s=tried_s, learning_s=pace_s - tried_s, elapsed_s=self.elapsed_s,
        )  # fmt: skip
        self.watch.tried(self, figures)
        if self.plan.eval_every and self.round % self.plan.eval_every == 0:
            self._evaluate(log)

    def _begin_rounds(self) -> None:
        """Start the optimiser anew, and keep the weights if the run is to stay near them."""
        self.optimiser = self._optimiser(imitating=False)
        if self.plan.kl > 0:
            self.reference = {
                name: parameter.detach().clone() for name, parameter in self.net.named().items()
            }

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
            self.task, repeated, self.engine(), seed=number, temperature=plan.temperature,
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
            if self.plan.method == "expert":
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

    # ---- learning

    def _learn(self, samples: list[Sample]) -> dict[str, float]:
        """Take this round's steps; return its figures."""
        scale = min(1.0, (self.round + 1) / max(1, self.plan.warmup))
        if not samples:
            return {"gradient_norm": 0.0, "lr_scale": scale}
        order = torch.randperm(
            len(samples), generator=torch.Generator().manual_seed(self.plan.seed * 7919 + self.step)
        )
        samples = [samples[index] for index in order.tolist()]
        size = -(-len(samples) // self.plan.updates)
        parts = [samples[start : start + size] for start in range(0, len(samples), size)]
        if self.plan.method == "expert":
            norms = [self._supervised(part, scale) for part in parts]
            return {"answer_loss_nats": norms[0][0], "gradient_norm": norms[-1][1], "lr_scale": scale}
        surrogate, seen, norm = self._surrogate(), Seen(), math.nan
        packed = [list(self._packed(part)) for part in parts]
        for part in packed[1:]:  # those of the first step are computed in it, with the same weights
            for micro in part:
                with torch.no_grad():
                    micro.old_A = surrogate.before(self.net, micro)
        for part in packed:
            tokens = sum(len(micro.advantage_A) for micro in part)
            for micro in part:
                surrogate.loss(self.net, micro, tokens, seen).backward()  # type: ignore[no-untyped-call]
            norm = self._update(scale)
        return {**seen.figures(), "gradient_norm": norm, "lr_scale": scale}

    def _surrogate(self) -> Surrogate:
        plan = self.plan
        if self.reference and self._judge is None:
            self._judge = copy.deepcopy(self.net)
            with torch.no_grad():
                for name, parameter in self._judge.named().items():
                    parameter.copy_(self.reference[name])
        return Surrogate(
            clip_low=plan.clip_low, clip_high=plan.clip_high, kl=plan.kl, temperature=plan.temperature,
            reference=self._judge,
        )  # fmt: skip

    def _packed(self, samples: Sequence[Sample]) -> Sequence[Packed]:
        longest = max(map(len, samples))
        rows = max(1, MICRO_TOKENS // max(128, longest))
        return list(pack(samples, rows=rows, most=self.net.config.context, separator=SEPARATOR))

    def _supervised(self, samples: Sequence[Sample], scale: float) -> tuple[float, float]:
        """Make answers likelier; return their loss in nats per token, and the gradient's norm."""
        tokens = sum(len(sample.answer) for sample in samples)
        total = 0.0
        device = self.net.token_embd.device
        for micro in self._packed(samples):
            ids, targets, documents = (
                torch.from_numpy(array).to(device)
                for array in (micro.batch.ids, micro.batch.targets, micro.batch.documents)
            )
            loss = self.net.loss(ids, targets, documents) / tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total, self._update(scale)

    def _update(self, scale: float) -> float:
        norm = self.optimiser.step(scale)
        if not math.isfinite(norm):
            raise TwofoldError(
                f"The gradient is no number at step {self.step:,}; begin anew with a smaller "
                "optimizer.muon_lr and optimizer.embedding_lr."
            )
        return norm

    # ---- measuring

    def _evaluate(self, log: RunLog, stopping: Stopping | None = None) -> None:
        """Measure on the problems for testing, and write that down."""
        began = time.perf_counter()
        record: dict[str, Any] = {"step": self.step, "phase": "test", "round": self.round}
        engine = self.engine()
        for mode in MODES:
            temperature = self.plan.temperature if mode == "sampled" else 0.0
            done = play(
                self.task, self.tests, engine, seed=self.plan.seed, temperature=temperature,
                max_tokens=self.plan.max_tokens, watch=self.watch.attempts,
            )  # fmt: skip
            record[f"rewards_{mode}"] = [one.reward for one in done]
        self.evaluation_s = time.perf_counter() - began
        log.write(**record, elapsed_s=self.elapsed_s)
        self.watch.tested(self, {mode: scores(record[f"rewards_{mode}"]) for mode in MODES})

    def _evaluated(self) -> int | None:
        """Return the step of the last evaluation."""
        found = evaluations(self.folder)
        return found[-1]["step"] if found else None


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """Return the records of the evaluations of a run, in order: step, round, rewards_greedy, rewards_sampled."""
    path = folder / "metrics.jsonl"
    return [r for r in runlog.read(path) if r.get("phase") == "test"] if path.exists() else []


def teacher_scores(task: ModuleType, tests: Sequence[Problem]) -> Scores:
    """Return what the task's own solver is worth on the same problems."""
    from twofold.environments import attempt

    return scores([attempt(task, problem, task.solve, seed=n).reward for n, problem in enumerate(tests)])


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
