"""How good nanochat's saved model is on held-out text; runs in a process that can import nanochat.

Reads a JSONL of texts, prints the sum of nats over all their tokens as one line of JSON. Each text begins
with `<|bos|>`, as in training, and is read in windows side by side of the length the model was trained with.
The products are float32, whatever they were in training.
"""

import argparse
import contextlib
import json
import sys

import torch

BATCH = 16


def main() -> None:
    """Print the nats and the model's sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", help="JSONL with the field `text`")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with contextlib.redirect_stdout(sys.stderr):
        from nanochat.checkpoint_manager import load_model  # type: ignore[import-not-found]  # nanochat's

        model, tokenizer, meta = load_model("base", torch.device("cpu"), "eval")
    size = meta["model_config"]["sequence_len"]
    with open(options.texts) as file:
        texts = [json.loads(line)["text"] for line in file]
    bos = tokenizer.get_bos_token_id()
    windows = [
        ids[at : at + size + 1]
        for ids in tokenizer.encode(texts, prepend=bos)
        for at in range(0, len(ids) - 1, size)
    ]
    total = 0.0
    with torch.inference_mode():
        for first in range(0, len(windows), BATCH):
            some = windows[first : first + BATCH]
            longest = max(len(window) for window in some)
            ids = torch.full((len(some), longest), -1)
            for row, window in enumerate(some):
                ids[row, : len(window)] = torch.tensor(window)
            # What stands behind the end of a window changes nothing before it, and is no target.
            inputs, targets = ids[:, :-1].clamp(min=0), ids[:, 1:].contiguous()
            total += float(model(inputs, targets, loss_reduction="sum"))
    counts = model.num_scaling_params()
    products = counts["transformer_matrices"] + counts["lm_head"]
    print(json.dumps({"nats": total, "parameters": counts["total"], "products": products}))


if __name__ == "__main__":
    main()
