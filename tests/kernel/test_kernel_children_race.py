"""A child that answers before its parent has noted that it waits is heard all the same."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from twofold.kernel.capabilities import Capability
from twofold.kernel.minds.script import Script
from twofold.kernel.policy import Rules
from twofold.kernel.process import Program
from twofold.kernel.running import Running
from twofold.kernel.system import System


def test_an_early_answer_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent is held up between beginning the child and noting that it waits, until the child is over."""
    over = threading.Event()
    write = Running.write

    def late(self: Running, kind: str, body: Mapping[str, Any], **options: Any) -> None:
        if kind == "waits":
            assert over.wait(20)
        write(self, kind, body, **options)

    monkeypatch.setattr(Running, "write", late)
    ended = System._ended

    def told(self: System, state: Any) -> None:
        ended(self, state)
        if state.parent:
            over.set()

    monkeypatch.setattr(System, "_ended", told)
    extract = {"values": [], "question": "Is it so?", "type": "boolean"}
    script = Script([{"calls": [{"name": "extract", "arguments": extract}]}, "true", "It is."])
    system = System(tmp_path, minds=lambda name: script, devices={}, policy=Rules())
    try:
        pid = system.spawn(Program(message="Is it so?", capabilities=(Capability(device="extract"),)))
        system.run(until=lambda: bool(system.state(pid).exit), seconds=20)
        assert system.state(pid).answer == "It is."
        assert [event.kind for event in system.events(pid)].count("returned") == 1
    finally:
        system.close()
