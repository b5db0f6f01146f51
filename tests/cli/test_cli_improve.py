"""`twofold improve` as it is typed: a model, a task, a few rounds; and what is said when that cannot be."""

import pytest

pytest.importorskip("torch")

from twofold.parameters import ModelConfig, save_gguf
from twofold.tokens import Tokenizer
from twofold.train.export import to_model
from twofold.train.transformer import Transformer


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    shape = ModelConfig(
        architecture="qwen3", family="qwen3", context=64, vocab_size=320, layers=1, width=32, heads=2,
        kv_heads=2, head_dim=16, ffn=64, tied=True,
    )  # fmt: skip
    net = Transformer(shape)
    net.initialise(0)
    path = tmp_path_factory.mktemp("small") / "small.gguf"
    save_gguf(
        to_model(net, Tokenizer.train(["user assistant user assistant"], 320), {"name": "small"}), path, "F32"
    )
    return path


SMALL = ("--set", "rounds=2", "--set", "problems=2", "--set", "group=2", "--set", "test_problems=4",
         "--set", "threads=1", "--set", "imitate_batch=16")  # fmt: skip


def test_a_model_improves_and_goes_on(twofold, small, tmp_path):
    result = twofold("improve", small, "--on", "connect4", "--imitate", "40", *SMALL)
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "small-connect4"
    assert "twofold chat runs/small-connect4" in result.out
    assert (folder / "model.gguf").is_file()
    for word in ("Plan: ", "unseen problems", "greedy", "sampled", "the task's own solver"):
        assert word in result.err
    again = twofold("improve", "--resume", folder)
    assert again.code == 0
    further = twofold("improve", "small-connect4", "--on", "arithmetic", "--method", "expert", *SMALL)
    assert further.code == 0, further.err
    assert "small-connect4" in (tmp_path / "runs" / "small-connect4-arithmetic" / "card.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--on", "countdown"), "which model"),
        (("small",), "at what"),
        (("nothing", "--on", "countdown"), "no model"),
        (("--resume", "x", "--on", "countdown"), "does not go together with --on"),
        (("--resume", "x"), "x is not the folder of a run"),
        (("x", "--on", "contdown"), "Did you mean 'countdown'"),
    ],
)
def test_what_does_not_go_is_said(twofold, arguments, complaint):
    result = twofold("improve", *arguments)
    assert result.code == 2
    assert complaint in result.said


def test_a_method_that_does_not_exist_is_said(twofold, small):
    result = twofold("improve", small, "--on", "countdown", "--method", "magic")
    assert result.code == 2
    assert "grpo" in result.said
