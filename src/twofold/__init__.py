"""twofold: the whole life of a language model, from a folder of text to two files that talk."""

__version__ = "0.1.0"
