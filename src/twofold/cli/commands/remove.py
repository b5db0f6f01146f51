"""`twofold remove`: take a pulled model off the shelf."""

from typing import Annotated

import typer

SECTION = "Models"
EXAMPLE = ("twofold remove NAME", "delete a pulled model, or what came of one")


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What `twofold list` calls it.")],
) -> None:
    """Delete a pulled model, or what has come of one. Runs and the model in the box are never deleted."""
    from rich.text import Text

    from twofold.base.errors import UsageError
    from twofold.cli import terminal
    from twofold.run import catalogue, pulled

    known = catalogue.known()
    if pulled.find(name) is None and name in known:
        raise UsageError(f"{name} was not pulled, so it is not removed by this: it lies at {known[name]}.")
    gone = pulled.remove(name)
    terminal.console().print(Text(terminal.clean(f"{gone} is gone.")), soft_wrap=True)
