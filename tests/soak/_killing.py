"""Killing a command at random moments, and going on with it: what kill_tuning and kill_preferring share."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path


def twofold(arguments: list[str]) -> "subprocess.Popen[bytes]":
    """Return a command that was started, silent."""
    return subprocess.Popen(
        [sys.executable, "-m", "twofold", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def killed(start: list[str], whole: Path, struck: Path, kills: int, chance: random.Random) -> int:
    """Run a command into `whole` and leave it alone, and into `struck` with kill -9; return the kills.

    A kill comes at any moment of a run's usual length, until `kills` are done or the run is.
    """
    began = time.monotonic()
    assert twofold([*start, "--out", str(whole)]).wait() == 0
    alone_s = time.monotonic() - began
    command, done = [*start, "--out", str(struck)], 0
    while done < kills:
        process = twofold(command)
        time.sleep(chance.uniform(0.3, 1.0) * alone_s)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            done += 1
        code = process.wait()
        if (struck / "recipe.toml").exists():
            command = [start[0], "--resume", str(struck)]
        if code == 0:
            break
    assert twofold(command).wait() == 0
    return done
