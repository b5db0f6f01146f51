"""What every device promises: functions that explain themselves, and arguments that are checked."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from twofold.base.errors import TwofoldError
from twofold.devices import DEVICES
from twofold.kernel.capabilities import Capability
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned, named
from twofold.kernel.minds.script import Script
from twofold.kernel.policy import ByCapability
from twofold.kernel.process import Program
from twofold.kernel.system import System

_TYPES = {"string", "integer", "number", "boolean", "array", "object", "null"}


@pytest.fixture(autouse=True)
def _data_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(params=DEVICES.names())
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Return each device as it is without settings; one that this machine cannot run is skipped."""
    try:
        opened: Device = DEVICES.get(request.param).open({})
    except TwofoldError as error:
        pytest.skip(f"{request.param}: {error}")
    yield opened
    opened.close()


def of_request(request: pytest.FixtureRequest) -> str:
    name: str = request.node.callspec.params["device"]
    return name


@pytest.mark.parametrize("name", DEVICES.names())
def test_a_device_says_what_it_is_for(name: str) -> None:
    text = DEVICES.get(name).DESCRIPTION
    assert text.endswith(".")
    assert 10 < len(text) <= 200


def test_functions_of_a_device_explain_themselves(device: Device) -> None:
    for function in device.functions():
        assert re.fullmatch(r"[a-z][a-z_]*", function.name)
        assert function.description.strip().endswith((".", "!", ")"))
        assert isinstance(function.effect, Effect)
        schema = function.parameters
        assert schema["type"] == "object"
        assert set(schema.get("required", ())) <= set(schema["properties"])
        assert {*function.targets, *function.contents} <= set(schema["properties"])
        for inner in schema["properties"].values():
            kinds = inner.get("type", [])
            assert set([kinds] if isinstance(kinds, str) else kinds) <= _TYPES
        if function.effect in (Effect.FETCH, Effect.SEND) and schema["properties"]:
            assert function.targets or function.contents, f"{function.name}: what leaves, and where to?"


def test_functions_of_a_device_stay_the_same(device: Device) -> None:
    assert [one.name for one in device.functions()] == [one.name for one in device.functions()]
    assert len({one.name for one in device.functions()}) == len(device.functions())


def test_names_of_all_functions_are_each_their_own() -> None:
    opened = {}
    for name in DEVICES.names():
        try:
            opened[name] = DEVICES.get(name).open({})
        except TwofoldError:
            continue
    try:
        count = sum(len(device.functions()) for device in opened.values())
        assert len(named(opened)) == count
    finally:
        for device in opened.values():
            device.close()


class _Watched:
    """A device that is passed on to, and notes whether it was called."""

    def __init__(self, inner: Device) -> None:
        self._inner, self.called = inner, False

    def functions(self) -> Any:
        return self._inner.functions()

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        self.called = True
        return self._inner.call(function, arguments, context)

    def close(self) -> None:
        """The fixture closes it."""


def test_an_unknown_argument_is_refused_in_one_sentence(
    device: Device, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    name, watched = of_request(request), _Watched(device)
    functions = named({name: watched})
    calls = [{"name": one, "arguments": {"no_such": 1}} for one in functions]
    replies = [{"calls": [call]} for call in calls]
    system = System(
        tmp_path, minds=lambda _: Script([*replies, "Done."]), devices={name: watched}, policy=ByCapability()
    )
    pid = system.spawn(Program(message="Try.", capabilities=(Capability(device=name),)))
    system.run(seconds=10)
    texts = [page.text for page in system.state(pid).pages if page.kind == "result"]
    system.close()
    assert len(texts) == len(calls)
    assert not watched.called
    for text in texts:
        assert re.search(r"no_such|lack", text), text
        assert text.rstrip().endswith(".")
        assert "\n" not in text


def example(function: Function) -> dict[str, Any]:
    """Return arguments of the right kinds that mean nothing."""
    values = {
        "string": "x",
        "integer": 1,
        "number": 1.5,
        "boolean": True,
        "array": [],
        "object": {},
        "null": None,
    }
    found = {}
    for key in function.parameters.get("required", ()):
        inner = function.parameters["properties"][key]
        kinds = inner.get("type", "string")
        found[key] = inner.get("enum", [values[kinds if isinstance(kinds, str) else kinds[0]]])[0]
    return found


def test_arguments_that_mean_nothing_do_no_harm(device: Device, tmp_path: Path) -> None:
    context = Context(pid=1, workspace=tmp_path, call="c", ask_user=lambda question, options: "yes")
    for function in device.functions():
        try:
            returned = device.call(function.name, example(function), context)
        except DeviceError as error:
            assert len(str(error)) > 10, "no sentence"
            assert "src/" not in str(error), "our own lines are nobody's business"
        else:
            assert isinstance(returned, Returned)


@pytest.mark.parametrize("name", DEVICES.names())
def test_a_device_is_in_the_manual(name: str, root: Path) -> None:
    text = (root / "docs" / "devices.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    assert any(re.search(rf"\b{name}\b", heading.partition(":")[0]) for heading in headings)
