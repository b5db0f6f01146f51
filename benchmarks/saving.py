"""What it costs to save a run: the last step after each step, and checkpoints beside the steps.

    python benchmarks/saving.py [--tokens 8192]

For models of three sizes: seconds of a step of so many tokens, of putting the state into the ring (what a
step waits for when it is saved after every step), of copying it for a checkpoint (what a step waits for), of
writing and hashing that copy (a thread's time), and of `torch.save` with a flush, for which training waits in
most recipes. Medians; shares are of the step.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from twofold.parameters import ModelConfig
from twofold.train import checkpoint
from twofold.train.data import Batch
from twofold.train.dial import ShapeConfig, shape
from twofold.train.optimiser import Optimiser, OptimizerConfig
from twofold.train.ring import Ring
from twofold.train.step import gradients
from twofold.train.transformer import Transformer

SIZES = ((4, 1024), (6, 8192), (10, 8192))  # layers, vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8192)
    options = parser.parse_args()
    print("parameters  state      step     ring            copy            write (thread)  torch.save")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", ".")) as folder:
        for depth, vocab in SIZES:
            measure(shape(ShapeConfig(depth=depth), depth, vocab), options.tokens, Path(folder))


def measure(config: ModelConfig, tokens: int, folder: Path) -> None:
    net = Transformer(config, compute=torch.bfloat16)
    net.initialise(0)
    rates = OptimizerConfig(muon_lr=0.01, embedding_lr=0.01, head_lr=0.01, norm_lr=0.01)
    optimiser = Optimiser(net.named(), rates, compute=net.compute)
    ids = torch.randint(0, config.vocab_size, (tokens // config.context, config.context)).numpy()
    batch = Batch(ids, ids, ids * 0)

    def step() -> None:
        gradients(net, batch, 8)
        optimiser.step(1.0)

    tensors: dict[str, torch.Tensor] = {f"model.{name}": one.detach() for name, one in net.named().items()}
    tensors |= {f"optimiser.{name}": one for name, one in optimiser.state_dict().items()}
    state = checkpoint.State(1, tensors, {"due": []})
    ring, copy = Ring(folder / f"ring-{config.layers}"), state.copy()
    ring.write(state)
    ring.write(state)

    def torchs() -> None:
        with open(folder / "torch.pt", "wb") as file:
            torch.save(tensors, file)
            file.flush()
            os.fsync(file.fileno())

    step_s = timed(step)
    ring_s = timed(lambda: ring.write(state))
    copy_s = timed(lambda: state.copy(copy.tensors))
    write_s = timed(lambda: checkpoint.save_state(folder / "checkpoints", copy))
    torch_s = timed(torchs)
    ring.remove()
    size = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
    shares = "  ".join(
        f"{s * 1000:6.1f} ms {100 * s / step_s:4.1f} %" for s in (ring_s, copy_s, write_s, torch_s)
    )
    print(f"{config.parameters / 1e6:9.1f}M  {size:5.0f} MB  {step_s:5.2f} s  {shares}", flush=True)


def timed(work: Callable[[], object]) -> float:
    """Return the median seconds of five times, after one to warm up."""
    times = []
    for _ in range(6):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
