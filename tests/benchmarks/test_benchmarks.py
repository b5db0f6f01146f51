"""The parts of the benchmarks that can be wrong without a clock: medians, tables, judgements, files."""

import gzip
import importlib
import struct
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from twofold.parameters import load, save_gguf

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import each other by their bare names, as they do when they are run."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


# --- pairs


def test_sides_take_turns_and_every_second_round_is_reversed() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = script("pairs").take_turns({name: lambda name=name: side(name) for name in "ab"}, 3)
    assert "".join(order) == "abbaab"
    assert found == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


def test_the_ratio_is_formed_pair_by_pair() -> None:
    # The machine is ten times slower in the second pair: the ratio of the medians would be 3, not 2.
    assert script("pairs").median_ratio([20, 2, 24], [10, 1, 8]) == 2


def test_a_table_aligns_numbers_to_the_right() -> None:
    table = script("pairs").table(["name", "tok/s"], [["a", "1,200"], ["bcdef", "-"]])
    assert table.splitlines() == [
        "| name  | tok/s |",
        "|-------|------:|",
        "| a     | 1,200 |",
        "| bcdef |     - |",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(4353.4, "4,353"), (100.0, "100"), (38.07, "38.1"), (0.558, "0.56"), (3.999, "4.00")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert script("pairs").figure(value) == text


# --- machine


def test_the_processor_is_described_from_cpuinfo() -> None:
    text = "processor\t: 0\nmodel name\t: Foo 9000\nflags\t\t: fpu avx2 avx512_vnni\n\nprocessor\t: 1\n"
    assert script("machine").describe_cpu(text, 2) == "Foo 9000, 2 cores, avx2 avx512_vnni"
    assert script("machine").describe_cpu("model name : X", 1) == "X, 1 core"


# --- shapes


def test_the_shapes_have_the_sizes_they_are_named_after() -> None:
    sizes = {name: shape.config.parameters / 1e6 for name, shape in script("shapes").SHAPES.items()}
    assert sizes == {"15M": pytest.approx(15.2, abs=0.1), "110M": pytest.approx(109.5, abs=0.5),
                     "1.1B": pytest.approx(1100, abs=1)}  # fmt: skip


@pytest.fixture
def small() -> object:
    shapes = script("shapes")
    return shapes.Shape("small", width=64, layers=2, heads=4, kv_heads=2, ffn=96, tied=False, decode_tokens=4)


def test_random_weights_are_written_and_read_again(small: object, tmp_path: Path) -> None:
    shapes = script("shapes")
    save_gguf(shapes.model(small), tmp_path / "m.gguf", "F32")
    model = load(tmp_path / "m.gguf")
    assert model.tokenizer.vocab_size == shapes.VOCAB
    weights = shapes.weights(small)
    for name in ("blk.1.attn_k.weight", "output.weight"):
        assert np.array_equal(model.tensors[name], weights[name])
    up, gate = weights["blk.0.ffn_up.weight"], weights["blk.0.ffn_gate.weight"]
    assert up.std() == pytest.approx(64**-0.5, rel=0.05)
    assert abs(np.corrcoef(up.ravel(), gate.ravel())[0, 1]) < 0.05


def test_a_token_reads_all_weights_but_an_untied_embedding(small: object, tmp_path: Path) -> None:
    shapes, bench = script("shapes"), script("decode_prefill")
    save_gguf(shapes.model(small), tmp_path / "m.gguf", "F32")
    count = small.config.parameters  # type: ignore[attr-defined]
    embedding = shapes.VOCAB * 64
    assert bench.bytes_per_token(tmp_path / "m.gguf", tied=True) == 4 * count
    assert bench.bytes_per_token(tmp_path / "m.gguf", tied=False) == 4 * (count - embedding)


def test_llama2c_gets_the_same_weights_in_its_own_order(small: object, tmp_path: Path) -> None:
    shapes = script("shapes")
    shapes.write_llama2c(small, tmp_path / "m.bin")
    data = (tmp_path / "m.bin").read_bytes()
    assert struct.unpack("<7i", data[:28]) == (64, 96, 2, 4, 2, -shapes.VOCAB, shapes.CONTEXT)
    floats = np.frombuffer(data, np.float32, offset=28)
    weights = shapes.weights(small)
    at = shapes.VOCAB * 64
    assert np.array_equal(floats[:at], weights["token_embd.weight"].ravel())
    assert np.array_equal(floats[at : at + 128], np.ones(128))  # the norms of both layers
    assert np.array_equal(floats[at + 128 : at + 128 + 64 * 64], weights["blk.0.attn_q.weight"].ravel())
    assert np.array_equal(floats[-at:], weights["output.weight"].ravel())
    angles = shapes.CONTEXT * 16
    assert floats.size == small.config.parameters + angles  # type: ignore[attr-defined]


# --- decode_prefill


def test_llama2c_speed_is_read_from_its_report() -> None:
    bench = script("decode_prefill")
    assert bench.tokens_per_second("\nachieved tok/s: 378.500000\n") == 378.5
    with pytest.raises(ValueError, match="no speed"):
        bench.tokens_per_second("malloc failed!")


def test_a_row_has_a_cell_for_each_column() -> None:
    bench = script("decode_prefill")
    decode = {"llama.cpp": [100.0, 50.0], "twofold": [300.0, 150.0], "bandwidth": [1e9, 1e9]}
    prefill = {"llama.cpp": [1000.0, 1000.0], "twofold": [2000.0, 4000.0]}
    cells = bench.row(2, decode, prefill, 2_000_000)
    assert cells == ["2", "75.0", "225", "3.00", "0.15", "0.45", "1,000", "3,000", "3.00", "-", "-"]
    with_llama2c = bench.row(2, decode | {"llama2.c": [30.0, 30.0]}, prefill, 2_000_000)
    assert with_llama2c[-2:] == ["30.0", "7.50"]
    assert len(cells) + 2 == len(with_llama2c) + 2 == len(bench.HEADER)


# --- parity


@pytest.fixture
def parity(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER.parent / "tests" / "parameters"))
    return script("parity")


def test_only_close_calls_are_excused(parity: ModuleType) -> None:
    rng = np.random.default_rng(0)
    ours = rng.standard_normal((3, 100)).astype(np.float32)
    theirs = ours + 0.01 * rng.standard_normal((3, 100)).astype(np.float32)
    ours[0, 5] = theirs[0, 5] = 9.0  # agreed
    ours[1, 5], theirs[1, 5], ours[1, 6], theirs[1, 6] = 9.01, 9.0, 9.0, 9.01  # the other one, by a hair
    ours[2, 5], theirs[2, 5], ours[2, 6], theirs[2, 6] = 9.0, 8.0, 8.0, 9.0  # the other one, by far
    assert parity.judge(ours, theirs) == ([2], [1])


def test_the_logits_difference_is_relative(parity: ModuleType) -> None:
    theirs = np.array([[3.0, -4.0]], np.float32)
    assert parity.relative_error(theirs * np.float32(1.1), theirs) == pytest.approx(0.1, rel=1e-4)


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
