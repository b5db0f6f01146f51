"""Kernels on other servers: how they are named, what is sent, and what happens when they misbehave."""

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from twofold.base.errors import UsageError
from twofold.kernel import kernels, wire
from twofold.kernel.backends import BACKENDS
from twofold.kernel.elsewhere import Chat, ElsewhereError, End, Kernel
from twofold.kernel.kernels import Stream
from twofold.tokens.speech import Call, Piece

KEY = "sk-very-secret-0123456789"
CHAT = Chat(messages=[{"role": "user", "content": "Hi"}])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
GOOD = {
    "openai": b'data: {"choices": [{"delta": {"content": "Yes"}, "finish_reason": "stop"}]}\n\n'
    b"data: [DONE]\n\n",
    "anthropic": b'event: x\ndata: {"type": "content_block_delta", "delta": {"text": "Yes"}}\n\n'
    b'data: {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}\n\n',
    "ollama": b'{"message": {"content": "Yes"}, "done": false}\n{"done": true, "eval_count": 1}\n',
}


@contextmanager
def saying(*parts: bytes, hold: threading.Event | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """Listen on loopback, say `parts` to whoever asks, and hang up; give the address and what was asked."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            try:
                made, _ = listening.accept()
            except OSError:
                return  # nobody came
            with made:
                made.settimeout(10)
                asked = b""
                while b"\r\n\r\n" not in asked or not asked.endswith(b"}"):
                    if not (more := made.recv(1 << 16)) or more.startswith(b"\x16"):  # it speaks TLS
                        break
                    asked += more
                heard.append(asked)
                for part in parts:
                    made.sendall(part)
                if hold is not None:
                    hold.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", heard
        finally:
            if hold is not None:
                hold.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def kernel(url: str, family: str = "openai", **more) -> Kernel:
    return Kernel(**{"name": "far", "family": family, "model": "m", "url": url, "timeout_s": 5.0, **more})


def answer(asked: Kernel, chat: Chat = CHAT) -> list:
    """Return all events of an answer."""

    async def play() -> list:
        stream = Stream(asked, chat)
        await stream.begin()
        return [event async for event in stream]

    return asyncio.run(play())


def refusal(asked: Kernel, chat: Chat = CHAT) -> ElsewhereError:
    with pytest.raises(ElsewhereError) as caught:
        answer(asked, chat)
    return caught.value


@pytest.mark.parametrize("family", BACKENDS.names())
def test_an_answer_and_what_was_sent(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_KEY", KEY)
    with saying(HEAD, GOOD[family]) as (url, heard):
        piece, end = answer(kernel(url, family, key="env:FAR_KEY"))
    assert (piece, end.length) == (Piece("text", "Yes"), False)
    head, _, body = heard[0].partition(b"\r\n\r\n")
    assert json.loads(body)["messages"][0]["role"] == "user"
    assert head.count(KEY.encode()) == 1
    assert KEY not in repr(kernel(url, family, key="env:FAR_KEY"))


@pytest.mark.parametrize("family", BACKENDS.names())
def test_an_answer_that_is_cut_is_not_taken_for_whole(family: str) -> None:
    for cut in range(0, len(GOOD[family]) - 40, 7):
        with saying(HEAD, GOOD[family][:cut]) as (url, _):
            assert str(refusal(kernel(url, family))).startswith(f"far ({family}): ")


@pytest.mark.parametrize("family", BACKENDS.names())
@pytest.mark.parametrize(
    "odd",
    [
        b"data: {]\n\n{]\n",
        b'data: "x"\n\n"x"\n',
        b'data: {"choices": 7, "message": 1, "delta": []}\n\n',
        b"\xff\n",
    ],
)
def test_what_is_no_answer_is_refused_in_a_sentence(family: str, odd: bytes) -> None:
    with saying(HEAD, odd) as (url, _):
        assert len(str(refusal(kernel(url, family)))) > 20


@pytest.mark.parametrize(
    ("status", "body", "kind", "sentence"),
    [
        (b"302 Found\r\nLocation: http://127.0.0.1:1/", b"", "upstream", "not followed"),
        (b"401 No", b'{"error": {"message": "no such key: sk-very-***"}}', "upstream", "key is not accepted"),
        (b"404 No", b'{"error": "no model m"}', "upstream", "status 404: no model m"),
        (b"400 No", b'{"error": {"message": "too\\nlong \\u001b[31m"}}', "invalid", "too long [31m"),
        (b"400 No", b"echo " + KEY.encode(), "invalid", "it refuses the request"),
        (b"422 No", b'{"detail": "my key is ' + KEY.encode() + b'"}', "invalid", "my key is …"),
        (b"429 No", b"", "busy", "status 429"),
        (b"529 No", b"<html>", "busy", "status 529"),
        (b"500 No", b"x" * 200_000, "upstream", "status 500"),
        (b"200 OK\r\nContent-Encoding: gzip", b"", "upstream", "gzip"),
    ],
    ids=str,
)
def test_a_no_of_the_other_side(
    status: bytes, body: bytes, kind: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_KEY", KEY)
    with saying(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n\r\n" + body) as (url, _):
        found = refusal(kernel(url, key="env:FAR_KEY"))
    assert found.kind == kind
    assert sentence in str(found)
    assert "very" not in str(found)


def test_a_network_that_does_not_work() -> None:
    assert "does not speak HTTP" in str(spoken(b"SSH-2.0\r\n\r\n"))
    assert "broke off" in str(spoken(b""))
    assert "broke off" in str(spoken(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\ndata: {}\n\n"))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert "cannot be reached" in str(refusal(kernel(url)))
    with saying(b"", hold=threading.Event()) as (url, _):
        assert "nothing for 0.2 seconds" in str(refusal(kernel(url, timeout_s=0.2)))
    with saying(HEAD, b": ping\n\n", hold=threading.Event()) as (url, _):
        assert "nothing for 0.2 seconds" in str(refusal(kernel(url, timeout_s=0.2)))
    with saying(b"nothing that TLS begins with") as (url, _):
        found = refusal(kernel(url.replace("http", "https"), timeout_s=2))
        assert str(found).startswith("far (openai): 127.0.0.1")


def spoken(answer: bytes) -> ElsewhereError:
    with saying(answer) as (url, _):
        return refusal(kernel(url))


def test_an_answer_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_MOST_LINE", 1000)
    with saying(HEAD, b"data: " + b"x" * 2000, hold=threading.Event()) as (url, _):
        assert "more than an answer can be" in str(refusal(kernel(url)))


def test_calls_that_come_in_parts() -> None:
    def part(index: int, **function: str) -> bytes:
        delta = {"tool_calls": [{"index": index, "function": function}]}
        return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"

    parts = [part(0, name="add", arguments=""), part(0, arguments='{"a"'), part(0, arguments=": 1}")]
    end = b'data: {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}\n\n'
    with saying(HEAD, *parts, part(1, name="now"), end) as (url, _):
        one, two, last = answer(kernel(url))
    assert (one.call, two.call) == (Call("add", '{"a": 1}'), Call("now", "{}"))
    assert isinstance(last, End)
    with saying(HEAD, *parts[:2], end) as (url, _):
        assert "no JSON object" in str(refusal(kernel(url)))


def request(family: str, **more) -> dict:
    return BACKENDS.get(family).request(kernel("http://localhost", family), Chat(**{"messages": [], **more}))[
        1
    ]


def test_a_conversation_in_each_familys_words() -> None:
    function = {"name": "add", "arguments": {"a": 1}}
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    sent = request("openai", messages=messages, thoughts=0, schema={"type": "object"})
    assert sent["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    assert sent["messages"][3]["tool_call_id"] == "c1"
    assert sent["reasoning_effort"] == "none"
    assert sent["response_format"]["json_schema"]["strict"] is True
    sent = request("anthropic", messages=messages, thoughts=2000)
    assert sent["system"] == "Be kind."
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][1]["content"][0]["input"] == {"a": 1}
    assert sent["messages"][2]["content"][0]["tool_use_id"] == "c1"
    assert "thinking" not in sent, "a turn that has begun cannot think anew"
    sent = request("anthropic", messages=messages[:2], thoughts=2000, max_tokens=10)
    assert (sent["thinking"]["budget_tokens"], sent["max_tokens"]) == (2000, 2010)
    sent = request("ollama", messages=messages, sampling={"repetition_penalty": 1.2}, max_tokens=5)
    assert sent["options"] == {"repeat_penalty": 1.2, "num_predict": 5}
    assert sent["messages"][3]["tool_name"] == "add"


# --- names and keys


def written(folder: Path, text: str) -> dict[str, Kernel]:
    (folder / "kernels.toml").write_text(text)
    return kernels.known(folder / "kernels.toml")


def test_names_and_what_they_mean_when_little_is_said(tmp_path: Path) -> None:
    assert kernels.known(tmp_path / "none.toml") == {}
    found = written(
        tmp_path,
        '[gpt]\nfamily = "openai"\nmodel = "x"\n[mine]\nfamily = "openai"\nmodel = "y"\n'
        'url = "http://far.example:8000/v1/"\n[llama]\nfamily = "ollama"\nmodel = "z"\n',
    )
    assert (found["gpt"].url, found["gpt"].key) == ("https://api.openai.com/v1", "env:OPENAI_API_KEY")
    assert (found["mine"].url, found["mine"].key) == ("http://far.example:8000/v1", None)
    assert (found["llama"].url, found["llama"].key) == ("http://127.0.0.1:11434", None)
    assert kernels.named("anthropic:a").key == "env:ANTHROPIC_API_KEY"
    assert kernels.named("owner/repo:Q4_K_M") is kernels.named("openai:") is None


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (f'key = "{KEY}"', "is not the key itself"),
        ("key = 7", "is not the key itself"),
        (f'api_key = "{KEY}"', "api_key"),
        (f'url = "https://me:{KEY}@far.example"', "keys do not belong there"),
        (f'url = "https://far.example/?key={KEY}"', "keys do not belong there"),
        ('url = "http://far.example"\nkey = "env:X"', "must begin with https://"),
        ('url = "ftp://far.example"', "does not begin with http"),
        ('url = "https://[far"', "is no address"),
        ("timeout_s = 0", "above 0"),
        ("model = 1", "model"),
        ('key = "env:X', "not a TOML file"),
    ],
)
def test_a_file_that_is_refused_never_shows_a_key(tmp_path: Path, lines: str, sentence: str) -> None:
    model = "" if lines.startswith("model") else 'model = "x"\n'
    with pytest.raises(UsageError) as caught:
        written(tmp_path, f'[far]\nfamily = "openai"\n{model}{lines}\n')
    assert sentence in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_family_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="anthropic, ollama, openai"):
        written(tmp_path, '[far]\nfamily = "opnai"\nmodel = "x"\n')
    with pytest.raises(UsageError, match="sections only"):
        written(tmp_path, 'family = "openai"\n')


@pytest.mark.parametrize("bad", ["", "   ", "two\nlines", "naïve", "a b"])
def test_a_key_that_cannot_be_sent_is_not_shown(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_KEY", bad)
    found = refusal(kernel("http://127.0.0.1:9", key="env:FAR_KEY"))
    assert "key" in str(found)
    assert not bad.strip() or bad not in str(found)


def test_a_key_in_the_systems_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring")
    monkeypatch.setattr(keyring, "get_password", lambda *asked: {("far", "me"): KEY}.get(asked))
    with saying(HEAD, GOOD["openai"]) as (url, heard):
        answer(kernel(url, key="keyring:far/me"))
    assert f"Bearer {KEY}".encode() in heard[0]
    assert "keyring under far/you" in str(refusal(kernel("http://127.0.0.1:9", key="keyring:far/you")))


def test_without_the_keyring_package_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    found = refusal(kernel("http://127.0.0.1:9", key="keyring:far/me"))
    assert "pip install 'twofold[keyring]'" in str(found)


def test_closing_hangs_up_on_the_other_side() -> None:
    gone = threading.Event()

    def watch(listening: socket.socket) -> None:
        made, _ = listening.accept()
        with made:
            made.settimeout(10)
            made.recv(1 << 16)
            made.sendall(HEAD + GOOD["ollama"].splitlines(keepends=True)[0])
            try:
                while made.recv(1 << 16):
                    pass
            except ConnectionError:
                pass
            gone.set()

    async def play(url: str) -> None:
        stream = Stream(kernel(url, "ollama"), CHAT)
        await stream.begin()
        async for _ in stream:
            stream.close()
            break
        await asyncio.to_thread(gone.wait, 10)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=watch, args=(listening,))
        thread.start()
        asyncio.run(play(f"http://127.0.0.1:{listening.getsockname()[1]}"))
        thread.join()
    assert gone.is_set()
