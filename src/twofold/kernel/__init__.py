"""What goes on while a model is used: labels, what people say about its answers; models on other servers.

`labels` keeps corrections and comparisons, and the instructions they were made under; `kernels` asks models
on other servers. See docs/kernel.md.

Not covered yet: processes, memory, scheduling, system calls.
"""
