"""Start processes as torchrun does, but forked from one that has loaded torch: a second instead of ten.

    python several.py '[{"processes": 2, "layout": "shards", "text": …, "out": …}, …]'

Runs the scenarios one after the other and prints, for each, a line of JSON: exit codes and what was said.
A scenario may resume a run, tell one process to stop (`stop`: [process, step]) or kill one (`kill`).
"""

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

from forked import ended, start  # noqa: E402
from rich.console import Console  # noqa: E402
from small_runs import SHAPE, settings  # noqa: E402

from twofold.base.errors import TwofoldError  # noqa: E402
from twofold.train import loop, pretrain, resume, speaks  # noqa: E402

LIMIT_S = 120.0  # the others have noticed long before that one was lost


def scenario(spec):
    """Run one and return what came of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        notes = [Path(folder) / str(rank) for rank in range(spec["processes"])]
        children = [
            start(lambda rank=rank, note=note: process(spec, rank, port, note))
            for rank, note in enumerate(notes)
        ]
        codes = [ended(child, spec.get("limit_s", LIMIT_S)) for child in children]
        said = [" ".join(note.read_text().split()) for note in notes]
    return {"codes": codes, "said": said}


def process(spec, rank, port, note):
    if spec["processes"] > 1:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": spec["processes"], "MASTER_PORT": port}
        names |= {"LOCAL_WORLD_SIZE": spec["processes"], "MASTER_ADDR": "127.0.0.1"}
        os.environ.update({name: str(value) for name, value in names.items()})
    with open(note, "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        return work(spec, rank, file)


def work(spec, rank, file):
    console = Console(file=file, width=400) if speaks() else None
    for what, number in (("stop", signal.SIGTERM), ("kill", signal.SIGKILL)):
        if spec.get(what, [None])[0] == rank:
            strike_at(spec[what][1], number)
    try:
        if spec.get("resume"):
            resume(spec["out"], console=console)
        else:
            changes = {"layout": spec["layout"], "batch": 4, **spec.get("settings", {})}
            pretrain(settings(Path(spec["text"]), Path(spec["out"]), model=SHAPE, **changes), console=console)
        return 0
    except TwofoldError as error:
        print(f"error: {error}", file=file)
        return 1
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        return end.code
    except BaseException:
        traceback.print_exc(file=file)
        return 99


def strike_at(step, number):
    """Send this process a signal in the middle of a step: its gradients are made, the others' may not be."""
    whole = loop.gradients
    calls = []

    def call(*arguments):
        loss = whole(*arguments)
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), number)
        return loss

    loop.gradients = call


if __name__ == "__main__":
    for one in json.loads(sys.argv[1]):
        print(json.dumps(scenario(one)), flush=True)
