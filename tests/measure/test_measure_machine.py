"""Measuring: machine.c compiles cleanly and measures something, and what is timed is what is asked."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_models import random_model

from twofold import parameters, run
from twofold.base.errors import BadFileError, TwofoldError
from twofold.measure import calibration, machine, pace, speed, synthetic, timing
from twofold.measure.timing import Runner, timed

STRICT = ("-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a small random model's file."""
    parameters.save_gguf(random_model("qwen3"), tmp_path / "model.gguf", "Q8_0")
    return tmp_path / "model.gguf"


# --- machine.c


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("flags", [(), ("-march=native",), ("-mavx2",), ("-mavx512f", "-mavx512vnni")])
def test_no_warnings(compiler: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    if flags and flags[0].startswith("-mavx") and "x86" not in machine.platform.machine():
        pytest.skip("another processor")
    command = [compiler, *STRICT, "-O3", *flags, "-c", str(machine.source()), "-o", str(tmp_path / "x.o")]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_machine_reads_and_multiplies(threads: int) -> None:
    found = machine.measure(threads, sizes=[3_000_000], seconds=0.002, most_mb=8)
    assert found.all.threads == threads
    assert found.one.threads == 1
    assert [size for size, _ in found.all.bandwidth] == [2_000_000, 3_000_000, 4_000_000, 8_000_000]
    for side in (found.one, found.all):
        assert side.int8 > 1e8
        assert side.float32 > 1e8
        assert min(speed_ for _, speed_ in side.bandwidth) > 1e7
        assert side.memory == side.bandwidth[-1][1]
        assert side.bandwidth_of(8_000_000) == pytest.approx(side.memory)
    assert found.int8_instruction
    assert found.float32_instruction
    assert 0 < found.available_bytes <= found.memory_bytes
    assert found.processor


def test_too_many_threads_are_one_sentence() -> None:
    with pytest.raises(TwofoldError, match="does not run 257 threads"):
        machine.bandwidth(1 << 20, 257, 0.001)


def test_too_little_memory_is_one_sentence() -> None:
    with pytest.raises(TwofoldError, match="not enough memory"):
        machine.bandwidth(1 << 62, 1, 0.001)


def test_the_largest_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CACHES", tmp_path)
    assert machine.cache_bytes() == 0
    for index, size in enumerate(["48K", "2048K\n", "480M\n", "", "many"]):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size)
    assert machine.cache_bytes() == 480 << 20


def test_a_container_has_the_memory_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CONTROL_GROUP", tmp_path)
    whole = machine.total_bytes()
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.total_bytes() == whole
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\nactive_file 100000\ninactive_file 50000\n")
    assert machine.total_bytes() == 1_000_000
    assert machine.available_bytes() == 450_000  # what files hold in memory can be given back


# --- timing


def test_what_is_timed_is_what_is_asked(file: Path) -> None:
    engine = run.load(file, sequences=3, threads=1)
    runner = Runner(file, vocab_size=engine.config.vocab_size, context=64, sequences=3, threads=1)
    places = np.arange(20)
    tokens = (places * 7919 + 1) % engine.config.vocab_size
    runner.prefill(20)()
    expected = engine.forward(tokens, places * 0, places, places == 19)[0]
    np.testing.assert_allclose(runner.logits[0], expected, atol=1e-5)
    runner.decode(10, 5)()  # from position 10 on; what was there before stays
    np.testing.assert_allclose(
        runner.logits[0], engine.forward(tokens[10:15], [0] * 5, range(10, 15))[-1], atol=1e-5
    )
    runner.batch(0, 2)()
    every = (np.arange(3) * 104729 + 1) % engine.config.vocab_size
    engine.forward(every, range(3), [0] * 3)
    second = engine.forward((every + 7919) % engine.config.vocab_size, range(3), [1] * 3)
    np.testing.assert_allclose(runner.logits, second, atol=1e-5)


def test_the_median_of_repetitions_and_again_when_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([9.0, 5.0, 1.0, 3.0, 2.0, 2.0, 7.0])  # the first warms up, then three and three
    monkeypatch.setattr(timing, "seconds", lambda call: next(times))
    others = iter([0.0, 99.0, 99.0, 99.0])  # seconds of processor that other programs had: much, then none
    monkeypatch.setattr(timing, "_others_s", lambda: next(others))
    assert timed(lambda: None, 0, 1) == timing.Timing(2.0, disturbed=False)
    monkeypatch.setattr(timing, "seconds", lambda call: 1.0)
    monkeypatch.setattr(timing, "_others_s", iter(range(0, 10**9, 10**6)).__next__)
    assert timed(lambda: None, 0, 1, tries=2) == timing.Timing(1.0, disturbed=True)


def test_the_time_of_others_is_not_ours() -> None:
    before, began, used = timing._others_s(), time.perf_counter(), time.process_time()
    while time.perf_counter() - began < 0.3:
        pass
    others, used = timing._others_s() - before, time.process_time() - used
    took = time.perf_counter() - began
    assert -0.1 < others < (os.cpu_count() or 1) * took - used + 0.1


def test_a_file_that_cannot_be_run_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadFileError, match=r"bad\.gguf"):
        Runner(tmp_path / "bad.gguf", vocab_size=10, context=8)


# --- the model and the calibration


@pytest.mark.parametrize("context", [1, 7, 128])
def test_a_model_with_little_room_is_measured_too(context: int, tmp_path: Path) -> None:
    model = random_model("llama", context=context)
    parameters.save_gguf(model, tmp_path / "model.gguf", "F16")
    frame = machine.measure(1, seconds=0.001, most_mb=4)
    path = tmp_path / "model.gguf"
    found = pace.measure(path, parameters.load(path), frame, budget_s=0.01, tries=1)
    tokens = int(found.points[2].name.removeprefix("prefill "))
    assert [point.name for point in found.points] == ["decode", "batch of 8", f"prefill {tokens}"]
    assert min(context, 32) <= tokens <= context  # fewer where a longer prompt would take too long
    assert found.peak == 2 * frame.all.float32  # its weights are floats
    assert found.name == "random llama"
    for point in found.points:
        assert point.tokens_per_s > 0
        assert point.share > 0
        assert point.limit_operations_per_s <= found.peak


def test_a_folder_is_measured_as_it_is_run(tmp_path: Path) -> None:
    parameters.save_hf(random_model("llama"), tmp_path / "hf", "BF16")
    with pace.as_gguf(tmp_path / "hf") as path:
        assert path.is_file()
        assert set(pace.work_of(parameters.load(path)).products) == {"F32"}
    assert not path.exists()


def test_a_calibration_gives_rates_for_its_types_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_MEMORY", tmp_path)
    monkeypatch.setattr(calibration, "NARROW", calibration.NARROW[:1])
    monkeypatch.setattr(calibration, "SMALL", calibration._config(256, 1, 4, 4, 256, 512))
    monkeypatch.setattr(calibration, "LARGE", calibration._config(512, 1, 4, 4, 512, 512))
    told: list[str] = []
    effort = calibration.Effort(large_bytes=2_000_000, prompt=32, seconds=0.001, tries=1)
    found = calibration.calibrate(1, ["Q8_0", "Q8_0", "Q4_0"], effort, told.append)
    assert {"read Q8_0", "fetch Q4_0", "layer", "token"} <= set(found.rates.decode)
    assert {"multiply Q8_0", "multiply Q4_0", "layer", "call"} <= set(found.rates.prefill)
    assert len(told) == 7  # a narrow one, and three of each type
    assert list(tmp_path.iterdir()) == []
    told_of = speed.predict("15M", "Q4_0", found.rates, lambda _: 1e10, 1 << 40)
    assert told_of.decode_tokens_per_s is not None
    assert told_of.prefill_tokens_per_s is not None


def test_a_type_that_run_c_does_not_read_gets_no_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    small = calibration._config(256, 1, 4, 4, 256, 512)
    for name in ("SMALL", "LARGE"):
        monkeypatch.setattr(calibration, name, small)
    real = calibration.Runner

    def picky(path: Path, **how: int) -> Runner:
        if "Q4_0" in {tensor.type for tensor in parameters.gguf.read(path).tensors.values()}:
            raise BadFileError("what type is that?")
        return real(path, **how)

    monkeypatch.setattr(calibration, "Runner", picky)
    effort = calibration.Effort(large_bytes=1, prompt=32, seconds=0.001, tries=1)
    found = calibration.calibrate(1, ["Q4_0", "Q8_0"], effort)
    assert "read Q8_0" in found.rates.decode
    assert "read Q4_0" not in found.rates.decode
    assert speed.predict("15M", "Q4_0", found.rates, lambda _: 1e10, 1 << 40).decode_tokens_per_s is None


def test_a_random_model_can_be_talked_to(tmp_path: Path) -> None:
    path = synthetic.write(calibration.NARROW[0], tmp_path / "model.gguf", "Q4_0")
    engine = run.load(path, threads=1)
    ids = engine.tokenizer.encode("ab")
    assert len(ids) == 1
    assert np.isfinite(engine.forward(ids, [0], [0])).all()
