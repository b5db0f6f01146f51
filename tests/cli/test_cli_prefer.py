"""`twofold prefer` and `chat --judge` as they are typed, from labels and from files."""

import json

import pytest

pytest.importorskip("torch")

from twofold.kernel.labels import Labels
from twofold.parameters import ModelConfig, save_gguf
from twofold.tokens import Tokenizer
from twofold.train import rehearsal
from twofold.train.export import to_model
from twofold.train.transformer import Transformer

SMALL = [part for setting in ("steps=3", "threads=1", "batch=2", "max_tokens=6", "gold_prompts=2",
                              "gold_each=1", "best_of=2", "sequences=2")
         for part in ("--set", setting)]  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    shape = ModelConfig(
        architecture="qwen3", family="qwen3", context=192, vocab_size=320, layers=1, width=32, heads=2,
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
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    records = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(8)]
    path.write_text("\n".join(json.dumps(one) for one in records))
    return path


@pytest.fixture
def own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(rehearsal, "questions", lambda: [[f"what {n}"] for n in range(8)])
    return Labels()


def test_a_judge_is_made_and_chooses_in_the_chat(twofold, small, pairs, tmp_path):
    made = twofold("prefer", small, "--on", pairs, "--reward", "--length-control", *SMALL)
    assert made.code == 0, made.err
    assert "length control (α" in made.said
    assert "by length alone" in made.said
    assert "twofold chat --judge runs/small-judge" in made.out
    choose = ("--judge", "small-judge", "--set", "best_of=3")
    told = twofold("chat", small, "-p", "Hello", *choose, "--seed", "1", "-n", "5", "-t", "1")
    assert told.code == 0, told.err
    assert "5 tokens" in told.err
    thought = twofold(
        "chat", small, "-p", "Hello", *choose, "--seed", "1", "-n", "5", "-t", "1", "--think", "60"
    )
    assert thought.code == 0, thought.err
    assert "by its score of" in thought.err or "before an answer had ended" in thought.err
    assert "is no reward model" in twofold("chat", small, "-p", "a", "--judge", small).said
    ran = twofold("prefer", small, "--on", pairs, "--judge", "small-judge", "--out", tmp_path / "run", *SMALL)
    assert ran.code == 0, ran.err
    assert "comparisons won" in ran.said
    assert "twofold promote" in ran.out
    assert twofold("prefer", "--resume", tmp_path / "run").code == 0
    assert "it judges answers and gives none" in twofold("promote", "small-judge").said


def test_labels_are_pairs(twofold, small, own):
    assert "no labels to learn from yet" in twofold("prefer", small).said
    for n in range(4):
        asked = [{"role": "user", "content": f"tree {n}?"}]
        own.compare(asked, "no", "yes", {"name": "small"})
    own.fix([{"role": "user", "content": "dog?"}], "no", "a dog", {"name": "small"})
    made = twofold("prefer", small, "--labels", *SMALL)
    assert made.code == 0, made.err
    assert "own answers" in made.err
    assert "comparisons (bits per pair)" in made.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--resume", "x", "--reward"), "does not go together with --reward"),
        (("nothing", "--on", "x.jsonl"), "no model 'nothing'"),
        (("--resume", "x"), "x is not the folder of a run"),
    ],
)
def test_what_does_not_go_is_said(twofold, arguments, complaint):
    result = twofold("prefer", *arguments)
    assert result.code == 2
    assert complaint in result.said


def test_a_curve_is_drawn_in_letters_spaced_by_its_root():
    from twofold.cli import curves
    from twofold.measure.overoptimisation import Curve, Point

    climbs = [
        Curve("a run", [Point(kl, reward, 0.1, "") for kl, reward in ((0, 0), (1, 0.2), (4, 0.5), (9, 0.3))]),
        Curve("best of n", [Point(0, 0, 0, ""), Point(1.2, 0.1, 0, "")]),
    ]
    shown = curves.of_climb(climbs)
    assert [one.held_out for one in shown] == [[(4, 0.5)], [(1.2, 0.1)]]
    for plain in (False, True):
        rows = curves.draw(shown, 60, root=True, plain=plain).plain.splitlines()
        assert max(map(len, rows)) <= 60
        top = next(row for row in rows if "*" in row)
        # A distance of 4 lies at two thirds of the way to 9 on a scale of roots.
        assert top.index("*") - 8 == pytest.approx(2 / 3 * 50, abs=4)
        assert rows[-1].split()[0] == "0"
