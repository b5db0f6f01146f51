"""The policy: what becomes of a system call. Rules, from the top; the first that has a verdict decides.

The policy stands at the system call, never in the prompt: what a model was talked into makes no difference.
It looks at who had a part in each piece of a call (`Label.ring`), at who may see it (`Label.readers`), at
what the call does to the world (`Effect`), and at what the user has said. What no rule allows is denied.

A yes of the user lets *that* flow, never more: `shows` is all that flows, in full, and `grant` what a yes for
the process, or for ever, stands for: the same function, the same targets, nothing from other sources.

Not covered: what the time, the number and the order of allowed calls tell (covert channels).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from twofold.kernel.case import Call, Case, Grant
from twofold.kernel.device import Effect
from twofold.kernel.flow import Label, Ring

if TYPE_CHECKING:
    from twofold.kernel.process import State

__all__ = ["ByCapability", "Call", "Case", "Decision", "Grant", "Policy", "Rules", "Verdict"]

Verdict = Literal["allow", "ask", "deny"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """rule: the name of the rule that decided; reason: a sentence. shows: what the user is shown when asked:
    what will flow where. grant: what a yes for the process, or for ever, would allow from then on. counts:
    what one is added to in `State.made` when the call is made."""

    verdict: Verdict
    rule: str
    reason: str
    shows: Mapping[str, Any] = field(default_factory=dict)
    grant: Grant = field(default_factory=dict)
    counts: tuple[str, ...] = ()


class Policy(Protocol):
    """Decides by the call, the process and what the user has granted; the same for the same."""

    def decide(self, call: Call, state: "State", grants: Sequence[Grant]) -> Decision:
        """Return what becomes of a call."""
        ...


class Rules:
    """The policy of twofold."""

    def decide(self, call: Call, state: "State", grants: Sequence[Grant] = ()) -> Decision:
        """Return what the first rule with a verdict says; deny where none has one."""
        case = Case(call=call, state=state, grants=grants)
        for rule in RULES:
            if said := rule(case):
                verdict, reason = said
                shows, grant = (case.shows, case.grant) if verdict == "ask" else ({}, {})
                return Decision(
                    verdict=verdict, rule=rule.__name__, reason=reason, shows=shows, grant=grant,
                    counts=() if verdict == "deny" else case.counts,
                )  # fmt: skip
        return Decision(verdict="deny", rule="default", reason=f"No rule allows {case.name}.")


class ByCapability:
    """Allows what a capability of the process names, whatever flows: what the rules are measured against."""

    def decide(self, call: Call, state: "State", grants: Sequence[Grant] = ()) -> Decision:
        """Return what the first rule alone says."""
        case = Case(call=call, state=state, grants=grants)
        if said := no_capability(case):
            return Decision(verdict="deny", rule="no_capability", reason=said[1])
        return Decision(verdict="allow", rule="capability", reason="A capability.", counts=case.counts)


# ---- the rules


Said = tuple[Verdict, str] | None


def no_capability(case: Case) -> Said:
    """Without a capability that names the function, covers all its targets and still holds: no."""
    if case.capability is None:
        return "deny", f"This process has no capability for {case.name} on that."
    return None


def outside_the_pledge(case: Case) -> Said:
    """What a process has not pledged, once it has pledged, is not possible. Nobody is asked."""
    if case.pledge and case.pledged is None and case.call.device not in ("extract", "reveal"):
        return "deny", f"{case.name} with these arguments is outside of what this process pledged."
    return None


def harmless(case: Case) -> Said:
    """What only computes, or reads what is the user's, may be done: what it returns carries its own label."""
    if case.effect in (Effect.NONE, Effect.READ):
        return "allow", f"{case.name} changes nothing and tells nobody."
    return None


def granted(case: Case) -> Said:
    """What the user has said yes to, for this process or for ever, may be done again."""
    if any(case.like(grant) for grant in case.grants):
        return "allow", "The user granted this."
    return None


def secret_leaves(case: Case) -> Said:
    """To whom it goes must be among those who may see it, for every piece; else the user is asked."""
    if case.effect in (Effect.FETCH, Effect.SEND):
        for path, label in case.labels.items():
            if label.readers is not None and not case.destinations <= label.readers:
                return "ask", f"{_where(path)} of {case.name} holds what not everybody there may see."
    return None


def foreign_target(case: Case) -> Said:
    """Where to, or on what, is not for others to say. What a device does not declare counts as that."""
    for path, label in case.labels.items():
        if label.ring is Ring.TOOL and not case.is_content(path):
            return "ask", f"{_where(path)} of {case.name} comes from {_names(label)}."
    return None


def foreign_text_leaves(case: Case) -> Said:
    """What others wrote is sent in the user's name if he says so; a pledged number or date goes unasked."""
    if case.effect is Effect.SEND:
        for path, label in case.labels.items():
            if label.ring is Ring.TOOL and not case.bounded(path):
                return "ask", f"{_where(path)} of {case.name} comes from {_names(label)}."
    return None


def led_astray(case: Case) -> Said:
    """A process that was shown untrusted text may be at its beck and call: unless it pledged, it asks."""
    if case.effect in (Effect.WRITE, Effect.SEND) and case.call.process.ring is Ring.TOOL and not case.pledge:
        return "ask", f"This process has read what comes from {_names(case.call.process)}."
    return None


def trusted(case: Case) -> Said:
    """What is left goes where the user said, and carries nothing that may not go there."""
    if case.effect in (Effect.FETCH, Effect.WRITE, Effect.SEND):
        return "allow", "Its targets are the user's, and nothing flows to them that may not."
    return None


RULES: tuple[Callable[[Case], Said], ...] = (
    no_capability, outside_the_pledge, harmless, granted, secret_leaves, foreign_target, foreign_text_leaves,
    led_astray, trusted,
)  # fmt: skip


def _where(path: str) -> str:
    name, _, rest = path.partition(".")
    return f"{name} ({rest})" if rest else name


def _names(label: Label) -> str:
    """The process reads the reason, too, so it tells no more than a stub does; the user is shown all."""
    return ", ".join(label.kinds) or "nobody knows where"
