"""System calls that the kernel answers itself, a file each: no device has a part in them.

Each defines FUNCTION, and `call(process, call)`, which returns what it returns, or the child whose answer
that will be; it may write to the process's journal. A capability for one names it as its device.
"""

from twofold.base.registry import Registry

CALLS = Registry("twofold.kernel.calls", "system call", requires=("FUNCTION", "call"))
