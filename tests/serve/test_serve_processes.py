"""Processes over HTTP, as the web app asks for them: list, trace, memory, files, and what the user says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp_offering import Asks, Desk
from serving import Serving, serve

from twofold.kernel.capabilities import Capability
from twofold.kernel.minds.script import Script
from twofold.kernel.process import Program
from twofold.kernel.system import System
from twofold.serve.desktop import Desktop

ME = {"X-Twofold": "test"}
SEND = {"calls": [{"name": "desk_send", "arguments": {"text": "hello"}}]}
DRAW = {"calls": [{"name": "desk_draw", "arguments": {}}]}


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def web(tmp_path: Path, desk: Desk) -> Iterator[tuple[Serving, System]]:
    """Give a server whose processes are those of a system with a script as its mind."""
    script = Script([DRAW, SEND, "It is **sent**.", "Gladly."])
    system = System(tmp_path, minds=lambda name: script, devices={"desk": desk}, policy=Asks(), workers=1)
    with serve("box") as running:
        running.http.headers.update(ME)
        shown = running.state.extras["desktop"] = Desktop(tmp_path, system)
        running.state.closing.append(shown.close)
        yield running, system


def spawned(system: System, **more: Any) -> int:
    """Return a process that draws, wants to send, and waits for the user's word."""
    allowed = (Capability(device="desk"),)
    pid = system.spawn(Program(message="Send it.", capabilities=allowed, shown=("desk",), **more))
    system.run(seconds=20)
    return pid


def streamed(running: Serving, path: str) -> list[dict[str, Any]]:
    with running.http.stream("GET", path) as answer:
        return [json.loads(line[5:]) for line in answer.iter_lines() if line.startswith("data:")]


def test_without_any_process_the_list_is_empty_and_nothing_is_made(tmp_path: Path) -> None:
    with serve("box") as running:
        running.http.headers.update(ME)
        running.state.extras["desktop"] = Desktop(tmp_path / "os")
        assert running.http.get("/twofold/processes").json() == []
        assert running.http.get("/twofold/processes/1").status_code == 404
        assert not (tmp_path / "os").exists()


def test_only_the_app_and_who_speaks_for_the_user_may_ask(web: tuple[Serving, System]) -> None:
    running, system = web
    pid = spawned(system)
    for path in ("", f"/{pid}", f"/{pid}/events", f"/{pid}/memory", f"/{pid}/files/dot.png"):
        url = f"{running.url}/twofold/processes{path}"
        assert httpx.get(url).status_code == 403
        # A page on another port of this machine, which a process has opened in a browser, say.
        elsewhere = {**ME, "Sec-Fetch-Site": "same-site", "Origin": "http://localhost:9999"}
        assert httpx.get(url, headers=elsewhere).status_code == 403
    url = f"{running.url}/twofold/processes/{pid}"
    assert httpx.post(url, json={"do": "kill"}).status_code == 403
    assert not system.state(pid).exit


def test_an_approval_shows_what_flows_and_the_process_goes_on(
    web: tuple[Serving, System], desk: Desk
) -> None:
    running, system = web
    pid = spawned(system)
    listed = running.http.get("/twofold/processes").json()
    assert [(one["pid"], one["asks"], one["status"]) for one in listed] == [(pid, True, "waiting for you")]
    found = running.http.get(f"/twofold/processes/{pid}").json()
    assert found["question"]["kind"] == "approval"
    assert found["question"]["name"] == "desk_send"
    assert found["question"]["arguments"] == {"text": "hello"}
    assert found["question"]["shows"]["text"] == "hello"
    path = f"/twofold/processes/{pid}"
    call = found["question"]["call"]
    assert running.post(path, {"do": "approve", "call": "c9", "grant": "once"}).status_code == 400
    assert running.post(path, {"do": "approve", "call": call, "grant": "perhaps"}).status_code == 400
    assert running.post(path, {"do": "approve", "call": call, "grant": "once"}).status_code == 200
    said = streamed(running, f"{path}/events")
    kinds = [one["event"]["kind"] for one in said if "event" in one]
    assert kinds[0] == "spawned"
    assert kinds[-1] == "exited"
    assert kinds.count("returned") == 2
    assert desk.sent == ["hello"]
    last = [one["process"] for one in said if "process" in one][-1]
    assert (last["answer"], last["over"], last["question"]) == ("It is **sent**.", True, None)
    assert last["spent"]["calls"]["spent"] == 2
    rest = streamed(running, f"{path}/events?from={last['seq'] - 1}")
    assert [one["event"]["kind"] for one in rest if "event" in one] == ["exited"]


def test_a_process_is_paused_resumed_told_forked_and_killed(web: tuple[Serving, System], desk: Desk) -> None:
    running, system = web
    pid = spawned(system, stays=True)
    path = f"/twofold/processes/{pid}"
    assert running.post(path, {"do": "pause"}).json()["stopped"]
    assert not running.post(path, {"do": "resume"}).json()["stopped"]
    call = running.http.get(path).json()["question"]["call"]
    running.post(path, {"do": "approve", "call": call, "grant": "no"})
    system.run(until=lambda: system.state(pid).answer != "", seconds=20)
    assert not desk.sent
    assert running.post(path, {"do": "tell", "text": "Thank you."}).status_code == 200
    system.run(until=lambda: system.state(pid).answer == "Gladly.", seconds=20)
    other = running.post(path, {"do": "fork", "at": 1}).json()
    assert other["pid"] != pid
    assert system.events(other["pid"])[1].kind == "forked"
    assert running.post(path, {"do": "kill"}).json()["over"]
    assert running.post(path, {"do": "tell", "text": "Hello?"}).status_code == 400
    assert running.post(path, {"do": "tell"}).status_code == 400
    assert running.post(path, {"do": "dance"}).status_code == 400


def test_the_memory_is_seen_and_changed(web: tuple[Serving, System]) -> None:
    running, system = web
    pid = spawned(system)
    path = f"/twofold/processes/{pid}/memory"
    rows = running.http.get(path).json()["rows"]
    assert [row["kind"] for row in rows][:2] == ["user", "assistant"]
    name = rows[0]["page"]
    pinned = running.post(path, {"do": "pin", "page": name}).json()["rows"]
    assert pinned[0]["pinned"]
    changed = running.post(path, {"do": "edit", "page": name, "text": "Send nothing."}).json()["rows"]
    assert changed[0]["text"] == "Send nothing."
    about = running.http.get(f"{path}/{name}").json()
    assert about["text"] == "Send nothing."
    assert "the user said it" in about["why"][0]["text"]
    assert len(about["why"]) == 3
    assert running.post(path, {"do": "pin", "page": "p99"}).status_code == 400


def test_files_are_handed_out_and_nothing_else(web: tuple[Serving, System], tmp_path: Path) -> None:
    running, system = web
    pid = spawned(system)
    folder = tmp_path / "processes" / str(pid)
    (folder / "sub").mkdir()
    (folder / "sub" / "page.html").write_text("<script>alert(1)</script>")
    (folder / "out").symlink_to(tmp_path / "journal.key")
    found = running.http.get(f"/twofold/processes/{pid}").json()["files"]
    assert [(one["name"], one["bytes"]) for one in found] == [("dot.png", 4), ("sub/page.html", 25)]
    path = f"/twofold/processes/{pid}/files"
    picture = running.http.get(f"{path}/dot.png")
    assert (picture.content, picture.headers["content-type"]) == (b"\x89PNG", "image/png")
    page = running.http.get(f"{path}/sub/page.html")
    assert page.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in page.headers["content-security-policy"]
    assert page.headers["content-disposition"].startswith("attachment")
    for name in ("out", "../../journal.key", "..%2f..%2fjournal.key", "sub", "nothing"):
        assert running.http.get(f"{path}/{name}").status_code == 404


@pytest.mark.parametrize("pid", ["0", "7", "x", "1" * 40])
def test_an_unknown_process_is_a_sentence(web: tuple[Serving, System], pid: str) -> None:
    running, system = web
    spawned(system)
    answer = running.http.get(f"/twofold/processes/{pid}")
    assert answer.status_code == 404
    assert "There is no process" in answer.text
