"""Talking to an MCP server that is a program here: a message a line, over its standard input and output.

The official package has such a transport too. This one believes less: a line has an end, the program sees
none of the user's variables but those that it was given, what it writes to standard error stays out of the
terminal, and the whole family of processes ends with it (MCP 2025-11-25, basic/transports and lifecycle).
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.abc
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from twofold.base import home
from twofold.devices.mcp.servers import Server

MOST = 8 << 20  # bytes of a message
_MOST_GARBAGE = 100  # lines that are no messages: some programs greet
_GRACE_S = 1.0  # that a program has to end by itself, and again after it was told to
_KEPT = 2_000  # bytes of what it wrote to standard error last
_PATH = "PATH"  # the one variable that every program is given: where programs are is no secret


class Heard:
    """What became of a connection. over: nothing will come any more. why: in words, where that is known."""

    def __init__(self) -> None:
        self.over = False
        self.why = ""
        self.complaint = b""

    def end(self, why: str = "") -> None:
        """Note that nothing will come any more."""
        self.over, self.why = True, self.why or why


Lines = anyio.abc.ObjectReceiveStream[SessionMessage | Exception]
Pair = tuple[Lines, anyio.abc.ObjectSendStream[SessionMessage]]


@contextlib.asynccontextmanager
async def running(server: Server, heard: Heard) -> AsyncIterator[Pair]:
    """Start a program, yield what it sends and what it is sent, and end it. Raises OSError."""
    environment = {_PATH: os.environ.get(_PATH, os.defpath), **server.environment}
    program = shutil.which(server.command[0], path=environment[_PATH])
    if program is None:
        raise FileNotFoundError(2, f"there is no program {server.command[0]!r}")
    process = await anyio.open_process(
        [program, *server.command[1:]],
        env=environment,
        cwd=_folder(server),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    into, lines = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    messages, out = anyio.create_memory_object_stream[SessionMessage](0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read, process, into, heard)
        tasks.start_soon(_write, process, out, heard)
        tasks.start_soon(_complain, process, heard)
        try:
            yield lines, messages
        finally:
            with anyio.CancelScope(shield=True):
                heard.end()
                lines.close()
                messages.close()
                await _end(process)
            tasks.cancel_scope.cancel()


def _folder(server: Server) -> Path:
    """Return where a program runs: not where the user is, unless he says so."""
    if server.folder is not None:
        return server.folder
    folder = home.data_folder() / "mcp" / server.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def _read(
    process: anyio.abc.Process, into: anyio.abc.ObjectSendStream[SessionMessage | Exception], heard: Heard
) -> None:
    """Hand on the messages that a program writes, until it stops or says what cannot be."""
    assert process.stdout is not None
    held, garbage = bytearray(), 0
    async with into:
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while garbage <= _MOST_GARBAGE and len(held) <= MOST:
                chunk = await process.stdout.receive()
                held += chunk
                if b"\n" not in chunk:
                    continue
                *lines, rest = bytes(held).split(b"\n")
                held = bytearray(rest)
                for line in filter(bytes.strip, lines):
                    try:
                        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                    except ValueError:
                        garbage += 1
                    else:
                        await into.send(SessionMessage(message))
        if len(held) > MOST:
            heard.end(f"it sends more than {MOST >> 20} MB in one message")
        elif garbage > _MOST_GARBAGE:
            heard.end("it writes what is not MCP to its standard output")
        heard.end()


async def _write(
    process: anyio.abc.Process, out: anyio.abc.ObjectReceiveStream[SessionMessage], heard: Heard
) -> None:
    assert process.stdin is not None
    async with out:
        try:
            async for message in out:
                line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                await process.stdin.send(line.encode() + b"\n")
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            heard.end()


async def _complain(process: anyio.abc.Process, heard: Heard) -> None:
    """Keep the end of what a program writes to standard error."""
    assert process.stderr is not None
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            heard.complaint = (heard.complaint + await process.stderr.receive())[-_KEPT:]


async def _end(process: anyio.abc.Process) -> None:
    """End a program and its children: by the end of its input, by a word, by force."""
    assert process.stdin is not None
    with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.aclose()
    for number in (signal.SIGTERM, signal.SIGKILL):
        with anyio.move_on_after(_GRACE_S):
            while (
                process.returncode is None
            ):  # waiting for it would also wait for children that keep its pipes
                await asyncio.sleep(0.01)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)  # children may be left when it has gone itself
    # A child that left the group may hold the other ends; ours are closed, which nothing public does.
    transport = getattr(getattr(process, "_process", None), "_transport", None)
    if transport is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            transport.close()
