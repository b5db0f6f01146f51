"""The dial: times, shapes, sizes and expectations."""

import dataclasses

import pytest

pytest.importorskip("torch")

from twofold.base.errors import UsageError
from twofold.train import dial, machine, planning
from twofold.train.dial import ShapeConfig
from twofold.train.optimiser import OptimizerConfig
from twofold.train.settings import PretrainConfig
from twofold.train.step import flops_per_token


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1.5h", 5400), ("2", 120), ("20 min", 1200)],
)
def test_times(text, seconds):
    assert dial.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "5m3h", "3s", "1e3", "m"])
def test_times_that_make_no_sense(text):
    with pytest.raises(UsageError, match="--time"):
        dial.seconds(text)


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 8, 12])
def test_shapes_fit_together_and_quantise(depth):
    config = dial.shape(ShapeConfig(), depth, 4096)
    assert config.layers == depth
    assert config.heads % config.kv_heads == 0
    assert config.width % 32 == 0
    assert config.ffn % 32 == 0


def test_what_is_chosen_is_taken():
    config = dial.shape(ShapeConfig(width=96, heads=6, kv_heads=3, head_dim=32, ffn=160, context=64), 7, 512)
    assert (config.width, config.heads, config.kv_heads, config.head_dim) == (96, 6, 3, 32)
    assert (config.ffn, config.context, config.layers, config.vocab_size) == (160, 64, 7, 512)
    with pytest.raises(UsageError, match="cannot share"):
        dial.shape(ShapeConfig(heads=4, kv_heads=3), 2, 512)


def test_larger_budgets_buy_larger_models_that_read_more():
    depths, tokens = [], []
    for flops in (1e12, 1e14, 1e16, 1e18):
        depth = dial.depth_for(ShapeConfig(), flops, 1e12)
        config = dial.shape(ShapeConfig(), depth, dial.vocab_for(depth, 1e12))
        depths.append(depth)
        tokens.append(dial.tokens_for(config, flops, 1e15))
        assert tokens[-1] * flops_per_token(config) == pytest.approx(flops)
    assert depths == sorted(set(depths))
    assert tokens == sorted(tokens)
    ratio = tokens[-1] / dial.weights(config)
    assert 10 < ratio < 40


def test_little_text_is_not_read_more_than_eight_times():
    config = dial.shape(ShapeConfig(), 2, 1024)
    assert dial.tokens_for(config, 1e18, 1000.0) == 8000
    assert dial.vocab_for(12, 1e5) == 512


def test_expectations_fall_with_size_and_text():
    small, large = (dial.shape(ShapeConfig(), depth, 4096) for depth in (2, 6))
    low = dial.expected(large, 1e8, 4.0)
    assert low[1] < low[0] < low[2]
    assert low[0] < dial.expected(small, 1e8, 4.0)[0]
    assert low[0] < dial.expected(large, 1e7, 4.0)[0]


def test_rates_that_are_given_stay():
    rates = planning.rates(OptimizerConfig(muon_lr=0.0, head_lr=0.5), 256, 1e6)
    assert (rates["muon_lr"], rates["head_lr"]) == (0.0, 0.5)
    assert (
        planning.rates(OptimizerConfig(), 256, 1e9)["muon_lr"]
        < planning.rates(OptimizerConfig(), 256, 1e6)["muon_lr"]
    )


def test_flops_per_token_by_hand():
    config = dial.shape(ShapeConfig(width=64, heads=2, kv_heads=1, head_dim=32, ffn=128, context=16), 1, 320)
    matrices = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128 + 320 * 64
    vectors = 64 * 3 + 32 * 2
    assert flops_per_token(config) == 6 * (matrices + vectors + 64 * 16)


def test_what_is_prepared_is_decided_once(tmp_path):
    (tmp_path / "a.txt").write_text("word " * 1000)
    config = PretrainConfig(data=(str(tmp_path),), steps=10, batch=1)
    sized = planning.size(config)
    assert sized.model.vocab == 512
    assert sized.max_bytes == planning.EVERYTHING
    assert planning.size(sized) is sized


def test_micro_batches_divide_the_batch():
    host = machine.Machine("cpu", "float32", 1, 1e10)
    assert machine.micro_rows(host, 16, 512) == 8
    assert machine.micro_rows(host, 6, 1024) == 3
    assert machine.micro_rows(host, 7, 4096) == 1
    assert machine.micro_rows(host, 4, 64) == 4


def test_the_machine_is_measured_with_the_threads_that_were_asked_for():
    found = machine.measure("cpu", "float32", 1)
    assert (found.device, found.compute, found.threads) == ("cpu", "float32", 1)
    assert found.peak_flops > 1e8
    config = dial.shape(ShapeConfig(width=32, head_dim=16, context=32), 1, 320)
    speed = machine.pace(found, config, 2, threads=1, limit_s=0.1)
    assert speed.threads == 1
    assert speed.step_s(4, 2) > speed.micro_s > 0


def test_cuda_that_is_not_there_is_said():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(UsageError, match="no CUDA device"):
        machine.measure("cuda")


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"steps": 0}, {"batch": 0}, {"flops": 5.0}):
        with pytest.raises(ValueError, match=r"1 or more|at least"):
            PretrainConfig(**wrong)
    with pytest.raises(ValueError, match="multiple of 64"):
        ShapeConfig(vocab=1000)
    assert dataclasses.asdict(ShapeConfig())["context"] == 512


@pytest.mark.parametrize(
    ("asked", "time", "gain", "compiled"),
    [
        (None, "20m", True, True),
        (None, "20m", False, False),  # no gain, or no compiler
        (None, "1m", True, False),  # too short to pay
        (True, "1m", False, True),
        (False, "20m", True, False),
    ],
)
def test_blocks_are_compiled_where_it_pays(asked, time, gain, compiled, monkeypatch):
    config = PretrainConfig(data=("x",), time=time, compiled=asked)
    pace = machine.Pace(1.0, 0.1, 0.001, 1)
    found = machine.Pace(0.5, 0.1, 0.001, 1) if gain else None
    monkeypatch.setattr(machine, "compiler", lambda: True)
    monkeypatch.setattr(machine, "compiled_pace", lambda *_: found)
    host = machine.Machine("cpu", "float32", 1, 1e11)
    assert planning.compiling(config, host, None, 1, pace, 1) == (
        compiled,
        found if compiled and gain else pace,
    )
