"""`twofold mcp`: tools of other programs for processes here, and devices from here for other programs."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from twofold.devices.mcp.servers import Server
    from twofold.devices.mcp.tools import Tool
    from twofold.kernel.capabilities import Capability
    from twofold.serve.mcp import Offer

SECTION = "Run processes"
EXAMPLE = ("twofold mcp", "offer devices to other programs, and use the tools of theirs (MCP)")
_PORT = 8089


def command(
    what: Annotated[
        Literal["serve", "list", "trust", "forget"],
        typer.Argument(metavar="WHAT", help="serve, list, trust NAME or forget NAME."),
    ] = "serve",
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A server of mcp.toml.")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="DEVICE[.FUNCTION][:WHERE]",
            help="With serve: what to offer; default: calculator and clock. Repeatable.",
        ),
    ] = None,
    http: Annotated[bool, typer.Option("--http", help="With serve: over HTTP, at /mcp.")] = False,
    port: Annotated[int, typer.Option("--port", "-p", metavar="P", help="With --http.")] = _PORT,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Other than 127.0.0.1 only with a key.")
    ] = "127.0.0.1",
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="A file that holds the key; default: TWOFOLD_KEY, if set."
        ),
    ] = None,
) -> None:  # fmt: skip
    """Use tools of MCP servers, and be one.

    serve offers devices to another program, over standard input and output or HTTP; its calls are those of a process: twofold ps, logs, approve, kill.

    list shows the servers that mcp.toml in the data folder names. trust shows what the tools of one say of themselves, and asks whether processes may see them; forget takes that back.
    """  # noqa: E501 - paragraphs of the help
    from twofold.base.errors import UsageError

    if (what in ("trust", "forget")) != (name is not None):
        raise UsageError(f"`twofold mcp {what}` takes {'a server’s name' if name is None else 'no name'}.")
    if what == "serve":
        _serve(allow or ["calculator", "clock"], http=http, host=host, port=port, key=key)
    elif what == "list":
        _list()
    elif what == "trust":
        _trust(_named(str(name)))
    else:
        _forget(str(name))


# ---- servers of others


def _named(name: str) -> "Server":
    from twofold.base.errors import UsageError
    from twofold.base.names import unknown
    from twofold.devices.mcp import servers

    known = servers.known()
    if name not in known:
        raise UsageError(f"{unknown('MCP server', name, known)} {servers.file()} names them.")
    return known[name]


def _list() -> None:
    from twofold.cli import terminal
    from twofold.devices.mcp import servers, tools

    console, known = terminal.console(), servers.known()
    if not known:
        console.print(f"No MCP server is named in {servers.file()}.", markup=False, soft_wrap=True)
    for server in known.values():
        console.print(f"{server.name}  [dim]{_safe(server.spelled)}[/]", soft_wrap=True)
        seen = tools.trusted(server)
        for tool in seen.values():
            console.print(f"  {tool.call:<28} {tool.effect(server)}", markup=False)
        if not seen:
            console.print(f"  [dim]Not looked at yet: twofold mcp trust {server.name}[/]")


def _trust(server: "Server") -> None:
    from twofold.cli import terminal
    from twofold.devices.mcp import look, tools
    from twofold.devices.mcp.servers import ServerError

    console = terminal.console()
    try:
        offered, title = look(server)
    except ServerError as error:
        if error.said:
            terminal.error_console().print(f"[dim]{_safe(error.said)}[/]", soft_wrap=True)
        raise
    before = tools.trusted(server)
    what = f"[dim]({_safe(title)})[/] " if title else ""
    console.print(f"[bold]{server.name}[/] {what}{_safe(server.spelled)}", soft_wrap=True)
    for tool in offered:
        _show(server, tool, before.get(tool.name))
    for gone in before.keys() - {tool.name for tool in offered}:
        console.print(f"\n[bold]{_safe(gone)}[/] [yellow]is not offered any more[/]")
    if {tool.name: tool.digest for tool in before.values()} == {tool.name: tool.digest for tool in offered}:
        console.print("\nNothing has changed since you looked at them.")
        return
    console.print(
        "\nThese are the words of a stranger, which a model is to read. What the tools do, and what they "
        "return, stays untrusted.", soft_wrap=True,
    )  # fmt: skip
    if typer.confirm(f"May processes see the {len(offered)} tools of {server.name}?"):
        tools.trust(server, offered)
        console.print("They may; a process still needs a capability for each.")
    else:
        console.print("Nothing was changed.")


def _show(server: "Server", tool: "Tool", before: "Tool | None") -> None:
    from twofold.cli import terminal

    console = terminal.console()
    mark = ""
    if before is None:
        mark = " [yellow]new[/]"
    elif before.digest != tool.digest:
        mark = " [red]says otherwise than when you looked at it[/]"
    console.print(f"\n[bold]{_safe(tool.name)}[/] [cyan]{tool.effect(server)}[/]{mark}", soft_wrap=True)
    if before is not None and before.description != tool.description:
        console.print(f"  [dim]before: {_safe(before.description)}[/]", soft_wrap=True)
    if tool.description:
        console.print(f"  {_safe(tool.description)}", soft_wrap=True)
    for name, schema in tool.parameters.get("properties", {}).items():
        said = f": {_safe(schema['description'])}" if "description" in schema else ""
        console.print(f"  [dim]{_safe(name)}{said}[/]", soft_wrap=True)


def _forget(name: str) -> None:
    from twofold.base.errors import UsageError
    from twofold.cli import terminal
    from twofold.devices.mcp import tools

    if not tools.forget(name):
        raise UsageError(f"No tool of a server {name!r} was trusted.")
    terminal.console().print(f"Processes see no tools of {name} any more.", markup=False)


def _safe(text: str) -> str:
    """Return a stranger's text for the terminal: nothing in it steers, or is taken for markup."""
    from rich.markup import escape

    from twofold.cli import terminal

    return escape(terminal.clean(text))


# ---- devices for others


def _serve(allow: list[str], *, http: bool, host: str, port: int, key: Path | None) -> None:
    from twofold.cli import keys, terminal
    from twofold.serve import mcp, server
    from twofold.serve.settings import Settings

    notes = terminal.error_console()
    with _offered([_capability(one) for one in allow]) as offer:
        names = ", ".join(offer.functions)
        if not http:
            notes.print(f"Offering {names} as process {offer.pid}, by MCP over standard input and output.")
            if sys.stdin.isatty():
                notes.print("[dim]This is for another program to start; Ctrl-D ends it.[/]")
            mcp.over_pipes(offer)
            return
        secret, settings = keys.given(key), Settings(host=host, port=port)
        app = mcp.over_http(offer, settings, secret)
        listening = server.listen(settings)
        where = server.address(listening) + mcp.PATH
        notes.print(f"Offering {names} as process {offer.pid}, by MCP at {where} (Ctrl-C stops).")
        with listening, contextlib.suppress(KeyboardInterrupt):
            server.server(app, settings).run(sockets=[listening])


@contextlib.contextmanager
def _offered(allowed: "list[Capability]") -> "Iterator[Offer]":
    from twofold.cli import processes
    from twofold.serve.mcp import Guest, Offer

    guest = Guest()
    system = processes.system(dict.fromkeys(one.device for one in allowed), minds=lambda name: guest)
    system.start()
    offer = Offer(system, guest, system.devices, allowed)
    try:
        yield offer
    finally:
        offer.close()
        system.close()


def _capability(text: str) -> "Capability":
    """Return what `--allow` names: DEVICE[.FUNCTION][:WHERE]."""
    from twofold.base.errors import UsageError
    from twofold.base.names import unknown
    from twofold.devices import DEVICES
    from twofold.kernel.capabilities import Capability

    said, _, scope = text.partition(":")
    device, _, function = said.partition(".")
    if device not in DEVICES.names():
        raise UsageError(unknown("device", device, DEVICES.names()))
    more: dict[str, Any] = {"functions": (function,)} if function else {}
    return Capability(device=device, scope=(scope,) if scope else (), **more)
