"""What decides how fast a model runs, as arithmetic: work, limits, and a prediction from measured rates.

A token costs work that follows from the model's shape and from how its weights are stored: bytes to read,
multiply-adds to do. The roofline (Williams, Waterman and Patterson 2009, doi 10.1145/1498765.1498785) says
what a machine can reach at most: with few operations per byte its bandwidth is the limit, with many its peak.

What run.c reaches of that is predicted as a sum of terms, each an amount of work times a rate in seconds:

    decode    seconds of a token = token + layers · layer + elements · element + rows · row
                                   + attention · (positions before it) + Σ over tensor types of
                                     bytes · (read[type] + fetch[type] / b + wait[type] / b²),
                                     b the bandwidth of all bytes
    prefill   seconds of a prompt = call + passes · layers · layer + tokens · elements · element
                                   + attention + Σ over tensor types of multiply-adds · multiply[type]

`read` is what unpacking and multiplying cost, `fetch` the share of the time for fetching that is not hidden
behind it, `wait` how much more of it is seen the slower bytes come: from memory run.c may fall behind a plain
loop that reads. The bandwidth is that of the cache or of memory, whichever so many bytes fit into. The rates
are fitted to the times of small random models by least squares of relative errors, none below zero.

Not covered: several users at once, models that do not fit into memory (then the disk decides), GPUs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from twofold.base.errors import UsageError
from twofold.base.names import unknown
from twofold.parameters import ModelConfig, quantise
from twofold.parameters.model import FILE_TYPES, tensor_type

Terms = dict[str, float]
Bandwidth = Callable[[float], float]  # bytes that are read again and again -> bytes per second

PASS = 512  # tokens that run.c takes through the layers at once: for them a weight is read once
CACHE_BYTES = 2  # of one number in the key/value cache: run.c keeps them in half precision
PREFILL = 512  # tokens of the prompt that prefill is predicted for
CROWD = 1.5  # bytes that pass through the cache per byte of weights
CONTEXT = 2048  # positions of context that a model needs memory for, in the prediction
_TABLE_ENTRY_BYTES = 32  # what a token of a vocabulary takes in a file: its text, its type, its merge
_PACKING = 1.12  # run.c lays weights out anew; K-quants grow by up to so much


def _llama(
    width: int,
    layers: int,
    heads: int,
    kv_heads: int,
    ffn: int,
    vocab: int,
    *,
    tied: bool = False,
    name: str = "llama",
) -> ModelConfig:
    return ModelConfig(
        architecture=name, vocab_size=vocab, layers=layers, width=width, heads=heads, kv_heads=kv_heads,
        head_dim=width // heads, ffn=ffn, context=CONTEXT, rms_eps=1e-5, tied=tied,
    )  # fmt: skip


# Shapes that have been published, by the size that people call them.
SIZES = {
    "15M": _llama(288, 6, 6, 6, 768, 32_000, tied=True),  # stories15M of llama2.c
    "110M": _llama(768, 12, 12, 12, 2048, 32_000, tied=True),  # stories110M
    "0.5B": _llama(896, 24, 14, 2, 4864, 151_936, tied=True, name="qwen2"),  # Qwen2.5-0.5B
    "1.1B": _llama(2048, 22, 32, 4, 5632, 32_000),  # TinyLlama
    "3B": _llama(3072, 28, 24, 8, 8192, 128_256, tied=True),  # Llama 3.2 3B
    "7B": _llama(4096, 32, 32, 32, 11_008, 32_000),  # Llama 2 7B
    "13B": _llama(5120, 40, 40, 40, 13_824, 32_000),  # Llama 2 13B
    "70B": _llama(8192, 80, 64, 8, 28_672, 128_256),  # Llama 3.1 70B
}
TYPES = ("Q4_0", "Q4_K_M", "Q8_0", "F16")  # the file types that are predicted


# --- how much work


@dataclass(frozen=True)
class Work:
    """What a model asks for. Weights: tensor type -> bytes, and multiply-adds per token.

    `bytes`: read for a decoded token. `products`: multiply-adds in the layers; `head`: in the output table,
    which prefill needs once per prompt. `attention`: multiply-adds per earlier position. `cache`: bytes of
    keys and values per position. `elements`: numbers that are made or changed outside of products, `rows`:
    results of products. `layers`: how many.
    """

    bytes: Mapping[str, int]
    products: Mapping[str, int]
    head: tuple[str, int]
    attention: int
    cache: int
    elements: int
    rows: int
    layers: int

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that are read for a decoded token."""
        return sum(self.bytes.values())

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a decoded token with weights."""
        return sum(self.products.values()) + self.head[1]


def tensor_types(config: ModelConfig, file_type: str) -> dict[str, str]:
    """Return the type of each tensor in a file of `file_type`. Raises UsageError for an unknown one."""
    if file_type not in FILE_TYPES:
        raise UsageError(unknown("file type", file_type, FILE_TYPES))
    return {
        name: tensor_type(name, shape, file_type, config.layers) for name, shape in config.shapes().items()
    }


def needed_types(sizes: Sequence[str], types: Sequence[str]) -> list[str]:
    """Return the tensor types of all matrices in models of these sizes and file types, each once.

    Raises UsageError for an unknown size or file type.
    """
    kinds = (work(shape(size), tensor_types(shape(size), type)) for size in sizes for type in types)
    return sorted({kind for one in kinds for kind in (*one.products, one.head[0])})


def work(config: ModelConfig, types: Mapping[str, str]) -> Work:
    """Return the work of a model whose tensors are stored as `types` (name -> tensor type)."""
    read: dict[str, int] = {}
    products: dict[str, int] = {}
    head = ("F32", 0)
    rows = 0
    output = "token_embd.weight" if config.tied else "output.weight"
    for name, shape in config.shapes().items():
        if name == "token_embd.weight" and not config.tied:
            continue  # one row of it is read
        kind = types[name]
        read[kind] = read.get(kind, 0) + tensor_bytes(kind, shape)
        if len(shape) == 1:
            continue
        rows += shape[0]
        if name == output:
            head = (kind, math.prod(shape))
        else:
            products[kind] = products.get(kind, 0) + math.prod(shape)
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return Work(
        bytes=read,
        products=products,
        head=head,
        attention=2 * config.layers * queries,
        cache=2 * config.layers * keys * CACHE_BYTES,
        elements=config.layers * (4 * config.width + 2 * queries + 2 * keys + 3 * config.ffn),
        rows=rows,
        layers=config.layers,
    )


def tensor_bytes(type: str, shape: tuple[int, ...]) -> int:
    """Return the bytes of a tensor."""
    return math.prod(shape[:-1]) * quantise.row_bytes(type, shape[-1])


def file_bytes(config: ModelConfig, file_type: str) -> int:
    """Return about how large a GGUF file is: its weights, and a guess at its vocabulary."""
    types = tensor_types(config, file_type)
    weights = sum(tensor_bytes(types[name], shape) for name, shape in config.shapes().items())
    return weights + config.vocab_size * _TABLE_ENTRY_BYTES


def memory_bytes(config: ModelConfig, file_type: str) -> int:
    """Return about how much memory run.c needs for a model with CONTEXT positions of context."""
    cache = work(config, tensor_types(config, file_type)).cache * CONTEXT
    return int(_PACKING * file_bytes(config, file_type)) + cache


# --- how much a machine allows


@dataclass(frozen=True)
class Point:
    """A measured speed on the roofline: a `name`, tokens and operations per second, operations per byte.

    An operation is a multiplication or an addition, so a multiply-add is two. `limit`: the operations per
    second that the machine allows at so many per byte.
    """

    name: str
    tokens_per_s: float
    operations_per_s: float
    operations_per_byte: float
    limit_operations_per_s: float

    @property
    def share(self) -> float:
        """How much of the limit was reached: 1 is all."""
        return self.operations_per_s / self.limit_operations_per_s


def roof(operations_per_byte: float, bandwidth: float, peak: float) -> float:
    """Return the operations per second that are possible: bandwidth in bytes/s, peak in operations/s."""
    return min(peak, operations_per_byte * bandwidth)


def decode_point(
    name: str,
    work: Work,
    tokens_per_s: float,
    *,
    position: int,
    bandwidth: float,
    peak: float,
    sequences: int = 1,
) -> Point:
    """Return the point of decoding at a position in so many sequences together, all tokens counted.

    The weights are read once for a token of every sequence, the cache for each.
    """
    operations = 2 * (work.multiply_adds + work.attention * (position + 1))
    bytes_ = work.weight_bytes / sequences + work.cache * (position + 1)
    intensity = operations / bytes_
    return Point(name, tokens_per_s, operations * tokens_per_s, intensity, roof(intensity, bandwidth, peak))


def prefill_point(
    name: str, work: Work, tokens_per_s: float, *, tokens: int, bandwidth: float, peak: float
) -> Point:
    """Return the point of a prompt of so many tokens; the weights are read once for each pass of PASS."""
    passes = math.ceil(tokens / PASS)
    operations = 2 * (sum(work.products.values()) * tokens + work.head[1] + _attended(work, tokens))
    intensity = operations / (work.weight_bytes * passes + work.cache * tokens)
    speed = operations * tokens_per_s / tokens
    return Point(name, tokens_per_s, speed, intensity, roof(intensity, bandwidth, peak))


def _attended(work: Work, tokens: int) -> float:
    """Return the multiply-adds of attention in a prompt: each token sees those before it and itself."""
    return work.attention * tokens * (tokens + 1) / 2


# --- how much run.c makes of it


@dataclass(frozen=True)
class Rates:
    """Seconds per unit of each term of the sums above, fitted to measurements."""

    decode: Mapping[str, float]
    prefill: Mapping[str, float]


def reach(work: Work) -> int:
    """Return over how many bytes to measure the bandwidth that a token's weights are read at.

    More than the weights: they share the cache with all else that a token touches, and stay there less often
    than bytes of a loop that reads nothing else.
    """
    return round(CROWD * work.weight_bytes)


def decode_terms(work: Work, position: int, bandwidth: float) -> Terms:
    """Return the amounts of work in one decoded token at a position.

    `bandwidth`: bytes per second where as many bytes as `reach` says are read again and again.
    """
    terms: Terms = {
        "token": 1,
        "layer": work.layers,
        "element": work.elements,
        "row": work.rows,
        "attention": work.attention * (position + 1),
    }
    for kind, size in work.bytes.items():
        if kind == "F32" and len(work.bytes) > 1:
            continue  # norms: a few numbers, counted as elements
        fetching = size / bandwidth
        terms |= {f"read {kind}": size, f"fetch {kind}": fetching, f"wait {kind}": fetching / bandwidth}
    return terms


def prefill_terms(work: Work, tokens: int) -> Terms:
    """Return the amounts of work in a prompt of so many tokens."""
    terms: Terms = {
        "call": 1,
        "layer": work.layers * math.ceil(tokens / PASS),
        "element": work.elements * tokens,
        "attention": _attended(work, tokens),
    }
    for kind, count in work.products.items():
        terms[f"multiply {kind}"] = count * tokens
    kind, count = work.head
    terms[f"multiply {kind}"] = terms.get(f"multiply {kind}", 0.0) + count
    return terms


def seconds(terms: Terms, rates: Mapping[str, float]) -> float | None:
    """Return the predicted seconds, None when a term has no rate (a tensor type that was not measured)."""
    if not terms.keys() <= rates.keys():
        return None
    return sum(amount * rates[name] for name, amount in terms.items())


def fit(measured: Sequence[tuple[Terms, float]]) -> dict[str, float]:
    """Return the rates, in seconds per unit, that explain measured times best (terms, seconds).

    Least squares of relative errors, no rate below zero (Lawson and Hanson 1974, chapter 23).
    """
    names = sorted({name for terms, _ in measured for name in terms})
    amounts = np.array([[terms.get(name, 0.0) / took for name in names] for terms, took in measured])
    scale = np.linalg.norm(amounts, axis=0)
    scale[scale == 0] = 1
    found = _nonnegative(amounts / scale, np.ones(len(measured))) / scale
    return dict(zip(names, found.tolist(), strict=True))


def _nonnegative(a: "np.ndarray", b: "np.ndarray") -> "np.ndarray":
    """Return the x >= 0 that brings a x nearest to b."""
    x = np.zeros(a.shape[1])
    free = np.zeros(a.shape[1], bool)
    for _ in range(10 * a.shape[1]):
        pull = a.T @ (b - a @ x)  # where more of it would help
        pull[free] = -np.inf
        if pull.max() <= 1e-9:
            break
        free[pull.argmax()] = True
        while True:
            try_ = np.zeros_like(x)
            try_[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            below = free & (try_ <= 0)
            if not below.any():
                break
            step = (x[below] / np.maximum(x[below] - try_[below], 1e-300)).min()
            x += step * (try_ - x)
            free &= x > 1e-12
        x = np.where(free, try_, 0)
    return x


# --- the prediction


@dataclass(frozen=True)
class Prediction:
    """How large a model of a size and a file type is, whether it fits here, and how fast it would run.

    `left_bytes`: memory that stays free, below zero when it does not fit. Speeds in tokens per second: decode
    at short context, prefill of PREFILL tokens; None when it does not fit or run.c does not run the type.
    """

    size: str
    type: str
    parameters: int
    file_bytes: int
    memory_bytes: int
    left_bytes: int
    decode_tokens_per_s: float | None
    prefill_tokens_per_s: float | None

    @property
    def fits(self) -> bool:
        """Whether there is memory for it."""
        return self.left_bytes >= 0


def predict(size: str, type: str, rates: Rates, bandwidth: Bandwidth, available_bytes: int) -> Prediction:
    """Return what a model of `size` (of SIZES) in a file of `type` would do here.

    `bandwidth`: the machine's, by the bytes that are read again and again. Raises UsageError for a size or
    type that is not known.
    """
    config = shape(size)
    needs = memory_bytes(config, type)
    asked = work(config, tensor_types(config, type))
    token_s = prompt_s = None
    if needs <= available_bytes:
        fetched = bandwidth(reach(asked))
        token_s = seconds(decode_terms(asked, 0, fetched), rates.decode)
        prompt_s = seconds(prefill_terms(asked, PREFILL), rates.prefill)
    return Prediction(
        size=size,
        type=type,
        parameters=config.parameters,
        file_bytes=file_bytes(config, type),
        memory_bytes=needs,
        left_bytes=available_bytes - needs,
        decode_tokens_per_s=1 / token_s if token_s else None,
        prefill_tokens_per_s=PREFILL / prompt_s if prompt_s else None,
    )


def shape(size: str) -> ModelConfig:
    """Return the shape of a size. Raises UsageError when it is not one of SIZES."""
    if size not in SIZES:
        raise UsageError(unknown("size", size, SIZES))
    return SIZES[size]
