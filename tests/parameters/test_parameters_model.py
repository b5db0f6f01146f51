"""A whole model through a GGUF file of every type."""

import json
from pathlib import Path

import gguf as rival
import numpy as np
import pytest
from tiny_models import FAMILIES, random_model

from twofold.base.errors import BadFileError, TwofoldError, UsageError
from twofold.parameters import Model, gguf, load, quantise, save_gguf
from twofold.parameters.model import FILE_TYPES, size_label, tensor_type


@pytest.mark.parametrize("type_", list(FILE_TYPES))
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_survives_its_file(family: str, type_: str, tmp_path: Path) -> None:
    model = random_model(family, seed=1)
    save_gguf(model, tmp_path / "model.gguf", type_)
    back = load(tmp_path / "model.gguf")
    assert back.config == model.config
    assert back.card == {"schema": 1, **model.card}
    assert back.tokenizer.vocabulary == model.tokenizer.vocabulary
    assert set(back.tensors) == set(model.tensors)
    for name, array in model.tensors.items():
        stored = tensor_type(name, array.shape, type_, model.config.layers)
        expected = quantise.dequantise(quantise.quantise(array, stored), stored, array.shape)
        np.testing.assert_array_equal(back.tensors[name], expected, err_msg=name)


@pytest.mark.parametrize("type_", list(FILE_TYPES))
def test_saving_what_was_loaded_gives_the_same_bytes(type_: str, tmp_path: Path) -> None:
    save_gguf(random_model("llama"), tmp_path / "one.gguf", type_)
    save_gguf(load(tmp_path / "one.gguf"), tmp_path / "two.gguf", type_)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_says_what_llama_cpp_asks(family: str, tmp_path: Path) -> None:
    model = random_model(family)
    config = model.config
    save_gguf(model, tmp_path / "model.gguf", "Q8_0")
    reader = rival.GGUFReader(tmp_path / "model.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    arch = config.architecture
    names, keys = rival.MODEL_ARCH_NAMES, rival.Keys
    assert fields[keys.General.ARCHITECTURE] == arch
    assert arch in names.values()
    assert fields[keys.General.FILE_TYPE] == rival.LlamaFileType.MOSTLY_Q8_0
    assert fields[keys.General.QUANTIZATION_VERSION] == rival.GGML_QUANT_VERSION
    assert fields[keys.General.NAME] == model.card["name"]
    for key, value in {
        keys.LLM.BLOCK_COUNT: config.layers,
        keys.LLM.CONTEXT_LENGTH: config.context,
        keys.LLM.EMBEDDING_LENGTH: config.width,
        keys.LLM.FEED_FORWARD_LENGTH: config.ffn,
        keys.LLM.VOCAB_SIZE: config.vocab_size,
        keys.Attention.HEAD_COUNT: config.heads,
        keys.Attention.HEAD_COUNT_KV: config.kv_heads,
        keys.Attention.KEY_LENGTH: config.head_dim,
        keys.Attention.VALUE_LENGTH: config.head_dim,
        keys.Rope.DIMENSION_COUNT: config.rotary_dim,
        keys.Rope.FREQ_BASE: config.rope_theta,
        keys.Attention.LAYERNORM_RMS_EPS: float(np.float32(config.rms_eps)),
    }.items():
        assert fields[key.format(arch=arch)] == value, key
    assert len(fields[keys.Tokenizer.LIST]) == config.vocab_size
    # The names are those that the package lists for this architecture.
    known = {rival.TENSOR_NAMES[kind] for kind in rival.MODEL_TENSORS[rival.MODEL_ARCH[arch.upper()]]}
    for tensor in reader.tensors:
        stem = tensor.name.rsplit(".", 1)[0]
        bid = stem.split(".")[1] if stem.startswith("blk.") else ""
        assert stem.replace(f"blk.{bid}.", "blk.{bid}.") in known, tensor.name
        if len(tensor.shape) == 1:
            assert tensor.tensor_type.name == "F32"


def test_every_type_is_a_file_type_with_the_number_of_llama_cpp() -> None:
    assert set(quantise.FORMATS) | {"Q4_K_M", "Q5_K_M"} == set(FILE_TYPES)
    theirs = {"F32": "ALL_F32", "Q4_K": "MOSTLY_Q4_K_S", "Q5_K": "MOSTLY_Q5_K_S"}
    for type_, number in FILE_TYPES.items():
        assert rival.LlamaFileType(number).name == theirs.get(type_, f"MOSTLY_{type_}")


def test_how_each_tensor_is_stored() -> None:
    for name, columns, type_, stored in (
        ("blk.0.attn_q.weight", 64, "Q4_0", "Q4_0"),
        ("blk.0.ffn_down.weight", 80, "Q8_0", "F16"),
        ("blk.0.ffn_down.weight", 80, "BF16", "BF16"),
        ("token_embd.weight", 80, "Q4_0", "F16"),
        ("token_embd.weight", 64, "Q4_0", "Q8_0"),
        ("output.weight", 64, "Q5_1", "Q8_0"),
        ("token_embd.weight", 256, "Q4_K", "Q6_K"),
        ("output.weight", 256, "Q5_K_M", "Q6_K"),
        ("output.weight", 96, "Q5_K_M", "Q8_0"),
        ("output.weight", 80, "Q6_K", "F16"),
        ("blk.1.attn_q.weight", 256, "Q4_K_M", "Q4_K"),
        ("blk.1.attn_q.weight", 96, "Q4_K_M", "Q5_0"),
        ("blk.1.attn_q.weight", 96, "Q5_K_M", "Q5_1"),
        ("blk.1.attn_q.weight", 96, "Q6_K", "Q8_0"),
        ("blk.1.attn_v.weight", 96, "Q4_K_M", "Q8_0"),
        ("blk.1.attn_v.weight", 256, "Q4_K", "Q4_K"),
        ("blk.1.ffn_down.weight", 512, "Q5_K", "Q5_K"),
    ):
        assert tensor_type(name, (384, columns), type_, 2) == stored, (name, columns, type_)
    assert tensor_type("output_norm.weight", (64,), "Q4_0", 2) == "F32"


@pytest.mark.parametrize(("type_", "most"), [("Q4_K_M", "Q4_K"), ("Q5_K_M", "Q5_K")])
def test_a_mix_has_more_bits_in_the_layers_where_llama_cpp_has_them(
    type_: str, most: str, tmp_path: Path
) -> None:
    model = random_model("llama", width=256, heads=8, head_dim=32, ffn=512, layers=16)
    save_gguf(model, tmp_path / "model.gguf", type_)
    tensors = gguf.read(tmp_path / "model.gguf").tensors
    delicate = {0, 1, 4, 7, 10, 13, 14, 15}
    for layer in range(16):
        for stem in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            wanted = "Q6_K" if layer in delicate and stem in ("attn_v", "ffn_down") else most
            assert tensors[f"blk.{layer}.{stem}.weight"].type == wanted
    assert tensors["token_embd.weight"].type == tensors["output.weight"].type == "Q6_K"


def test_rows_that_do_not_divide_into_blocks_are_saved_as_f16(tmp_path: Path) -> None:
    save_gguf(random_model("qwen3", ffn=80), tmp_path / "model.gguf", "Q4_0")
    file = gguf.read(tmp_path / "model.gguf")
    assert file.tensors["blk.0.ffn_down.weight"].type == "F16"
    assert load(tmp_path / "model.gguf").config.ffn == 80


def test_tensors_are_made_only_when_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_gguf(random_model("qwen2"), tmp_path / "model.gguf", "Q8_0")
    model = load(tmp_path / "model.gguf")
    made = []
    original = gguf.Tensor.float32
    monkeypatch.setattr(gguf.Tensor, "float32", lambda self: made.append(self.name) or original(self))
    assert "token_embd.weight" in model.tensors
    assert len(model.tensors) == len(list(model.tensors))
    assert not made
    assert model.tensors["token_embd.weight"].dtype == np.float32
    assert made == ["token_embd.weight"]


def _rewrite(path: Path, drop: str = "", **change: object) -> None:
    file = gguf.read(path)
    metadata = {key.replace("__", "."): value for key, value in {**file.metadata, **change}.items()}
    tensors = {name: (tensor.type, tensor) for name, tensor in file.tensors.items() if name != drop}
    gguf.write(path, metadata, tensors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drop": "blk.1.ffn_up.weight"}, r"lacks the tensor 'blk\.1\.ffn_up\.weight'"),
        ({"drop": "output_norm.weight"}, r"lacks the tensor 'output_norm\.weight'"),
        ({"qwen2__block_count": 3}, "holds 2 blocks of weights instead of 3"),
        ({"qwen2__block_count": 1}, "holds 2 blocks of weights instead of 1"),
        ({"qwen2__feed_forward_length": 64}, "has the shape"),
        ({"general__architecture": "mamba"}, "'mamba' is not one of those"),
        ({"twofold__card": "{"}, "card .* is not JSON"),
        ({"twofold__rope__llama3": [8.0, 1.0, 4.0, 64.0]}, r"rope_freqs\.weight is missing"),
    ],
)
def test_a_file_that_does_not_fit_itself_is_refused(
    tmp_path: Path, change: dict[str, str], said: str
) -> None:
    path = tmp_path / "model.gguf"
    save_gguf(random_model("qwen2"), path, "Q8_0")
    _rewrite(path, **change)
    with pytest.raises(BadFileError, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_tensor_of_another_family_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    save_gguf(random_model("qwen3"), path, "F32")
    file = gguf.read(path)
    tensors = {name: (tensor.type, tensor) for name, tensor in file.tensors.items()}
    extra = {"blk.0.attn_output.bias": ("F32", np.ones(64, dtype=np.float32))}
    gguf.write(path, file.metadata, {**tensors, **extra})
    with pytest.raises(BadFileError, match=r"'blk\.0\.attn_output\.bias', which qwen3 has no use for"):
        load(path)


def test_misuse_is_named_before_anything_is_written(tmp_path: Path) -> None:
    model = random_model("qwen3")
    with pytest.raises(UsageError, match=r"no file type 'Q4_K_L'\. Did you mean 'Q4_K_M'"):
        save_gguf(model, tmp_path / "x.gguf", "Q4_K_L")
    short = {**model.tensors, "output_norm.weight": np.ones(3, dtype=np.float32)}
    with pytest.raises(TwofoldError, match=r"has the shape \(3,\) instead of \(64,\)"):
        save_gguf(Model(model.config, model.tokenizer, model.card, short), tmp_path / "x.gguf", "F32")
    other = random_model("qwen3", vocab_size=448)
    with pytest.raises(TwofoldError, match="do not belong"):
        save_gguf(Model(other.config, model.tokenizer, model.card, other.tensors), tmp_path / "x.gguf", "F32")
    with pytest.raises(TwofoldError, match="lacks a name"):
        save_gguf(Model(model.config, model.tokenizer, {}, model.tensors), tmp_path / "x.gguf", "F32")
    assert not list(tmp_path.iterdir())


def test_the_card_travels_in_the_file(tmp_path: Path) -> None:
    model = random_model("mistral")
    card = {**model.card, "data": [{"name": "timetables", "license": "CC0-1.0"}], "training": {"wall_s": 3.5}}
    save_gguf(Model(model.config, model.tokenizer, card, model.tensors), tmp_path / "model.gguf", "Q8_0")
    metadata = gguf.read(tmp_path / "model.gguf").metadata
    assert json.loads(metadata["twofold.card"])["training"] == {"wall_s": 3.5}
    assert metadata["general.dataset.0.name"] == "timetables"
    assert load(tmp_path / "model.gguf").card == {"schema": 1, **card}


def test_sizes_are_said_as_people_say_them() -> None:
    assert [size_label(n) for n in (596_049_920, 6_738_415_616, 15_191_712, 999_900, 99_328)] == [
        "596M", "6.74B", "15.2M", "1M", "99.3K",
    ]  # fmt: skip
