"""The Python device: values in and out, system calls, states, limits, and nothing to escape to."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from twofold.devices import python
from twofold.kernel.capabilities import Capability
from twofold.kernel.device import Context, DeviceError, Effect, Function, Returned
from twofold.kernel.flow import Ring

pytest.importorskip("pydantic_monty")

Call = Callable[..., Returned]


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[python.Python]:
    device = python.open({
        "kept": tmp_path_factory.mktemp("kept"), "seconds": 1, "memory_bytes": 30_000_000, "depth": 100,
        "calls": 20, "output_bytes": 2000,
    })  # fmt: skip
    yield device
    device.close()


@pytest.fixture
def made() -> list[tuple[str, Mapping[str, Any]]]:
    """Return the system calls that the code has made."""
    return []


@pytest.fixture
def call(device: python.Python, made: list[tuple[str, Mapping[str, Any]]]) -> Call:
    def syscall(name: str, arguments: Mapping[str, Any]) -> Any:
        made.append((name, arguments))
        if name == "clock":
            return {"iso": "2026-03-04T05:06:07+01:00"}
        if name != "double":
            raise DeviceError(f"There is no function {name!r}.")
        return {"twice": arguments["number"] * 2}

    def calling(code: str, id: str = "c1", **arguments: Any) -> Returned:
        context = Context(pid=1, workspace=Path("/nonexistent"), call=id, syscall=syscall)
        return device.call("python", {"code": code, **arguments}, context)

    return calling


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("1 + 1", 2),
        ("x = 3", None),
        ("sum(v) / len(v)", 2.5),
        ("{1: (2, 3), 's': {3, 1}}", {"1": [2, 3], "s": [1, 3]}),
        ("[float('nan'), float('inf'), 10 ** 40]", ["nan", "inf", 10**40]),
        ("[b'a', None, True]", ["YQ==", None, True]),
        ("import datetime\ndatetime.date(2026, 1, 2)", "2026-01-02"),
        ("import re\nre.findall('[0-9]+', 'a1b22')", ["1", "22"]),
        ("import json, math\n[json.loads('[1]'), math.floor(2.7)]", [[1], 2]),
        ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nf(20)", 2432902008176640000),
    ],
)  # fmt: skip
def test_python_values_in_and_out(call: Call, code: str, value: Any) -> None:
    assert call(code, inputs={"v": [1, 4]}).value == {"value": value, "printed": ""}


def test_python_prints_and_returns(call: Call) -> None:
    returned = call("print('a', 1)\n'b'")
    assert returned.value == {"value": "b", "printed": "a 1\n"}
    assert returned.text == "a 1\nb"
    assert "left out" in call("print('x' * 100_000)").value["printed"]


def test_python_calls_are_system_calls(call: Call, made: list[Any]) -> None:
    assert call("a = double(number=2)['twice']\ndouble(number=a)").value["value"] == {"twice": 8}
    assert made == [("double", {"number": 2}), ("double", {"number": 4})]
    caught = call("try:\n    nothing(a=1)\nexcept RuntimeError as error:\n    print(error)")
    assert caught.value["printed"] == "There is no function 'nothing'.\n"
    with pytest.raises(DeviceError, match="takes its arguments by name"):
        call("double(2)")
    assert len(made) == 3


def test_python_time_and_chance_come_from_outside(call: Call, made: list[Any]) -> None:
    """So that a run which is made again comes to the same."""
    moments = call(
        "import datetime, time\n[datetime.datetime.now(), datetime.date.today(), time.time()]"
    ).value["value"]
    assert moments == ["2026-03-04T05:06:07", "2026-03-04", 1772597167.0]
    assert [name for name, _ in made] == ["clock"] * 3
    numbers = [call("import random\nrandom.random()", id=id).value["value"] for id in ("c1", "c1", "c2")]
    assert numbers[0] == numbers[1] != numbers[2]


def test_python_states_go_on_and_branch(call: Call) -> None:
    first = call("x = [1]\ndef more(n):\n    x.append(n)\n    return x", keep=True).value["state"]
    second = call("more(2)", state=first, keep=True)
    assert second.value["value"] == [1, 2]
    assert call("more(3)", state=second.value["state"]).value["value"] == [1, 2, 3]
    assert call("more(9)", state=first).value["value"] == [1, 9]
    assert call("len(x)", state=first).value["value"] == 1


def test_python_states_of_others_making_are_not_loaded(call: Call, device: python.Python) -> None:
    state = call("x = 1", keep=True).value["state"]
    path = device._states / state
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    for name in (state, "../" + state, "0" * 48, ""):
        if name:
            with pytest.raises(DeviceError, match="There is no state"):
                call("x", state=name)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("while True: pass", "time limit"),
        ("x = [0] * 10 ** 9", "memory limit"),
        ("x = []\nwhile True: x.append('a' * 10_000)", "memory limit"),
        ("10 ** 10 ** 10", "memory limit|time limit|too"),
        ("def f(): return f()\nf()", "recursion"),
        ("for _ in range(50): double(number=1)", "suspension|limit"),
        ("'a' * 5000", "longer than"),
        ("2 ** 20_000", "integer of"),
        ("1 +", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("nobody", "NameError"),
    ],
)
def test_python_limits_and_errors_are_told(call: Call, code: str, says: str) -> None:
    with pytest.raises(DeviceError, match=says):
        call(code)
    assert call("1 + 1").value["value"] == 2


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd').read()",
        "import os\nos.environ['PATH']",
        "import os\nos.system('id')",
        "import os\nos.listdir('/')",
        "import subprocess",
        "import socket",
        "import ctypes",
        "import sys\nsys.modules['os'].system('id')",
        "__import__('os').system('id')",
        "from pathlib import Path\nPath('/etc/passwd').read_text()",
        "from pathlib import Path\nPath('twofold-python-escape').write_text('x')",
        "().__class__.__base__.__subclasses__()",
        "(lambda: 0).__globals__['__builtins__']",
        "'{0.__class__.__init__.__globals__}'.format(print)",
        "exec(\"import os; os.system('id')\")",
        "eval(\"__import__('os').getpid()\")",
        "def f(): pass\nf.__code__.co_code",
        "try:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__.tb_frame.f_back.f_globals",
        "breakpoint()",
        "input()",
        "compile('1', 'x', 'eval')",
        "getattr(print, '__self__').open('/etc/passwd')",
    ],
)
def test_python_there_is_nothing_to_escape_to(call: Call, made: list[Any], code: str) -> None:
    with pytest.raises(DeviceError):
        call(code)
    assert all(name not in ("open", "system", "eval") or not arguments for name, arguments in made)
    assert not Path("twofold-python-escape").exists()


def test_python_inputs_cannot_be_code(call: Call) -> None:
    with pytest.raises(DeviceError, match="cannot be the name of a variable"):
        call("1", inputs={"x; import os": 1})


class Store:
    """A device that keeps numbers, and one that must be asked about."""

    def __init__(self) -> None:
        self.kept: list[int] = []

    def functions(self) -> list[Function]:
        number = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
        return [
            Function(name=name, description="Keep a number.", parameters=number, effect=effect)
            for name, effect in (("keep", Effect.WRITE), ("forget", Effect.WRITE))
        ]

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        self.kept.append(arguments["number"])
        return Returned(value=len(self.kept))

    def close(self) -> None:
        pass


def test_python_under_the_kernel_each_call_is_decided_and_a_question_does_not_make_it_twice(
    device: python.Python, tmp_path: Path
) -> None:
    """The code calls a device, then one that only the user may allow; it goes on when the answer is there."""
    from twofold.kernel.minds.script import Script
    from twofold.kernel.policy import ByCapability, Call, Decision
    from twofold.kernel.process import Program
    from twofold.kernel.system import System

    class AskForForget(ByCapability):
        def decide(self, call: Call, state: Any, grants: Any) -> Decision:
            if call.function.name == "forget":
                return Decision(verdict="ask", rule="test", reason="It forgets.")
            return super().decide(call, state, grants)

    code = "a = store_keep(number=1)\nb = store_forget(number=2)\n[a, b]"
    store = Store()
    replies = [{"calls": [{"name": "python", "arguments": {"code": code}}]}, "Done."]
    system = System(
        tmp_path, minds=lambda _: Script(replies),
        devices={"python": device, "store": store}, policy=AskForForget(),
    )  # fmt: skip
    try:
        capabilities = (Capability(device="python"), Capability(device="store"))
        pid = system.spawn(Program(message="Go.", model="script", capabilities=capabilities))
        system.run()
        assert store.kept == [1]
        waiting = [c for c in system.state(pid).calls.values() if c.verdict == "ask"]
        assert [c.name for c in waiting] == ["store_forget"]
        system.approve(pid, waiting[0].id, "once")
        system.run()
        assert store.kept == [1, 2]
        result = next(page for page in system.state(pid).pages if page.kind == "result")
        assert result.text == "[1, 2]"
        assert result.label.ring is Ring.TOOL
    finally:
        system.close()
