"""How answers go out: what waits goes together, who sends has short turns, nobody waits for tidying."""

import asyncio
import ctypes
import gc
import logging
import platform
import struct
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from serving import serve

from twofold.serve import turns
from twofold.serve.models import Models
from twofold.serve.openai import FAMILY
from twofold.serve.operations import HANG_UP, Operation, _bunched, _Endpoint
from twofold.serve.settings import Settings
from twofold.serve.state import State


def bunches(pieces: AsyncIterator[str]) -> list[str]:
    async def read() -> list[str]:
        return [text async for text in _bunched(pieces)]

    return asyncio.run(read())


def test_pieces_that_are_there_go_out_together() -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "a"
        yield "b"
        await asyncio.sleep(0.01)
        yield "c"

    assert bunches(pieces()) == ["ab", "c"]


def test_a_reader_who_is_slow_gets_what_came_meanwhile() -> None:
    async def pieces() -> AsyncIterator[str]:
        for n in range(10):
            yield str(n)
            await asyncio.sleep(0)

    async def read() -> list[str]:
        found = []
        async for text in _bunched(pieces()):
            found.append(text)
            await asyncio.sleep(0.01)
        return found

    found = asyncio.run(read())
    assert "".join(found) == "0123456789"
    assert len(found) == 2


def test_what_came_before_a_mistake_goes_out_first() -> None:
    async def pieces() -> AsyncIterator[str]:
        yield "a"
        raise ZeroDivisionError

    async def read(found: list[str]) -> None:
        async for text in _bunched(pieces()):
            found.append(text)

    found: list[str] = []
    with pytest.raises(ZeroDivisionError):
        asyncio.run(read(found))
    assert found == ["a"]


def test_who_stops_reading_stops_the_writing() -> None:
    ended = []

    async def pieces() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await asyncio.sleep(0)
        finally:
            ended.append(True)

    async def read() -> None:
        reading = _bunched(pieces())
        assert await anext(reading)
        await reading.aclose()
        assert ended

    asyncio.run(read())


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="asks Linux by a number of x86-64"
)
def test_a_thread_has_short_turns_and_its_children_have_not() -> None:
    def turn_ns() -> int:
        held = ctypes.create_string_buffer(48)
        assert ctypes.CDLL(None).syscall(315, 0, held, 48, 0) == 0
        return int(struct.unpack("=IIQiIQQQ", held.raw)[5])

    before, found = turn_ns(), []

    def shortened() -> None:
        if turns.shorten():
            child = threading.Thread(target=lambda: found.append(turn_ns()))
            found.append(turn_ns())
            child.start()
            child.join()

    thread = threading.Thread(target=shortened)
    thread.start()
    thread.join()
    if not found or found[0] == 0:
        pytest.skip("this kernel has no turns of one's own (Linux 6.12 has)")
    assert found == [100_000, before]
    assert turn_ns() == before


def test_a_machine_that_is_not_known_has_usual_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert not turns.shorten()


def test_a_loaded_model_is_not_looked_through_for_garbage(tiny: Path) -> None:
    gc.unfreeze()
    with serve(tiny) as running:
        running.post("/api/generate", {"model": "tiny"})
        assert gc.get_freeze_count() > 1000
    gc.unfreeze()


def test_hanging_up_is_told_in_one_clear_line(caplog: pytest.LogCaptureFixture) -> None:
    state = State(Models([]), Settings(patience_s=0.05))
    endpoint = _Endpoint(state, Operation("GET", "/say", "", handle=None), FAMILY)
    hung_up = []

    async def pieces() -> AsyncIterator[str]:
        yield "Hello"

    async def takes_nothing(_: object) -> None:
        await asyncio.Event().wait()

    scope = {"state": {HANG_UP: lambda: hung_up.append(True)}}
    with caplog.at_level(logging.WARNING):
        asyncio.run(endpoint._send(pieces(), scope, takes_nothing))
    assert caplog.messages == [
        "A client of /say took nothing of its answer for 0.05 seconds, and was hung up on."
    ]
    assert hung_up == [True]
