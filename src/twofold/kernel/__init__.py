"""The LLM OS: processes, memory, system calls, and what people say about answers.

A process is what its journal adds up to (`journal`, `process`); `system` runs many on minds and devices by
turns (`scheduler`), and carries out what they ask for (`syscalls`) where the `policy` allows it. `labels`
keeps corrections and comparisons, and the instructions they were made under; `kernels` asks models on other
servers. See docs/kernel.md.
"""
