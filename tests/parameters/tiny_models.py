"""Small random models of every family, with small real tokenizers, for tests in any folder.

`random_model("llama", seed=1, layers=3)` is the same model each time. The weights are scaled so that logits
are of order 1 to 5 and the blocks outweigh the embedding: greedy text wanders instead of repeating one token,
even when one table reads and writes tokens. They are not scaled more, since then small errors would grow: as
it is, Q8_0 moves the logits by about 2.5 % of their size (root mean square), Q4_0 by about 30 %.
"""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from twofold.parameters import Model, ModelConfig
from twofold.parameters.config import RopeScaling
from twofold.tokens import Tokenizer, Vocabulary

FAMILIES = ("qwen3", "qwen2", "llama", "mistral", "gemma3", "phi3")

TEXT = """\
The ferry leaves at seven, and the harbour wakes an hour before it. Gulls argue over the nets; a boy carries
two crates of lemons to the quay. "Is there room for one more?" he asks. There is always room for one more.
In winter the sea is grey and the timetable short: 7:00, 12:30, 18:45. In summer there are eleven crossings a
day, and on 21 June even a twelfth, with music. Who pays 3.50 for the trip gets the view for nothing.
L'été, les enfants comptent les bateaux; im Herbst zählen sie die Möwen. 船は七時に出ます。Паром в семь.
On the other shore there is a market. The bread is better there, the cheese is older, the prices are higher,
and the people who cross in the morning come back in the evening with baskets of thyme and oranges. When the
fog comes in, the captain sounds the horn three times and waits; nobody complains, because nobody sees.
def crossing(day):
    return [hour for hour in range(7, 19) if hour % 2 or day > 5]
"""

_SHAPES: dict[str, dict[str, Any]] = {
    # head_dim times heads is not the width here, as in the real small Qwen3 models.
    "qwen3": {"width": 64, "heads": 4, "kv_heads": 2, "head_dim": 32, "rope_theta": 1e6, "tied": True},
    "qwen2": {"width": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "rope_theta": 1e6},
    "llama": {"width": 96, "heads": 6, "kv_heads": 2, "head_dim": 16, "rms_eps": 1e-5},
    "mistral": {
        "width": 64,
        "heads": 2,
        "kv_heads": 1,
        "head_dim": 32,
        "rms_eps": 1e-5,
        "sliding_window": 96,
    },
    # Six layers, so that one of them sees everything; the scale is not that of the head size, as in the 27B.
    "gemma3": {
        "layers": 6,
        "width": 96,
        "heads": 4,
        "kv_heads": 1,
        "head_dim": 32,
        "rope_theta": 1e6,
        "sliding_window": 24,
        "rope_scaling": RopeScaling(type="linear", factor=8.0),
        "tied": True,
    },
    "phi3": {
        "width": 64,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "rotary_dim": 12,
        "rms_eps": 1e-5,
        "rope_scaling": RopeScaling(
            type="longrope",
            original_context=64,
            short=(1.0, 1.0, 1.05, 1.1, 1.2, 1.3),
            long=(1.0, 1.1, 1.5, 2.5, 6.0, 9.0),
            attention_factor=1.0801,
        ),
    },
}
# How Zephyr and TinyLlama write turns.
_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# How Gemma writes turns: the assistant is called model.
_GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def random_model(family: str, *, seed: int = 0, **overrides: Any) -> Model:
    """Return a model of about 0.1 million random weights; `overrides` are fields of its ModelConfig.

    A `vocab_size` above that of the tokenizer gives a table with unused rows.
    """
    make: Any = {
        "qwen3": bpe_tokenizer,
        "qwen2": bpe_tokenizer,
        "gemma3": gemma_tokenizer,
        "phi3": phi_tokenizer,
    }.get(family, spm_tokenizer)
    tokenizer = make()
    shape = {"layers": 2, "ffn": 128, "context": 128, "vocab_size": tokenizer.vocab_size, **_SHAPES[family]}
    architecture = "llama" if family == "mistral" else family
    config = ModelConfig(architecture=architecture, family=family, **{**shape, **overrides})
    tokenizer = tokenizer.padded(config.vocab_size)
    card = {"name": f"random {family}", "license": "CC0-1.0", "summary": "Random weights, for tests."}
    return Model(config, tokenizer, card, random_tensors(config, seed))


def random_tensors(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Return float32 weights for every name in `config.shapes()`, and the rope factors if it has any."""
    generator = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for name, shape in config.shapes().items():
        noise = generator.standard_normal(shape)
        if name.endswith("norm.weight"):
            noise = (16 if ".post_" in name else 1) * (1 + 0.1 * noise)  # Gemma's embeddings are not small
        elif name.endswith("bias"):
            noise = 0.3 * noise
        elif name in ("token_embd.weight", "output.weight"):
            noise = noise * 2.5 / np.sqrt(shape[1])  # a normalised vector gives logits of deviation 2.5
        else:
            noise = noise * (1.5 if ".ffn_" in name else 1.0) / np.sqrt(shape[1])
        tensors[name] = noise.astype(np.float32)
    return {**tensors, **config.rope_tensors}


def bpe_tokenizer() -> Tokenizer:
    """Return twofold's own kind of tokenizer, byte-level BPE of 384 tokens, trained on TEXT."""
    return Tokenizer.train([TEXT], 384)


def spm_tokenizer(more: tuple[str, ...] = ()) -> Tokenizer:
    """Return a tokenizer like Llama 2's: <unk> <s> </s>, 256 bytes, joined pieces, characters, `more`.

    A piece's score is minus its rank, so that joining by score is joining in the order the pairs were learnt.
    """
    joined, characters = _learn(TEXT, 160)
    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    learnt = joined + characters
    return Tokenizer(
        Vocabulary(
            kind="spm",
            pre="default",
            tokens=(*special, *byte_tokens, *learnt, *more),
            types=(2, 3, 3, *[6] * 256, *[1] * len(learnt), *[3] * len(more)),
            merges=(),
            scores=(*[0.0] * 259, *[-float(rank) for rank in range(len(learnt))], *[-1000.0] * len(more)),
            bos_id=1,
            eos_id=2,
            pad_id=None,
            unk_id=0,
            add_bos=True,
            add_space_prefix=True,
            chat_template=_TEMPLATE,
        )
    )


def phi_tokenizer() -> Tokenizer:
    """Return a tokenizer like Phi-3's: Llama 2's, and specials that llama.cpp asks this architecture for."""
    return spm_tokenizer(("<|endoftext|>", "<|end|>"))


def gemma_tokenizer() -> Tokenizer:
    """Return a tokenizer like Gemma's: no space in front, runs of spaces and newlines are tokens."""
    joined, characters = _learn(TEXT, 160)
    first = ["<pad>", "<eos>", "<bos>", "<unk>"]
    later = ["<start_of_turn>", "<end_of_turn>"]
    runs = ["\n", "\n\n", "\n\n\n", "  ", "   ", "    "]
    learnt = joined + characters
    return Tokenizer(
        Vocabulary(
            kind="spm",
            pre="default",
            tokens=(*first, *[f"<0x{byte:02X}>" for byte in range(256)], *later, *runs, *learnt),
            types=(3, 3, 3, 2, *[6] * 256, 3, 3, *[4] * len(runs), *[1] * len(learnt)),
            merges=(),
            scores=(*[0.0] * 262, *[-1000.0] * len(runs), *[-float(rank) for rank in range(len(learnt))]),
            bos_id=2,
            eos_id=1,
            pad_id=0,
            unk_id=3,
            add_bos=True,
            add_space_prefix=False,
            chat_template=_GEMMA_TEMPLATE,
        )
    )


def _learn(text: str, merges: int) -> tuple[list[str], list[str]]:
    """Return the joined pieces in the order of learning, and the characters, of byte-pair encoding."""
    words = Counter("▁" + word for word in text.split())
    split = {word: list(word) for word in words}
    characters = sorted({character for word in words for character in word})
    joined: list[str] = []
    while len(joined) < merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in split.items():
            for pair in pairwise(pieces):
                pairs[pair] += words[word]
        left, right = max(pairs, key=lambda pair: (pairs[pair], pair))
        if left + right not in joined:
            joined.append(left + right)
        for word, pieces in split.items():
            split[word] = _join(pieces, left, right)
    return joined, characters


def _join(pieces: list[str], left: str, right: str) -> list[str]:
    out: list[str] = []
    for piece in pieces:
        if out and out[-1] == left and piece == right:
            out[-1] = left + right
        else:
            out.append(piece)
    return out
