"""How good nanoGPT's saved model is on the whole held-out text; runs in the folder where nanoGPT was trained.

Windows of its block size side by side, every character predicted once: what its own estimate from 20 random
batches estimates. Prints nats per character.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch


def main() -> None:
    """Print the loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="nanoGPT's folder, with out-shakespeare-char/ckpt.pt")
    folder: Path = parser.parse_args().folder
    sys.path.insert(0, str(folder))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]  # nanoGPT's

    checkpoint = torch.load(folder / "out-shakespeare-char" / "ckpt.pt", weights_only=False)
    net = GPT(GPTConfig(**checkpoint["model_args"]))
    net.load_state_dict(checkpoint["model"])
    net.eval()
    ids = np.fromfile(folder / "data" / "shakespeare_char" / "val.bin", dtype=np.uint16).astype(np.int64)
    size = checkpoint["model_args"]["block_size"]
    rows = torch.from_numpy(ids[: (len(ids) - 1) // size * size + 1])
    inputs, targets = rows[:-1].view(-1, size), rows[1:].view(-1, size)
    with torch.no_grad():
        losses = [
            net(x, y)[1].item() * len(x) for x, y in zip(inputs.split(64), targets.split(64), strict=True)
        ]
    print(sum(losses) / len(inputs))


if __name__ == "__main__":
    main()
