"""Hugging Face folders, both ways, and the same model through GGUF: transformers is the judge."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import FAMILIES, random_model

from twofold.base.errors import BadFileError, TwofoldError
from twofold.parameters import Model, load, save_gguf, save_hf
from twofold.parameters.config import ModelConfig, RopeScaling
from twofold.parameters.families import FAMILIES as REGISTRY
from twofold.parameters.families import _decoder
from twofold.tokens import Vocabulary

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

LLAMA3 = RopeScaling(type="llama3", factor=8.0, original_context=64)
TEXTS = ["The ferry leaves at seven.", " two  spaces\n\n\tand a tab", "zählen 船は 12345 🚢 it's", ""]
# As the Hub spells them; transformers draws the weights.
TINY = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128,
}  # fmt: skip
THEIRS = {
    "qwen3": ("Qwen3Config", {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "llama": ("LlamaConfig", {"rope_parameters": {
        "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}),
    "mistral": ("MistralConfig", {"sliding_window": 32}),
    "gemma3": ("Gemma3TextConfig", {
        "sliding_window": 16, "query_pre_attn_scalar": 24, "num_hidden_layers": 6}),
    "phi3": ("Phi3Config", {
        "sliding_window": 40, "tie_word_embeddings": True, "original_max_position_embeddings": 32,
        "pad_token_id": 0, "eos_token_id": 2, "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75,
            "short_factor": [1.0, 1.0, 1.1, 1.2, 1.3, 1.4], "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 4.0]}}),
}  # fmt: skip


def _open(folder: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()


def _logits(judge: Any, length: int = 40) -> np.ndarray:
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 300, (1, length)))
    with torch.no_grad():
        return np.asarray(judge(ids).logits[0])


def _vocabulary(model: Model) -> Vocabulary:
    """Return the vocabulary; a folder adds merges to a SentencePiece one, which its scores say already."""
    vocabulary = model.tokenizer.vocabulary
    return replace(vocabulary, merges=()) if vocabulary.kind == "spm" else vocabulary


def _same_tensors(one: Model, other: Model) -> None:
    assert set(one.tensors) == set(other.tensors)
    for name in one.tensors:
        np.testing.assert_array_equal(one.tensors[name], other.tensors[name], err_msg=name)


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return random_model(request.param, seed=4)


def test_our_folder_opens_in_transformers_and_comes_back(model: Model, tmp_path: Path) -> None:
    save_hf(model, tmp_path, "F32")
    judge = _open(tmp_path)
    family = REGISTRY.get(model.config.family)
    assert type(judge).__name__ == family.HF_ARCHITECTURE
    assert judge.config.model_type == family.MODEL_TYPE
    state = judge.state_dict()
    for name in model.config.shapes():
        theirs = family.to_gguf_order(name, state[family.hf_name(name)].numpy(), model.config)
        np.testing.assert_array_equal(theirs, model.tensors[name], err_msg=name)
    back = load(tmp_path)
    assert back.config == model.config
    assert back.card == {"schema": 1, **model.card}
    assert _vocabulary(back) == _vocabulary(model)
    _same_tensors(back, model)


def test_advice_on_sampling_comes_from_their_folder_and_goes_into_ours(model: Model, tmp_path: Path) -> None:
    advised = replace(model, card={**model.card, "sampling": {"temperature": 0.5, "top_k": 20}})
    save_hf(advised, tmp_path, "F32")
    path = tmp_path / "generation_config.json"
    assert transformers.GenerationConfig.from_pretrained(tmp_path).temperature == 0.5
    (tmp_path / "card.json").unlink()
    assert load(tmp_path).card["sampling"] == {"temperature": 0.5, "top_k": 20}
    path.write_text(path.read_text().replace("true", "false"))
    assert "sampling" not in load(tmp_path).card
    path.write_text("[")
    assert "sampling" not in load(tmp_path).card


def test_logits_are_lively_and_greedy_text_wanders(model: Model, tmp_path: Path) -> None:
    save_hf(model, tmp_path, "F32")
    judge = _open(tmp_path)
    logits = _logits(judge)
    assert 1 < logits.std() < 5
    ids = torch.tensor([[70, 71, 72]])
    out = judge.generate(ids, max_new_tokens=24, do_sample=False, eos_token_id=-1, pad_token_id=0)
    assert len(set(out[0, 3:].tolist())) >= 6


def test_transformers_reads_our_gguf_as_we_meant_it(model: Model, tmp_path: Path) -> None:
    """An importer that is not ours gets the same names, order of rows and settings from the file."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    save_gguf(model, tmp_path / "model.gguf", "F32")
    save_hf(model, tmp_path / "hf", "F32")
    state = _open(tmp_path / "hf").state_dict()
    shape = {**json.loads((tmp_path / "hf" / "config.json").read_text()), "architectures": None}
    if model.config.family == "mistral":  # GGUF has no such name: it is a llama there
        shape["model_type"] = "llama"
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**shape))
    read = load_gguf_checkpoint(tmp_path / "model.gguf", return_tensors=True, model_to_load=empty)
    assert set(state) - set(read["tensors"]) == ({"lm_head.weight"} if model.config.tied else set())
    for name, tensor in read["tensors"].items():
        np.testing.assert_array_equal(tensor.numpy(), state[name].numpy(), err_msg=name)
    for key in ("hidden_size", "num_hidden_layers", "rope_theta", "vocab_size", "tie_word_embeddings"):
        assert read["config"][key] == shape[key]


@pytest.mark.parametrize("family", FAMILIES)
def test_their_folder_opens_here_with_equal_tensors(family: str, tmp_path: Path) -> None:
    name, more = THEIRS[family]
    torch.manual_seed(0)
    config = getattr(transformers, name)(**{**TINY, **more})
    judge = transformers.AutoModelForCausalLM.from_config(config)
    judge.save_pretrained(tmp_path / "theirs", max_shard_size="120KB" if family == "llama" else "1GB")
    random_model(family).tokenizer.to_hf(tmp_path / "theirs")
    model = load(tmp_path / "theirs")
    rules, state = REGISTRY.get(family), judge.state_dict()
    for tensor in model.config.shapes():
        back = rules.to_hf_order(tensor, model.tensors[tensor], model.config)
        np.testing.assert_array_equal(back, state[rules.hf_name(tensor)].numpy(), err_msg=tensor)
    # Through our two formats and back it is the same model to transformers.
    save_gguf(model, tmp_path / "model.gguf", "F32")
    again = load(tmp_path / "model.gguf")
    assert again.config == model.config
    save_hf(again, tmp_path / "ours", "F32")
    np.testing.assert_array_equal(_logits(_open(tmp_path / "ours"), 60), _logits(judge.eval(), 60))


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_their_bf16_folder_becomes_the_same_bf16_file(family: str, tmp_path: Path) -> None:
    name, more = THEIRS[family]
    judge = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**TINY, **more))
    judge.to(torch.bfloat16).save_pretrained(tmp_path)
    random_model(family).tokenizer.to_hf(tmp_path)
    save_gguf(load(tmp_path), tmp_path / "model.gguf", "BF16")
    _same_tensors(load(tmp_path / "model.gguf"), load(tmp_path))


def test_tokenizers_agree_text_and_turns(model: Model, tmp_path: Path) -> None:
    save_hf(model, tmp_path, "F32")
    judge = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = model.tokenizer
    for text in TEXTS:
        begin = [ours.vocabulary.bos_id] if ours.vocabulary.add_bos else []
        expected = judge(text)["input_ids"]
        assert ours.encode(text) in (expected, expected[len(begin) :])
    turns = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At seven."}]
    turns.append({"role": "user", "content": "Thanks!"})
    theirs = judge.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert ours.render(turns, add_generation_prompt=True) == theirs
    ids = judge(theirs, add_special_tokens=False)["input_ids"]
    assert ours.chat(turns, add_generation_prompt=True) in (ids, [ours.vocabulary.bos_id, *ids])


def test_llama3_stretch_is_that_of_transformers(tmp_path: Path) -> None:
    model = random_model("llama", rope_theta=5e5, rope_scaling=LLAMA3)
    save_hf(model, tmp_path, "F32")
    judge = _open(tmp_path)
    plain = 1.0 / 5e5 ** (np.arange(0, 16, 2) / 16)
    np.testing.assert_allclose(judge.model.rotary_emb.inv_freq, plain / model.config.rope_factors, rtol=1e-5)
    save_gguf(model, tmp_path / "model.gguf", "F32")
    assert load(tmp_path / "model.gguf").config == model.config


def test_linear_stretch_survives(tmp_path: Path) -> None:
    model = random_model("qwen2", rope_scaling=RopeScaling(type="linear", factor=4.0))
    save_hf(model, tmp_path, "F32")
    assert _open(tmp_path).config.rope_parameters["factor"] == 4.0
    assert load(tmp_path).config == model.config
    save_gguf(model, tmp_path / "model.gguf", "F32")
    assert load(tmp_path / "model.gguf").config == model.config


def test_rows_made_neighbours_turn_as_halves_do() -> None:
    """A rotation of pairs (i, i + D/2) before the shuffle is one of pairs (2i, 2i + 1) after it."""
    config = random_model("llama").config
    D, angle = config.head_dim, np.linspace(0.1, 1, config.head_dim // 2)
    q = np.random.default_rng(0).standard_normal((config.heads * D, 1)).astype(np.float32)
    head = q[:D, 0]
    low, high = head[: D // 2], head[D // 2 :]
    turned = np.concatenate(
        [low * np.cos(angle) - high * np.sin(angle), high * np.cos(angle) + low * np.sin(angle)]
    )
    pairs = _decoder.to_neighbours("blk.0.attn_q.weight", q, config)[:D, 0].reshape(-1, 2)
    a, b = pairs[:, 0], pairs[:, 1]
    by_pairs = np.stack([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], 1)
    expected = np.stack([turned[: D // 2], turned[D // 2 :]], 1)
    np.testing.assert_allclose(by_pairs, expected, rtol=1e-6)
    shuffled = _decoder.to_neighbours("blk.0.attn_k.weight", q, config)
    np.testing.assert_array_equal(_decoder.to_halves("blk.0.attn_k.weight", shuffled, config), q)


def test_rows_without_a_token_are_padded(tmp_path: Path) -> None:
    name, more = THEIRS["qwen2"]
    config = getattr(transformers, name)(**{**TINY, "vocab_size": 400}, **more)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    random_model("qwen2").tokenizer.to_hf(tmp_path)
    model = load(tmp_path)
    vocabulary = model.tokenizer.vocabulary
    assert len(vocabulary.tokens) == model.config.vocab_size == 400
    assert set(vocabulary.types[384:]) == {5}
    assert vocabulary.types[:384] == random_model("qwen2").tokenizer.vocabulary.types
    save_gguf(model, tmp_path / "model.gguf", "Q8_0")
    assert load(tmp_path / "model.gguf").tokenizer.vocabulary == vocabulary
    save_hf(model, tmp_path / "again", "F32")
    assert _vocabulary(load(tmp_path / "again")) == _vocabulary(model)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel.*Qwen3ForCausalLM"),
        ({"architectures": None, "model_type": "bert"}, "bert"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "'yarn' is not supported"),
        ({"rope_scaling": {"type": "linear"}}, "factor is None"),
        ({"rope_scaling": [1]}, "not an object"),
        ({"num_hidden_layers": None}, "lacks num_hidden_layers"),
        ({"num_hidden_layers": 3}, "lacks the tensor"),
        ({"num_hidden_layers": 1}, "has no use for"),
        ({"hidden_size": 32}, "does not belong"),
        ({"tie_word_embeddings": "yes"}, "neither true nor false"),
        ({"quantization_config": {"bits": 4}}, "take the original"),
        ({"num_attention_heads": "4"}, "heads is '4'"),
    ],
)
def test_a_config_that_cannot_be_run_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    save_hf(random_model("qwen3"), tmp_path, "F32")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadFileError, match=said):
        load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"architectures": 3}'])
def test_a_damaged_config_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadFileError, match=r"config\.json"):
        load(tmp_path)


def test_unknown_rope_factors_stay_in_gguf(tmp_path: Path) -> None:
    model = random_model("llama")
    odd = {**model.tensors, "rope_freqs.weight": np.linspace(1, 3, 8).astype(np.float32)}
    model = Model(model.config, model.tokenizer, model.card, odd)
    save_gguf(model, tmp_path / "model.gguf", "F32")
    back = load(tmp_path / "model.gguf")
    np.testing.assert_array_equal(back.tensors["rope_freqs.weight"], odd["rope_freqs.weight"])
    with pytest.raises(TwofoldError, match="stays a GGUF file"):
        save_hf(back, tmp_path / "hf", "F32")


def test_every_family_maps_every_name_once() -> None:
    for name in REGISTRY.names():
        family = REGISTRY.get(name)
        config: ModelConfig = random_model(name).config
        names = [family.hf_name(tensor) for tensor in config.shapes()]
        assert len(set(names)) == len(names)
        assert config.architecture == family.ARCHITECTURE
