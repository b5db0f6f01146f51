"""What the rules of the policy look at: a call, the process that makes it, its pledge, and what was granted.

Nothing is decided here; the rules are in policy.py. What matters is whose a piece of a call is. A piece that
the process wrote itself carries the process's label, one that stands for a value the value's, too. A pledge
changes that: what it fixed is as trusted as the process was when it pledged, and what it left open must be
*founded*, that is, stand in something trusted that the process was shown, or be the name of such a value.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twofold.kernel.capabilities import host
from twofold.kernel.device import Effect, Function
from twofold.kernel.flow import Label, Ring, flat
from twofold.kernel.pages import STUB
from twofold.kernel.pledge import Fit, Pledge, like, spell

if TYPE_CHECKING:
    from twofold.kernel.process import State

Grant = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A system call as the policy sees it, once values stand in the place of their names.

    name: what models call it by. labels: of each argument; leaves: of each part of one, by its path ("to.0").
    process: the process's own label. at: seconds since 1970, when the process asked.
    """

    id: str
    device: str
    function: Function
    arguments: Mapping[str, Any]
    labels: Mapping[str, Label]
    leaves: Mapping[str, Label]
    process: Label
    at: float = 0.0
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call, the process that makes it and what was granted, as the rules want them."""

    call: Call
    state: "State"
    grants: Sequence[Grant]

    @property
    def name(self) -> str:
        """Return what the function is called."""
        return self.call.name or f"{self.call.device}_{self.call.function.name}"

    @property
    def effect(self) -> Effect:
        """Return what the call does to the world."""
        return self.call.function.effect

    @cached_property
    def leaves(self) -> Mapping[str, Any]:
        """Return every piece of the arguments by its path."""
        return dict(flat(self.call.arguments))

    def is_content(self, path: str) -> bool:
        """Return whether a piece is declared to be what goes somewhere, not where to."""
        return path.split(".", 1)[0] in self.call.function.contents

    @cached_property
    def targets(self) -> Mapping[str, str]:
        """Return where to and on what, by path: what the function declares."""
        names = self.call.function.targets
        found = {p: v for p, v in self.leaves.items() if p.split(".", 1)[0] in names}
        return {path: spell(value) for path, value in found.items() if value not in (None, [], {})}

    @cached_property
    def destinations(self) -> frozenset[str]:
        """Return who gets to see what flows: recipients as they are, of addresses of the web the host."""
        return frozenset(host(target) or target for target in self.targets.values()) or frozenset({"*"})

    # -- capability

    @cached_property
    def capability(self) -> int | None:
        """Return the place of a capability of the process for this call."""
        for place, held in enumerate(self.state.program.capabilities):
            made = self.state.made.get(f"capability.{place}", 0)
            named = held.names(self.call.device, self.call.function.name)
            if named and held.covers(list(self.targets.values())) and held.lives(self.call.at, made):
                return place
        return None

    @property
    def counts(self) -> tuple[str, ...]:
        """Return what is used up by one when the call is made."""
        found = [f"capability.{self.capability}"]
        return (*found, f"pledge.{self.pledged[0]}") if self.pledged else tuple(found)

    # -- pledge

    @cached_property
    def pledge(self) -> Pledge | None:
        """Return what the process has pledged."""
        record = self.state.own.get("pledge")
        return Pledge.of(record) if record else None

    @cached_property
    def pledged(self) -> tuple[int, Mapping[str, Fit]] | None:
        """Return which call of the pledge this is, and how each piece fits."""
        if self.pledge is None:
            return None
        used = {n: self.state.made.get(f"pledge.{n}", 0) for n in range(len(self.pledge.items))}
        return self.pledge.find(self.name, self.call.arguments, used)

    def bounded(self, path: str) -> bool:
        """Return whether the pledge opened a piece for a type that holds no text."""
        fit = self.pledged[1].get(path) if self.pledged else None
        return fit is not None and fit.how == "bounded"

    # -- labels

    @cached_property
    def labels(self) -> Mapping[str, Label]:
        """Return the label of every piece, as far as the rules go by it."""
        return {path: self._label(path) for path in self.leaves}

    def _label(self, path: str) -> Label:
        """What is fixed in a pledge is as old as the pledge. What is open there may tell the user's secrets
        as far as it is bounded, but it must be founded: a process that was shown nothing untrusted has it
        from what is trusted, and one that somehow knows better is not believed."""
        label = self.call.leaves.get(path, self.call.process)
        if self.pledge is None or self.pledged is None:
            return label
        fit = self.pledged[1].get(path)
        if fit is None:
            return label
        if fit.how == "fixed":
            return self.pledge.label
        if (
            label.ring < Ring.TOOL
            and like(fit.pattern, fit.text, lambda _, piece: self.founded(piece)) is None
        ):
            label = label.join(Label(Ring.TOOL, None, frozenset({"nowhere that is trusted"})))
        free = fit.how == "bounded" or (fit.how == "name" and label.ring < Ring.TOOL)
        return replace(label, readers=None) if free else label

    def founded(self, text: str) -> bool:
        """Return whether a text stands, as whole words, in what the process was shown and may trust."""
        if not text:
            return True
        word = re.compile(rf"(?<![\w.]){re.escape(text)}(?:\.0+)?(?!\w)")
        return any(word.search(one) for one in self._ground)

    @cached_property
    def _ground(self) -> list[str]:
        """Return what the process may trust: not what it said itself, or offered to choose from, nor what
        stubs say of hidden texts."""
        pages = [page for page in self.state.pages if not page.hidden and page.kind != "assistant"]
        pages = [page for page in pages if page.source != "extract"]
        nested = [c for c in self.state.calls.values() if c.inside and c.label]
        found = [page.text for page in pages if page.label.ring < Ring.TOOL]
        found += [str(call.value) for call in nested if call.label and call.label.ring < Ring.TOOL]
        return [STUB.sub("", text) for text in found]

    # -- what the user is shown, and what his yes stands for

    @property
    def shows(self) -> dict[str, Any]:
        """Return all that would flow, where to, and who had a part in it: nothing is cut short."""

        def piece(path: str) -> dict[str, Any]:
            label = self.labels[path]
            readers = None if label.readers is None else sorted(label.readers)
            return {
                "argument": path, "value": self.leaves[path], "from": sorted(label.sources),
                "trusted": label.ring < Ring.TOOL, "for": readers,
            }  # fmt: skip

        return {
            "function": self.name, "effect": str(self.effect),
            "where": [piece(path) for path in self.leaves if not self.is_content(path)],
            "what": [piece(path) for path in self.leaves if self.is_content(path)],
        }  # fmt: skip

    @property
    def grant(self) -> Grant:
        """Return what a yes for more than once stands for."""
        return {
            "function": self.name,
            "where": {p: v for p, v in self.leaves.items() if not self.is_content(p)},
            "from": sorted(self._sources),
        }

    def like(self, grant: Grant) -> bool:
        """Return whether a grant is for this: the same function and targets, nothing from elsewhere."""
        mine = self.grant
        same = grant.get("function") == mine["function"] and grant.get("where") == mine["where"]
        return same and self._sources <= set(grant.get("from", ())) - {"unknown"}

    @cached_property
    def _sources(self) -> set[str]:
        """Return who had a part in the call."""
        labels = [*self.labels.values(), self.call.process]
        return {source for label in labels for source in (label.sources or {"unknown"})}


# ---- the answer


def answers(text: str, state: "State") -> bool:
    """Return whether a process may give this answer, before values stand in it: it must be as pledged, and
    what is filled in founded, or a quotation (the name of a value) where the pledge has one."""
    record = state.own.get("pledge")
    pattern = Pledge.of(record).answer if record else None
    if pattern is None:
        return True
    case = Case(call=_NO_CALL, state=state, grants=())
    found = like(pattern, text, lambda kind, piece: kind not in ("text", "name") or case.founded(piece))
    return found is not None


_NO_CALL = Call(
    id="", device="", function=Function(name="answer", description="", parameters={}, effect=Effect.NONE),
    arguments={}, labels={}, leaves={}, process=Label(Ring.SYSTEM),
)  # fmt: skip
