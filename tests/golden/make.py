"""Makes the golden model: a very small one that torch, numpy and run.c must run to the same text.

    python tests/golden/make.py

trains about 0.16 million parameters on rhymes that this script makes (no data but itself), and writes
`model.gguf` (F32, under 1 MB) and `golden.json` (prompt, ids and text of greedy decoding, by the numpy twin).
It is committed; make it anew only when the architecture or the tokenizer changes.
"""

import json
import random
import shutil
import tempfile
from pathlib import Path

from twofold import run
from twofold.base.files import write_text
from twofold.parameters import load
from twofold.train import PretrainConfig, pretrain
from twofold.train.dial import ShapeConfig

HERE = Path(__file__).resolve().parent
PROMPT = "The cat sat on"
LENGTH = 64
WHO = ("cat", "dog", "fox", "owl", "goat", "hen", "mouse", "bear")
WHERE = ("a mat", "the wall", "a log", "the stair", "a boat", "the hill", "a box", "the roof")
WHAT = ("sat on", "slept on", "sang on", "stood on", "looked at", "ran past")
AND_THEN = (
    "It was warm.",
    "It was 7 o'clock.",
    "Who would not?",
    '"Good day!" it said.',
    "Then it rained; l'été !",
)


def rhymes(count: int) -> list[str]:
    """Return made-up documents of a few sentences each."""
    rng = random.Random(0)
    return [
        " ".join(
            f"The {rng.choice(WHO)} {rng.choice(WHAT)} {rng.choice(WHERE)}. {rng.choice(AND_THEN)}"
            for _ in range(rng.randint(2, 6))
        )
        for _ in range(count)
    ]


def main() -> None:
    """Train, decode, write."""
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch) / "rhymes.jsonl"
        write_text(text, "".join(json.dumps({"text": rhyme}) + "\n" for rhyme in rhymes(3000)))
        result = pretrain(
            PretrainConfig(
                data=(str(text),), out=Path(scratch) / "run", name="golden", license="MIT", steps=300,
                batch=8, threads=1, seed=0, file_type="F32", prompts=(),
                model=ShapeConfig(depth=2, width=64, heads=4, head_dim=16, vocab=512, context=128),
            )
        )  # fmt: skip
        shutil.copyfile(result.model, HERE / "model.gguf")
    model = load(HERE / "model.gguf")
    ids = model.tokenizer.encode(PROMPT)
    engine = run.load(HERE / "model.gguf", backend="numpy")
    made = [step.id for step in engine.generate(ids, max_tokens=LENGTH)]
    golden = {"prompt": PROMPT, "prompt_ids": ids, "ids": made, "text": model.tokenizer.decode(made)}
    write_text(HERE / "golden.json", json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
