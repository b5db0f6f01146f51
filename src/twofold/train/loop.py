"""The training loop: batch, loss, gradients, update; log, evaluate, sample, save.

The same for pretraining and finetuning. What a step does depends on the seed, the plan and the step's number
alone, so a run that was killed goes on from its last checkpoint with the same losses to the last bit (on the
same machine, with the same threads). One thing depends on the clock: when a run with a time budget would come
too late or much too early, its end is moved. That decision is written to `decisions.jsonl` before it counts,
and a resumed run replays it.

After a step comes what is due (a score on held-out text, samples); only then is the step saved. A run that is
stopped before that saves what is still due, and the resumed one does it first.

Under torchrun several processes run this same loop, each on its rows of every batch (parallel.py); the first
one alone writes and speaks.

Not covered: schedules for batch size.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twofold.base import runlog
from twofold.base.errors import TwofoldError
from twofold.base.runlog import RunLog
from twofold.tokens import Tokenizer
from twofold.train import checkpoint
from twofold.train.appointment import Appointment
from twofold.train.data import Data
from twofold.train.display import Screen
from twofold.train.evaluation import Score, Scored, Scorer, sample
from twofold.train.guard import Guard
from twofold.train.keeper import keeper
from twofold.train.parallel import ALONE, Several, SilentLog, Team, losses_told
from twofold.train.schedule import Schedule
from twofold.train.sharding import in_shards, learner
from twofold.train.step import StepPlan, flops_per_token, gradients
from twofold.train.stopping import Stopped, Stopping
from twofold.train.transformer import Transformer

Read = Callable[[Path], checkpoint.State]
SAMPLE_TOKENS = 48


@dataclasses.dataclass(frozen=True)
class Trained:
    """How a run went: its last held-out score, steps, tokens, seconds in the loop, and share of the peak."""

    score: Any
    steps: int
    tokens: int
    elapsed_s: float
    utilisation: float
    samples: list[dict[str, str]]


class Run:
    """One run in its folder: the network, its optimiser, and where it stands."""

    read_score: Callable[[dict[str, Any]], Any] = staticmethod(Score.read)

    def __init__(
        self,
        net: Transformer,
        data: Data,
        held_out: Scorer,
        tokenizer: Tokenizer,
        plan: StepPlan,
        folder: Path,
        screen: Screen,
        prompts: list[list[int]],
        team: Team = ALONE,
    ) -> None:
        """Start at step 0; `resume` goes to the last checkpoint. `prompts`: token ids to sample from."""
        self.team = team
        self.sharded = in_shards(plan.layout, net, team)
        self.learner = learner(net, team, sharded=self.sharded)
        self.net, self.data, self.held_out, self.tokenizer = net, data, held_out, tokenizer
        self.plan, self.folder, self.screen, self.prompts = plan, folder, screen, prompts
        self.optimiser = self.learner.optimiser(plan.optimizer)
        self.schedule = Schedule.of(plan.schedule, plan.steps)
        self.guard = Guard(plan.guard)
        self.keeper = keeper(folder / "checkpoints", plan.saving, self._trouble, team, sharded=self.sharded)
        self.step = 0
        self.shift = 0  # batches left out by going back
        self.went_back: int | None = None  # the step to which, last
        self.due: list[str] = []  # of the step where the run stands
        self.tokens = 0
        self.before_s = 0.0  # spent in earlier sessions of this run
        self._began = time.monotonic()
        self.score: Scored | None = None
        self.samples: list[dict[str, str]] = []
        self.appointment = Appointment(folder, plan, team, screen.decided)

    @property
    def elapsed_s(self) -> float:
        """Seconds in the loop, over all sessions that count."""
        return self.before_s + time.monotonic() - self._began

    def resume(self) -> None:
        """Go to where the run was last saved, if it was, and say so, and how many steps are done again."""
        state = self._fetch(self.keeper.newest)
        if state is None:
            return
        self._take(state)
        self.before_s = state.facts["elapsed_s"]
        again = max((record.get("step", 0) for record in self._records()), default=0) - self.step
        what = "the step after it was" if again == 1 else f"the {again:,} steps after it were"
        lost = f"; {what} not saved, and done again" if again > 0 else ""
        self.screen.say(f"Going on from step {self.step:,}{lost}.")

    def _records(self) -> list[dict[str, Any]]:
        path = self.folder / "metrics.jsonl"
        return runlog.read(path) if path.exists() else []

    def _fetch(self, find: Callable[[Read], checkpoint.State | None]) -> checkpoint.State | None:
        """Return a state that was saved, found and read by `find`, in every process of the team."""
        if not isinstance(self.team, Several):
            return find(checkpoint.load)
        from twofold.train import shards

        return shards.fetch(
            find, lambda: self.state().tensors, self.keeper.folder, self.team, sharded=self.sharded
        )

    def _take(self, state: checkpoint.State) -> None:
        """Become what was saved."""
        facts = state.facts
        try:
            weights = self.net.named()
            with torch.no_grad():
                for name, parameter in weights.items():
                    self.learner.fill(parameter, state.tensors[f"model.{name}"])
            self.optimiser.load_state_dict(_below("optimiser.", state.tensors))
            torch.set_rng_state(state.tensors["rng"])
            self.schedule = Schedule(**facts["schedule"])
            self.tokens = facts["tokens"]
            self.guard.restore(facts.get("guard", {"losses": [], "bad": 0}))  # old runs had no guard
            self.shift, self.went_back = facts.get("shift", 0), facts.get("went_back")
            self.due = facts.get("due", [])
        except (KeyError, RuntimeError, TypeError) as error:
            where = self.folder / "checkpoints"
            raise TwofoldError(f"The checkpoint in {where} is not of this run ({error}).") from error
        self.step = state.step
        for record in self._records():
            if record.get("step", 0) > self.step:
                break
            self.samples = record.get("samples", self.samples)
            self.score = self.read_score(record) or self.score

    def state(self) -> checkpoint.State:
        """Return where the run stands; the tensors are its own, not copies."""
        tensors = {f"model.{name}": parameter.detach() for name, parameter in self.net.named().items()}
        tensors |= {f"optimiser.{name}": tensor for name, tensor in self.optimiser.state_dict().items()}
        tensors["rng"] = torch.get_rng_state()
        anchor = self.step % self.plan.anchor_every == 0 and not self.due
        facts = {
            "tokens": self.tokens,
            "elapsed_s": self.elapsed_s,
            "schedule": dataclasses.asdict(self.schedule),
            "planned_steps": self.plan.steps,
            "data_position": {"next_step": self.step, "epochs": self.step / self.data.epoch_steps},
            "guard": self.guard.state(),
            "shift": self.shift,
            "went_back": self.went_back,
            "due": list(self.due),
            "anchor": anchor,
            "rank": self.score.rank if anchor and self.score else None,
        }
        return checkpoint.State(self.step, tensors, facts)

    def go(self) -> Trained:
        """Train to the end and return how it went.

        Raises Stopped after Ctrl-C or SIGTERM, when everything is saved; TwofoldError when the loss does not
        become a number again, or when the end cannot be saved.
        """
        self._began = time.monotonic()
        fresh = self.step == 0 and not self.due
        if fresh and self.plan.eval_every:
            self.due = ["evaluate"]
        path, resume_step = self.folder / "metrics.jsonl", None if fresh else self.step
        log = RunLog(path, resume_step=resume_step) if self.team.speaks else SilentLog()
        lost = losses_told(self.team, lambda: f"after step {self.step:,}; go on with --resume {self.folder}")
        with lost, log, Stopping(alone=self.team.size == 1) as stopping, self.screen.running(self):
            try:
                self._train(log, stopping)
            except Stopped:
                if not self._saved(log, finished=False):
                    raise TwofoldError(
                        f"Stopped, but step {self.step:,} could not be saved: make room on the disk, and go "
                        f"on from what was saved before with --resume {self.folder}."
                    ) from None
                raise
            finally:
                self.keeper.close()
        return self._trained()

    def _train(self, log: RunLog, stopping: Stopping) -> None:
        at_end = self.step == self.schedule.steps and not self.due
        done = bool(self.team.agree(at_end and self.keeper.has(self.step)))  # this was a finished run
        while True:
            self._do_what_is_due(log, stopping)
            if self.step == self.schedule.steps:
                break
            self.keeper.offer(self.step, self.state, wanted=self._wanted(log), log_error=log.behind)
            stopping.check()
            self.schedule = self.appointment.kept(self.schedule, self.step, self.elapsed_s)
            self._step(log, stopping)
        if not done and not self._saved(log, finished=True):
            raise TwofoldError(
                f"All {self.step:,} steps are done, but the end could not be saved: make room on the disk, "
                f"then finish with --resume {self.folder}."
            )

    def _wanted(self, log: RunLog) -> bool:
        """Return whether there is to be a checkpoint here; all processes agree."""
        anchor = self.step % self.plan.anchor_every == 0
        anchor = anchor and self.step not in checkpoint.anchors(self.keeper.folder)
        return bool(self.team.agree(log.behind is None and (anchor or self.keeper.due(self.step))))

    def _saved(self, log: RunLog, *, finished: bool) -> bool:
        """Save for good; return whether all of it is on the disk."""
        if not self.team.agree(log.catch_up() is None):
            return False
        return self.keeper.save(self.state, finished=finished)

    def _do_what_is_due(self, log: RunLog, stopping: Stopping) -> None:
        while self.due:
            {"evaluate": self._evaluate, "sample": self._sample}[self.due[0]](log, stopping)
            del self.due[0]

    def _step(self, log: RunLog, stopping: Stopping) -> None:
        began = time.perf_counter()
        batch = self.data.batch(self.step + self.shift)
        scale = self.schedule.scale(self.step)
        with stopping.abandoning():
            loss_nats = self._gradients(batch)
        loss_nats, asked = self.team.mean(loss_nats, float(stopping.came))
        stopping.agreed = self.team.size > 1 and asked > 0
        norm, refused = math.nan, self.guard.refuses(loss_nats)
        if refused is None:
            norm = self.optimiser.step(scale)
            refused = None if math.isfinite(norm) else "its gradient is no number"
        self.optimiser.drop_gradients()
        self.step += 1
        self.tokens += batch.size
        self._note_what_is_due()
        seconds = time.perf_counter() - began
        log.write(
            step=self.step,
            loss_nats=loss_nats,
            gradient_norm=norm,
            lr_scale=scale,
            tokens=self.tokens,
            tokens_per_s=batch.size / seconds,
            utilisation=self._utilisation(batch.size / seconds),
            elapsed_s=self.elapsed_s,
            **({} if refused is None else {"skipped": refused}),
        )
        if log.behind is not None and self.keeper.give_room(self.step, log.behind):
            log.catch_up()
        if refused is None:
            self.guard.took(loss_nats)
            self.screen.step(self, loss_nats, batch.size, seconds)
        else:
            self._skip(log, loss_nats, refused)

    def _gradients(self, batch: Any) -> float:
        """Add the gradients of a batch to the parameters; return its loss in nats."""
        return float(gradients(self.net, batch, self.plan.micro_rows, self.learner))

    def _note_what_is_due(self) -> None:
        ends = self.step == self.schedule.steps
        every = {"evaluate": self.plan.eval_every, "sample": self.plan.sample_every}
        self.due = [name for name, steps in every.items() if ends or (steps and self.step % steps == 0)]

    def _skip(self, log: RunLog, loss_nats: float, why: str) -> None:
        """Go on after a batch that was not learned from, or go back when there were too many."""
        self._trouble(f"Step {self.step:,}: the batch was skipped, as {why}.")
        if not self.guard.skipped():
            return
        self.keeper.wait()
        bad, at = self.guard.bad, self.step
        anchors = [s for s in checkpoint.anchors(self.keeper.folder) if s <= at - bad]
        anchor = self.team.agree(anchors[-1] if anchors else -1)
        if anchor >= 0 and anchor != self.went_back:
            state = self._fetch(lambda read: read(checkpoint.place(self.keeper.folder, anchor)))
            assert state is not None
            shift = self.shift + at - state.step
            self._take(state)
            self.shift, self.went_back = shift, state.step
            self.appointment.gone_back()
            self.keeper.back_to(state.step)
            log.back_to(self.step)
            log.write(step=self.step, went_back_from=at, why=why)
            self._trouble(f"{bad} in a row: back to step {self.step:,}, and on with other batches.")
        elif math.isfinite(loss_nats):
            self.guard.forget()
            self._trouble("It stays so with other batches: taken as the new level.")
        else:
            raise TwofoldError(
                f"The loss is no longer a number at step {at:,}, with other batches too; try a smaller "
                "optimizer.muon_lr and optimizer.embedding_lr."
            )

    def _trouble(self, sentence: str) -> None:
        self.screen.say(sentence, "yellow")

    def _utilisation(self, tokens_per_s: float) -> float:
        return tokens_per_s * flops_per_token(self.net.config) / self.plan.peak_flops / self.team.size

    def _evaluate(self, log: RunLog, stopping: Stopping) -> None:
        began = time.perf_counter()
        with stopping.abandoning():
            score = self.held_out.score(self.net, self.learner)
        self.score = score
        log.write(step=self.step, **score.record(), evaluation_s=time.perf_counter() - began)
        self.screen.evaluated(self, self.score)

    def _sample(self, log: RunLog, stopping: Stopping) -> None:
        """Let the model write a little from each prompt, and keep what it wrote."""
        stop = frozenset({*self.tokenizer.stop_ids, self.tokenizer.separator_id})
        samples = []
        with stopping.abandoning():
            for number, prompt in enumerate(self.prompts):
                ids = sample(
                    self.net, prompt, count=SAMPLE_TOKENS, seed=self.plan.seed + number, stop=stop,
                    learner=self.learner,
                )  # fmt: skip
                text = self.tokenizer.decode(ids)
                samples.append({"prompt": self.tokenizer.decode(prompt), "text": text})
        self.samples = samples
        log.write(step=self.step, samples=self.samples)
        self.screen.sampled(self, self.samples)

    def _trained(self) -> Trained:
        records = self._records() if self.team.speaks else []
        shares = [record["utilisation"] for record in records if record.get("utilisation") is not None]
        score = self.score or self.held_out.score(self.net, self.learner)
        middle = sorted(shares)[len(shares) // 2] if shares else 0.0
        return Trained(score, self.step, self.tokens, self.elapsed_s, middle, self.samples)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
