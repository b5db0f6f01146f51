"""Byte-level BPE by the `tokenizers` package: the fast path, and the training.

The words of a text are found by the pattern of the model's family, then each word's bytes are joined by
merges. The package sees ordinary tokens only; special ones are cut out before (tokenizer.py), so that no
text can become one. The readable twin is reference.py. Not covered: normalisers (Qwen's files name NFC;
like llama.cpp, twofold leaves text as it is) and dropout.
"""

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from twofold.tokens.vocabulary import NORMAL, UNUSED, Vocabulary

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
QWEN2 = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def pre_tokenizer(pre: str) -> pre_tokenizers.PreTokenizer:
    """Return the package's pre-tokenizer for a `pre` of Vocabulary."""
    if pre in ("qwen2", "llama-bpe"):
        split = pre_tokenizers.Split(Regex(QWEN2 if pre == "qwen2" else LLAMA3), "isolated")
        return pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if pre == "gpt-2":
        return gpt2
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"), gpt2])


def model(vocabulary: Vocabulary, ids: dict[str, int]) -> models.BPE:
    """Return the package's BPE model over the tokens in `ids`, with the merges that stay among them."""
    pairs = (merge.partition(" ") for merge in dict.fromkeys(vocabulary.merges))
    merges = [(a, b) for a, _, b in pairs if a in ids and b in ids and a + b in ids]
    return models.BPE(vocab=ids, merges=merges, ignore_merges=vocabulary.pre == "llama-bpe")


def build(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    """Return a tokenizer of the package that encodes ordinary text only."""
    made = tokenizers.Tokenizer(model(vocabulary, vocabulary.normal_ids()))
    made.pre_tokenizer = pre_tokenizer(vocabulary.pre)
    made.decoder = decoders.ByteLevel()
    return made


def train(texts: Iterable[str], size: int) -> tuple[list[str], list[int], list[str]]:
    """Return tokens, types and merges of `size` tokens learned from `texts` under Qwen2's pattern.

    All 256 bytes come first. Where the texts offer fewer pairs that occur twice, unused tokens fill the rest.
    """
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizer("qwen2")
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    ids = made.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    merges = _merges(made)
    missing = size - len(tokens)
    types = [NORMAL] * len(tokens) + [UNUSED] * missing
    return tokens + [f"<|unused_{n}|>" for n in range(missing)], types, merges


def _merges(made: tokenizers.Tokenizer) -> list[str]:
    return [" ".join(pair) for pair in json.loads(made.to_str())["model"]["merges"]]
