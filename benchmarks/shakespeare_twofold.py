"""twofold's side of train_shakespeare.py: one whole training run, from text files to model.gguf.

Everything is fixed beforehand, as nanoGPT's recipe fixes its own: size, batch, rates, steps. A plan that is
finished needs no measuring of the machine, so it is handed over in the run's recipe, as for a run that goes
on.

Two ways of reading the text: `bytes` gives every byte a token, which is nanoGPT's task of characters; `bpe`
learns a vocabulary from the training text first, as `twofold train` does.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from twofold import train
from twofold.corpus import Corpus, prepare
from twofold.tokens import Tokenizer, Vocabulary
from twofold.tokens.specials import END_OF_TEXT, SPECIALS
from twofold.tokens.vocabulary import STAND_INS
from twofold.train import dial, folder
from twofold.train.optimiser import OptimizerConfig
from twofold.train.schedule import ScheduleConfig
from twofold.train.settings import plain

# Found by trying (docs/log.md): the least time to nanoGPT's loss, with some two per cent to spare.
RECIPES: dict[str, dict[str, Any]] = {
    "bytes": {
        "vocab": 320, "depth": 2, "width": 128, "heads": 4, "kv_heads": 2, "ffn": 384, "context": 64,
        "rows": 16, "steps": 160, "muon_lr": 0.05, "embedding_lr": 0.1, "head_lr": 0.01, "momentum": 0.9,
        "decay": 0.8,
    },
    "bpe": {
        "vocab": 8192, "depth": 1, "width": 64, "heads": 2, "kv_heads": 2, "ffn": 192, "context": 64,
        "rows": 8, "steps": 45, "muon_lr": 0.03, "embedding_lr": 0.1, "head_lr": 0.02, "momentum": 0.95,
        "decay": 0.6,
    },
}  # fmt: skip


def bytes_only() -> Tokenizer:
    """Return a tokenizer of 256 bytes, the special tokens, and padding up to 320 rows.

    GGUF wants a merge, so there is one, of two bytes that never occur in UTF-8.
    """
    pair = STAND_INS[0xFE], STAND_INS[0xFF]
    tokens = (*STAND_INS, "".join(pair))
    end = len(tokens) + SPECIALS.index(END_OF_TEXT)
    vocabulary = Vocabulary(
        kind="bpe",
        pre="qwen2",
        tokens=(*tokens, *SPECIALS),
        types=(*[1] * len(tokens), *[3] * len(SPECIALS)),
        merges=(" ".join(pair),),
        eos_id=end,
        pad_id=end,
    )
    return Tokenizer(vocabulary).padded(320)


def plan(recipe: dict[str, Any], corpus: Corpus, threads: int, compute: str) -> dial.Plan:
    """Return the finished plan of a recipe; what is only told to people (speed, time, memory) stays 0."""
    wanted = [field for field in dataclasses.fields(dial.Plan) if field.default is dataclasses.MISSING]
    values: dict[str, Any] = {field.name: 0 for field in wanted}
    values |= {name: value for name, value in recipe.items() if name in values}
    values |= {
        "head_dim": recipe["width"] // recipe["heads"], "tied": False,
        "rope_theta": 10000.0, "tokens": recipe["steps"] * recipe["rows"] * recipe["context"],
        "train_tokens": len(corpus.train), "micro_rows": recipe["rows"], "most_steps": recipe["steps"],
        "norm_lr": 0.01, "device": "cpu", "compute": compute, "threads": threads,
        "peak_flops": 1e11, "budget_s": 1e9, "eval_tokens": recipe["context"] + 1, "notes": [],
    }  # fmt: skip
    return dial.Plan(**values)


def main() -> None:
    """Train once and print where the model is and how it went, as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True, help="text to learn from")
    parser.add_argument("--val", required=True, help="text held out")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run")
    parser.add_argument("--tokens", choices=RECIPES, default="bpe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change the recipe")
    parser.add_argument("--compute", choices=["bfloat16", "float32"], default="bfloat16")
    options = parser.parse_args()
    recipe = dict(RECIPES[options.tokens])
    for assignment in options.set:
        name, _, value = assignment.partition("=")
        recipe[name] = type(recipe[name])(value)
    corpus = prepare(
        [options.train],
        options.out / "corpus",
        val_path=[options.val],
        vocab_size=recipe["vocab"],
        tokenizer=bytes_only() if options.tokens == "bytes" else None,
    )
    config = train.PretrainConfig(
        corpus=options.out / "corpus",
        prompts=(),
        file_type="F32",
        optimizer=OptimizerConfig(muon_momentum=recipe["momentum"]),
        schedule=ScheduleConfig(warmup=0.02, decay=recipe["decay"]),
    )
    chosen = dataclasses.asdict(plan(recipe, corpus, options.threads, options.compute))
    folder.write_recipe(options.out, folder.Recipe("pretrain", plain(config), plan=chosen))
    result = train.resume(options.out)
    print(
        json.dumps(
            {"model": str(result.model), "steps": result.trained.steps, "tokens": result.trained.tokens}
        )
    )


if __name__ == "__main__":
    main()
