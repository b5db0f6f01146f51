"""A program: what a process is to do, what it may, and what it may spend."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from twofold.kernel.capabilities import Capability

Record = TypeVar("Record")


def replace(record: Record, **changes: Any) -> Record:
    """Return a record with some fields changed: dataclasses.replace without its checks, twenty times as fast,
    as every system call makes a dozen."""
    new = object.__new__(type(record))
    new.__dict__.update(record.__dict__, **changes)
    return new


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a process may spend, or has spent. tokens: written and newly read. seconds: of saying and calling.
    calls: of devices. money: in the currency of kernels.toml. None: no limit."""

    tokens: int | None = None
    seconds: float | None = None
    calls: int | None = None
    money: float | None = None

    def add(self, **more: Any) -> "Budget":
        """Return it with more of something."""
        return replace(self, **{name: (getattr(self, name) or 0) + extra for name, extra in more.items()})

    def less(self, spent: "Budget") -> "Budget":
        """Return what is left of it."""
        given, gone = vars(self), vars(spent)
        return Budget(
            **{name: None if limit is None else limit - (gone[name] or 0) for name, limit in given.items()}
        )

    def empty(self) -> str:
        """Return what has run out, in a word; "" when nothing has."""
        return next((name for name, left in vars(self).items() if left is not None and left <= 0), "")


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a process is to do, and what it may.

    model: as `minds` knows it; "" is the default. priority: the higher goes first. deadline: seconds since
    1970. shown: devices whose results the process reads at once, and is tainted by. stays: after an answer it
    waits for the user's next words; else it exits. schema: what its answers must be, as JSON; None: text.
    generation: how many parents it has, one above the other. folder, files: the app's, and what in it its
    processes may search: names of files and folders.
    """

    message: str
    instructions: str = ""
    model: str = ""
    capabilities: tuple[Capability, ...] = ()
    budget: Budget = field(default_factory=Budget)
    priority: int = 0
    deadline: float | None = None
    app: str = ""
    folder: str = ""
    files: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    stays: bool = False
    schema: Mapping[str, Any] | None = None
    generation: int = 0

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        capabilities = [capability.record() for capability in self.capabilities]
        return {
            **plain, "capabilities": capabilities, "budget": asdict(self.budget), "shown": list(self.shown),
            "files": list(self.files),
        }  # fmt: skip

    @staticmethod
    def of(record: Mapping[str, Any]) -> "Program":
        """Return the program of a record."""
        return Program(
            **{
                **record,
                "capabilities": tuple(map(Capability.of, record["capabilities"])),
                "budget": Budget(**record["budget"]),
                "shown": tuple(record["shown"]),
                "files": tuple(record.get("files", ())),
            }
        )
