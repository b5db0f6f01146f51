"""The recipe of preferences in small: pairs of right and wrong, transcripts as messages, a table."""

import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

import preferences
from rich.console import Console

from twofold.parameters import ModelConfig, save_gguf
from twofold.tokens import Tokenizer
from twofold.train import PreferConfig
from twofold.train.export import to_model
from twofold.train.transformer import Transformer

TRANSCRIPT = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:{}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = ModelConfig(
        architecture="qwen3", family="qwen3", context=128, vocab_size=320, layers=1, width=32, heads=2,
        kv_heads=2, head_dim=16, ffn=64, tied=True,
    )  # fmt: skip
    net = Transformer(shape)
    net.initialise(0)
    path = tmp_path_factory.mktemp("small") / "small.gguf"
    save_gguf(
        to_model(net, Tokenizer.train(["user assistant user assistant"], 320), {"name": "small"}), path, "F32"
    )
    return path


@pytest.fixture
def study(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> preferences.Study:
    small = dict(steps=2, batch=2, gold_prompts=3, gold_each=1, best_of=2, max_tokens=4)
    real = preferences.run

    def run(folder, config, console):
        how = small if isinstance(config, PreferConfig) else {"steps": 2, "batch": 2}
        real(folder, dataclasses.replace(config, **how), console)

    monkeypatch.setattr(preferences, "run", run)
    return preferences.Study(model, tmp_path / "data", tmp_path / "out", 0, 6, 1)


def test_transcripts_become_pairs(tmp_path: Path) -> None:
    lines = [
        {"chosen": TRANSCRIPT.format(" A."), "rejected": TRANSCRIPT.format(" B.")},
        {"chosen": TRANSCRIPT.format(" A."), "rejected": TRANSCRIPT.format(" A.")},
        {"chosen": TRANSCRIPT.format(" A."), "rejected": "\n\nHuman: Else\n\nAssistant: B."},
        {"chosen": TRANSCRIPT.format(""), "rejected": TRANSCRIPT.format(" B.")},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in lines))
    (found,) = preferences.harmless(path)
    assert [m["role"] for m in found["chosen"]] == ["user", "assistant", "user", "assistant"]
    assert (found["chosen"][-1]["content"], found["rejected"][-1]["content"]) == ("A.", "B.")
    assert [m.get("weight", 1) for m in preferences.taught(found["chosen"])] == [1, 0, 1, 1]


def test_what_people_chose_ends_with_a_table(study: preferences.Study) -> None:
    folder = study.data / "preference"
    folder.mkdir(parents=True)
    said = {"chosen": "a", "rejected": "bb"}
    lines = [
        {side: f"\n\nHuman: {n}?\n\nAssistant: {text} {n}." for side, text in said.items()} for n in range(40)
    ]
    path = folder / "hh_harmless_base_test.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in lines))
    preferences.HARMLESS, before = "preference/hh_harmless_base_test.jsonl", preferences.HARMLESS
    try:
        rows = preferences.people(study, Console(quiet=True))
        assert [one.split("|")[1].strip() for one in rows] == [
            "the judge, on the half kept back", "DPO", "DPO, length control", "reward model",
            "reward model, length control",
        ]  # fmt: skip
        assert rows[1].count("→") == 1
        assert preferences.people(study, Console(quiet=True)) == rows
    finally:
        preferences.HARMLESS = before


def test_right_and_wrong_are_paired(study: preferences.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    real = preferences.play

    def answered(task, problems, *args, **how):
        tried = real(task, problems, *args, **how)
        for number, one in enumerate(tried):
            one.episode.reward = float(number % 2)
            turn = one.turns[0]
            ids = study_tokenizer.encode(f"{number}")
            one.turns[0] = dataclasses.replace(
                turn, answer=dataclasses.replace(turn.answer, ids=[*ids, 0], ended=True)
            )
        return tried

    study_tokenizer = preferences.load(study.model, threads=1).tokenizer
    monkeypatch.setattr(preferences, "play", answered)
    found = list(preferences.right_and_wrong(study))
    assert len(found) == 2 * 6
    assert (found[0]["chosen"], found[0]["rejected"]) == ("1", "4")
    rows = preferences.sums(study, Console(quiet=True))
    assert [one.split("|")[1].strip() for one in rows] == ["DPO", "reward model"]
