"""What goes on while a model is used: so far the labels, what people say about its answers.

`labels` keeps corrections and comparisons, and the instructions they were made under. See docs/kernel.md.

Not covered yet: processes, memory, scheduling, system calls.
"""
