"""The training loop: batch, loss, gradients, update; log, evaluate, sample, save.

The same for pretraining and finetuning. What a step does depends on the seed, the plan and the step's number
alone, so a run that was killed goes on from its last checkpoint with the same losses to the last bit (on the
same machine, with the same threads). One thing depends on the clock: when a run with a time budget would come
too late or much too early, its end is moved. That decision is written to `decisions.jsonl` before it counts,
and a resumed run replays it.

Not covered: more than one device.
"""

import contextlib
import dataclasses
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twofold.base import runlog
from twofold.base.errors import TwofoldError
from twofold.base.runlog import RunLog
from twofold.parameters import ModelConfig
from twofold.tokens import Tokenizer
from twofold.train import checkpoint
from twofold.train.data import Batch, Data
from twofold.train.display import Screen
from twofold.train.evaluation import HeldOut, Score, sample
from twofold.train.optimiser import Optimiser, OptimizerConfig
from twofold.train.schedule import Schedule, ScheduleConfig
from twofold.train.transformer import Transformer

SAMPLE_TOKENS = 48
OVERRUN = 1.03  # a run may come this much too late before its end is moved forward …
IDLE = 0.90  # … and this much too early before it is moved back
SCORE_KEYS = ("val_loss_nats", "bits_per_byte", "val_tokens", "val_bytes")
LOOKS = 50  # how often in a run the clock is looked at


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What every step of a run does, fixed before the first one.

    `rows` × `context` tokens a step, `micro_rows` at a time. `compute`: dtype of the products. `peak_flops`:
    what the machine does per second in large products of that dtype. `budget_s`: seconds the steps may take,
    evaluation included; None = as long as it takes. `most_steps`: the end is never moved beyond.
    `eval_every` and `sample_every` are steps, 0 = only at the end.
    """

    steps: int
    rows: int
    micro_rows: int
    context: int
    seed: int
    device: str
    compute: str
    threads: int
    peak_flops: float
    budget_s: float | None
    most_steps: int
    eval_every: int
    sample_every: int
    checkpoint_s: float
    checkpoint_steps: int
    optimizer: OptimizerConfig
    schedule: ScheduleConfig


@dataclasses.dataclass(frozen=True)
class Trained:
    """How a run went: its last held-out score, steps, tokens, seconds in the loop, and share of the peak."""

    score: Score
    steps: int
    tokens: int
    elapsed_s: float
    utilisation: float
    samples: list[dict[str, str]]


class Stopped(KeyboardInterrupt):
    """The user stopped the run; everything is saved."""


def set_up(plan: StepPlan) -> torch.dtype:
    """Set threads and the float environment as the plan says; return the dtype of the products."""
    torch.set_num_threads(plan.threads)
    torch.set_flush_denormal(True)
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[plan.compute]


def flops_per_token(config: ModelConfig) -> float:
    """Return the floating-point operations to learn from one token: forward, and twice that backward.

    Counts products with the weights (two operations per weight; looking up an embedding is none) and the
    half of attention that causality leaves.
    """
    lookups = config.vocab_size * config.width * (0 if config.tied else 1)
    attention = config.layers * config.heads * config.head_dim * config.context
    return 6.0 * (config.parameters - lookups + attention)


def gradients(net: Transformer, batch: Batch, micro_rows: int) -> Tensor:
    """Add the gradients of a batch's mean loss to the parameters; return that loss in nats."""
    device = net.token_embd.device
    counted = max(1, batch.counted)
    total = torch.zeros((), device=device)
    for start in range(0, len(batch.ids), micro_rows):
        rows = slice(start, start + micro_rows)
        ids, targets, documents = (
            torch.from_numpy(array[rows]).to(device) for array in (batch.ids, batch.targets, batch.documents)
        )
        loss = net.loss(ids, targets, documents) / counted
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


class Run:
    """One run in its folder: the network, its optimiser, and where it stands."""

    def __init__(
        self,
        net: Transformer,
        data: Data,
        held_out: HeldOut,
        tokenizer: Tokenizer,
        plan: StepPlan,
        folder: Path,
        screen: Screen,
        prompts: list[list[int]],
    ) -> None:
        """Start at step 0; `resume` goes to the last checkpoint. `prompts`: token ids to sample from."""
        self.net, self.data, self.held_out, self.tokenizer = net, data, held_out, tokenizer
        self.plan, self.folder, self.screen, self.prompts = plan, folder, screen, prompts
        self.optimiser = Optimiser(net.named(), plan.optimizer, compute=net.compute)
        self.schedule = Schedule.of(plan.schedule, plan.steps)
        self.step = 0
        self.tokens = 0
        self.before_s = 0.0  # spent in earlier sessions of this run
        self._began = time.monotonic()
        self._marks: list[tuple[int, float]] = []
        self.score: Score | None = None
        self.samples: list[dict[str, str]] = []
        self.decisions = read_decisions(folder)

    @property
    def elapsed_s(self) -> float:
        """Seconds in the loop, over all sessions that count."""
        return self.before_s + time.monotonic() - self._began

    def resume(self) -> bool:
        """Go to the last checkpoint if there is one; return whether there is."""
        state = checkpoint.load_latest(self.folder / "checkpoints")
        if state is None:
            return False
        try:
            weights = self.net.named()
            with torch.no_grad():
                for name, parameter in weights.items():
                    parameter.copy_(state.tensors[f"model.{name}"])
            self.optimiser.load_state_dict(_below("optimiser.", state.tensors))
            torch.set_rng_state(state.tensors["rng"])
            self.schedule = Schedule(**state.facts["schedule"])
            self.tokens, self.before_s = state.facts["tokens"], state.facts["elapsed_s"]
        except (KeyError, RuntimeError, TypeError) as error:
            where = self.folder / "checkpoints"
            raise TwofoldError(f"The checkpoint in {where} is not of this run ({error}).") from error
        self.step = state.step
        for record in runlog.read(self.folder / "metrics.jsonl"):
            if record.get("step", 0) > self.step:
                break
            self.samples = record.get("samples", self.samples)
            if "bits_per_byte" in record:
                self.score = Score(*(record[key] for key in SCORE_KEYS))
        return True

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {f"model.{name}": parameter.detach() for name, parameter in self.net.named().items()}
        tensors |= {f"optimiser.{name}": tensor for name, tensor in self.optimiser.state_dict().items()}
        facts = {
            "tokens": self.tokens,
            "elapsed_s": self.elapsed_s,
            "schedule": dataclasses.asdict(self.schedule),
            "planned_steps": self.plan.steps,
            "data_position": {"next_step": self.step, "epochs": self.step / self.data.epoch_steps},
        }
        tensors["rng"] = torch.get_rng_state()
        checkpoint.save_state(self.folder / "checkpoints", checkpoint.State(self.step, tensors, facts))

    def go(self) -> Trained:
        """Train to the end and return how it went.

        Raises Stopped after Ctrl-C, when everything is saved; TwofoldError when the loss is no number.
        """
        self._began = time.monotonic()
        fresh = self.step == 0
        log = RunLog(self.folder / "metrics.jsonl", resume_step=None if fresh else self.step)
        with log, _interruptible() as stopped, self.screen.running(self):
            if fresh and self.plan.eval_every:
                self._evaluate(log)
            saved_s = time.monotonic()
            while self.step < self.schedule.steps:
                self._decide()
                self._step(log)
                ends = self.step == self.schedule.steps
                if ends or (self.plan.eval_every and self.step % self.plan.eval_every == 0):
                    self._evaluate(log)
                if ends or (self.plan.sample_every and self.step % self.plan.sample_every == 0):
                    self._sample(log)
                steps = self.plan.checkpoint_steps
                due = (
                    self.step % steps == 0 if steps else time.monotonic() - saved_s >= self.plan.checkpoint_s
                )
                if due or ends or stopped():
                    self.save()
                    saved_s = time.monotonic()
                if stopped() and not ends:
                    raise Stopped
        return self._trained()

    def _step(self, log: RunLog) -> None:
        began = time.perf_counter()
        batch = self.data.batch(self.step)
        scale = self.schedule.scale(self.step)
        loss_nats = float(gradients(self.net, batch, self.plan.micro_rows))
        if not math.isfinite(loss_nats):
            raise TwofoldError(
                f"The loss is no longer a number at step {self.step + 1}; try a smaller optimizer.muon_lr "
                "and optimizer.embedding_lr."
            )
        norm = self.optimiser.step(scale)
        self.step += 1
        self.tokens += batch.ids.size
        seconds = time.perf_counter() - began
        log.write(
            step=self.step,
            loss_nats=loss_nats,
            gradient_norm=norm,
            lr_scale=scale,
            tokens=self.tokens,
            tokens_per_s=batch.ids.size / seconds,
            utilisation=self._utilisation(batch.ids.size / seconds),
            elapsed_s=self.elapsed_s,
        )
        self.screen.step(self, loss_nats, batch.ids.size, seconds)

    def _utilisation(self, tokens_per_s: float) -> float:
        return tokens_per_s * flops_per_token(self.net.config) / self.plan.peak_flops

    def _evaluate(self, log: RunLog) -> None:
        began = time.perf_counter()
        self.score = self.held_out.score(self.net)
        facts = dict(zip(SCORE_KEYS, dataclasses.astuple(self.score), strict=True))
        log.write(step=self.step, **facts, evaluation_s=time.perf_counter() - began)
        self.screen.evaluated(self, self.score)

    def _sample(self, log: RunLog) -> None:
        """Let the model write a little from each prompt, and keep what it wrote."""
        stop = frozenset({*self.tokenizer.stop_ids, self.tokenizer.special_id("<|endoftext|>")})
        self.samples = []
        for number, prompt in enumerate(self.prompts):
            ids = sample(self.net, prompt, count=SAMPLE_TOKENS, seed=self.plan.seed + number, stop=stop)
            self.samples.append({"prompt": self.tokenizer.decode(prompt), "text": self.tokenizer.decode(ids)})
        log.write(step=self.step, samples=self.samples)
        self.screen.sampled(self, self.samples)

    def _decide(self) -> None:
        """Move the end of the run when it would come too late or much too early, or as was decided before."""
        for decision in self.decisions:
            if decision["step"] == self.step and decision["steps"] != self.schedule.steps:
                self.schedule = self.schedule.end_at(self.step, decision["steps"])
        if self.plan.budget_s is None or self.step % max(1, self.plan.steps // LOOKS):
            return
        self._marks.append((self.step, self.elapsed_s))
        if any(decision["step"] >= self.step for decision in self.decisions):
            return  # what is known already is replayed, not decided again
        steps = self._steps_in_time(self.plan.budget_s)
        if steps == self.schedule.steps:
            return
        decision = {"step": self.step, "steps": steps, "elapsed_s": round(self.elapsed_s, 1)}
        append_decision(self.folder, decision)
        self.decisions.append(decision)
        self.schedule = self.schedule.end_at(self.step, steps)
        self.screen.decided(self, steps)

    def _steps_in_time(self, budget_s: float) -> int:
        """Return at which step the run should end to take `budget_s`, at its pace of late."""
        planned = self.schedule.steps
        step, elapsed_s = self._marks[max(0, len(self._marks) - 6)]
        if self.step - step < 2:
            return planned
        pace_s = (self.elapsed_s - elapsed_s) / (self.step - step)
        room = self.step + max(1, math.floor((budget_s - self.elapsed_s) / pace_s))
        end_s = self.elapsed_s + (planned - self.step) * pace_s
        if self.step >= self.schedule.decay_start:
            return min(planned, room) if end_s > budget_s * OVERRUN else planned
        # The stable part may last as long as there is time for the decay after it: nothing is decided early.
        decay_s = (planned - self.schedule.decay_start) * pace_s
        if self.elapsed_s + decay_s > budget_s:
            return min(planned, room)
        soon = self.step + 2 * max(1, self.plan.steps // LOOKS) > self.schedule.decay_start
        return max(planned, min(room, self.plan.most_steps)) if soon and end_s < budget_s * IDLE else planned

    def _trained(self) -> Trained:
        records = runlog.read(self.folder / "metrics.jsonl")
        shares = [record["utilisation"] for record in records if record.get("utilisation") is not None]
        score = self.score or self.held_out.score(self.net)
        middle = sorted(shares)[len(shares) // 2] if shares else 0.0
        return Trained(score, self.step, self.tokens, self.elapsed_s, middle, self.samples)


def read_decisions(folder: Path) -> list[dict[str, Any]]:
    """Return the decisions to end sooner that a run's folder holds, in order."""
    path = folder / "decisions.jsonl"
    return runlog.read(path) if path.exists() else []


def append_decision(folder: Path, decision: dict[str, Any]) -> None:
    """Write a decision to the disk before it counts."""
    with open(folder / "decisions.jsonl", "ab") as file:
        file.write((json.dumps(decision) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C (or SIGTERM) came; the step in progress is finished first.

    A second Ctrl-C interrupts at once, as usual.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: Any) -> None:
        came.set()
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, note)
        yield came.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
