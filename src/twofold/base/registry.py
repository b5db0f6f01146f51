"""One thing, one file: a folder is the list of its things, and a file's name is its name.

A model family, a command, a device or a task is a module in a folder of its kind. Nothing is registered
by hand: the folder is listed, and a module is imported only when somebody asks for it by name.
A file whose name starts with an underscore is not a thing.

Not covered: things from other packages (plugins).
"""

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType

from twofold.base.errors import TwofoldError, UsageError
from twofold.base.names import unknown


class Registry:
    """The modules of one package, each of which must define the names in `requires`."""

    def __init__(self, package: str, kind: str, requires: Sequence[str] = ()) -> None:
        """Describe a folder of things.

        `package`: dotted name of the folder, e.g. "twofold.parameters.families".
        `kind`: what one of them is called in messages, e.g. "model family".
        """
        self.package = package
        self.kind = kind
        self.requires = tuple(requires)

    def names(self) -> list[str]:
        """Return the names of all things, sorted. Only the folder's own `__init__` is imported."""
        folder = importlib.import_module(self.package)
        return sorted(m.name for m in pkgutil.iter_modules(folder.__path__) if not m.name.startswith("_"))

    def get(self, name: str) -> ModuleType:
        """Return the module called `name`.

        Raises UsageError when there is none (names the nearest and all known ones), TwofoldError when its
        file lacks a definition that every thing of this kind must have.
        """
        known = self.names()
        if name not in known:
            raise UsageError(unknown(self.kind, name, known))
        module = importlib.import_module(f"{self.package}.{name}")
        missing = [required for required in self.requires if not hasattr(module, required)]
        if missing:
            raise TwofoldError(
                f"The {self.kind} {name!r} ({module.__file__}) does not define {', '.join(missing)}."
            )
        return module
