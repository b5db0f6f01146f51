"""Python for calculations and for putting calls together: an interpreter that has nothing to escape to.

The code runs in Monty (pydantic-monty), an interpreter of a part of Python written for this: there are no
files, no network, no environment and no imports but a few modules without side effects, so there is nothing
that would have to be forbidden. What it calls and does not define itself is a system call, by name and with
named arguments (`files_read(path="a.txt")["text"]`): the code is suspended, the call goes through the policy
like any other, and the code goes on with what it returned, or with an exception.

A run is a function of its code, inputs, state and the returns of its calls: its random numbers come from a
seed and the time from the clock device. So a call that was left (a question to the user, a crash, a fork) is
made again from its start with the returns that are in the journal, and comes to where it was.

`keep` keeps the variables; the name of this state comes back with the value and can be given to a later run.
The name cannot be guessed: who has it has seen what the state holds, and the labels say so.

Settings (`[python]` of devices.toml): `seconds`, `memory_bytes`, `depth` (of recursion), `calls`,
`output_bytes`.

Not covered: numpy and pandas (they are in the terminal), classes that inherit, most of the standard library.
"""

import base64
import contextlib
import datetime
import functools
import hashlib
import keyword
import math
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from twofold.base.errors import MissingExtraError
from twofold.base.files import atomic_write
from twofold.base.home import data_folder
from twofold.kernel.device import Context, DeviceError, Effect, Function, Returned

if TYPE_CHECKING:
    from pydantic_monty import FunctionSnapshot, Monty, MontySession, SyncSnapshot

DESCRIPTION = (
    "Runs Python for calculations and for putting calls together, without files, network or imports."
)

LIMITS = {"seconds": 10, "memory_bytes": 256 << 20, "depth": 400, "calls": 200, "output_bytes": 40_000}
_LONGEST_NUMBER = 10_000  # bits of an integer that is returned

_FUNCTION = Function(
    name="python",
    description=(
        "Run Python code; returns the value of its last line and what it printed. Other tools are functions "
        'there, with named arguments: files_read(path="a.txt")["text"]. '
        "No imports but math, re, json, datetime, random."
    ),
    parameters={
        "type": "object",
        "properties": {
            "code": {"type": "string"},
            "inputs": {"type": "object", "description": "values that are variables in the code, by name"},
            "keep": {
                "type": "boolean",
                "description": "keep the variables, and return the name of this state",
            },
            "state": {
                "type": "string",
                "description": "go on from the state that an earlier run has returned",
            },
        },
        "required": ["code"],
        "additionalProperties": False,
    },
    effect=Effect.NONE,  # in itself; each call that it makes is decided on for what it is
    contents=("code", "inputs", "state"),
    trusted=True,
)


class Python:
    """The device: some interpreters that wait, a process each."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._limits = {name: int(settings.get(name, most)) for name, most in LIMITS.items()}
        self._states = Path(settings.get("kept", data_folder() / "os")) / "python"
        self._lock = threading.Lock()
        self._pool: Monty | None = None

    def functions(self) -> Sequence[Function]:
        """Return python."""
        return (_FUNCTION,)

    def close(self) -> None:
        """End the interpreters."""
        with self._lock:
            if self._pool is not None:
                self._pool.__exit__(None, None, None)
                self._pool = None

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Run code. Raises DeviceError with Python's own message when the code fails."""
        inputs = dict(arguments.get("inputs", {}))
        for name in inputs:
            if not name.isidentifier() or keyword.iskeyword(name):
                raise DeviceError(f"{name!r} in `inputs` cannot be the name of a variable.")
        printed = _Printed(self._limits["output_bytes"])
        with self._session(context.call) as session:
            if state := arguments.get("state"):
                session.load_session(self._state(state))
            with _telling(printed):
                value = self._through(session, arguments["code"], inputs, printed, context)
                kept = self._keep(session) if arguments.get("keep") else None
        result = {"value": value, "printed": printed.text}
        text = printed.text if value is None and printed.text else printed.text + _spelled(value)
        if kept:
            result["state"] = kept
            text += f"\n[state {kept}]"
        if len(text) > self._limits["output_bytes"] + 200:
            raise DeviceError(
                f"The value is longer than {self._limits['output_bytes']:,} characters; return less."
            )
        return Returned(value=result, text=text)

    def _through(
        self,
        session: "MontySession",
        code: str,
        inputs: dict[str, Any],
        printed: "_Printed",
        context: Context,
    ) -> Any:
        """Return the value of the code, having answered its calls."""
        import pydantic_monty as monty

        step: SyncSnapshot = session.feed_start(code, inputs=inputs, print_callback=printed)
        while not isinstance(step, monty.MontyComplete):
            if isinstance(step, monty.NameLookupSnapshot):
                step = step.resume()  # nothing goes by that name
            elif not isinstance(step, monty.FunctionSnapshot):
                raise DeviceError(
                    "The code waits for something that nobody will send; call functions without await."
                )
            elif step.is_os_function:
                step = self._of_system(step, context)
            else:
                step = _answered(step, functools.partial(_called, step, context))
        return _as_json(step.output)

    def _of_system(self, step: "FunctionSnapshot", context: Context) -> "SyncSnapshot":
        if reading := _CLOCKS.get(str(step.function_name)):
            return _answered(step, lambda: reading(_now(context), *step.args))
        return step.resume_not_handled()

    @contextlib.contextmanager
    def _session(self, seed: str) -> Iterator["MontySession"]:
        with self._lock:
            if self._pool is None:
                self._pool = self._started()
            pool = self._pool
        number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6])
        with pool.checkout(
            limits={
                "max_memory": self._limits["memory_bytes"],
                "max_feed_duration_secs": float(self._limits["seconds"]),
                "max_recursion_depth": self._limits["depth"], "max_suspensions": self._limits["calls"],
            },
            os_policy={"sleep": "zero", "random_start": {"seed": number}, "datetime": "call_host"},
        ) as session:  # fmt: skip
            yield session

    def _started(self) -> "Monty":
        try:
            import pydantic_monty as monty
        except ImportError:
            raise DeviceError(str(MissingExtraError("The Python device", "os"))) from None
        pool = monty.Monty(
            min_processes=1, max_processes=8, checkout_timeout=60.0,
            request_timeout=float(self._limits["seconds"] + 5), max_checkouts_per_worker=100,
        )  # fmt: skip
        pool.__enter__()
        return pool

    def _keep(self, session: "MontySession") -> str:
        state = session.dump()
        name = secrets.token_hex(16) + hashlib.sha256(state).hexdigest()[:16]
        self._states.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_write(self._states / name) as file:
            file.write(state)
        return name

    def _state(self, name: str) -> bytes:
        # Monty trusts what it loads: only what this device has written itself gets there.
        path = self._states / name
        if len(name) == 48 and name.isalnum() and path.is_file():
            state = path.read_bytes()
            if hashlib.sha256(state).hexdigest()[:16] == name[32:]:
                return state
        raise DeviceError(
            f"There is no state {name[:60]!r}; run without `state`, or with one that a run has returned."
        )


class _Printed:
    """What was printed; the beginning, where it is too much."""

    def __init__(self, most: int) -> None:
        self.text, self._most = "", most

    def __call__(self, stream: str, text: str) -> None:
        if len(self.text) < self._most:
            self.text += text
            if len(self.text) > self._most:
                self.text = self.text[: self._most] + "\n[… the rest of what was printed is left out …]\n"


@contextlib.contextmanager
def _telling(printed: _Printed) -> Iterator[None]:
    """Turn Monty's errors into a message for the model: what was printed, and the traceback."""
    import pydantic_monty as monty

    try:
        yield
    except monty.MontyCrashedError as error:
        why = "it took too long" if error.timed_out else "its interpreter ended"
        raise DeviceError(f"The code was ended: {why}.") from None
    except (monty.MontySyntaxError, monty.MontyRuntimeError) as error:
        raise DeviceError((printed.text + _short(error.display("traceback"))).strip()) from None
    except monty.MontyError as error:
        raise DeviceError(f"The code cannot be run: {error}") from None


def _short(traceback: str) -> str:
    lines = traceback.splitlines()
    return "\n".join(lines if len(lines) <= 16 else [*lines[:6], "  …", *lines[-8:]])


def _answered(step: "FunctionSnapshot", answer: Callable[[], Any]) -> "SyncSnapshot":
    """Let the code go on with an answer; with an exception, which it may catch, where there is none."""
    try:
        value = answer()
    except DeviceError as error:
        return step.resume({"exception": RuntimeError(str(error))})
    return step.resume({"return_value": value})


def _called(step: "FunctionSnapshot", context: Context) -> Any:
    if step.args:
        raise DeviceError(
            f"{step.function_name}() takes its arguments by name, as in {step.function_name}(path=...)."
        )
    return context.syscall(str(step.function_name), _as_json(step.kwargs))


_CLOCKS: dict[str, Callable[..., Any]] = {
    "time.time": lambda now, asked_as: now.timestamp(),
    "datetime.now": lambda now, zone: now.astimezone(zone) if zone else now.replace(tzinfo=None),
    "date.today": lambda now: now.date(),
}


def _now(context: Context) -> datetime.datetime:
    said = context.syscall("clock", {})
    try:
        return datetime.datetime.fromisoformat(said["iso"])
    except (KeyError, TypeError, ValueError):
        raise DeviceError("The clock does not say the time in a way that is understood here.") from None


def _as_json(value: Any) -> Any:
    """Return a value of the code as JSON can hold it."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if value.bit_length() > _LONGEST_NUMBER:
            raise DeviceError(
                f"The value holds an integer of {value.bit_length():,} bits; return less of it."
            )
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_as_json(item) for item in value), key=repr)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) if isinstance(value, PurePath | datetime.timedelta) else repr(value)


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def open(settings: Mapping[str, Any]) -> Python:
    """Return the device."""
    return Python(settings)
