"""The MCP server: the official package's client against it, over HTTP and standard input and output."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("mcp")

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_offering import Desk, offering

from twofold.base.errors import TwofoldError
from twofold.kernel.journal import Journal
from twofold.kernel.system import System
from twofold.serve import mcp, server
from twofold.serve.mcp import Offer
from twofold.serve.settings import Settings

Talk = Callable[[Client], Awaitable[Any]]


@contextmanager
def listening(folder: Path, key: str | None = None) -> Iterator[tuple[str, Offer, System, Desk]]:
    """Give the address of the server, and what is behind it."""
    settings = Settings(port=0, grace_s=0)
    with (
        offering(folder) as (offer, system, desk),
        server.running(mcp.over_http(offer, settings, key), settings) as it,
    ):
        yield f"{it.url}/mcp", offer, system, desk


def talk(where: Any, work: Talk) -> Any:
    """Return what an official client gets to hear."""

    async def play() -> Any:
        async with Client(where, read_timeout_seconds=20) as client:
            return await work(client)

    return asyncio.run(play())


def until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not so():
        assert time.monotonic() < end
        time.sleep(0.01)


async def tour(client: Client) -> None:
    """Use every kind of tool, and be told what goes wrong."""
    offered = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(offered) == {"desk_add", "desk_wait", "desk_draw", "desk_send", "desk_fail"}
    assert offered["desk_add"].input_schema["required"] == ["a", "b"]
    hints = offered["desk_add"].annotations, offered["desk_send"].annotations
    assert hints[0] is not None
    assert hints[1] is not None
    assert (hints[0].read_only_hint, hints[0].open_world_hint) == (True, False)
    assert (hints[1].read_only_hint, hints[1].destructive_hint) == (False, True)
    added = await client.call_tool("desk_add", {"a": 17, "b": 23})
    assert (added.content[0].text, added.is_error) == ("40", False)  # type: ignore[union-attr]
    drawn = await client.call_tool("desk_draw", {})
    assert [block.type for block in drawn.content] == ["text", "image"]
    for name, arguments, said in (
        ("desk_fail", {}, "cannot be done"),
        ("desk_add", {"a": 1}, "lack"),
        ("desk_nothing", {}, "no tool"),
    ):
        failed = await client.call_tool(name, arguments)
        assert failed.is_error
        assert said in failed.content[0].text or name == "desk_add"  # type: ignore[union-attr]
    many = await asyncio.gather(*(client.call_tool("desk_add", {"a": n, "b": n}) for n in range(5)))
    assert [one.content[0].text for one in many] == ["0", "2", "4", "6", "8"]  # type: ignore[union-attr]


def test_the_official_client_over_http_and_what_the_journal_says(tmp_path: Path) -> None:
    with listening(tmp_path) as (url, offer, system, _):
        talk(url, tour)
        state = system.state(offer.pid)
        assert state.program.app == "mcp"
        assert int(state.label.ring) == 3
        kinds = [event.kind for event in system.events(offer.pid)]
        assert kinds.count("returned") == 9
        assert kinds.count("decided") == 9
    assert Journal(tmp_path).verify() == []


def test_the_official_client_over_standard_input_and_output(tmp_path: Path) -> None:
    program = StdioServerParameters(
        command=sys.executable,
        args=[str(Path(__file__).with_name("mcp_offering.py")), str(tmp_path)],
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    talk(program, tour)
    journal = Journal(tmp_path)
    assert journal.events(1)[-1].kind == "exited"
    journal.close()


def test_what_the_policy_asks_the_user_answers_and_the_client_waits(tmp_path: Path) -> None:
    with listening(tmp_path) as (url, offer, system, desk):

        async def send(client: Client) -> Any:
            sending = asyncio.create_task(client.call_tool("desk_send", {"text": "hello"}))
            await asyncio.to_thread(until, lambda: system.state(offer.pid).asks is not None)
            asks = system.state(offer.pid).asks
            assert asks is not None
            assert asks.shows == {"text": "hello", "ring": 3}
            assert not desk.sent
            system.approve(offer.pid, asks.call, answer)
            return await sending

        answer: Any = "no"
        assert talk(url, send).is_error
        assert not desk.sent
        answer = "once"
        assert talk(url, send).structured_content == {"sent": "hello"}
        assert desk.sent == ["hello"]


def test_a_client_that_leaves_takes_its_calls_with_it(tmp_path: Path) -> None:
    with listening(tmp_path) as (url, offer, system, desk):

        async def leave(client: Client) -> Any:
            for name, so in (
                ("desk_wait", lambda: any(call.begun for call in system.state(offer.pid).calls.values())),
                ("desk_send", lambda: system.state(offer.pid).asks is not None),
            ):
                arguments = {"text": "late"} if name == "desk_send" else {}
                call = asyncio.create_task(client.call_tool(name, arguments))
                await asyncio.to_thread(until, so)
                call.cancel()
                await asyncio.wait([call])
                await asyncio.to_thread(until, lambda: system.state(offer.pid).open() is None)
            await asyncio.to_thread(until, lambda: system.state(offer.pid).waits == "user")
            return await client.call_tool("desk_add", {"a": 1, "b": 2})

        assert talk(url, leave).content[0].text == "3"
        assert desk.stopped == 1
        assert not desk.sent


def test_what_the_user_has_killed_is_over_in_a_sentence(tmp_path: Path) -> None:
    with listening(tmp_path) as (url, offer, system, _):

        async def go_on(client: Client) -> list[Any]:
            waiting = asyncio.create_task(client.call_tool("desk_wait", {}))
            await asyncio.to_thread(until, lambda: bool(system.state(offer.pid).calls))
            system.kill(offer.pid)
            return [await waiting, await client.call_tool("desk_add", {"a": 1, "b": 2})]

        for found in talk(url, go_on):
            assert found.is_error
            assert "ended" in found.content[0].text


def test_over_http_only_with_the_key_and_only_from_here(tmp_path: Path) -> None:
    with listening(tmp_path, key="s3cret") as (url, _, _, _):
        ask = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        assert httpx.post(url, json=ask).status_code == 401
        assert httpx.post(url, json=ask, headers={"Authorization": "Bearer no"}).status_code == 401
        good = {"Authorization": "Bearer s3cret"}
        assert httpx.post(url, json=ask, headers={**good, "Origin": "https://example.org"}).status_code == 403
        assert httpx.post(url, json=ask, headers={**good, "Host": "example.org"}).status_code == 403

        async def play() -> Any:
            async with (
                httpx2.AsyncClient(headers=good) as http,
                Client(streamable_http_client(url, http_client=http)) as client,
            ):
                return await client.call_tool("desk_add", {"a": 1, "b": 2})

        assert asyncio.run(play()).content[0].text == "3"
        with pytest.raises(TwofoldError, match="only programs of this machine"):
            mcp.over_http(None, Settings(host="0.0.0.0"), None)  # type: ignore[arg-type]
