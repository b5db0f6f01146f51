"""How well and how fast a model does: bits per byte, speed, scaling laws, and what a training run would take.

`bits_per_byte` runs the model as it is talked to, through the engine, so the figure is that of the file
people get (quantised or not) and needs no torch. `evaluation` puts the benchmarks in `tasks/` to a model,
`contamination` looks for them in its training text, `harness` lends the model to lm-evaluation-harness.
`machine`, `pace`, `calibration` and `speed` are what `twofold bench` shows. `scaling` fits laws to runs,
`ladder` keeps those of this machine, `budget`, `layout` and `hardware` are what `twofold plan` answers from.
`arena` rates models by battles, with `style` taken out if wanted; `forecast` says how fast a model will be.
See docs/measure.md.

Not covered yet: dreams, insight.
"""

from twofold.measure.bits_per_byte import Score, bits_per_byte

__all__ = ["Score", "bits_per_byte"]
