"""File two: run a model. run.c is the engine; this is its Python face.

`load` opens a model file and returns an `Engine`: logits for any batch of tokens, sequences that copy each
other's prefixes, and text as a stream. Where there is no C compiler the numpy twin in reference.py does the
same, more slowly. Not covered: packed integer kernels, batching of many users (serve), GPUs.
"""

from twofold.run.engine import Engine, Step, load
from twofold.run.sampling import Sampler

__all__ = ["Engine", "Sampler", "Step", "load"]
