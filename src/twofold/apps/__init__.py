"""Programs of the LLM OS: a folder each, with instructions, what they may do, files and tests.

An app is data, never code: `app.toml` says what it is and what it asks for (manifest.py), its
instructions and files are text, its tests are conversations (trial.py). It comes from a folder, an
archive, git or a store (origin.py, store.py), signed (signing.py), and is installed whole or not at all
(shelf.py). `built_in/` holds those that come with twofold. See docs/apps.md.
"""

from twofold.apps.manifest import App, read
from twofold.apps.shelf import find, names

__all__ = ["App", "find", "names", "read"]
