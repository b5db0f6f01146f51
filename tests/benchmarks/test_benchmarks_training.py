"""The parts of the training benchmarks that can be wrong without a clock: texts, logs, judgements."""

import gzip
import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


# --- train_shakespeare


def test_the_text_is_read_as_one_piece(tmp_path: Path) -> None:
    text = "First Citizen:\nBefore we proceed any further, hear me speak.\n\n" * 5000
    (tmp_path / "long.txt.gz").write_bytes(gzip.compress(text.encode()))
    assert script("train_shakespeare").whole(tmp_path / "long.txt.gz") == text


def test_the_text_is_cut_where_nanogpt_cuts() -> None:
    bench = script("train_shakespeare")
    text = "x" * 1_115_394
    assert [len(part) for part in bench.split(text)] == [1_003_854, 111_540]


def test_nanogpt_s_last_loss_is_read_from_its_log() -> None:
    bench = script("train_shakespeare")
    log = "step 0: train loss 4.1676, val loss 4.1649\niter 0: loss 4.18\n"
    log += "step 9: train loss 1.7, val loss 1.88\n"
    assert bench.last_val_loss(log) == 1.88
    with pytest.raises(ValueError, match="no held-out loss"):
        bench.last_val_loss("iter 0: loss 4.18")


def test_a_miss_is_told_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    bench = script("train_shakespeare")
    rival = bench.Side("nanoGPT", "characters", (100.0,), 1.90, 1.88)
    good = bench.Side("twofold bpe", "its own vocabulary", (4.0, 5.0, 30.0), 1.85)
    bad = bench.Side("twofold bytes", "bytes", (9.0,), 1.89)
    assert bench.report([rival, good], 1.88) == 0
    assert "20.0" in capsys.readouterr().out
    assert bench.report([rival, good, bad], 1.88) == 1
    assert "twofold bytes did not reach the target: 1.8900" in capsys.readouterr().out


def test_the_bytes_tokenizer_gives_every_byte_its_token() -> None:
    pytest.importorskip("torch")
    tokenizer = script("shakespeare_twofold").bytes_only()
    text = "Ein schöner Tag,\n\tfür 3 Könige."
    pieces = [tokenizer.token_bytes(i) for i in tokenizer.encode(text)]
    assert pieces == [bytes([byte]) for byte in text.encode()]
    assert tokenizer.vocab_size == 320


# --- train_nanochat


def test_pieces_are_whole_paragraphs_and_lose_nothing() -> None:
    bench = script("train_nanochat")
    text = "One.\n\nTwo, longer.\n" + "word " * 40 + "\n\n" + "x" * 90 + "\n\n\nÄnde.\n"
    for most in (16, 64, 100, 10_000):
        found = list(bench.pieces(text, most))
        assert "".join(found) == text
        assert all(len(piece.encode()) <= most or len(piece.split()) == 1 for piece in found)
    assert list(bench.pieces("One.\n\nTwo.\n", 8)) == ["One.\n\n", "Two.\n"]


def test_judged_texts_are_evenly_chosen() -> None:
    bench = script("train_nanochat")
    texts = [f"{i:04d}" for i in range(1000)]
    some = bench.evenly(texts, 400)
    assert len(some) == 100
    assert some[0] == "0009"
    assert some[-1] == "0999"
    assert bench.evenly(texts, 10**9) == texts


def test_both_sides_get_the_same_text(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    bench = script("train_nanochat")
    for name in ("train", "val"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "' + f"{name} one.\\n\\n" * 400 + '"}\n')
    out = tmp_path / "out"
    out.mkdir()
    bench.prepare(tmp_path / "train.jsonl", tmp_path / "val.jsonl", out)
    shards = sorted((out / "shards").iterdir())
    for name, shard in zip(("train", "held-out"), shards, strict=True):
        lines = [json.loads(line)["text"] for line in (out / f"{name}.jsonl").read_text().splitlines()]
        assert parquet.read_table(shard).column("text").to_pylist() == lines
        assert len(lines) == (3 if name == "train" else 2)


def test_nanochat_s_log_is_read() -> None:
    bench = script("train_nanochat")
    log = "Total number of training tokens: 1,228,800\n"
    for number, ms in enumerate((90000.5, 1500.0, 500.0)):
        log += f"step {number:05d}/00300 (0.00%) | loss: 8.3 | lrm: 0.03 | dt: {ms:.2f}ms | tok/sec: 12 | x\n"
    assert bench.steps_s(log) == [1.5, 0.5]
    assert bench.tokens_read(log) == 1_228_800
    with pytest.raises(ValueError, match="how many tokens"):
        bench.tokens_read("step 1")


def test_twofold_has_to_reach_the_better_of_nanochat_s_models(capsys: pytest.CaptureFixture[str]) -> None:
    bench = script("train_nanochat")

    def side(name: str, seconds: float, score: float) -> object:
        runs = tuple(bench.Run(s, s / 2, 1_000_000) for s in (seconds, 3 * seconds, seconds))
        return bench.Side(name, runs, score, 10_000_000, 7_000_000)

    slow, quick = side("nanochat float32", 400, 1.90), side("nanochat bfloat16", 200, 1.93)
    assert (
        bench.report([slow, side("twofold, 180 steps", 50, 1.90), quick, side("twofold, 140", 40, 1.92)]) == 0
    )
    printed = capsys.readouterr().out
    assert "8.00" in printed
    assert "5.00" in printed
    assert bench.report([slow, side("twofold", 50, 1.905)]) == 1
    assert "did not reach nanochat float32: 1.9050 > 1.9000" in capsys.readouterr().out
    assert bench.report([side("twofold", 50, 1.905)]) == 0


# --- utilisation


def test_a_step_is_compared_with_the_peaks_around_it() -> None:
    pytest.importorskip("torch")
    bench = script("utilisation")
    found = bench.Watched(step_s=[2.0, 4.0, 2.0], update_s=[0.1, 0.1, 0.1], peaks=[100.0, 100.0, 50.0, 50.0])
    assert found.utilisation(100.0) == pytest.approx(0.5)
    assert bench.Watched([2.0], [0.1], [100.0, 300.0]).utilisation(100.0) == pytest.approx(0.25)


def test_utilisation_s_shapes_and_batches_are_the_dial_s() -> None:
    pytest.importorskip("torch")
    bench = script("utilisation")
    sizes = [round(bench.shape(depth).parameters / 1e6) for depth in (5, 6, 8)]
    assert sizes == [8, 17, 34]
    assert [bench.rows(bench.shape(depth), None) * 512 for depth in (5, 6, 8)] == [32768, 32768, 65536]
    assert bench.rows(bench.shape(5), 4096) == 8


def test_a_watched_run_leaves_out_its_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    bench = script("utilisation")
    monkeypatch.setattr(bench, "peak_flops", lambda: 1e9)
    from twofold.train import dial

    config = dial.shape(dial.ShapeConfig(width=32, heads=1, head_dim=32, context=32), 1, 320)
    plan = bench.step_plan(config, count=2, threads=torch.get_num_threads(), steps=3)
    found = bench.watched(config, plan, tmp_path, compiled=False)
    assert len(found.step_s) == len(found.update_s) == 2
    assert found.peaks == [1e9] * 3
    assert all(0 < update < step for update, step in zip(found.update_s, found.step_s, strict=True))
    cells = bench.cells(config, 64, found, compiled=False)
    assert len(cells) == len(bench.HEADER)
