"""How well a model does: bits per byte on text it has not seen.

`bits_per_byte` runs the model as it is talked to, through the engine, so the figure is that of the file
people get (quantised or not) and needs no torch. See docs/measure.md.

Not covered yet: tasks, the arena, scaling laws, dreams, insight.
"""

from twofold.measure.bits_per_byte import Score, bits_per_byte

__all__ = ["Score", "bits_per_byte"]
