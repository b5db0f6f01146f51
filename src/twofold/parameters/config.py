"""A model's shape: the few numbers that, with the weights, make a transformer.

One graph serves every family here (RMSNorm, rotary positions, grouped-query attention, a gated feed-forward);
a family is a choice of switches, which follow from GGUF's name of the architecture:

    qwen3   RMSNorm on each query and key head          rotary: element i with i + D/2
    qwen2   biases on queries, keys and values          rotary: element i with i + D/2
    llama   neither                                     rotary: neighbours (Mistral is stored as llama too)
    gemma3  norms before, after, on heads; GELU         rotary: i with i + D/2; windows, a base of their own
    phi3    q, k, v in one matrix, gate and up too      rotary: a part of the head, i with i + R/2

Positions may be stretched: "linear" divides them by a factor; "llama3" divides only the slow rotations (Llama
3.1, `_compute_llama3_parameters` in transformers), stored as the tensor `rope_freqs.weight` of one factor per
pair; "longrope" (arXiv 2402.13753) has a list of such factors for a context that is no longer than the one it
was trained on and another for a longer one, `rope_factors_short.weight` and `rope_factors_long.weight`. Keys
follow gguf's constants.py, as llama.cpp reads them. Not covered: mixture of experts, YaRN, dynamic scaling,
Gemma's softcapping of logits.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import BadFileError

ARCHITECTURES = ("qwen3", "qwen2", "llama", "gemma3", "phi3")
_LISTED = "qwen3, qwen2, llama (which Mistral is too), gemma3 and phi3"
_GEMMA_PATTERN, _GEMMA_LOCAL_THETA, _GEMMA_27B_LAYERS = 6, 10000.0, 62  # what llama.cpp takes for granted

_KEYS = {  # field -> key after "{architecture}."
    "layers": "block_count",
    "width": "embedding_length",
    "ffn": "feed_forward_length",
    "heads": "attention.head_count",
    "kv_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "context": "context_length",
    "rope_theta": "rope.freq_base",
    "rms_eps": "attention.layer_norm_rms_epsilon",
    "sliding_window": "attention.sliding_window",
    "window_pattern": "attention.sliding_window_pattern",
    "local_theta": "rope.freq_base_swa",
    "attention_scale": "attention.scale",
}
# Far beyond any model of these families; a number above is damage, not size.
_MOST = {"vocab_size": 1 << 24, "layers": 4096, "width": 1 << 16, "ffn": 1 << 20, "heads": 1024,
         "kv_heads": 1024, "head_dim": 4096, "rotary_dim": 4096, "context": 1 << 30,
         "sliding_window": 1 << 30, "window_pattern": 1 << 20}  # fmt: skip
_OPTIONAL = ("sliding_window", "window_pattern", "local_theta", "attention_scale")


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary positions are stretched. `type`: "linear" (only `factor` counts), "llama3" or "longrope".

    Of longrope count `original_context`, `short` and `long` (what rotations are divided by, [R/2] each) and
    `attention_factor`, by which cosines and sines grow.
    """

    type: str
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.factor, self.low_freq_factor, self.high_freq_factor, self.original_context,
                   self.attention_factor, *self.short, *self.long)  # fmt: skip
        finite = all(math.isfinite(number) and number > 0 for number in numbers)
        if (
            self.type not in ("linear", "llama3", "longrope")
            or len(self.short) != len(self.long)
            or not finite
            or self.high_freq_factor <= self.low_freq_factor
        ):
            raise BadFileError(f"The rope scaling {self} makes no sense: the model's settings are damaged.")

    def factors(self, theta: float, head_dim: int) -> NDArray[np.float32]:
        """Return what the D/2 rotations are divided by, float32 [D/2] (ones for "linear")."""
        speed = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        if self.type == "linear":
            return np.ones(head_dim // 2, dtype=np.float32)
        wavelength = 2 * np.pi / speed
        turns = self.original_context / wavelength  # full turns within the context it was trained on
        low, high = self.low_freq_factor, self.high_freq_factor
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        return (1 / ((1 - smooth) / self.factor + smooth)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a model. Raises BadFileError when it makes no sense.

    `architecture`: GGUF's name. `family`: whose Hugging Face folder it is ("mistral" is stored as llama);
    by default the architecture. `tied`: one table reads and writes tokens. `sliding_window`: how many tokens
    back one sees, itself among them, None for all the way; each `window_pattern`-th layer sees all (None: no
    layer). `rotary_dim`: how much of a head positions turn, 0 becomes all. `local_theta`: the rotary base
    in layers with a window, None for the same. `attention_scale`: what scores are multiplied by, None for
    1 / sqrt(head_dim). `vocab_size` counts rows of the table, padding included.
    """

    architecture: str
    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    context: int
    rope_theta: float = 10000.0
    rms_eps: float = 1e-6
    tied: bool = False
    sliding_window: int | None = None
    window_pattern: int | None = None
    rotary_dim: int = 0
    local_theta: float | None = None
    attention_scale: float | None = None
    rope_scaling: RopeScaling | None = None
    family: str = ""

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise _unknown_architecture(self.architecture)
        if not self.family:
            object.__setattr__(self, "family", self.architecture)
        if self.architecture == "gemma3" and self.sliding_window:
            object.__setattr__(self, "window_pattern", self.window_pattern or _GEMMA_PATTERN)
            object.__setattr__(self, "local_theta", self.local_theta or _GEMMA_LOCAL_THETA)
        object.__setattr__(self, "rotary_dim", self.rotary_dim or self.head_dim)
        for name, most in _MOST.items():
            value = getattr(self, name)
            if name in _OPTIONAL and value is None:
                continue
            if type(value) is not int or not 1 <= value <= most:
                raise BadFileError(
                    f"The model's setting {name} is {value!r}, not a whole number from 1 to {most}."
                )
        for name in ("rope_theta", "rms_eps", "local_theta", "attention_scale"):
            value = getattr(self, name)
            if name in _OPTIONAL and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise BadFileError(f"The model's setting {name} is {value!r}, not a positive number.")
            object.__setattr__(self, name, float(value))
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise BadFileError(
                f"The model's {self.heads} heads of {self.head_dim} do not divide evenly into pairs or among "
                f"{self.kv_heads} key and value heads: its settings are damaged."
            )
        if self.rotary_dim % 2 or not 2 <= self.rotary_dim <= self.head_dim:
            raise BadFileError(
                f"Positions turn {self.rotary_dim} of a head of {self.head_dim}: "
                "the model's settings are damaged."
            )
        if (
            self.rope_scaling
            and self.rope_scaling.short
            and 2 * len(self.rope_scaling.short) != self.rotary_dim
        ):
            raise BadFileError(
                f"The model has {len(self.rope_scaling.short)} rope factors for {self.rotary_dim // 2} pairs."
            )

    @property
    def qk_norm(self) -> bool:
        """Whether each query and key head is normalised."""
        return self.architecture in ("qwen3", "gemma3")

    @property
    def gemma(self) -> bool:
        """Whether what a block adds is normalised, embeddings are scaled by sqrt(C) and gates are GELUs."""
        return self.architecture == "gemma3"

    @property
    def fused(self) -> bool:
        """Whether queries, keys and values are rows of one matrix, and gate and up of another."""
        return self.architecture == "phi3"

    def slides(self, layer: int) -> bool:
        """Return whether a layer has a sliding window."""
        pattern = self.window_pattern
        return self.sliding_window is not None and (pattern is None or (layer + 1) % pattern != 0)

    @property
    def scale(self) -> float:
        """What the scores of attention are multiplied by."""
        return self.attention_scale or self.head_dim**-0.5

    @property
    def qkv_bias(self) -> bool:
        """Whether queries, keys and values have biases."""
        return self.architecture == "qwen2"

    @property
    def rope_interleaved(self) -> bool:
        """Whether rotary positions turn neighbours (2i, 2i + 1) instead of (i, i + D/2)."""
        return self.architecture == "llama"

    @property
    def rope_factors(self) -> NDArray[np.float32] | None:
        """The tensor `rope_freqs.weight`, float32 [D/2], of a "llama3" scaling; otherwise None."""
        if self.rope_scaling is None or self.rope_scaling.type != "llama3":
            return None
        return self.rope_scaling.factors(self.rope_theta, self.head_dim)

    @property
    def rope_tensors(self) -> dict[str, NDArray[np.float32]]:
        """The tensors of a stretch, float32 [R/2] each, by their names in GGUF."""
        scaling = self.rope_scaling
        if scaling is not None and scaling.short:
            return {
                "rope_factors_long.weight": np.array(scaling.long, np.float32),
                "rope_factors_short.weight": np.array(scaling.short, np.float32),
            }
        return {} if self.rope_factors is None else {"rope_freqs.weight": self.rope_factors}

    @property
    def parameters(self) -> int:
        """How many weights the model has; a tied table counts once."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape (rows, columns) of every weight, in the order a file holds them."""
        C, F, V, D = self.width, self.ffn, self.vocab_size, self.head_dim
        queries, keys = self.heads * D, self.kv_heads * D
        block: dict[str, tuple[int, ...]] = {"attn_norm.weight": (C,)}
        if self.fused:
            block["attn_qkv.weight"] = (queries + 2 * keys, C)
        else:
            block |= {"attn_q.weight": (queries, C), "attn_k.weight": (keys, C), "attn_v.weight": (keys, C)}
        block["attn_output.weight"] = (C, queries)
        if self.qkv_bias:
            block |= {"attn_q.bias": (queries,), "attn_k.bias": (keys,), "attn_v.bias": (keys,)}
        if self.qk_norm:
            block |= {"attn_q_norm.weight": (D,), "attn_k_norm.weight": (D,)}
        if self.gemma:
            block |= {"post_attention_norm.weight": (C,), "post_ffw_norm.weight": (C,)}
        block["ffn_norm.weight"] = (C,)
        block |= (
            {"ffn_up.weight": (2 * F, C)}
            if self.fused
            else {"ffn_gate.weight": (F, C), "ffn_up.weight": (F, C)}
        )
        block["ffn_down.weight"] = (C, F)
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (V, C)}
        for layer in range(self.layers):
            shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
        shapes["output_norm.weight"] = (C,)
        return shapes if self.tied else {**shapes, "output.weight": (V, C)}

    def to_gguf(self) -> dict[str, Any]:
        """Return the shape as GGUF metadata."""
        prefix = f"{self.architecture}."
        metadata: dict[str, Any] = {"general.architecture": self.architecture}
        for name, key in _KEYS.items():
            if getattr(self, name) != self._usual().get(name):
                metadata[prefix + key] = getattr(self, name)
        metadata[prefix + "attention.value_length"] = self.head_dim
        metadata[prefix + "rope.dimension_count"] = self.rotary_dim
        metadata[prefix + "vocab_size"] = self.vocab_size
        if self.family != self.architecture:
            metadata["twofold.family"] = self.family
        if self.fused and self.sliding_window is None:
            metadata[prefix + "attention.sliding_window"] = 0  # as llama.cpp's converter says it of Phi-4
        scaling = self.rope_scaling
        if scaling is not None and scaling.type == "longrope":  # and two tensors
            metadata[prefix + "rope.scaling.original_context_length"] = scaling.original_context
            metadata[prefix + "rope.scaling.attn_factor"] = scaling.attention_factor
        elif scaling is not None and scaling.type == "linear":
            metadata[prefix + "rope.scaling.type"] = "linear"
            metadata[prefix + "rope.scaling.factor"] = scaling.factor
        elif scaling is not None:  # the factors themselves are a tensor; these make a config.json again
            numbers = (
                scaling.factor,
                scaling.low_freq_factor,
                scaling.high_freq_factor,
                scaling.original_context,
            )
            metadata["twofold.rope.llama3"] = [float(number) for number in numbers]
        return metadata

    def _usual(self) -> dict[str, Any]:
        """Return what optional settings are in a file that says nothing of them."""
        usual: dict[str, Any] = {}
        if self.gemma and self.sliding_window:
            usual |= {"window_pattern": _GEMMA_PATTERN, "local_theta": _GEMMA_LOCAL_THETA}
        if self.gemma and self.layers == _GEMMA_27B_LAYERS:
            usual["attention_scale"] = (self.width // self.heads) ** -0.5
        return usual

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], tensors: Collection[str]) -> Self:
        """Return the shape that a GGUF file's metadata and tensor names tell. Raises BadFileError."""
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
            raise _unknown_architecture(architecture)
        prefix = f"{architecture}."
        if metadata.get(prefix + "expert_count"):
            raise BadFileError("The model is a mixture of experts; twofold runs dense models only.")
        values = {name: metadata[prefix + key] for name, key in _KEYS.items() if prefix + key in metadata}
        values.setdefault("context", 2048)
        values.setdefault("kv_heads", values.get("heads"))
        if values.get("sliding_window") == 0:
            del values["sliding_window"]
        if "head_dim" not in values and _whole(values.get("width")) and _whole(values.get("heads")):
            values["head_dim"] = values["width"] // values["heads"]
        for name in ("layers", "width", "ffn", "heads", "head_dim"):
            if name not in values:
                raise BadFileError(
                    f"The model file lacks {prefix}{_KEYS[name]}: it is damaged, fetch it again."
                )
        values["rotary_dim"] = metadata.get(prefix + "rope.dimension_count", values["head_dim"])
        for key in ("attention.value_length", "rope.dimension_count"):
            partial = key == "rope.dimension_count" and architecture == "phi3"
            if not partial and metadata.get(prefix + key, values["head_dim"]) != values["head_dim"]:
                raise BadFileError(
                    f"The model has a {prefix}{key} other than its head size; twofold cannot run it."
                )
        if metadata.get(prefix + "final_logit_softcapping"):
            raise BadFileError("The model caps its logits (final_logit_softcapping); twofold cannot run it.")
        if architecture == "gemma3" and values["layers"] == _GEMMA_27B_LAYERS and _whole(values["heads"]):
            values.setdefault("attention_scale", (values["width"] // values["heads"]) ** -0.5)
        for name in ("rope_theta", "rms_eps", "local_theta", "attention_scale"):
            if type(values.get(name)) is float:  # 1e-6, not the 9.99999997e-07 of a float32
                values[name] = shortest(values[name])
        tokens = metadata.get("tokenizer.ggml.tokens")
        values["vocab_size"] = (
            len(tokens) if isinstance(tokens, list) else metadata.get(prefix + "vocab_size")
        )
        family = metadata.get("twofold.family", architecture)
        if not isinstance(family, str) or not family.isidentifier():
            raise BadFileError(f"The model's twofold.family is {family!r}, not the name of a family.")
        return cls(
            architecture=architecture,
            family=family,
            tied="output.weight" not in tensors,
            rope_scaling=_scaling(metadata, prefix, tensors),
            **values,
        )


def shortest(number: float) -> float:
    """Return the float with the fewest digits that is the same float32 as `number`."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(number)))


def _unknown_architecture(name: Any) -> BadFileError:
    return BadFileError(f"The architecture {name!r} is not one of those that twofold runs: {_LISTED}.")


def _whole(value: Any) -> bool:
    return type(value) is int and value > 0


def _scaling(metadata: Mapping[str, Any], prefix: str, tensors: Collection[str]) -> RopeScaling | None:
    """Return the stretch that the metadata tells; `model` adds what stands in tensors."""
    if prefix == "phi3." and "rope_factors_long.weight" in tensors:
        original = metadata.get(prefix + "rope.scaling.original_context_length")
        gain = metadata.get(prefix + "rope.scaling.attn_factor", 1.0)
        if type(original) is not int or type(gain) is not float:
            raise BadFileError("The model's rope.scaling settings are missing or damaged: fetch it again.")
        return RopeScaling(type="longrope", original_context=original, attention_factor=shortest(gain))
    numbers = metadata.get("twofold.rope.llama3")
    if numbers is not None:
        if not isinstance(numbers, list) or len(numbers) != 4 or {type(n) for n in numbers} != {float}:
            raise BadFileError("The model's twofold.rope.llama3 is not four numbers: the file is damaged.")
        if not math.isfinite(numbers[3]):
            raise BadFileError("The model's twofold.rope.llama3 is not finite: the file is damaged.")
        factor, low, high = (shortest(number) for number in numbers[:3])
        return RopeScaling(type="llama3", factor=factor, low_freq_factor=low, high_freq_factor=high,
                           original_context=int(numbers[3]))  # fmt: skip
    kind = metadata.get(prefix + "rope.scaling.type", "none")
    if kind == "none":
        return None
    factor = metadata.get(prefix + "rope.scaling.factor", 1.0)
    if kind != "linear":
        raise BadFileError(f"The model's rope scaling {kind!r} is not supported; linear and llama3 are.")
    if type(factor) is not float:
        raise BadFileError(f"The model's rope scaling factor is {factor!r}, not a number.")
    return RopeScaling(type="linear", factor=shortest(factor))
