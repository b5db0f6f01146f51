"""Processes of tests: forked, so that torch is loaded once, and gone when the one that started them is."""

import contextlib
import ctypes
import os
import signal
import time
import traceback


def start(work):
    """Do `work` in a process of its own and return its id; a number that `work` returns is its exit code."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    code = 1
    try:
        die_with(parent)
        result = work()
        code = result if isinstance(result, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def die_with(parent):
    """Let this process be killed when its parent ends, however that comes about (on Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def ended(child, limit_s=600.0):
    """Wait for a process and return its exit code, minus the signal's number if it was killed.

    After `limit_s` seconds it is killed and that is an error: a process that hangs is left by no test.
    """
    last = time.monotonic() + limit_s
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > last:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError(f"a process did not end within {limit_s:.0f} s")
        time.sleep(0.005)
