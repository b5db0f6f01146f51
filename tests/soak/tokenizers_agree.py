"""100,000 fuzzed strings: run.c, Python and Hugging Face's `tokenizers` must give the same ids.

    python tests/soak/tokenizers_agree.py [--strings 100000]

All planes of Unicode, damaged UTF-8, look-alikes of special tokens; for the byte-level tokenizer of our own
models, for each other way of cutting words that is supported, and for SentencePiece. SentencePiece is
compared between run.c and Python only: `tokenizers` itself differs from SentencePiece (ties, unknown
pieces).
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "parameters"), str(HERE.parent / "tokens")]

import tokenizers  # noqa: E402
from fuzz_strings import strings  # noqa: E402
from tiny_models import random_model  # noqa: E402

from twofold import run  # noqa: E402
from twofold.parameters import Model, save_gguf  # noqa: E402
from twofold.run.backends import CBackend  # noqa: E402
from twofold.tokens import Tokenizer  # noqa: E402


def check(model: Model, texts: list[bytes], folder: Path) -> tuple[int, int]:
    """Return how many strings differ between run.c and Python, and between Python and `tokenizers`."""
    save_gguf(model, folder / "model.gguf", "Q8_0")
    engine = run.load(folder / "model.gguf", backend="c")
    assert isinstance(engine.runner, CBackend)
    judge = None
    if model.tokenizer.vocabulary.kind == "bpe":
        model.tokenizer.save(folder / "tokenizer.json")
        judge = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    differ_c = differ_judge = 0
    for text in texts:
        for specials in (False, True):
            ours = model.tokenizer.encode(text, specials=specials)
            if engine.runner.encode(text, specials=specials) != ours:
                differ_c += 1
                print(f"run.c differs on {text!r} (specials: {specials})")
        # `tokenizers` always sees special tokens, so it is the judge of the last one, where they count.
        if judge and judge.encode(text.decode("utf-8", "replace"), add_special_tokens=False).ids != ours:
            differ_judge += 1
            print(f"tokenizers differs on {text!r}")
    return differ_c, differ_judge


def main() -> int:
    """Compare; exit code 0 when all agree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--strings", type=int, default=100_000)
    options = parser.parse_args()
    texts = strings(2026, options.strings)
    bad = 0
    bpe, spm = random_model("qwen3"), random_model("llama")
    models = {"qwen2 (ours)": bpe, "SentencePiece": spm}
    for pre in ("llama-bpe", "gpt-2", "smollm", "starcoder"):
        models[pre] = replace(bpe, tokenizer=Tokenizer(replace(bpe.tokenizer.vocabulary, pre=pre)))
    for name, model in models.items():
        # Our own kind gets all of them, the others a tenth each: the code below the cutting is the same.
        some = texts if name in ("qwen2 (ours)", "SentencePiece") else texts[: len(texts) // 10]
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            differ_c, differ_judge = check(model, some, Path(folder))
        took = time.monotonic() - start
        print(
            f"{name}: {len(some):,} strings, {took:.0f} s; {differ_c} differ between run.c and Python", end=""
        )
        byte_level = model.tokenizer.vocabulary.kind == "bpe"
        print(f", {differ_judge} between Python and tokenizers" if byte_level else "", flush=True)
        bad += differ_c + differ_judge
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
