"""A tiny ladder, trained for real: it fills its budget, survives a kill, and the dial plans by it."""

import dataclasses
import itertools
import math

import pytest

pytest.importorskip("torch")

from made_ladder import made

from twofold.base.errors import UsageError
from twofold.cli.main import main
from twofold.measure import ladder as ladders
from twofold.train import PretrainConfig, dial, ladder, machine, planning
from twofold.train.dial import ShapeConfig
from twofold.train.folder import read_recipe
from twofold.train.ladder import LadderConfig
from twofold.train.step import flops_per_token

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "and", "saw", "old", "red"]


@pytest.fixture
def text(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(60):
        words = [WORDS[(i * i + 7 * i * number + number) % len(WORDS)] for i in range(300)]
        (folder / f"{number}.txt").write_text(f"{number} " + " ".join(words))
    return folder


def tiny(text, out):
    return LadderConfig(
        data=(str(text),), out=out, flops=6e9, sizes=3, lengths=2, vocab=320, context=64, threads=1,
        device="cpu", compute="float32", val_fraction=0.1,
    )  # fmt: skip


def test_a_ladder_is_trained_resumed_and_used(text, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ladder, "LEAST_STEPS", 4)
    out = tmp_path / "ladder"
    config, trained, real = tiny(text, out), [], ladder.train_one

    def killed_at_the_third(folder, rung):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(rung.name)
        real(folder, rung)

    monkeypatch.setattr(ladder, "train_one", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        ladder.scale(config)
    assert not (out / "ladder.json").exists()
    before = {name: (out / "rungs" / name / "recipe.toml").read_bytes() for name in trained}
    assert len(before) == 2

    monkeypatch.setattr(ladder, "train_one", real)
    with pytest.raises(SystemExit) as end:
        main(["scale", "--resume", str(out)])
    assert not end.value.code
    said = capsys.readouterr().out
    assert "Foretold" in said
    assert {name: (out / "rungs" / name / "recipe.toml").read_bytes() for name in trained} == before
    assert (out / "loss.png").is_file()

    found = ladders.parse((out / "ladder.json").read_text(), "ladder.json")
    assert len(found.runs) == 7
    assert len({run.weights for run in found.runs}) == 4
    assert found.held_out.weights == max(run.weights for run in found.runs)
    assert found.held_out.flops == max(run.flops for run in found.runs)
    assert all(0 < run.bits_per_byte < 8 and run.train_s > 0 for run in found.runs)
    assert len({read_recipe(path).result["val_bytes"] for path in (out / "rungs").iterdir()}) == 1
    assert found.text
    assert ladders.kept(planning.device_name("cpu")) == found

    host = machine.Machine("cpu", "float32", 1, 1e10)
    assert planning.own_ladder(host) == found
    corpus = planning.read(PretrainConfig(corpus=out / "corpus"), out, None)
    chosen = planning.plan(
        PretrainConfig(
            corpus=out / "corpus", steps=9, batch=2, threads=1, device="cpu", compute="float32",
            model=ShapeConfig(depth=1, width=32, context=64),
        ),
        corpus,
    )  # fmt: skip
    assert chosen.rules == f"this machine's ladder, {found.name!r}"
    assert dict(chosen.rows_of_text())["planned by"] == chosen.rules
    expected = found.expected(
        dial.weights(chosen.model()), 9 * 2 * 64 * found.bytes_per_token, corpus.train_bytes, found.text
    )
    assert (chosen.bits_per_byte, chosen.bits_per_byte_low) == pytest.approx(expected[:2])

    with pytest.raises(UsageError, match="other settings"):
        ladder.scale(dataclasses.replace(config, sizes=4))


def test_every_rung_s_schedule_ends_where_the_rung_ends(text, tmp_path, monkeypatch):
    monkeypatch.setattr(ladder, "LEAST_STEPS", 4)
    config = tiny(text, tmp_path / "ladder")
    ladder.begin(config, ladder.Screen(None))
    _, design = ladder.read(config.out)
    ladder.train_one(config.out, design.rungs[0])
    recipe = read_recipe(config.out / "rungs" / design.rungs[0].name)
    rung = design.rungs[0]
    assert (recipe.result["steps"], recipe.result["tokens"]) == (rung.steps, rung.tokens)
    assert recipe.plan["steps"] == rung.steps
    assert ladder.finished(config.out, rung)
    assert not ladder.finished(config.out, design.rungs[1])


def test_the_design_surrounds_the_best_sizes(monkeypatch):
    host = machine.Machine("cpu", "float32", 1, 4e11)
    monkeypatch.setattr(machine, "measure", lambda *arguments: host)
    monkeypatch.setattr(machine, "pace", lambda host, shape, rows, **more: machine.Pace(
        flops_per_token(shape) * rows * shape.context / 1.5e11, 0.0, 1e-6, 1
    ))  # fmt: skip
    corpus = type("Corpus", (), {"train": range(20_000_000)})
    config = LadderConfig(data=("x",), time="25m")
    design = ladder.plan(config, corpus, ladder.Screen(None))
    rungs = [rung for rung in design.rungs if not rung.held_out]
    last = design.rungs[-1]
    assert abs(design.seconds / 1500 - 1) < 0.05
    assert len(rungs) == 18
    assert last.held_out
    sizes = sorted({rung.weights for rung in rungs})
    assert len(sizes) == 6
    assert 5 < sizes[-1] / sizes[0] < 9
    assert len({rung.depth for rung in design.rungs}) == 1, "only the width differs"
    assert last.weights > sizes[-1]
    by_size = [sorted(rung.tokens for rung in rungs if rung.weights == size) for size in sizes]
    for lengths in by_size:
        assert len(lengths) == 3
        for shorter, longer in itertools.pairwise(lengths):
            assert longer / shorter == pytest.approx(ladder.STEP, rel=0.05)
    assert min(rung.tokens / rung.weights for rung in design.rungs) > ladders.SHORT, "none too short to count"
    flops = sorted(rung.weights * rung.tokens for rung in rungs)
    assert flops[-1] / flops[0] > 15, "five budgets"
    assert last.weights * last.tokens > 1.8 * flops[-1]
    twice = ladder.plan(dataclasses.replace(config, time="50m"), corpus, ladder.Screen(None))
    assert max(rung.weights for rung in twice.rungs) > last.weights, "more time, larger models"


def test_the_dial_chooses_by_the_ladder_what_its_law_likes_best():
    found = made()
    text_bytes = 5e7
    chosen = ShapeConfig(vocab=2048)
    depth = dial.depth_for(chosen, 3e14, text_bytes, found)

    def expected(depth):
        shape = dial.shape(chosen, depth, 2048)
        tokens = 3e14 / flops_per_token(shape)
        return found.expected(dial.weights(shape), tokens * 3.0, text_bytes)[0]

    assert min(range(1, 12), key=expected) == depth
    slow = lambda shape: 3e14 if dial.weights(shape) < 1e6 else 3e11  # noqa: E731
    assert dial.depth_for(chosen, slow, text_bytes, found) <= 2, "what is slow here is no use"
    assert dial.depth_for(ShapeConfig(depth=7), 3e14, text_bytes, found) == 7


def test_time_is_spent_at_the_ladder_s_speeds(text, monkeypatch):
    found = made()
    monkeypatch.setattr(planning, "own_ladder", lambda host: found)
    monkeypatch.setattr(machine, "measure", lambda *arguments: machine.Machine("cpu", "float32", 1, 4e11))
    spend = planning._spending(PretrainConfig(data=("x",), time="20m"), machine.measure(), found)
    shape = dial.shape(ShapeConfig(), 2, 2048)
    assert spend(shape) == pytest.approx(0.85 * 1200 * found.flops_per_s(dial.weights(shape)))
    sized = planning.size(PretrainConfig(data=(str(text),), time="20m"))
    text_bytes = planning._text_bytes((str(text),))
    depth = dial.depth_for(ShapeConfig(), spend, text_bytes, found)
    assert sized.model.vocab == dial.vocab_for(depth, text_bytes)
    assert (
        planning._spending(PretrainConfig(data=("x",), flops=1e15), machine.measure(), found)(shape) == 1e15
    )
    assert planning._spending(PretrainConfig(data=("x",), steps=5), machine.measure(), found) is None


def test_without_a_ladder_the_built_in_rules_are_named(tmp_path):
    assert planning.own_ladder(machine.Machine("cpu", "float32", 1, 1e10)) is None
    middle, low, high = dial.expected(dial.shape(ShapeConfig(), 4, 4096), 1e7, 4.0)
    assert low < middle < high
    assert math.isclose(middle - low, dial.LAW_ERROR * middle)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["scale"], "Say what to read"),
        (["scale", "x", "--show"], "Say what to read"),
        (["scale", "--show"], "No ladder is kept"),
        (["scale", "--resume", "nowhere"], "not the folder of a ladder"),
        (["scale", "--resume", "nowhere", "--time", "5m"], "takes the ladder's own settings"),
        (["scale", "x", "--time", "soon"], "--time takes a time"),
        (["scale", "x", "--set", "sizes=1"], "at least 2 sizes"),
        (["scale", "x", "--set", "size=7"], "did you mean sizes?"),
        (["scale", "nowhere"], "nowhere"),
    ],
)
def test_misuse_is_one_sentence(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
