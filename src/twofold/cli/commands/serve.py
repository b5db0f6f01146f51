"""`twofold serve`: models over HTTP, as OpenAI's, Anthropic's and Ollama's clients ask for them."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold.cli import keys, models

if TYPE_CHECKING:
    from twofold.serve.state import State

SECTION = "Talk"
EXAMPLE = ("twofold serve", "answer OpenAI, Anthropic and Ollama clients, and open the web app")


def command(
    model: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="What to serve; default: all that has a name here."),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", metavar="P", help="Where to listen; default: 8080.")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Other than 127.0.0.1 only with a key.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="A file that holds the key; default: TWOFOLD_KEY, if set."
        ),
    ] = None,
    threads: models.Threads = None,
    slots: Annotated[
        int | None, typer.Option("--slots", metavar="N", help="Answers of a model at a time; default: 16.")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option("--context", metavar="N", help="Tokens of a conversation; default: the model's."),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            "--memory", metavar="GB", help="For all models together; default: half of the machine's."
        ),
    ] = None,
    browse: Annotated[
        bool, typer.Option("--open", help="Open the web app in this machine's browser, if it has a screen.")
    ] = False,
    settings: models.Settings = None,
) -> None:
    """Serve models over HTTP until Ctrl-C: to this machine only, unless told otherwise.

    Clients of OpenAI take the address with /v1; those of Anthropic and Ollama, and browsers, as it is.

    openai:MODEL, anthropic:MODEL or ollama:MODEL is one on that server, asked when a client names it.
    """
    from twofold.base import config
    from twofold.base.errors import UsageError
    from twofold.serve.models import Models
    from twofold.serve.settings import Settings
    from twofold.serve.state import State

    given: dict[str, Any] = {
        "host": host, "port": port, "threads": threads, "slots": slots, "context": context,
        "memory_gb": memory,
    }  # fmt: skip
    said = {name: value for name, value in given.items() if value is not None}
    chosen = config.override(config.build(Settings, said), settings or [])
    secret = keys.given(key)
    if secret is None and not chosen.loopback:
        raise UsageError(
            f"At {chosen.host} others can reach the server: set TWOFOLD_KEY, or name a key's file by --key."
        )
    _serve(State(Models(model or (), chosen), chosen, secret), browse=browse)


def _serve(state: "State", *, browse: bool) -> None:
    """Serve until Ctrl-C or SIGTERM, and say where."""
    import contextlib
    import signal
    import webbrowser

    from twofold.cli import terminal
    from twofold.serve import app, server

    notes = terminal.error_console()
    listening = server.listen(state.settings)
    where = server.address(listening)
    served = state.models.names()
    notes.print(f"Serving {', '.join(served[:8])} at {where} (Ctrl-C stops).", markup=False, soft_wrap=True)
    notes.print(
        f"[dim]Clients of OpenAI: {where}/v1 · of Anthropic and Ollama, and browsers: {where}[/]",
        soft_wrap=True,
    )
    if browse and (sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)):
        webbrowser.open(where)  # who comes early waits: the port listens already
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends as Ctrl-C does
    with listening, contextlib.suppress(KeyboardInterrupt):
        server.server(app.build(state), state.settings).run(sockets=[listening])
    notes.print("[dim]Stopped.[/]")
