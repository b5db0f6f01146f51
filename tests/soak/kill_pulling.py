"""Kill a pull with kill -9 at random moments, again and again, until it comes through: the same bytes, on the
shelf in one move, and never anything there before.

    python tests/soak/kill_pulling.py [--seed 0]

Once a GGUF file, once a folder of safetensors that is converted. A slow hub on this machine serves the model
in the box. About a minute each.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pull"))
from fake_hub import Hub, serving

from twofold import parameters
from twofold.run import box, pulled


def pull(name: str, kill_s: float | None) -> bool:
    """Return whether a pull came through; it is killed after so many seconds."""
    command = [sys.executable, "-m", "twofold", "pull", name]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return worker.wait(kill_s) == 0
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
        return False


def until_whole(name: str, slow_s: float, hub: Hub, chance: random.Random) -> Path:
    """Return where the model lies, after as many kills as it took."""
    hub.slow_s = slow_s
    kills, began = 0, time.monotonic()
    while not pull(name, chance.uniform(0.5, 4.0)):
        kills += 1
        for model in pulled.models():
            parameters.load(model.path)  # what is on the shelf is whole
        if kills > 60:
            sys.exit(f"{name}: not whole after 60 kills.")
    again = sum(role == "cdn" and "Range" in headers for role, _, headers in hub.asked)
    print(
        f"{name}: whole after {kills} kills, gone on {again} times, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    assert pulled.unfinished() == {}, pulled.unfinished()
    assert kills >= 2, "too fast to be a test"
    (model,) = pulled.models()
    return model.path


def main() -> None:
    """Kill both kinds of pulls."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    chance = random.Random(parser.parse_args().seed)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"XDG_DATA_HOME": f"{folder}/data", "HF_HUB_OFFLINE": "0"}
        model = parameters.load(box.path())
        parameters.save_hf(model, f"{folder}/hf", "F16")
        wanted = f"{folder}/wanted.gguf"
        parameters.save_gguf(parameters.load(f"{folder}/hf"), wanted, "Q8_0")
        hub = Hub(repo="owner/box", files={"box-Q8_0.gguf": box.path().read_bytes()})
        with serving(hub):
            os.environ["HF_ENDPOINT"] = hub.address
            path = until_whole("owner/box:Q8_0", 0.15, hub, chance)
            assert path.read_bytes() == box.path().read_bytes()
            pulled.remove(path.parent.name)
            hub.files = {file.name: file.read_bytes() for file in Path(f"{folder}/hf").iterdir()}
            hub.asked.clear()
            path = until_whole("owner/box", 0.08, hub, chance)
            first, second = parameters.load(path), parameters.load(wanted)
            assert all((first.tensors[name] == second.tensors[name]).all() for name in second.tensors)
    print("Killed and whole.")


if __name__ == "__main__":
    main()
