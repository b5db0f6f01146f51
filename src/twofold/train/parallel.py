"""Several processes that train one model: who they are, and how they agree.

`torchrun` starts the processes and says to each, in its environment, which one it is. The first one reads,
plans, speaks and writes; the others wait for that and find it done, in a folder that all of them see. Every
process takes its rows of each batch, so that all of them together learn from the very tokens that one alone
would have learned from.

How the model is laid out over the processes is in sharding.py.

Not covered: starting processes (torchrun, Slurm and others do), and training on when one is lost: the rest
stops, and the run is resumed with as many as there are.
"""

import contextlib
import datetime
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from twofold.base.errors import TwofoldError, UsageError
from twofold.base.runlog import RunLog
from twofold.train.data import Batch
from twofold.train.stopping import Stopped

TIMEOUT_S = 300.0  # without a word, another process counts as lost
_POLL_S = 5.0
_LOST = ("gloo", "NCCL", "onnection", "imed out", "peer", "ProcessGroup")

T = TypeVar("T")


class Team:
    """One process alone; the methods say what they do in several."""

    rank = 0
    size = 1

    @property
    def speaks(self) -> bool:
        """Whether this process talks to the user and writes the files."""
        return self.rank == 0

    def told(self, work: Callable[[], str]) -> str:
        """Return what `work` returns in the first process, which alone does it."""
        return work()

    def first(self, work: Callable[[], T]) -> T:
        """Do `work` in the first process, then in the others, which find it done; return its result."""
        return work()

    def share(self, batch: Batch) -> Batch:
        """Return this process's rows of a batch."""
        return batch

    def mean(self, *values: float) -> list[float]:
        """Return the mean over all processes of each value."""
        return list(values)

    def total(self, *values: float) -> list[float]:
        """Return the sum over all processes of each value."""
        return list(values)

    def agree(self, value: int) -> int:
        """Return the value of the first process."""
        return value


ALONE = Team()


class Several(Team):
    """The processes that torchrun started."""

    def __init__(self, timeout_s: float) -> None:
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        self._device = torch.device("cuda" if cuda else "cpu")
        # The same store serves for waiting without limit while the first one reads and plans.
        self._store, self.rank, self.size = next(iter(rendezvous("env://")))
        self._told = 0
        # Whatever happens on a GPU, checkpoints and small talk go over the processors.
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", rank=self.rank, world_size=self.size,
            store=dist.distributed_c10d.PrefixStore("group", self._store),
            timeout=datetime.timedelta(seconds=timeout_s),
        )  # fmt: skip
        self.saving = dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=timeout_s))

    def told(self, work: Callable[[], str]) -> str:
        self._told += 1
        key = f"told-{self._told}"
        if self.rank == 0:
            try:
                value = work()
            except BaseException:
                self._store.set(key, json.dumps(None))
                raise
            self._store.set(key, json.dumps(value))
            return value
        while True:
            with contextlib.suppress(dist.DistStoreError):
                self._store.wait([key], datetime.timedelta(seconds=_POLL_S))
                break
        heard = json.loads(self._store.get(key))
        if heard is None:
            raise SystemExit(1)  # the first one says why
        return str(heard)

    def first(self, work: Callable[[], T]) -> T:
        done: list[T] = []

        def once() -> str:
            done.append(work())
            return ""

        self.told(once)
        return done[0] if done else work()

    def share(self, batch: Batch) -> Batch:
        if len(batch.ids) % self.size:
            raise UsageError(
                f"A batch of {len(batch.ids)} rows cannot be shared equally by {self.size} processes: set "
                "batch to a multiple of that, or start another number of processes."
            )
        count = len(batch.ids) // self.size
        rows = slice(self.rank * count, (self.rank + 1) * count)
        return Batch(batch.ids[rows], batch.targets[rows], batch.documents[rows])

    def total(self, *values: float) -> list[float]:
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed)
        return [float(value) for value in summed]

    def mean(self, *values: float) -> list[float]:
        return [value / self.size for value in self.total(*values)]

    def agree(self, value: int) -> int:
        agreed = torch.tensor(value)
        dist.broadcast(agreed, 0)
        return int(agreed)

    def part(self) -> None:
        """Wait until the first process has done all, and the others know."""
        with contextlib.suppress(RuntimeError, SystemExit):
            self.told(lambda: "done")
            # The store may live in the first process, which therefore goes last.
            if self._store.add("left", 1) == self.size:
                self._store.set("all left", "")
            if self.rank == 0:
                self._store.wait(["all left"], datetime.timedelta(seconds=_POLL_S))

    def close(self) -> None:
        """Let go of the others, who may be lost."""
        dist.destroy_process_group()

    def object(self, value: Any) -> Any:
        """Return what the first process has; anything that can be pickled."""
        values = [value]
        dist.broadcast_object_list(values, 0, device=torch.device("cpu"))
        return values[0]


class SilentLog(RunLog):
    """The log of a process that does not write it."""

    def __init__(self) -> None:
        self.behind = None

    def write(self, **record: Any) -> None:
        pass

    def catch_up(self) -> None:
        pass

    def back_to(self, step: int) -> None:
        pass

    def close(self) -> None:
        pass


_team: Team | None = None


@contextlib.contextmanager
def joined() -> Iterator[Team]:
    """Yield the team that this process is one of, ALONE unless torchrun started several.

    A second `joined` inside of the first yields the same. TWOFOLD_TIMEOUT_S: seconds without a word from
    another process after which it counts as lost.
    """
    global _team
    if _team is not None or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield _team or ALONE
        return
    several = _team = Several(float(os.environ.get("TWOFOLD_TIMEOUT_S", TIMEOUT_S)))
    try:
        yield several
        several.part()
    except Stopped:
        several.part()  # so are the others
        raise
    finally:
        _team = None
        several.close()


def speaks() -> bool:
    """Return whether this process talks to the user: the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def team() -> Team:
    """Return the team that this process has joined."""
    return _team or ALONE


def restarted() -> bool:
    """Return whether torchrun has started the processes anew after a loss."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextlib.contextmanager
def losses_told(here: Team, where: Callable[[], str]) -> Iterator[None]:
    """Turn the loss of another process into one sentence; `where` says how far the run is and its folder."""
    try:
        yield
    except RuntimeError as error:
        said = " ".join(str(error).split())
        if here.size == 1 or not (isinstance(error, dist.DistError) or any(word in said for word in _LOST)):
            raise
        raise TwofoldError(
            f"Process {here.rank + 1} of {here.size}: another one was lost, so this one stopped {where()}."
        ) from error
