"""Markdown: read as the plain text it is, marks and all, so that a model learns to write them."""

from twofold.corpus.formats.txt import read

__all__ = ["read"]
