"""Small model files and prompts for the fuzzer to begin with, and a dictionary of what GGUF files say.

    python tests/fuzz/seeds.py FOLDER

writes FOLDER/gguf/, FOLDER/prompt/ and FOLDER/gguf.dict. The files are as small as models can be, since a
fuzzer learns by running millions of them.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "parameters"), str(HERE.parent / "tokens")]

from fuzz_strings import strings  # noqa: E402

from twofold.parameters import Model, ModelConfig, gguf, save_gguf  # noqa: E402
from twofold.tokens import Tokenizer, Vocabulary  # noqa: E402

_SHAPE = {"layers": 1, "width": 32, "heads": 2, "kv_heads": 1, "head_dim": 4, "ffn": 32, "context": 40}


def tiny_vocabulary(kind: str) -> Vocabulary:
    """Return a vocabulary of a few dozen tokens."""
    common = {
        "bos_id": 0,
        "eos_id": 1,
        "pad_id": None,
        "unk_id": None,
        "add_bos": False,
        "chat_template": None,
    }
    if kind == "spm":
        pieces = ["▁", "t", "h", "e", "a", "▁t", "he", "▁the", "▁a", "c", "s", "\n", "1"]
        return Vocabulary(
            kind="spm", pre="default", tokens=("<unk>", "<s>", "</s>", "<0x41>", *pieces),
            types=(2, 3, 3, 6, *[1] * len(pieces)), merges=(),
            scores=(*[0.0] * 4, *[-float(i) for i in range(len(pieces))]), add_space_prefix=True,
            **{**common, "unk_id": 0},
        )  # fmt: skip
    pieces = ["Ġ", "t", "h", "e", "a", "c", "s", "Ċ", "1", "2", "'", "he", "Ġt", "Ġthe", "â", "Ĥ"]
    return Vocabulary(
        kind="bpe", pre=kind, tokens=("<|endoftext|>", "<|im_end|>", "<|im_start|>", *pieces),
        types=(3, 3, 4, *[1] * len(pieces)), merges=("h e", "Ġ t", "Ġt he"), scores=(),
        add_space_prefix=False, **common,
    )  # fmt: skip


def write(folder: Path) -> None:
    """Write the seeds."""
    (folder / "gguf").mkdir(parents=True, exist_ok=True)
    (folder / "prompt").mkdir(exist_ok=True)
    keys: set[str] = set()
    for number, (architecture, kind, weights) in enumerate(
        [("qwen3", "qwen2", "F32"), ("qwen3", "qwen2", "Q8_0"), ("qwen2", "llama-bpe", "Q4_0"),
         ("llama", "spm", "F16"), ("llama", "smollm", "BF16"), ("llama", "gpt-2", "Q8_0")]
    ):  # fmt: skip
        tokenizer = Tokenizer(tiny_vocabulary(kind))
        shape = ModelConfig(
            architecture=architecture, vocab_size=tokenizer.vocab_size, tied=number % 2 == 0, **_SHAPE
        )
        random = np.random.default_rng(number)
        tensors = {name: random.standard_normal(size, np.float32) for name, size in shape.shapes().items()}
        path = folder / "gguf" / f"{architecture}-{kind}-{weights}.gguf"
        save_gguf(Model(shape, tokenizer, {"name": "seed"}, tensors), path, weights)
        short(path)
        keys |= {*gguf.read(path).metadata, *gguf.read(path).tensors}
    for number, text in enumerate(strings(5, 200)):
        (folder / "prompt" / f"{number:03}").write_bytes(bytes([number % 7, number % 5, number % 2]) + text)
    lines = [f'"{key}"' for key in sorted(keys)] + [
        '"\\xff\\xff\\xff\\xff"',
        '"\\x00\\x00\\x00\\x80"',
        '"GGUF"',
    ]
    (folder / "gguf.dict").write_text("\n".join(lines) + "\n")


def short(path: Path) -> None:
    """Shorten the long table of Unicode's classes: a fuzzer should not spend its time there."""
    file = gguf.read(path)
    metadata = dict(file.metadata)
    metadata["twofold.unicode"] = np.asarray([0, 32 * 4 + 3, 33 * 4, 65 * 4 + 1, 123 * 4], np.uint32)
    gguf.write(
        path, metadata, {name: (tensor.type, tensor.float32()) for name, tensor in file.tensors.items()}
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]))
