"""Recipes are scripts beside the package, not part of it: their folder is put on the path for their tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))
