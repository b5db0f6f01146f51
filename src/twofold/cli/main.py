"""The entry point `twofold`: lists the commands, runs one, and turns errors into one sentence.

Exit codes: 0 done, 1 failed, 2 misused, 130 interrupted.
"""

import os
import sys
from typing import Annotated

import typer
from rich.text import Text

from twofold import __version__
from twofold.base.errors import TwofoldError
from twofold.base.registry import Registry
from twofold.cli import terminal

COMMANDS = Registry("twofold.cli.commands", "command", requires=("command", "SECTION", "EXAMPLE"))


def build_app(*, plain: bool = False) -> typer.Typer:
    """Return the typer application with every command in the folder.

    `plain`: help is text without boxes and colours, for the manual in docs/cli.md.
    """
    app = typer.Typer(
        name="twofold",
        pretty_exceptions_enable=False,
        rich_markup_mode=None if plain else "rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(overview)
    for name in COMMANDS.names():
        module = COMMANDS.get(name)
        app.command(name, rich_help_panel=module.SECTION)(module.command)
    return app


def overview(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """The whole life of a language model: from a folder of text to two files that talk, offline."""
    console = terminal.console()
    if version:
        console.print(f"twofold {__version__}")
    elif context.invoked_subcommand is None:
        console.print(
            f"[bold]twofold {__version__}[/]: from a folder of text to two files that talk, offline."
        )
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in COMMANDS.names():
            module = COMMANDS.get(name)
            sections.setdefault(module.SECTION, []).append(module.EXAMPLE)
        width = max(len(line) for examples in sections.values() for line, _ in examples)
        for section, examples in sections.items():
            console.print(f"\n[bold]{section}[/]")
            for line, meaning in examples:
                console.print(Text(f"  {line:<{width}}  ", style="cyan").append(meaning, style="default"))
        console.print("\n[dim]Every command explains itself: twofold chat --help[/]")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code; `arguments` default to the process's own."""
    try:
        _main(arguments)
    except SystemExit as end:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and isinstance(end.code, int | None):
            # One of several that train: a thread of torch that still holds a tensor would abort a process
            # that ends step by step.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)
        raise


def _main(arguments: list[str] | None) -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character shows another
    try:
        build_app()(arguments, prog_name="twofold")
    except TwofoldError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("Interrupted.", 130)
    except OSError as error:
        if os.environ.get("TWOFOLD_DEBUG"):
            raise
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.", 1)
    except Exception as error:
        if os.environ.get("TWOFOLD_DEBUG"):
            raise
        kind = type(error).__name__
        _fail(
            f"This is a bug in twofold ({kind}: {error}). TWOFOLD_DEBUG=1 shows where; please report it.", 1
        )


def _fail(sentence: str, code: int) -> None:
    terminal.error_console().print(Text(terminal.clean(sentence), style="red"), soft_wrap=True)
    sys.exit(code)
