"""`twofold rollback`: return to the default model before the last promotion."""

SECTION = "Train"
EXAMPLE = ("twofold rollback", "make the default model before the last promotion the default again")


def command() -> None:
    """Return to the default model before the last promotion. Nothing is deleted."""
    from twofold.cli import models, terminal
    from twofold.run import default

    before = models.default_name()
    found = default.rollback()
    now = "the model in the box" if found is None else found.name
    terminal.console().print(f"The default model is {now} again, instead of {before}.", markup=False)
