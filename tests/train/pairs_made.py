"""Pairs that a tiny model can learn: after "say", the answer with an x is the better one."""

import json
import random

from twofold.parameters import ModelConfig, save_gguf
from twofold.tokens import Tokenizer
from twofold.train import PreferConfig
from twofold.train.export import to_model
from twofold.train.transformer import Transformer

TOKENIZER = Tokenizer.train(["user assistant say x y z " * 9], 320)
SHAPE = ModelConfig(
    architecture="qwen3", family="qwen3", context=192, vocab_size=320, layers=1, width=32, heads=2,
    kv_heads=2, head_dim=16, ffn=64, tied=True,
)  # fmt: skip
LETTERS = "abcdefgh"


def fresh(path, seed=0):
    """Write a model that knows nothing, whose blocks count."""
    import torch

    net = Transformer(SHAPE)
    net.initialise(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    save_gguf(to_model(net, TOKENIZER, {"name": "fresh"}), path, "F32")
    return path


def lines(count, seed=0):
    """Return so many pairs, each for a prompt of its own."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        words = [chance.choice(LETTERS) for _ in range(3)]
        better, worse = (" ".join([*words[:2], last]) for last in "xy")
        found.append({"prompt": f"say {number}", "chosen": better, "rejected": worse})
    return found


def write(path, records):
    """Write records as JSON Lines; return the path."""
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def settings(model, data, out, **changes):
    """Return the settings of a run of 20 steps."""
    given = dict(
        model=model, data=(str(data),), out=out, steps=20, batch=4, threads=1, eval_every=5,
        checkpoint_steps=4, patience=0, val_fraction=0.2, keep_back=0.0, compare=False, gold_prompts=6,
        gold_each=2, best_of=4, max_tokens=8, sequences=4,
    )  # fmt: skip
    return PreferConfig(**{**given, **changes})
