"""chat, complete and probe on a small random model: what goes where, and that nothing steers the terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import random_model

from twofold import parameters, run
from twofold.cli import conversation, models, terminal


@pytest.fixture
def chat(model: Path) -> conversation.Conversation:
    chosen = models.Generation(max_tokens=8, seed=1, threads=1, backend="numpy")
    return conversation.Conversation(models.open_engine(str(model), chosen), chosen)


def test_without_a_terminal_it_answers_one_prompt(twofold, model: Path) -> None:
    piped = twofold("chat", model, "-n", "6", "--seed", "1", stdin="Hello there\n")
    assert piped.code == 0
    assert "» Hello there" in piped.err
    assert re.search(r"\d+ tokens, [\d,]+ tokens/s", piped.err)
    assert piped.out.strip()
    again = twofold("chat", model, "-n", "6", "--seed", "1", "--prompt", "Hello there")
    assert again.out == piped.out
    greeting = twofold("chat", model, "-n", "6", "--seed", "1")
    assert (greeting.code, conversation.GREETING in greeting.err) == (0, True)


def test_the_same_seed_gives_the_same_text_on_every_backend(twofold, model: Path) -> None:
    texts = {
        twofold(
            "complete", "The ferry", "-m", model, "-n", "12", "--seed", "7", "--set", f"backend={name}"
        ).out
        for name in ("c", "numpy")
    }
    assert len(texts) == 1
    assert texts.pop().startswith("The ferry")


def test_the_model_advises_on_sampling_until_somebody_says_otherwise(twofold, tmp_path: Path) -> None:
    made = random_model("qwen3")
    path = tmp_path / "advised.gguf"
    parameters.save_gguf(replace(made, card={**made.card, "sampling": {"temperature": 0, "top_k": 5}}), path)

    def texts(*command: str) -> set[str]:
        return {twofold(*command, path, "-n", "12", "--seed", str(seed)).out for seed in (1, 2)}

    for command in (("complete", "The ferry", "-m"), ("chat", "--prompt", "Hello", "--set", "threads=1")):
        assert len(texts(*command)) == 1
        assert len(texts(command[0], "--temp", "2", *command[1:])) == 2
        assert len(texts(command[0], "--set", "temperature=2", *command[1:])) == 2


def test_complete_prints_text_and_nothing_else(twofold, model: Path) -> None:
    result = twofold("complete", "-", "-m", model, "-n", "5", "--temp", "0", stdin="The ferry leaves")
    assert result.out.startswith("The ferry leaves")
    assert "tokens/s, seed" in result.err
    shown = twofold("complete", "The ferry leaves", "-m", model, "-n", "5", "--temp", "0", "--probs")
    assert shown.out.startswith(result.out)
    assert "what else it could have been" in shown.out
    assert twofold("complete", "", "-m", model, "-n", "3").code == 0


def test_a_text_longer_than_the_window_is_refused(twofold, model: Path) -> None:
    for arguments in (["complete", "word " * 200], ["probe", "word " * 200]):
        result = twofold(*arguments, "-m", model)
        assert (result.code, "the model sees 128 at most" in result.said) == (2, True)


def test_probe_shows_the_true_probabilities(twofold, model: Path) -> None:
    import numpy as np

    result = twofold("probe", "cat sat on a", "--model", model, "--top", "4")
    shares = [float(share) for share in re.findall(r"(\d+(?:\.\d+)?) %", result.out)]
    engine = run.load(model / "model.gguf", threads=1)
    ids = engine.tokenizer.encode("cat sat on a")
    logits = engine.forward(ids, [0] * len(ids), list(range(len(ids))))[-1].astype(np.float64)
    p = np.sort(np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum())[::-1]
    assert shares[:4] == pytest.approx(100 * p[:4], rel=0.05)
    assert shares[4] == pytest.approx(100 * p[4:].sum(), rel=0.05)
    assert "█" in result.out
    colder = twofold("probe", "cat sat on a", "--model", model, "--top", "1", "--temp", "0.1").out
    assert float(re.search(r"(\d+(?:\.\d+)?) %", colder)[1]) > shares[0]


def test_old_turns_are_kept_outside_when_the_window_is_full(chat: conversation.Conversation) -> None:
    chat.chosen = models.Generation(max_tokens=8, seed=1)
    chat.messages = [
        {"role": role, "content": f"{number} " * 5} for number in range(20) for role in ("user", "assistant")
    ]
    chat.messages.append({"role": "user", "content": "last"})
    ids, out, back = chat.fit()
    assert len(ids) <= chat.engine.context - 8
    assert out > 0
    assert back == 0
    assert len(chat.messages) == 41  # nothing is forgotten
    assert "last" in chat.engine.tokenizer.decode(ids)


def test_a_prompt_that_cannot_fit_changes_nothing(chat: conversation.Conversation) -> None:
    notes = terminal.error_console()
    chat.answer("Hello", notes)
    before = list(chat.messages)
    with pytest.raises(Exception, match="say it shorter"):
        chat.answer("word " * 300, notes)
    assert chat.messages == before


def test_a_model_without_a_template_cannot_chat(twofold, tmp_path: Path) -> None:
    from dataclasses import replace

    bare = random_model("qwen3")
    tokenizer = type(bare.tokenizer)(replace(bare.tokenizer.vocabulary, chat_template=None))
    parameters.save_gguf(
        parameters.Model(bare.config, tokenizer, bare.card, bare.tensors), tmp_path / "bare.gguf", "F32"
    )
    result = twofold("chat", "bare.gguf", "--prompt", "Hi")
    assert (result.code, "twofold complete" in result.said) == (2, True)


def steering(tmp_path: Path) -> Path:
    """Return a model all of whose ordinary tokens spell an escape sequence."""
    from dataclasses import replace

    from twofold.tokens.vocabulary import NORMAL, STAND_INS

    bare = random_model("qwen3")
    vocabulary = bare.tokenizer.vocabulary
    evil = "".join(STAND_INS[byte] for byte in b"\x1b]0;pwned\x07\x9b\r\x7f")
    tokens = tuple(
        f"{evil}{n}" if type_ == NORMAL and n > 256 else token  # the bytes and one merge stay
        for n, (token, type_) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
    )
    tokenizer = type(bare.tokenizer)(replace(vocabulary, tokens=tokens, merges=vocabulary.merges[:1]))
    card = {"name": "\x1b[2Jblank", "summary": "\x1b]0;pwned\x07", "notes": ["\u202egnp.exe"]}
    path = tmp_path / "evil.gguf"
    parameters.save_gguf(parameters.Model(bare.config, tokenizer, card, bare.tensors), path, "F32")
    return path


def test_no_model_can_steer_the_terminal(twofold, tmp_path: Path) -> None:
    path = steering(tmp_path)
    outputs = [
        twofold("complete", "\x1b[31mHello", "-m", path, "-n", "30", "--probs", "--set", "temperature=2"),
        twofold("chat", path, "-n", "30", "--prompt", "\x1b[31mHello"),
        twofold("probe", "\x1b[31m", "-m", path, "--top", "100"),
        twofold("inspect", path, "--tensors"),
    ]
    for result in outputs:
        assert result.code == 0, result.err
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", result.out + result.err)
    assert "␛]0;pwned␇" in "".join(result.out for result in outputs)


def _hear_ctrl_c() -> None:
    """Make the terminal this process's own, and undo what a shell does to programs in the background."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A program under a pseudo-terminal, as a person would see it."""

    def __init__(self, *arguments: str) -> None:
        self.seen = b""
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "twofold", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_hear_ctrl_c,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "90"},
        )
        os.close(slave)

    def wait_for(self, pattern: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen.decode(errors="replace"), re.DOTALL):
            assert time.monotonic() < end, f"no {pattern!r} in {self.seen!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:  # how Linux says that the program has left
                    pytest.fail(f"it left with {self.process.wait()} after {self.seen!r}")

    def type(self, text: str) -> None:
        time.sleep(0.3)  # the prompt is there a moment before Ctrl-C is listened for
        self.seen = b""
        os.write(self.master, text.encode())

    def leave(self) -> int:
        """Return the exit code once the program has left by itself."""
        return self.process.wait(timeout=30)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_a_conversation_at_a_terminal(model: Path) -> None:
    with Terminal("chat", str(model), "-n", "8", "--seed", "3", "--threads", "1") as person:
        person.wait_for("A base model.*» ")
        for line, answer in (
            ("/probs", "There is no answer yet"),
            ("Hello", "tokens/s"),
            ("/probs", "what else it could have been"),
            ("/rest", r"did you mean /reset\?"),
            ("/reset", "The conversation is forgotten"),
        ):
            person.type(line + "\n")
            person.wait_for(answer + ".*» ")
        person.type("\x04")
        assert person.leave() == 0


def test_ctrl_c_asks_once_and_leaves_the_second_time(model: Path) -> None:
    with Terminal("chat", str(model), "--threads", "1") as person:
        person.wait_for("» ")
        person.type("\x03")
        person.wait_for("Ctrl-C once more leaves.*» ")
        person.type("\x03")
        assert person.leave() == 130
