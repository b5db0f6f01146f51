"""What an answer may cost, in seconds or in tokens, and what it has cost so far.

Tokens are those that the model reads or writes once it has read the prompt, on all branches together: a fair
measure that gives the same answer for the same seed on any machine. Seconds are what a person waits. A budget
is looked at after each pass through the model, so it is overrun by one pass at most.

Not covered: budgets in money or energy.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from twofold.base.errors import UsageError

_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_LONGEST_S = 24 * 3600
THOUGHT_SHARE = 0.75  # of what is left when an answer begins; then its thoughts are closed


@dataclass(frozen=True)
class Budget:
    """So many tokens or so many seconds; the other is None."""

    tokens: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Return what 5s, 2m, 1m30s or a number of tokens means. Raises UsageError."""
        given = text.strip().lower()
        if re.fullmatch(r"\d{1,9}", given, re.ASCII) and int(given) > 0:
            return cls(tokens=int(given))
        match = _TIME.fullmatch(given)
        if match and any(match.groups()):
            minutes, rest = (float(group or 0) for group in match.groups())
            if 0 < (seconds := 60 * minutes + rest) <= _LONGEST_S:
                return cls(seconds=seconds)
        raise UsageError(
            f"A thinking budget is a time up to a day, such as 5s or 2m, or a number of tokens, not {text!r}."
        )

    def spell(self) -> str:
        """Return it in words: 500 tokens, 5 s, 1.5 s, 2 min."""
        if self.tokens is not None:
            return f"{self.tokens:,} token{'s' if self.tokens != 1 else ''}"
        seconds = self.seconds or 0.0
        return f"{seconds / 60:g} min" if seconds >= 120 else f"{seconds:g} s"


class Meter:
    """Counts what an answer costs. `clock`: where seconds come from."""

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        """Start now."""
        self.budget, self.tokens = budget, 0
        self._clock, self._began = clock, clock()
        self._last = self._began
        self._pass_s = 0.0  # of late

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    @property
    def spent(self) -> float:
        """The share of the budget that is used up; 1 and more when it is over."""
        if self.budget.tokens is not None:
            return self.tokens / self.budget.tokens
        return self.seconds / (self.budget.seconds or 1.0)

    @property
    def over(self) -> bool:
        """Whether the budget is used up."""
        return self.spent >= 1

    def starts(self) -> None:
        """Note that the prompt has been read: what a pass takes is counted from now on."""
        self._last = self._clock()

    def passed(self, tokens: int) -> None:
        """Note a pass through the model with so many tokens."""
        now = self._clock()
        took, self._last = now - self._last, now
        self._pass_s = took if not self._pass_s else 0.8 * self._pass_s + 0.2 * took
        self.tokens += tokens

    def fits(self, tokens: float, promised: float = 0.0) -> bool:
        """Return whether one more answer of so many tokens can be written within the budget.

        `promised`: tokens that answers on their way will still take. Those are written side by side, so in
        seconds only the length of the new one counts.
        """
        if self.budget.tokens is not None:
            return self.tokens + promised + tokens <= self.budget.tokens
        return self.seconds + tokens * self._pass_s <= (self.budget.seconds or 0.0)

    def thought_is_over(self, began: float, own: int) -> bool:
        """Return whether thoughts have had their share, so that an answer still fits.

        `began`: what was spent when they began; `own`: how many tokens they have.
        """
        now = began + own / self.budget.tokens if self.budget.tokens is not None else self.spent
        return now >= began + THOUGHT_SHARE * (1 - began)

    def spell(self) -> str:
        """Return what it cost: 184 of 500 tokens in 0.31 s, or 1,204 tokens in 4.9 of 5 s."""
        if self.budget.tokens is not None:
            return f"{self.tokens:,} of {self.budget.spell()} in {self.seconds:.2f} s"
        return f"{self.tokens:,} tokens in {self.seconds:.2f} of {self.budget.seconds:g} s"
