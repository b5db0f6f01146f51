"""bench: what it prints, as text, as JSON, as an image; and its mistakes in one sentence."""

import json
import xml.etree.ElementTree
from pathlib import Path

import pytest
from tiny_models import random_model

from twofold import parameters
from twofold.measure import calibration, machine, speed


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the random models be small and the clock short: what is printed is tested, not how fast it is."""
    small = calibration._config(256, 1, 4, 4, 256, 512)
    monkeypatch.setattr(calibration, "LARGE", small)
    monkeypatch.setattr(
        calibration, "QUICK", calibration.Effort(large_bytes=1, prompt=32, seconds=0.001, tries=1)
    )
    measure = machine.measure
    monkeypatch.setattr(
        machine, "measure", lambda threads, **how: measure(threads, **{**how, "seconds": 0.001, "most_mb": 4})
    )


def test_a_model_the_machine_and_other_sizes(twofold, model: Path) -> None:
    result = twofold("bench", model, "--quick", "--threads", "1")
    assert result.code == 0
    for fact in ("This machine", "multiply-adds, int8", "a small one", "Roofline", "operations per second"):
        assert fact in result.out, fact
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 100
    for letter, name in (("D", "decode"), ("B", "batch of 8"), ("P", "prefill")):
        row = next(line for line in lines if line.startswith(letter) and name in line)
        assert row.split()[-1] in ("read", "multiply-adds")
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("model ")) + 1 :]
    rows = [line for line in table if line[7:].split()[:1] and line[7:].split()[0] in speed.TYPES]
    assert len(rows) == len(speed.SIZES) * len(speed.TYPES)
    assert [line.split()[0] for line in rows if line[0] != " "] == list(speed.SIZES)


def test_json_holds_the_same(twofold, model: Path) -> None:
    result = twofold("bench", model, "--quick", "--json", "-t", "1", "--type", "q8_0")
    assert (result.code, result.err) == (0, "")
    record = json.loads(result.out)
    assert record["machine"]["all_threads"]["threads"] == 1
    assert record["machine"]["available_bytes"] > 0
    assert record["model"]["name"] == "a small one"
    speeds = record["model"]["speeds"]
    assert [one["name"].split()[0] for one in speeds] == ["decode", "batch", "prefill"]
    for one in speeds:
        reached = one["operations_per_s"] / one["limit_operations_per_s"]
        assert one["share_of_limit"] == pytest.approx(reached)
        assert one["tokens_per_s"] > 0
    assert [one["size"] for one in record["predictions"]] == list(speed.SIZES)
    assert {one["type"] for one in record["predictions"]} == {"Q8_0"}
    assert record["predictions"][0]["decode_tokens_per_s"] > record["predictions"][1]["decode_tokens_per_s"]
    assert "read Q8_0" in record["rates_s"]["decode"]


def test_the_help_names_the_sizes(twofold) -> None:
    said = " ".join(twofold("bench", "--help").out.replace("│", " ").split())
    assert ", ".join(list(speed.SIZES)[:-1]) + f" or {list(speed.SIZES)[-1]}" in said


def test_one_size_needs_no_model(twofold) -> None:
    result = twofold("bench", "--size", "7b", "--type", "q4_0", "--quick", "--json", "-t", "1")
    assert result.code == 0
    record = json.loads(result.out)
    assert record["model"] is None
    assert [(one["size"], one["type"]) for one in record["predictions"]] == [("7B", "Q4_0")]
    printed = twofold("bench", "--size", "70B", "--quick", "-t", "1", "--type", "f16").out
    assert "Roofline" not in printed
    assert "70B" in printed


def test_what_does_not_fit_says_what_it_lacks(twofold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_bytes", lambda: 500_000_000)
    lines = twofold("bench", "--type", "q4_0", "--quick", "-t", "1").out.splitlines()
    rows = {line.split()[0]: line for line in lines if "Q4_0" in line}
    assert "left" in rows["110M"]
    assert "lacks" in rows["7B"]
    assert rows["7B"].split()[-2:] == ["–", "–"]


def test_the_roofline_goes_into_a_file(twofold, model: Path, tmp_path: Path) -> None:
    result = twofold("bench", model, "--quick", "--plot", "roof.svg", "--size", "15M", "--type", "q8_0")
    assert result.code == 0
    assert "roof.svg" in result.out
    texts = [element.text or "" for element in xml.etree.ElementTree.parse(tmp_path / "roof.svg").iter()]
    assert any(text.startswith("a small one on ") for text in texts)
    assert any("batch of 8" in text for text in texts)


def test_a_name_that_steers_the_terminal_is_made_visible(twofold, tmp_path: Path) -> None:
    bare = random_model("qwen3")
    named = parameters.Model(bare.config, bare.tokenizer, {"name": "\x1b[31mred"}, bare.tensors)
    parameters.save_gguf(named, tmp_path / "red.gguf", "Q4_0")
    result = twofold("bench", "red.gguf", "--quick", "-t", "1", "--type", "q8_0", "--plot", "red.svg")
    assert result.code == 0
    assert "␛[31mred" in result.out
    assert "\x1b" not in (tmp_path / "red.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--size", "8T"], 2, "There is no size '8T'."),
        (["--type", "q4"], 2, "There is no file type 'Q4'."),
        (["--plot", "roof.png"], 2, "ends in .svg, not roof.png"),
        (["--threads", "0"], 2, "Threads are 1 or more."),
        (["--threads", "300"], 1, "does not run 300 threads"),
        (["no-such-model"], 2, "There is no model 'no-such-model'"),
        (["bad.gguf"], 1, "bad.gguf"),
    ],
)
def test_mistakes_are_one_sentence(
    twofold, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\x03\0\0\0 and then nonsense")
    result = twofold("bench", "--quick", *arguments)
    assert result.code == code
    assert said in result.said
    assert result.out == ""
    assert "Traceback" not in result.err


def test_without_a_compiler_it_says_what_to_install(
    twofold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.functions.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    result = twofold("bench", "--quick")
    assert (result.code, "install gcc or clang" in result.said) == (1, True)
    monkeypatch.undo()
    machine.functions.cache_clear()
