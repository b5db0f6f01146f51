"""The dial: one number sets a run.

A budget (time or floating-point operations) or a depth is turned into everything else by rules: width and
heads follow depth; the size follows the budget, so that about twenty tokens are read per weight (Hoffmann et
al. 2022, arXiv:2203.15556); batch and learning rates follow from the number of tokens; and a law fitted to
small runs says what the held-out score will be. The rules are few and stand below as constants. Where this
machine has a ladder of its own (`twofold scale`), its law and its speeds take the place of the size's rule
and of the built-in law.

Not covered: budgets in money, more than one device.
"""

import dataclasses
import math
import re
from collections.abc import Callable

from twofold.base.errors import UsageError
from twofold.measure import scaling
from twofold.measure.ladder import Ladder
from twofold.parameters import ModelConfig
from twofold.train.display import duration
from twofold.train.step import flops_per_token

TOKENS_PER_WEIGHT = 20.0
MOST_EPOCHS = 8.0  # reading the same text more often than this teaches little (arXiv:2305.16264)
WIDTH_PER_LAYER = 64
HEAD_DIM = 64
BYTES_PER_TOKEN = 4.0  # of English, before a tokenizer exists that could be asked
MOST_DEPTH = 48

# bits per byte = E + A·N^−α + B·D^−β; N weights in products, D bytes of text read. A rough fit to a handful
# of runs with 0.3 to 4 million weights and 0.2 to 6 MB of English; beyond that it extrapolates (docs/log.md).
LAW = {"E": 0.60, "A": 14.0, "alpha": 0.25, "B": 40.0, "beta": 0.26}
LAW_ERROR = 0.15  # half of the interval, as a share of the prediction; text differs from text
BUILT_IN = "the built-in rules"

_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:in)?)?\s*(?:(\d+(?:\.\d+)?)\s*s)?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapeConfig:
    """The model's shape; what is None follows from the dial."""

    depth: int | None = None
    width: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    ffn: int | None = None
    vocab: int | None = None
    context: int = 512
    tied: bool = False
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        sizes = (self.depth, self.width, self.heads, self.kv_heads, self.head_dim, self.ffn, self.context)
        if any(size is not None and size < 1 for size in sizes):
            raise ValueError("sizes are 1 or more.")
        if self.vocab is not None and (self.vocab < 320 or self.vocab % 64):
            raise ValueError("vocab is a multiple of 64, at least 320 (256 bytes and 32 special tokens).")


def seconds(text: str) -> float:
    """Return the seconds in a time such as 90s, 20m, 1.5h or 1h30m; a bare number is minutes.

    Raises UsageError.
    """
    cleaned = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", cleaned):
        cleaned += "m"
    match = _TIME.fullmatch(cleaned)
    if match is None or not any(match.groups()):
        raise UsageError(f"--time takes a time such as 90s, 20m or 1h30m, not {text!r}.")
    hours, minutes, rest = (float(group or 0) for group in match.groups())
    total = 3600 * hours + 60 * minutes + rest
    if total < 20:
        raise UsageError(f"--time {text} is too short: the least is 20s.")
    return total


def shape(chosen: ShapeConfig, depth: int, vocab: int) -> ModelConfig:
    """Return the model of a depth: what `chosen` leaves open follows from it. Raises UsageError."""
    width = chosen.width or max(128, WIDTH_PER_LAYER * depth)
    head_dim = chosen.head_dim or min(HEAD_DIM, width)
    heads = chosen.heads or max(1, width // head_dim)
    kv_heads = chosen.kv_heads or max(k for k in range(1, max(1, heads // 2) + 1) if heads % k == 0)
    if heads % kv_heads or head_dim % 2:
        raise UsageError(f"{heads} heads cannot share {kv_heads} key heads of size {head_dim}.")
    return ModelConfig(
        architecture="qwen3",
        vocab_size=vocab,
        layers=depth,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=chosen.ffn or 3 * width,
        context=chosen.context,
        rope_theta=chosen.rope_theta,
        tied=chosen.tied,
    )


def weights(config: ModelConfig) -> int:
    """Return the number of weights that take part in products: all but a separate embedding's."""
    return config.parameters - (0 if config.tied else config.vocab_size * config.width)


def depth_for(
    chosen: ShapeConfig, flops: float | Callable[[ModelConfig], float], text_bytes: float,
    ladder: Ladder | None = None,
) -> int:  # fmt: skip
    """Return the depth that spends `flops` best, given so much text to read.

    `flops`: a budget, or what a model can spend in the time there is. With a ladder, best is the lowest loss
    that its law expects; without, about 20 tokens per weight.
    """
    if chosen.depth is not None:
        return chosen.depth

    def badness(depth: int) -> float:
        config = shape(chosen, depth, chosen.vocab or vocab_for(depth, text_bytes))
        tokens = (flops(config) if callable(flops) else flops) / flops_per_token(config)
        if ladder is None:
            return float(abs(math.log(tokens / (TOKENS_PER_WEIGHT * weights(config)))))
        read = min(tokens * ladder.bytes_per_token, MOST_EPOCHS * text_bytes)
        return ladder.fit.law.loss(weights(config), scaling.effective_tokens(read, text_bytes))

    best: int = min(range(1, MOST_DEPTH + 1), key=badness)
    return best


def vocab_for(depth: int, text_bytes: float) -> int:
    """Return the size of the vocabulary for a model of `depth` and so much text to find words in."""
    by_depth = 4096 if depth <= 5 else 8192 if depth <= 9 else 16384 if depth <= 14 else 32768
    by_text = 512 if text_bytes < 3e5 else 1024 if text_bytes < 2e6 else 2048 if text_bytes < 1e7 else 32768
    return min(by_depth, by_text)


def tokens_for(config: ModelConfig, flops: float | None, train_tokens: float) -> float:
    """Return how many tokens to read: what the budget allows, or 20 per weight; at most 8 epochs."""
    wanted = TOKENS_PER_WEIGHT * weights(config) if flops is None else flops / flops_per_token(config)
    return min(wanted, MOST_EPOCHS * train_tokens)


def batch_for(tokens: float, context: int) -> int:
    """Return the rows of a step: the longer the run, the larger the batch that still pays.

    About 2,048 tokens for a run of a million, growing with the square root (arXiv:2410.21676 finds that the
    useful batch grows with the data, not with the model).
    """
    wanted = 2048 * (max(tokens, 1) / 1e6) ** 0.5
    size = 1 << round(math.log2(max(1024, min(wanted, 2**19))))
    return max(1, size // context)


def expected(
    config: ModelConfig, tokens: float, bytes_per_token: float, ladder: Ladder | None = None,
    unique_bytes: float = math.inf, text_hashes: tuple[str, ...] = (),
) -> tuple[float, float, float]:  # fmt: skip
    """Return the bits per byte to expect on held-out text, and a lower and an upper bound.

    `unique_bytes`, `text_hashes`: of the text that is read, for a ladder's law.
    """
    text = tokens * bytes_per_token
    if ladder is not None:
        return ladder.expected(weights(config), text, unique_bytes, text_hashes)
    middle = LAW["E"] + LAW["A"] * weights(config) ** -LAW["alpha"] + LAW["B"] * max(text, 1) ** -LAW["beta"]
    return middle, middle * (1 - LAW_ERROR), middle * (1 + LAW_ERROR)


def memory_bytes(config: ModelConfig, micro_tokens: int, item: int) -> float:
    """Return the memory a step needs, roughly: weights, gradients, optimiser, and a micro-batch's tensors."""
    state = config.parameters * 4 * 4.5
    per_token = config.layers * (14 * config.width + 6 * config.ffn + 3 * config.heads * config.context / 2)
    return 4e8 + state + micro_tokens * item * per_token


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A run before it runs. `wall_s` is from start to files; `flops` are those of the steps."""

    depth: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int
    tied: bool
    rope_theta: float
    parameters: int
    tokens: int
    train_tokens: int
    steps: int
    rows: int
    micro_rows: int
    muon_lr: float
    embedding_lr: float
    head_lr: float
    norm_lr: float
    device: str
    compute: str
    threads: int
    peak_flops: float
    tokens_per_s: float
    flops: float
    wall_s: float
    budget_s: float | None = None
    most_steps: int
    memory_bytes: float
    bits_per_byte: float
    bits_per_byte_low: float
    bits_per_byte_high: float
    eval_every: int
    eval_tokens: int
    sample_every: int
    notes: list[str]
    compiled: bool = False
    rules: str = BUILT_IN

    def model(self) -> ModelConfig:
        """Return the shape of the model."""
        chosen = ShapeConfig(
            width=self.width, heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim, ffn=self.ffn,
            context=self.context, tied=self.tied, rope_theta=self.rope_theta,
        )  # fmt: skip
        return shape(chosen, self.depth, self.vocab)

    def rows_of_text(self) -> list[tuple[str, str]]:
        """Return the plan as pairs of a name and a value for people."""
        batch = self.rows * self.context
        epochs = self.tokens / max(1, self.train_tokens)
        heads = f"{self.heads} heads of {self.head_dim} ({self.kv_heads} for keys)"
        size = f"{self.parameters / 1e6:.2f}M parameters"
        layers = f"{self.depth} layer{'s' * (self.depth != 1)}"
        read = f"{self.tokens / 1e6:.2f}M tokens ({epochs:.2g} epochs)"
        interval = f"{self.bits_per_byte_low:.2f} to {self.bits_per_byte_high:.2f}"
        compiled = ", compiled" if self.compiled else ""
        return [
            ("model", f"{size}: {layers}, width {self.width}, {heads}"),
            ("vocabulary", f"{self.vocab:,} tokens; window of {self.context:,}"),
            ("reads", f"{read} in {self.steps:,} steps of {batch:,}"),
            (
                "rates",
                f"Muon {self.muon_lr:.3g}, embeddings {self.embedding_lr:.3g}, head {self.head_lr:.3g}",
            ),
            ("machine", f"{self.device}, {self.compute}, {self.threads} threads{compiled}"),
            ("speed", f"{self.tokens_per_s:,.0f} tokens/s; {self.flops:.2g} operations in all"),
            ("memory", f"about {self.memory_bytes / 1e9:.1f} GB"),
            ("time", f"about {duration(self.wall_s)} from here to the finished files"),
            ("expected", f"{self.bits_per_byte:.2f} bits per byte on held-out text ({interval})"),
            ("planned by", self.rules),
            *(("note", note) for note in self.notes),
        ]
