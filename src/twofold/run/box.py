"""The model in the box: the small one that ships inside the package."""

from importlib import resources
from pathlib import Path

from twofold.base.errors import TwofoldError


def path() -> Path:
    """Return where the model in the box lies. Raises TwofoldError when the installation lacks it."""
    found = Path(str(resources.files("twofold"))) / "box" / "model.gguf"
    if not found.is_file():
        raise TwofoldError(
            f"This installation lacks the model in the box ({found}): install twofold again, or name a model."
        )
    return found
