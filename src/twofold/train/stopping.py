"""Being told to stop: Ctrl-C, or SIGTERM with its half minute of notice.

Between steps a run can stop at once. In the middle of one nothing has changed yet but gradients, so the step
is given up rather than finished: a step may take longer than the notice. While weights change or something is
written, the signal waits.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

IMPATIENT_S = 1.0  # a launcher passes a signal on that came already; a person presses twice more slowly


class Stopped(KeyboardInterrupt):
    """The user or the system stopped the run; everything is saved."""


class Stopping:
    """A context in which SIGINT and SIGTERM are noted in `came` instead of ending the process.

    A second signal, a second later, interrupts as usual. In threads other than the main one nothing changes.
    One of several processes finishes its step, and all stop after it once that is `agreed`.
    """

    def __init__(self, *, alone: bool = True) -> None:
        self.came = self.agreed = False
        self._alone = alone
        self._abandoning = False
        self._first_s = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.getsignal(number)
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def abandoning(self) -> Iterator[None]:
        """Raise Stopped inside of the block as soon as a signal comes: what it does may be left undone."""
        self._abandoning = self._alone
        try:
            self.check()
            yield
        finally:
            self._abandoning = False

    def check(self) -> None:
        """Raise Stopped when a signal has come."""
        if self.agreed or (self.came and self._alone):
            raise Stopped

    def _note(self, number: int, frame: Any) -> None:
        now_s = time.monotonic()
        if not self.came:
            self.came, self._first_s = True, now_s
        elif now_s - self._first_s > IMPATIENT_S:
            before = self._before[signal.Signals(number)]
            if callable(before):
                before(number, frame)
            raise KeyboardInterrupt
        if self._abandoning:
            self._abandoning = False
            raise Stopped


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
