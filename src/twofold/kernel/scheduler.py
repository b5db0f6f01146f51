"""Which process goes on next: the one of highest priority, and among equals who waited longest.

A turn is one step: a saying or a system call. A step of lower priority is preempted, between tokens, when one
of higher priority is ready and all workers are busy.
"""

import heapq
import itertools
import threading


class Scheduler:
    """Processes that are ready, and those that run. May be used from several threads."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        lock = threading.RLock()
        self._news = threading.Condition(lock)  # for workers
        self._quiet = threading.Condition(lock)  # for those who wait until there is nothing to do
        self._count = itertools.count()
        self._queue: list[tuple[int, int, int]] = []  # (-priority, number, pid)
        self._waiting: set[int] = set()
        self._running: dict[int, int] = {}  # pid -> priority
        self._again: dict[int, int] = {}  # those that became ready while they ran
        self._closed = False

    def ready(self, pid: int, priority: int) -> None:
        """Let a process have a turn."""
        with self._news:
            if pid in self._running:
                self._again[pid] = priority
            elif pid not in self._waiting:
                self._waiting.add(pid)
                heapq.heappush(self._queue, (-priority, next(self._count), pid))
            self._news.notify()

    def take(self) -> int | None:
        """Return the process whose turn it is, waiting for one; None at the end."""
        with self._news:
            while not self._queue and not self._closed:
                self._news.wait()
            if self._closed:
                return None
            priority, _, pid = heapq.heappop(self._queue)
            self._waiting.discard(pid)
            self._running[pid] = -priority
            return pid

    def leave(self, pid: int) -> None:
        """End a turn."""
        with self._news:
            self._running.pop(pid, None)
            if pid in self._again:
                self.ready(pid, self._again.pop(pid))
            if not self._queue and not self._running:
                self._quiet.notify_all()

    def preempted(self, pid: int) -> bool:
        """Return whether a process is to leave its place to one of higher priority."""
        if not self._queue or len(self._running) < self.workers:
            return False
        with self._news:
            if not self._queue or pid not in self._running:
                return False
            lowest = min(self._running.values())
            return self._running[pid] == lowest and -self._queue[0][0] > lowest

    def idle(self) -> bool:
        """Return whether nobody runs and nobody is ready."""
        with self._news:
            return not self._queue and not self._running and not self._again

    def wait(self, seconds: float) -> None:
        """Wait until nobody runs and nobody is ready, or so long."""
        with self._quiet:
            self._quiet.wait(seconds)

    def close(self) -> None:
        """Give no more turns."""
        with self._news:
            self._closed = True
            self._news.notify_all()
            self._quiet.notify_all()
