"""The parts of the benchmarks that can be wrong without a clock: medians, tables, judgements, files."""

import importlib
import math
import shutil
import struct
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from twofold.parameters import load, save_gguf

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


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
    batch = {"llama.cpp": [200.0, 400.0], "twofold": [800.0, 800.0]}
    cells = bench.row(2, decode, prefill, batch, 2_000_000)
    assert cells[:6] == ["2", "75.0", "225", "3.00", "0.15", "0.45"]
    assert cells[6:] == ["1,000", "3,000", "3.00", "300", "800", "3.00", "-", "-"]
    with_llama2c = bench.row(2, decode | {"llama2.c": [30.0, 30.0]}, prefill, batch, 2_000_000)
    assert with_llama2c[-2:] == ["30.0", "7.50"]
    assert len(cells) + 2 == len(with_llama2c) + 2 == len(bench.HEADER)


def test_a_short_run_is_repeated() -> None:
    bench = script("decode_prefill")
    seconds = iter([0.1, 0.1, 0.3, 9.0])
    assert bench.repeated(lambda: next(seconds), 10) == pytest.approx(60)
    assert bench.repeated(lambda: next(seconds), 18) == pytest.approx(2)


# --- cold_start


def test_the_watcher_times_what_comes_behind_the_mark(tmp_path: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    cold, machine = script("cold_start"), script("machine")
    watcher = machine.compile_c(FOLDER / "first_byte.c", tmp_path / "first_byte", "-Wall", "-Werror")

    def watch(mark: str, shell: str) -> subprocess.CompletedProcess[str]:
        command = [str(watcher), mark, "sh", "-c", shell]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = watch("the end", "printf 'say the'; printf ' end'; sleep 0.2; echo answer; echo noise >&2")
    found = cold.report(done.stdout)
    assert done.stderr == ""
    assert 0.2 <= found.first_s < 10
    assert 100_000 < found.peak_bytes < 100_000_000  # a shell's, not that of this Python
    assert watch("mark", "echo mark; exit 3").returncode == 1
    assert "nothing behind the mark" in watch("mark", "printf 'no answer: mark'").stderr


def test_each_side_gets_the_same_prompt(tmp_path: Path) -> None:
    cold = script("cold_start")
    programs = object.__new__(cold.Programs)
    programs.twofold, programs.rivals = Path("run"), {"llama-cli": Path("a"), "llama-completion": Path("b")}
    for side in cold.SIDES:
        command = programs.command(side, tmp_path / "m.gguf", "Hello", 4, 2)
        asked = command.index("-p")
        assert command[asked : asked + 8] == ["-p", "Hello", "-n", "4", "-t", "2", "--temp", "0"]
        assert ("--no-warmup" in command) == side.endswith("--no-warmup")
    assert len(cold.LONG_PROMPT) >= cold.LONG


def test_cold_start_s_rows_have_a_cell_for_each_column() -> None:
    cold = script("cold_start")
    seconds = dict(zip(cold.SIDES, ([0.4, 0.2], [0.08, 0.12], [0.06, 0.06], [0.02, 0.02]), strict=True))
    cells = cold.row(2, seconds)
    assert cells == ["2", "300", "100", "60.0", "20.0", "15.0", "3.00"]
    assert 2 + len(cells) == len(cold.HEADER)
    peaks = {"llama-cli": 60 << 20, "llama-completion": 40 << 20, "twofold": 22 << 20}
    cells = cold.memory_row(20 << 20, peaks)
    assert cells == ["20.0", "60.0", "40.0", "22.0", "3.00", "2.00", "1.10"]
    assert 2 + len(cells) == len(cold.MEMORY_HEADER)


# --- long_context


def test_the_better_of_llama_cpp_s_sides_counts() -> None:
    long = script("long_context")
    on, off = long.LLAMA_CPP
    speeds = {on: [10.0, 11.0], off: [20.0, 5.0], "twofold": [40.0, 20.0]}
    assert long.better(speeds) == off
    cells = long.row(2, 8192, speeds)
    assert cells == ["2", "8,192", "10.5", "12.5", "30.0", "3.00"]
    assert 2 + len(cells) == len(long.HEADER)
    assert [long.copies(depth) for depth in (512, 513, 8192)] == [1, 2, 16]


def test_a_shape_can_have_a_longer_context(small: object) -> None:
    from dataclasses import replace

    assert replace(small, context=33_280).config.context == 33_280  # type: ignore[type-var]


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


# --- quality


@pytest.fixture
def quality(parity: ModuleType) -> ModuleType:  # which it takes some parts from
    return script("quality")


def test_nats_are_those_of_the_id_that_followed() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], np.float32)) + np.float32(1000)
    assert script("surprise").nats(logits, [1, 2]) == pytest.approx([math.log(4), -math.log(0.7)], rel=1e-3)


def test_the_greedy_ids_are_at_least_as_many_as_wanted(quality: ModuleType) -> None:
    for context in (128, 256, 512, 4096):
        plan = quality.plan(context)
        assert sum(count for _, count in plan) >= quality.WANTED_IDS
        assert all(len(prompt) + count <= context for prompt, count in plan)
    assert len(quality.plan(4096)) == 1
    with pytest.raises(SystemExit):
        quality.plan(64)


def test_windows_predict_each_token_once(quality: ModuleType) -> None:
    text = [list(range(10)), list(range(100, 104)), [7]]
    found = quality.windows(text, 4, 10**9)
    assert found == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [8, 9], [100, 101, 102, 103]]
    some = quality.windows([list(range(1001))] * 10, 100, 5000)
    assert sum(len(window) - 1 for window in some) == 5000
    assert {window[0] for window in some[:10]} != {0}  # from all places of the documents


def test_the_change_of_perplexity_is_paired(quality: ModuleType) -> None:
    def side(nats: list[float]) -> object:
        return quality.Side("twofold", "Q8_0", 1 << 20, np.array(nats), np.array([100.0, 100.0]))

    base = side([100.0, 300.0])
    assert base.perplexity == pytest.approx(math.exp(2))  # type: ignore[attr-defined]
    share, error = quality.change(side([101.0, 301.0]), base)
    assert (share, error) == (pytest.approx(math.expm1(0.01)), pytest.approx(0))  # the windows agree
    assert quality.change(side([100.0, 302.0]), base)[1] == pytest.approx(math.sqrt(2) / 200)
    assert quality.cells(base, base)[-2:] == ["-", "-"]
    assert len(quality.cells(base, base)) == len(quality.HEADER)


def test_missed_targets_are_told(quality: ModuleType) -> None:
    def sides(q8: float, q4: float) -> dict[str, object]:
        sums = {"F32": 0.0, "Q8_0": q8, "Q4_0": q4}
        return {
            kind: quality.Side("x", kind, 1, np.array([100.0, 200.0]) + more, np.array([100.0, 100.0]))
            for kind, more in sums.items()
        }

    assert quality.misses(sides(0.05, 1.0), sides(0.05, 1.0)) == []
    first, second = quality.misses(sides(0.2, 1.5), sides(0.05, 1.0))
    assert first.startswith("Q8_0 changes the perplexity by +0.20%")
    assert second.startswith("Q4_0 has +0.50")
