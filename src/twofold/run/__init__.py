"""File two: run a model. run.c is the engine; this is its Python face.

`load` opens a model file and returns an `Engine`: logits for any batch of tokens, sequences that copy each
other's prefixes, and text as a stream. `open_model` does so for a model in memory; `answers` writes many
answers at once; batcher.py serves requests that come and go, and constraints.py holds answers to a form.
Where there is no C compiler the numpy twin in reference.py does the same, more slowly. Not covered: GPUs.
"""

from twofold.run.batch import Answer, answers
from twofold.run.chooser import Step
from twofold.run.engine import Engine, load, open_model
from twofold.run.sampling import Sampler

__all__ = ["Answer", "Engine", "Sampler", "Step", "answers", "load", "open_model"]
