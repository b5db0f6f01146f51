"""Saving: after every step if it costs next to nothing, to the disk now and then, never in the way.

Two things protect a run, and training waits for neither disk:

- the ring (ring.py) holds the last step. It is written after each step as long as that takes no more than
  `share` of the time, else less often. What a quick write leaves of its share is saved up for a slow one, so
  that a disk that hesitates once costs no copy. It outlives the process (kill -9), not a power cut;
- checkpoints (checkpoint.py) are flushed and hashed. The state is copied in memory, which a step takes no
  notice of, and a thread writes the copy while the next steps run. One is made every `seconds` (or `steps`)
  and after each evaluation; the last `keep` and the best stay.

When the disk is full or broken, training goes on, what was saved stays, and the user hears it once.
Nothing here has any effect on what is learned.

Not covered: choosing where to go back to when learning goes wrong (guard.py).
"""

import dataclasses
import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from twofold.base.errors import TwofoldError
from twofold.train import checkpoint
from twofold.train.checkpoint import State, Tell, reason
from twofold.train.parallel import ALONE, Several, Team
from twofold.train.ring import NAMES, Ring

Collect = Callable[[], State]
SAVED_UP_S = 0.5  # of its share, the ring may spend later
FULL = (errno.ENOSPC, errno.EDQUOT)
RETRY_S = 60.0  # until the ring is tried again when it failed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """When to save and what to keep: a checkpoint every `steps` steps or, if that is 0, every `seconds`.

    `share`: of the time, that the ring may take, and that checkpoints may take; 0 = no ring.
    """

    seconds: float = 60.0
    steps: int = 0
    keep: int = 2
    keep_best: bool = True
    share: float = 0.02


class Keeper:
    """Keeps the state of one run below `folder`, and tells what goes wrong."""

    def __init__(
        self,
        folder: Path,
        rule: Rule,
        tell: Tell,
        *,
        write: Callable[[Path, State], object] = checkpoint.save_state,
        team: Team = ALONE,
    ) -> None:
        """`write` makes a checkpoint; `team`: those who do so together, the first of whom tidies up."""
        self.folder, self.rule, self._tell, self._write = folder, rule, tell, write
        self._rings, self._team = rule.share > 0, team
        self.ring = Ring(folder, team.rank, team.size)
        self.spent_s = 0.0  # that steps waited, and processor time of the thread
        self._writer: threading.Thread | None = None
        self._step = -1  # that is being written
        self._error: OSError | None = None
        self._cost_s = 0.0  # of the last checkpoint
        self._ring_saved_up_s = 0.0  # less than nothing: it spent more than its share
        self._ring_writes = 0
        self._saved_s = self._ring_s = time.monotonic()
        self._room: dict[str, Tensor] = {}
        self._ill: set[str] = set()  # what is known not to work

    def newest(self, read: Callable[[Path], State] = checkpoint.load) -> State | None:
        """Return the state to go on from: the ring's or the newest checkpoint that is whole; None if new.

        Raises BadFileError when there is something and nothing of it is whole.
        """
        last = self.ring.read(self._tell)
        durable = checkpoint.steps(self.folder)
        if last is not None and (not durable or self._ahead(last, durable[-1])):
            return last
        try:
            return checkpoint.load_latest(self.folder, self._tell, read)
        except TwofoldError:
            if last is None:
                raise
            return last

    def _ahead(self, last: State, step: int) -> bool:
        """Return whether the ring is further than the checkpoint of `step`."""
        left = len(checkpoint.facts_of(self.folder, step).get("due", []))
        return last.step > step or (last.step == step and len(last.facts["due"]) < left)

    def offer(
        self, step: int, collect: Collect, *, wanted: bool | None = None, log_error: OSError | None = None
    ) -> None:
        """Save what the rule asks for after `step`, and return at once.

        `wanted`: whether there is to be a checkpoint here, by default what `due` says. `log_error`: why the
        run's log could not be written; a state that is ahead of it is not kept.
        """
        self._look()
        self._health("log", f"The record of step {step:,}", log_error, self._safe())
        if log_error is None and (self.due(step) if wanted is None else wanted):
            self.wait()
            self._begin(collect())
        if self._rings and self._team.agree(log_error is None and self._ring_may()):
            self._to_ring(collect())

    def due(self, step: int) -> bool:
        """Return whether it is time for a checkpoint."""
        if self.rule.steps:
            return step % self.rule.steps == 0
        interval_s = max(self.rule.seconds, self._cost_s / self.rule.share if self.rule.share else 0.0)
        return self._writer is None and time.monotonic() - self._saved_s >= interval_s

    def save(self, collect: Collect, *, finished: bool) -> bool:
        """Save everything and wait for it; return whether it is on the disk. `finished`: the run is done."""
        self.wait()
        state = collect()
        if not finished and self._rings:
            self._to_ring(state)  # takes the least time
        self._begin(state)
        self.wait()
        saved = "checkpoint" not in self._ill
        if finished and saved and self._team.speaks:
            self._prune(running=False)
            self.ring.remove()
        elif finished and not saved and self._rings:
            self._to_ring(state)  # lies on the disk already, so it may work where nothing else does
        return saved

    def has(self, step: int) -> bool:
        """Return whether there is a checkpoint of `step`."""
        return step in checkpoint.steps(self.folder)

    def give_room(self, step: int, log_error: OSError) -> bool:
        """Give the log, which could not be written at `step`, the room kept for it; return whether it was."""
        given = log_error.errno in FULL and self.ring.give_room()
        if given:
            self._tell(f"The disk is full at step {step:,}; the record of steps goes on where room was kept.")
        return given

    def wait(self) -> None:
        """Wait until nothing is being written."""
        if self._writer is not None:
            self._writer.join()
        self._look()

    def close(self) -> None:
        """Wait for the thread and close the files."""
        self.wait()
        self.ring.close()

    def back_to(self, step: int) -> None:
        """Forget all checkpoints after `step`: the run has gone back to it."""
        self.wait()
        for later in checkpoint.steps(self.folder) if self._team.speaks else []:
            if later > step:
                checkpoint.remove(self.folder, later)

    def _begin(self, state: State) -> None:
        """Copy `state` and let a thread write it."""
        began = time.perf_counter()
        copy = state.copy(self._room)
        self._room = copy.tensors
        self._cost_s = time.perf_counter() - began
        self._step, self._error = state.step, None
        self._writer = threading.Thread(target=self._work, args=(copy,), name="checkpoint", daemon=True)
        self._writer.start()
        self._saved_s = time.monotonic()

    def _work(self, state: State) -> None:
        began = time.thread_time()
        try:
            self._write(self.folder, state)
            if self._team.speaks:
                self._prune(running=True)
        except OSError as error:
            self._error = error
        self._cost_s += time.thread_time() - began

    def _prune(self, *, running: bool) -> None:
        keep, keep_best = self.rule.keep, self.rule.keep_best
        checkpoint.prune(self.folder, keep=keep, keep_best=keep_best, running=running)

    def _look(self) -> None:
        """Tell what became of the checkpoint that was being written, if it is."""
        if self._writer is None or self._writer.is_alive():
            return
        self._writer = None
        self.spent_s += self._cost_s
        error, self._error = self._error, None
        self._health("checkpoint", f"The checkpoint of step {self._step:,}", error, self._safe())

    def _safe(self) -> str:
        """Return what there is to go on from, as half a sentence."""
        found = checkpoint.steps(self.folder)
        return f"the checkpoint of step {found[-1]:,} is safe" if found else "there is no checkpoint yet"

    def _ring_may(self) -> bool:
        """Return whether the ring has anything left of its share of the time until now."""
        now_s = time.monotonic()
        gained_s = self.rule.share * (now_s - self._ring_s)
        self._ring_saved_up_s = min(self._ring_saved_up_s + gained_s, SAVED_UP_S)
        self._ring_s = now_s
        return self._ring_saved_up_s >= 0

    def _to_ring(self, state: State) -> None:
        began = time.perf_counter()
        error = None
        number = self._team.agree(self.ring.next)
        try:
            if any(tensor.device.type != "cpu" for tensor in state.tensors.values()):
                state = state.copy()
            self.ring.write(state, number)
        except (OSError, ValueError) as failed:
            error = failed
        took_s = time.perf_counter() - began
        self.spent_s += took_s
        self._ring_writes += 1
        if error is not None:
            self._ring_saved_up_s = -RETRY_S * self.rule.share
        elif self._ring_writes > len(NAMES):  # that the files are made is not counted
            self._ring_saved_up_s -= took_s
        self._health("ring", f"The copy of step {state.step:,}", error, "checkpoints are made as before")

    def _health(self, what: str, name: str, error: Exception | None, kept: str) -> None:
        """Tell when something begins to fail, and what is left, and when it works again."""
        if error is not None and what not in self._ill:
            self._ill.add(what)
            self._tell(f"{name} could not be saved ({reason(error)}); training goes on, and {kept}.")
        elif error is None and what in self._ill:
            self._ill.remove(what)
            self._tell(f"{name} is saved: the disk works again.")


class Idle(Keeper):
    """Saves nothing: another process of the team does, which holds the same."""

    def offer(
        self, step: int, collect: Collect, *, wanted: bool | None = None, log_error: OSError | None = None
    ) -> None:
        pass

    def save(self, collect: Collect, *, finished: bool) -> bool:
        return True


def keeper(folder: Path, rule: Rule, tell: Tell, team: Team, *, sharded: bool) -> Keeper:
    """Return what keeps the state of a run of `team`."""
    if not isinstance(team, Several):
        return Keeper(folder, rule, tell)
    if not sharded:
        return Keeper(folder, rule, tell) if team.speaks else Idle(folder, rule, tell)
    from twofold.train import shards  # torch's part for this loads slowly

    def write(place: Path, state: State) -> None:
        shards.save_state(place, state, team)

    return Keeper(folder, rule, tell, write=write, team=team)
