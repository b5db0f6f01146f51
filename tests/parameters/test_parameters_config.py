"""A model's shape, from and to GGUF metadata."""

import dataclasses
import math

import numpy as np
import pytest

from twofold.base.errors import BadFileError
from twofold.parameters.config import ModelConfig, RopeScaling, shortest

BASE = {
    "architecture": "qwen3", "vocab_size": 64, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2,
    "head_dim": 16, "ffn": 48, "context": 128, "rope_theta": 1e6, "rms_eps": 1e-6,
}  # fmt: skip
SHAPES = [
    BASE,
    {**BASE, "tied": True},
    {**BASE, "architecture": "qwen2"},
    {**BASE, "architecture": "llama", "rms_eps": 1e-5},
    {**BASE, "architecture": "llama", "family": "mistral", "sliding_window": 64},
    {**BASE, "rope_scaling": RopeScaling(type="linear", factor=2.5)},
    {
        **BASE,
        "architecture": "llama",
        "rope_scaling": RopeScaling(type="llama3", factor=32.0, low_freq_factor=1.1, original_context=8192),
    },
]


@pytest.mark.parametrize("values", SHAPES)
def test_a_shape_survives_the_file(values: dict[str, object]) -> None:
    config = ModelConfig(**values)
    metadata = config.to_gguf()
    # A file keeps floats as float32.
    stored = {key: float(np.float32(v)) if type(v) is float else v for key, v in metadata.items()}
    if "twofold.rope.llama3" in stored:
        stored["twofold.rope.llama3"] = [float(np.float32(v)) for v in stored["twofold.rope.llama3"]]
    assert ModelConfig.from_gguf(stored, config.shapes()) == config


def test_the_switches_follow_the_architecture() -> None:
    switches = {
        name: (config.qk_norm, config.qkv_bias, config.rope_interleaved)
        for name in ("qwen3", "qwen2", "llama")
        for config in [ModelConfig(**{**BASE, "architecture": name})]
    }
    assert switches == {
        "qwen3": (True, False, False),
        "qwen2": (False, True, False),
        "llama": (False, False, True),
    }


def test_parameters_are_counted_as_published() -> None:
    qwen3 = ModelConfig(
        architecture="qwen3", vocab_size=151936, layers=28, width=1024, heads=16, kv_heads=8, head_dim=128,
        ffn=3072, context=40960, tied=True,
    )  # fmt: skip
    assert qwen3.parameters == 596_049_920  # Qwen3-0.6B
    llama = ModelConfig(
        architecture="llama", vocab_size=32000, layers=32, width=4096, heads=32, kv_heads=32, head_dim=128,
        ffn=11008, context=4096,
    )  # fmt: skip
    assert llama.parameters == 6_738_415_616  # Llama 2 7B
    assert sum(math.prod(shape) for shape in llama.shapes().values()) == llama.parameters


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "gpt2"}, "'gpt2' is not one of those"),
        ({"layers": 0}, "layers is 0"),
        ({"layers": 1 << 40}, "layers"),
        ({"heads": True}, "heads is True"),
        ({"width": "32"}, "width is '32'"),
        ({"kv_heads": 3}, "divide evenly"),
        ({"head_dim": 15}, "divide evenly"),
        ({"rms_eps": 0.0}, "rms_eps is 0.0"),
        ({"rope_theta": float("inf")}, "rope_theta is inf"),
        ({"rope_theta": None}, "rope_theta is None"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadFileError, match=said):
        ModelConfig(**{**BASE, **change})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"general.architecture": "gemma"}, "'gemma' is not one of those"),
        ({"general.architecture": None}, "None is not one of those"),
        ({"qwen3.block_count": None}, "layers is None"),
        ({"qwen3.expert_count": 8}, "mixture of experts"),
        ({"qwen3.attention.value_length": 8}, "other than its head size"),
        ({"qwen3.rope.dimension_count": 8}, "other than its head size"),
        ({"qwen3.rope.scaling.type": "yarn"}, "'yarn' is not supported"),
        ({"qwen3.rope.scaling.type": "linear", "qwen3.rope.scaling.factor": "x"}, "factor is 'x'"),
        ({"qwen3.rope.scaling.type": "linear", "qwen3.rope.scaling.factor": -1.0}, "makes no sense"),
        ({"qwen3.rope.scaling.type": ["linear"]}, "not supported"),
        ({"twofold.rope.llama3": [1.0]}, "not four numbers"),
        ({"twofold.rope.llama3": [2.0, 4.0, 1.0, 8192.0]}, "makes no sense"),
        ({"twofold.family": "../x"}, "not the name of a family"),
    ],
)
def test_metadata_that_cannot_be_run_is_refused(change: dict[str, object], said: str) -> None:
    config = ModelConfig(**BASE)
    with pytest.raises(BadFileError, match=said):
        ModelConfig.from_gguf({**config.to_gguf(), **change}, config.shapes())


def test_a_missing_setting_is_named_and_others_have_defaults() -> None:
    config = ModelConfig(**{**BASE, "head_dim": 8, "kv_heads": 4, "context": 2048})
    metadata = config.to_gguf()
    for optional in ("attention.key_length", "attention.head_count_kv", "context_length"):
        del metadata[f"qwen3.{optional}"]
    assert ModelConfig.from_gguf(metadata, config.shapes()) == config
    del metadata["qwen3.block_count"]
    with pytest.raises(BadFileError, match=r"lacks qwen3\.block_count"):
        ModelConfig.from_gguf(metadata, config.shapes())


def test_llama3_factors_leave_fast_rotations_and_divide_slow_ones() -> None:
    scaling = RopeScaling(type="llama3", factor=8.0)
    factors = scaling.factors(500000.0, 128)
    assert factors.shape == (64,)
    assert factors[0] == 1.0
    assert factors[-1] == 8.0
    assert (np.diff(factors) >= 0).all()
    assert ((factors > 1) & (factors < 8)).any()


def test_shortest_gives_back_the_number_that_was_meant() -> None:
    for number in (1e-6, 1e-5, 10000.0, 0.1, 1e6):
        assert shortest(float(np.float32(number))) == number


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig(**BASE).layers = 3  # type: ignore[misc]
