"""Who may ask: keys, names and pages; and what happens to those who ask too much, too slowly, or go away."""

import json
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from serving import Serving, serve

ASK = {"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 4}
LONG = {
    "type": "json_schema",
    "json_schema": {"name": "long", "schema": {"type": "string", "minLength": 9999}},
}
ENDLESS = {"model": "tiny", "messages": ASK["messages"], "stream": True, "response_format": LONG}


def until(true, seconds: float = 10.0) -> bool:
    """Return whether something becomes true within some time."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


# --- keys


@pytest.fixture(scope="module")
def locked() -> Serving:
    with serve("box", key="open sesame", origins=["https://friend.example"]) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/chat/completions", "OpenAI"),
        ("/v1/messages", "Anthropic"),
        ("/api/chat", "Ollama"),
        ("/twofold/runs", "OpenAI"),
        ("/tokenize", "OpenAI"),
        ("/metrics", "OpenAI"),
    ],
)
def test_without_the_key_nothing_is_answered(locked: Serving, path: str, form: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer open"},
        {"x-api-key": "wrong"},
        {"Authorization": "Bearer é".encode()},
    ):
        answer = locked.http.post(path, json={**ASK, "model": "box"}, headers=headers)
        assert answer.status_code == 401
        error = answer.json()["error"]
        sentence = error if form == "Ollama" else error["message"]
        assert "Bearer KEY" in sentence
        assert "open sesame" not in answer.text
    assert form != "Anthropic" or answer.json()["type"] == "error"


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer open sesame"}, {"x-api-key": "open sesame"}])
def test_with_the_key_everything_is(locked: Serving, headers: dict[str, str]) -> None:
    assert locked.http.post("/v1/chat/completions", json=ASK, headers=headers).status_code == 200
    assert locked.http.get("/metrics", headers=headers).status_code == 200


def test_health_and_the_web_app_need_no_key(locked: Serving) -> None:
    assert locked.http.get("/health").status_code == 200
    assert locked.http.get("/").status_code == 200


# --- pages and names


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]", "a:b:c"]
)
def test_names_that_are_not_this_machines_are_refused(serving: Serving, host: str) -> None:
    assert serving.http.get("/v1/models", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:5"])
def test_this_machines_own_names_are_welcome(serving: Serving, host: str) -> None:
    assert serving.http.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://", "http://[", ""]
)
def test_pages_from_elsewhere_are_refused(serving: Serving, origin: str) -> None:
    answer = serving.post("/v1/chat/completions", ASK, headers={"Origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_pages_of_this_machine_and_those_let_in_may_ask(serving: Serving, locked: Serving) -> None:
    local = {"Origin": "http://localhost:5173"}
    answer = serving.post("/v1/chat/completions", ASK, headers=local)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
    asking = {**local, "Access-Control-Request-Method": "POST"}
    assert serving.http.options("/v1/chat/completions", headers=asking).status_code == 200
    friend = {"Origin": "https://friend.example", "Authorization": "Bearer open sesame"}
    assert locked.http.post("/v1/chat/completions", json=ASK, headers=friend).status_code == 200


def test_answers_have_careful_headers(serving: Serving) -> None:
    for path in ("/health", "/", "/nothing"):
        headers = serving.http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


def test_names_that_were_let_in_are_welcome(tiny: Path) -> None:
    with serve(tiny, hosts=["proxy.example"]) as running:
        assert running.http.get("/v1/models", headers={"Host": "proxy.example"}).status_code == 200
        assert running.http.get("/v1/models", headers={"Host": "other.example"}).status_code == 403


# --- what cannot be answered


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"messages": NaN}',
        b"1e999",
        b'{"messages":"\\ud800"}',
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages", "/api/chat", "/v1/responses", "/v1/embeddings"]
)
def test_a_body_that_is_no_request_is_refused(serving: Serving, path: str, body: bytes) -> None:
    answer = serving.http.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_paths_and_methods_that_are_not_there(serving: Serving) -> None:
    assert serving.http.get("/v1/nothing").json()["error"]["message"] == "There is nothing at /v1/nothing."
    answer = serving.http.get("/v1/chat/completions")
    assert answer.status_code == 405
    assert "does not take GET" in answer.json()["error"]["message"]


@pytest.mark.parametrize("told", [True, False], ids=["with its length", "in chunks"])
def test_a_body_that_is_too_large_is_refused(tiny: Path, told: bool) -> None:
    with serve(tiny, body_mb=0.1) as small:
        body = json.dumps({**ASK, "user": "x" * 1_000_000}).encode()
        content = body if told else (body[n : n + 9999] for n in range(0, len(body), 9999))
        answer = small.http.post("/v1/chat/completions", content=content)
        assert answer.status_code == 413
        assert "100,000 bytes" in answer.json()["error"]["message"]
        assert small.http.get("/health").status_code == 200


# --- clients that are slow or leave


def connect(serving: Serving) -> socket.socket:
    url = httpx.URL(serving.url)
    return socket.create_connection((url.host, url.port), timeout=30)


def test_a_head_that_does_not_come_ends_the_connection(tiny: Path) -> None:
    with serve(tiny, patience_s=0.3) as running:
        for start in (b"", b"POST /v1/chat/comple", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: "):
            with connect(running) as slow:
                slow.sendall(start)
                assert slow.recv(100) == b""
        with connect(running) as slow:  # also when it was a good client before
            slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said = b""
            while b'"ok"' not in said:  # head and body may come apart
                piece = slow.recv(1000)
                assert piece, said
                said += piece
            slow.sendall(b"GET /hea")
            assert slow.recv(1000) == b""


def test_a_body_that_does_not_come_is_refused(tiny: Path) -> None:
    with serve(tiny, patience_s=0.3) as running, connect(running) as slow:
        slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert b" 408 " in slow.recv(1000).splitlines()[0]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(serving: Serving, stream: bool) -> None:
    serving.post("/api/generate", {"model": "tiny"})
    batcher = serving.served("tiny").batcher
    body = json.dumps({**ENDLESS, "stream": stream, "n": 3}).encode()
    with connect(serving) as leaving:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        leaving.sendall(head.encode() + body)
        assert until(lambda: batcher.figures()["running"] == 3), leaving.recv(1000)
        before = batcher.figures()["tokens"]
    assert until(lambda: batcher.figures()["running"] == 0)
    assert batcher.figures()["tokens"] < before + 3 * 1500, "they did not run to their end"
    assert until(lambda: serving.served("tiny").users == 0)


def test_a_client_that_does_not_read_is_left(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serve(tiny, patience_s=0.3) as running, connect(running) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        body = json.dumps({**ENDLESS, "n": 64, "logprobs": True, "top_logprobs": 8}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        slow.sendall(head.encode() + body)
        assert until(lambda: bool(running.state.models.loaded()) and running.served("tiny").users == 1)
        assert until(lambda: running.served("tiny").users == 0, 30)
        assert [said.split(" took ")[0] for said in caplog.messages] == ["A client of /v1/chat/completions"]


def test_a_full_queue_says_so_in_each_form(tiny: Path) -> None:
    with serve(tiny, slots=1, queue=1) as running, ExitStack() as stack:
        reading = []
        for _ in range(2):  # one that is answered, and one that waits
            asking = running.http.stream("POST", "/v1/chat/completions", json=ENDLESS)
            reading.append(stack.enter_context(asking).iter_lines())
            next(reading[-1])
        answer = running.post("/v1/chat/completions", {**ASK, "model": "tiny"})
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"] == "1"
        assert "ask again later" in answer.json()["error"]["message"]
        answer = running.post("/v1/messages", {**ASK, "model": "tiny"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (529, "overloaded_error")
        assert "ask again later" in running.post("/api/chat", {**ASK, "model": "tiny"}).json()["error"]


def test_a_stop_waits_for_answers_and_no_longer_than_it_should(tiny: Path) -> None:
    with serve(tiny, grace_s=30.0) as running:
        with running.http.stream(
            "POST", "/v1/chat/completions", json={**ENDLESS, "max_tokens": 100}
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            running.stop()
            said = list(lines)
        assert "data: [DONE]" in said
        with pytest.raises(httpx.TransportError):
            until(lambda: not running.http.get("/health").is_success)
