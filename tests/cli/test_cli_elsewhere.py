"""chat with a model on another server: twofold's own server stands in for it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Serving, serve, teach, teach_to_break

from twofold.cli import conversation, labelling, terminal
from twofold.cli.elsewhere import Elsewhere
from twofold.kernel import kernels

WHO = "I am twofold's model in the box, a very small language model."


@pytest.fixture(scope="module")
def far() -> Iterator[Serving]:
    with serve("box") as running:
        teach(running.state, "thinker", "<think>\nHm, who?\n</think>\n\nIt is \x1b[31mme.", "Or not.")
        teach_to_break(running, "breaks")
        yield running


@pytest.fixture(autouse=True)
def named(far: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the other server's models in kernels.toml."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "data" / "twofold").mkdir(parents=True)
    sections = [
        f'[far-{model}]\nfamily = "openai"\nmodel = "{model}"\nurl = "{far.url}/v1"\n'
        for model in ("box", "thinker", "breaks", "nobody")
    ]
    (tmp_path / "data" / "twofold" / "kernels.toml").write_text("\n".join(sections))


def typed(monkeypatch: pytest.MonkeyPatch, name: str, *lines: str) -> Elsewhere:
    """Return the conversation after a person typed these lines."""
    kernel = kernels.find(name)
    chat = Elsewhere(kernel, {"temperature": 0}, None)
    keys = iter([*lines, "/exit"])
    monkeypatch.setattr("builtins.input", lambda _: next(keys))
    labeller = labelling.Labeller(None, f"{kernel.family}:{kernel.model}")
    conversation.loop(chat, name, terminal.error_console(), labeller)
    return chat


def test_one_prompt_is_answered_there(twofold, far: Serving) -> None:
    result = twofold("chat", "far-box", "--prompt", "Who are you?", "--temp", "0")
    assert (result.code, result.out.startswith(WHO)) == (0, True)
    assert "by box at 127.0.0.1" in result.err
    short = twofold("chat", "far-box", "--prompt", "Who are you?", "--temp", "0", "-n", "3")
    assert "3 tokens" in short.err
    assert "cut at the limit" in short.err
    assert result.out.startswith(short.out.strip())


def test_a_conversation_with_its_labels(monkeypatch, capsys, tmp_path: Path) -> None:
    chat = typed(
        monkeypatch,
        "far-thinker",
        "Who?",
        "/compare",
        "/better",
        "/fix It is I.",
        "/why Grammar.",
        "And you?",
    )
    shown = capsys.readouterr()
    assert "It is ␛[31mme." in shown.out, "no server steers the terminal"
    assert "Hm, who?" not in shown.out, "thoughts are for the screen alone"
    assert "goes to that server" in shown.err
    assert "offline" not in shown.err
    contents = [message["content"] for message in chat.messages]
    assert contents[:3] == ["Who?", "It is I.", "And you?"]
    labels = (tmp_path / "data" / "twofold" / "labels" / "labels.jsonl").read_text().splitlines()
    compare, fix, why = map(json.loads, labels)
    assert (compare["answer"], compare["better"]) == ("Or not.", "It is \x1b[31mme.")
    assert (fix["better"], fix["model"]) == ("It is I.", {"name": "openai:thinker", "sha256": ""})
    assert why["why"] == "Grammar."


def test_what_it_cannot_do_is_one_sentence(twofold, monkeypatch, capsys) -> None:
    for options, what in (
        (["--think", "5s"], "`--think`"), (["--judge", "x"], "`--judge`"), (["--threads", "2"], "`threads`"),
        (["--set", "context=64"], "`context`"),
    ):  # fmt: skip
        result = twofold("chat", "far-box", "--prompt", "Hi", *options)
        assert result.code == 1
        assert f"far-box answers elsewhere (openai), without {what}." in result.said
    typed(monkeypatch, "far-box", "/think 5s", "/probs")
    said = capsys.readouterr().err
    assert "without /think." in said
    assert "without /probs." in said


def test_an_answer_that_does_not_come_leaves_the_conversation_as_it_was(monkeypatch, capsys) -> None:
    assert typed(monkeypatch, "far-nobody", "Who?").messages == []
    assert "far-nobody (openai): " in capsys.readouterr().err
    assert typed(monkeypatch, "far-breaks", "Who?").messages == []


def test_ctrl_c_keeps_what_has_come(monkeypatch, capsys) -> None:
    def interrupted(self, kind: str, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("twofold.cli.elsewhere._Shown.add", interrupted)
    chat = typed(monkeypatch, "far-box", "Who are you?")
    assert "stopped by you" in capsys.readouterr().err
    assert WHO.startswith(chat.messages[-1]["content"].strip())


def test_a_model_here_comes_first(twofold, model: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "twofold" / "kernels.toml").write_text(
        "[box]\nfamily='openai'\nmodel='x'\nkey='sk-1'\n"
    )
    assert twofold("chat", "box", "--prompt", "Hi", "-n", "3").code == 0
    missing = twofold("chat", "boxx", "--prompt", "Hi")
    assert (missing.code, "`key` says where the key is" in missing.said) == (2, True)
