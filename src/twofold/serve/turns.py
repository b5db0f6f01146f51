"""Short turns on the processor: with them a thread that wakes need not wait for one that computes.

Where models keep every core busy, Linux lets a thread that has just been woken wait until the turn of a
computing one is over, about 3 ms: tokens then go out by the handful. A thread with shorter turns of its own
is let in at once, and gets no more of the processor in all (sched_setattr(2), since Linux 6.12; see the
kernel's sched-eevdf.rst). Elsewhere nothing happens.
"""

import ctypes
import os
import platform
import struct

_CALL = {"x86_64": 314, "aarch64": 274}  # the number of sched_setattr
_TURN_NS = 100_000  # the least there is
_OTHER, _RESET_ON_FORK = 0, 1  # the usual policy; threads that this one starts have usual turns


def shorten() -> bool:
    """Give the calling thread the shortest turns there are; return whether the system did."""
    call = _CALL.get(platform.machine())
    if platform.system() != "Linux" or call is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)  # of this thread; it stays
    attributes = struct.pack("=IIQiIQQQ", 48, _OTHER, _RESET_ON_FORK, nice, 0, _TURN_NS, 0, 0)
    result: int = ctypes.CDLL(None).syscall(call, 0, attributes, 0)
    return result == 0
