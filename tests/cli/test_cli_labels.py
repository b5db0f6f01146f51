"""Labelling in the chat, and `twofold labels`: what is kept and shown; nothing steers the terminal."""

from pathlib import Path

import pytest

from twofold.base.errors import UsageError
from twofold.base.files import sha256
from twofold.cli import conversation, labelling, models, terminal
from twofold.kernel.labels import Labels


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def chat(model: Path) -> conversation.Conversation:
    chosen = models.Generation(max_tokens=8, seed=1, threads=1, backend="numpy")
    return conversation.Conversation(models.open_engine(str(model), chosen), chosen)


def typed(chat: conversation.Conversation, model: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Hold a conversation in which these lines are typed."""
    left = [*lines, "/exit"]
    monkeypatch.setattr("builtins.input", lambda prompt="": left.pop(0))
    labeller = labelling.Labeller(model / "model.gguf", "small")
    conversation.loop(chat, "small", terminal.error_console(), labeller)
    assert not left


def test_an_answer_is_corrected_and_the_conversation_goes_on(chat, model, monkeypatch, capsys) -> None:
    typed(chat, model, monkeypatch, "Hello", "/fix", "/fix Good day to you.", "/why it was rude", "And now?")
    (label,) = Labels().all()
    assert (label.kind, label.better, label.why) == ("fix", "Good day to you.", "it was rude")
    assert label.messages == [{"role": "user", "content": "Hello"}]
    assert label.model == {"name": "small", "sha256": sha256(model / "model.gguf")}
    assert chat.messages[1] == {"role": "assistant", "content": "Good day to you."}
    assert chat.messages[2]["content"] == "And now?"
    said = capsys.readouterr().err
    assert "A correction needs the words" in said
    assert "1 label so far" in said


@pytest.mark.parametrize(("word", "taken"), [("/better", False), ("/worse", True)])
def test_two_answers_are_compared_side_by_side(chat, model, monkeypatch, capsys, word, taken) -> None:
    answers = iter(["a second answer", "a third"])
    monkeypatch.setattr(
        conversation.Conversation, "again", lambda self: setattr(self, "other", next(answers)) or self.other
    )
    typed(chat, model, monkeypatch, "Hello", word, word)
    shown = capsys.readouterr().err
    assert shown.index("the last answer") < shown.index("a second answer")
    (label,) = Labels().all()
    first = label.answer if taken else label.better
    assert {label.answer, label.better} == {first, "a second answer"}
    assert (label.better == "a second answer") is taken
    assert chat.messages[-1]["content"] == label.better
    with pytest.raises(UsageError, match="no label yet"):
        labelling.Labeller(model / "model.gguf", "small").obey("/why", "x", chat, terminal.error_console())


def test_another_answer_is_another_draw_to_the_same_question(chat, model, monkeypatch) -> None:
    typed(chat, model, monkeypatch, "Hello there")
    before = list(chat.messages)
    assert chat.again() != before[-1]["content"]
    assert chat.messages == before


def test_without_an_answer_there_is_nothing_to_label(chat, model, monkeypatch, capsys) -> None:
    typed(chat, model, monkeypatch, "/fix x", "/better", "/compare", "/why x", "/fixx y")
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("no answer yet") == 3
    assert "did you mean /fix?" in said
    assert not Labels().path.exists()


def test_the_command_counts_shows_and_versions(twofold, tmp_path: Path) -> None:
    assert "0 corrections and 0 comparisons" in twofold("labels").out
    labels = Labels()
    labels.fix([{"role": "user", "content": "Q\x1b]0;pwned\x07"}], "wrong\x1b[2J", "right", {"name": "m"})
    assert "1 corrections and 0 comparisons" in twofold("labels").out
    shown = twofold("labels", "show").out
    assert "\x1b" not in shown
    assert {"» Q␛]0;pwned␇", "✗ wrong␛[2J", "✓ right"} <= {line.strip() for line in shown.splitlines()}
    assert twofold("labels", "path").out.strip() == str(labels.path)
    assert "# How to label" in twofold("labels", "instructions").out
    (tmp_path / "new.md").write_text("Be brief.")
    assert "version 2: version 1 is kept" in twofold("labels", "edit", "--file", "new.md").out
    assert twofold("labels", "instructions").out.strip() == "Be brief."
    assert "nothing has changed" in twofold("labels", "edit", "--file", "new.md").out
    assert twofold("labels", "show", "--file", "new.md").code == 2
    assert twofold("labels", "hide").code == 2


def test_an_editor_makes_the_next_version(twofold, tmp_path: Path, monkeypatch) -> None:
    script = tmp_path / "editor"
    script.write_text('#!/bin/sh\necho "5. And be kind." >> "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(script))
    assert "version 2" in twofold("labels", "edit").out
    assert Labels().instructions().endswith("5. And be kind.\n")
    monkeypatch.setenv("VISUAL", "false")
    assert "the instructions stay" in twofold("labels", "edit").said
    monkeypatch.delenv("VISUAL")
    monkeypatch.delenv("EDITOR", raising=False)
    assert "Set EDITOR" in twofold("labels", "edit").said
