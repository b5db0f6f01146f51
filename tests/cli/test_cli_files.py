"""inspect, convert and export: what they show and write."""

import subprocess
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from tiny_models import random_model

from twofold import parameters, run
from twofold.cli import terminal
from twofold.cli.commands import convert
from twofold.parameters.model import FILE_TYPES
from twofold.tokens.vocabulary import NORMAL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Hugging Face folder with a small random model in it."""
    path = tmp_path_factory.mktemp("hf") / "tiny-llama"
    parameters.save_hf(random_model("llama"), path, "BF16")
    return path


def test_inspect_a_file(twofold, model: Path) -> None:
    result = twofold("inspect", model)
    assert result.code == 0
    for fact in (
        "a small one · GGUF file of",
        "qwen3, ",
        "2 layers, width 64, 4 heads of 32, 2 for keys and values",
        "128 tokens",
        "byte-level BPE (qwen2), 384 tokens, 32 of them special, with a chat template",
        "Q8_0 ",
        "CC0-1.0",
        "knows nothing",
        "2.346",
    ):
        assert fact in result.out, fact
    assert [line.split()[:3] for line in result.out.splitlines() if "attn_q.weight" in line] == [
        ["blk.*.attn_q.weight", "×", "2"]
    ]
    every = twofold("inspect", model, "--tensors").out
    assert "blk.0.attn_q.weight" in every
    assert "blk.1.attn_q.weight" in every


def test_inspect_keeps_long_cards_short_and_prints_them_whole(twofold, tmp_path: Path) -> None:
    bare = random_model("qwen3")
    data = [{"name": f"{number}.txt", "sha256": "0123456789abcdef" * 4} for number in range(9)]
    model = parameters.Model(bare.config, bare.tokenizer, {"name": "much", "data": data}, bare.tensors)
    parameters.save_gguf(model, tmp_path / "much.gguf", "Q8_0")
    brief, whole = twofold("inspect", "much.gguf").out, twofold("inspect", "much.gguf", "--card").out
    assert "name 4.txt, sha256 0123456789ab…" in brief
    assert "5.txt" not in brief
    assert "… and 4 more" in brief
    assert whole.startswith("---\n")
    assert f"| 8.txt | {data[8]['sha256']} |" in whole


def test_inspect_a_folder(twofold, folder: Path) -> None:
    result = twofold("inspect", folder)
    assert result.code == 0
    for fact in (
        "Hugging Face folder of",
        "llama, ",
        "SentencePiece (default)",
        "BF16 ",
        "blk.*.attn_q.weight",
    ):
        assert fact in result.out, fact


def same(one: parameters.Model, other: parameters.Model, tolerance: float) -> None:
    """Assert that two models are alike: shape, tokens, and weights within a share of their spread."""
    assert one.config == other.config
    text = "The ferry leaves at seven; Möwen, 船は <s> \U0001f600\n\n  12"
    assert one.tokenizer.encode(text) == other.tokenizer.encode(text)
    assert one.tokenizer.vocabulary.tokens == other.tokenizer.vocabulary.tokens
    assert set(one.tensors) == set(other.tensors)
    for name in one.tensors:
        spread = np.abs(one.tensors[name]).max()
        np.testing.assert_allclose(one.tensors[name], other.tensors[name], atol=tolerance * spread)


TOLERANCES = {
    "q8_0": 0.01, "q6_k": 0.05, "q5_k_m": 0.1, "q5_k": 0.1, "q5_1": 0.1, "q5_0": 0.1, "q4_k_m": 0.2,
    "q4_k": 0.2, "q4_1": 0.1, "q4_0": 0.2, "f16": 1e-3, "bf16": 1e-2, "f32": 0,
}  # fmt: skip


def test_convert_offers_every_type_of_file() -> None:
    assert {kind.upper() for kind in get_args(convert.Type)} == set(FILE_TYPES)
    assert set(get_args(convert.Type)) == set(TOLERANCES)


@pytest.mark.parametrize(("kind", "tolerance"), TOLERANCES.items())
def test_convert_to_a_file_of_each_type(
    twofold, folder: Path, tmp_path: Path, kind: str, tolerance: float
) -> None:
    result = twofold("convert", folder, "out.gguf", "--type", kind)
    assert result.code == 0, result.err
    assert f"weights as {kind}" in result.out
    same(parameters.load(folder), parameters.load(tmp_path / "out.gguf"), tolerance)


def test_convert_to_a_folder_and_back(twofold, model: Path, tmp_path: Path) -> None:
    assert twofold("convert", model, "exact", "--type", "f32").code == 0
    assert twofold("convert", "exact", "back.gguf", "--type", "f32").code == 0
    one, other = parameters.load(model / "model.gguf"), parameters.load(tmp_path / "back.gguf")
    same(one, other, 0)
    assert one.card == other.card


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out", "--type", "q8_0"], "cannot hold q8_0"),
        (["there.gguf"], "exists already"),
        (["there", "--force"], "is a file, and the model needs the other"),
    ],
)
def test_convert_refuses(twofold, model: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    for name in ("there.gguf", "there"):
        (tmp_path / name).write_text("mine")
    result = twofold("convert", model, *arguments)
    assert (result.code, said in result.said) == (2, True), result.err
    assert (tmp_path / "there.gguf").read_text() == "mine"


def test_convert_never_writes_over_its_source(twofold, model: Path) -> None:
    before = (model / "model.gguf").read_bytes()
    result = twofold("convert", model, model / "model.gguf", "--force")
    assert (result.code, "read from" in result.said) == (2, True)
    assert (model / "model.gguf").read_bytes() == before


def test_export_writes_exactly_two_files_that_talk(twofold, model: Path, tmp_path: Path) -> None:
    result = twofold("export", model, "--out", "two files")
    assert result.code == 0
    out = tmp_path / "two files"
    assert sorted(path.name for path in out.iterdir()) == ["model.gguf", "run.c"]
    assert (out / "model.gguf").read_bytes() == (model / "model.gguf").read_bytes()
    assert "cd 'two files'" in result.out

    # What it says to type works, with nothing but the C compiler.
    prompt = a_prompt_that_leads_to_words(out / "model.gguf", 12)
    lines = [line.strip() for line in result.out.splitlines()]
    lines = [line for line in lines if line.startswith(("cd", "cc", "./run"))]
    script = " && ".join([*lines[:2], lines[2] + f" -p '{prompt}' -n 12 --temp 0 -t 1"])
    talk = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120
    )
    assert talk.returncode == 0, talk.stderr
    assert talk.stdout.startswith(prompt)
    # And it is the same text that Python gives.
    here = twofold("complete", prompt, "-m", out / "model.gguf", "-n", "12", "--temp", "0", "-t", "1")
    assert here.out == terminal.clean(talk.stdout)


def a_prompt_that_leads_to_words(path: Path, count: int) -> str:
    """Return a prompt after which the likeliest tokens are all ordinary: a random model says anything."""
    engine = run.load(path, threads=1)
    types = engine.tokenizer.vocabulary.types
    for prompt in ("The ferry", "The harbour", "lemons", "There is", "In winter", "seven", "music", "def"):
        steps = engine.generate(engine.tokenizer.encode(prompt), max_tokens=count)
        if all(types[step.id] == NORMAL for step in steps):
            return prompt
    raise AssertionError("every prompt leads to a control token")


def test_export_a_folder_makes_a_file_of_it(twofold, folder: Path, tmp_path: Path) -> None:
    assert twofold("export", folder, "--out", "two").code == 0
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["model.gguf", "run.c"]
    same(parameters.load(folder), parameters.load(tmp_path / "two" / "model.gguf"), 0.01)


def test_export_refuses_to_replace(twofold, model: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "run.c").write_text("mine")
    result = twofold("export", model, "--out", "two")
    assert (result.code, "already there" in result.said) == (2, True)
    assert (tmp_path / "two" / "run.c").read_text() == "mine"
    assert twofold("export", model, "--out", "two", "--force").code == 0
    result = twofold("export", model, "--out", model, "--force")
    assert (result.code, "another folder" in result.said) == (2, True)
