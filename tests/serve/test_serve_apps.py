"""Apps over HTTP, as the web app asks for them: what is here, the store, installing, beginning a process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Serving, serve

from twofold.apps import installing, shelf, signing, store
from twofold.base import home
from twofold.kernel.minds.script import Script
from twofold.kernel.policy import Rules
from twofold.kernel.system import System
from twofold.serve.desktop import Desktop

ME = {"X-Twofold": "test"}


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serving]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with serve("box") as running:
        running.http.headers.update(ME)
        yield running


def made(tmp_path: Path, version: str = "0.1.0", more: str = "") -> Path:
    folder = installing.starter("sums", tmp_path / version)
    path = folder / "app.toml"
    path.write_text(path.read_text().replace("0.1.0", version) + more)
    return folder


def told(answer: httpx.Response) -> str:
    message: str = answer.json()["error"]["message"]
    return message


def test_only_the_app_and_who_speaks_for_the_user_may_ask(web: Serving, tmp_path: Path) -> None:
    body = {"from": str(made(tmp_path))}
    elsewhere = {**ME, "Sec-Fetch-Site": "same-site", "Origin": "http://localhost:9999"}
    for headers in ({}, elsewhere):
        for path in ("apps", "apps/assistant", "store?ask=1", "devices"):
            assert httpx.get(f"{web.url}/twofold/{path}", headers=headers).status_code == 403
        for path, sent in (("apps", body), ("processes", {"task": "x"}), ("apps/assistant", {"do": "undo"})):
            assert httpx.post(f"{web.url}/twofold/{path}", json=sent, headers=headers).status_code == 403
        assert httpx.delete(f"{web.url}/twofold/apps/sums", headers=headers).status_code == 403
    assert not shelf.folder().exists()


def test_an_app_says_what_it_is_and_what_it_may(web: Serving) -> None:
    listed = {one["name"]: one for one in web.http.get("/twofold/apps").json()}
    assert {"assistant", "researcher", "coder"} <= set(listed)
    assert (listed["coder"]["installed"], listed["coder"]["signed"]) == (False, None)
    found = web.http.get("/twofold/apps/researcher").json()
    assert "browser: read; anywhere; at most 60 calls" in [one["text"] for one in found["may"]]
    tools = {one["name"]: one for one in found["tools"]}
    assert tools["browser_read"]["effect"] == "fetch"
    assert {"extract", "pledge", "files_write"} <= set(tools)
    assert "files_delete" not in tools
    assert found["instructions"]
    assert found["budget"]["tokens"] == 400_000
    assert {"name": "pledge", "about": found["tests"][1]["about"]} == found["tests"][1]
    assert [one["name"] for one in found["files"]][:2] == ["app.toml", "instructions.md"]
    assert web.http.get("/twofold/apps/nobody").status_code == 404
    assert web.http.delete("/twofold/apps/researcher").status_code == 400  # comes with twofold
    ran = web.post("/twofold/apps/assistant", {"do": "test"}).json()["tests"]
    assert [(one["name"], one["passed"]) for one in ran] == [("no-web", True), ("note", True), ("sum", True)]


def test_nothing_is_installed_before_the_user_has_seen_and_granted_it(web: Serving, tmp_path: Path) -> None:
    looked = web.post("/twofold/apps", {"from": str(made(tmp_path))}).json()
    assert (looked["name"], looked["before"], looked["signed"]) == ("sums", None, None)
    assert {
        "sign": "+",
        "text": "calculator: everything; anywhere",
        "why": "works out what you ask",
    } in looked["changes"]
    assert [one["passed"] for one in looked["tests"]] == [True]
    assert "sums" not in shelf.names()
    path = f"/twofold/apps/looked/{looked['id']}"
    refused = web.post(path, {})
    assert (refused.status_code, "not granted" in told(refused)) == (400, True)
    assert "sums" not in shelf.names()
    assert web.post(path, {"grant": True}).json()["version"] == "0.1.0"
    assert shelf.find("sums").manifest.version == "0.1.0"
    assert web.post(path, {"grant": True}).status_code == 404  # once
    # The next version wants more, which is shown against what is there.
    more = '\n[[capabilities]]\ndevice = "terminal"\nwhy = "runs programs"\n'
    looked = web.post("/twofold/apps", {"from": str(made(tmp_path, "0.2.0", more))}).json()
    signs = {one["text"]: one["sign"] for one in looked["changes"]}
    assert (signs["calculator: everything; anywhere"], signs["terminal: everything; anywhere"]) == (" ", "+")
    assert (looked["before"], looked["widens"]) == ("0.1.0", True)
    shelf.remove("sums")  # in a terminal, meanwhile: what was shown is not true any more
    assert "look again" in told(web.post(f"/twofold/apps/looked/{looked['id']}", {"grant": True}))
    assert "sums" not in shelf.names()
    assert not list(shelf.folder().glob(".stage-*"))


def test_an_app_that_fails_its_tests_needs_a_word_of_its_own(web: Serving, tmp_path: Path) -> None:
    folder = made(tmp_path)
    test = folder / "tests" / "sum.toml"
    test.write_text(test.read_text().replace("is 84.", "is 85."))
    looked = web.post("/twofold/apps", {"from": str(folder)}).json()
    assert "does not match" in looked["tests"][0]["failures"][0]
    path = f"/twofold/apps/looked/{looked['id']}"
    assert "fails its own tests" in told(web.post(path, {"grant": True}))
    assert web.http.delete(path).status_code == 200
    assert web.post(path, {"grant": True, "untested": True}).status_code == 404
    assert not list(shelf.folder().glob(".stage-*"))
    looked = [web.post("/twofold/apps", {"from": str(folder)}).json() for _ in range(5)]
    assert len(list(shelf.folder().glob(".stage-*"))) == 4  # the oldest gives way
    path = f"/twofold/apps/looked/{looked[-1]['id']}"
    assert web.post(path, {"grant": True, "untested": True}).status_code == 200
    assert web.http.delete("/twofold/apps/sums").json() == {"removed": "sums"}
    assert "sums" not in shelf.names()
    assert web.post("/twofold/apps/sums", {"do": "undo"}).json()["version"] == "0.1.0"
    assert shelf.find("sums")


def test_a_store_here_is_shown_and_one_elsewhere_only_asked_when_wanted(
    web: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert web.http.get("/twofold/store").json() == {"store": None, "remote": False, "offers": None}
    key = signing.own_key(tmp_path / "key.pem")
    store.publish(made(tmp_path), tmp_path / "store", key)
    settings = home.data_folder() / "apps.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f"store = {json.dumps(str(tmp_path / 'store'))}\n")
    (offer,) = web.http.get("/twofold/store").json()["offers"]
    assert (offer["name"], offer["signed"]) == ("sums", signing.fingerprint(signing.public_of(key)))
    looked = web.post("/twofold/apps", {"from": "sums"}).json()
    assert looked["signed"] == offer["signed"]
    assert "its key is remembered" in looked["notes"][0]
    assert "not by SHA256:x" in told(web.post("/twofold/apps", {"from": "sums", "key": "SHA256:x"}))
    archive = str(next((tmp_path / "store").glob("*.tar.gz")))
    assert web.post("/twofold/apps", {"from": archive}).status_code == 200
    settings.write_text('store = "https://example.org/store"\n')
    asked: list[str] = []
    monkeypatch.setattr(store, "offers", lambda where: asked.append(where) or [])
    far = web.http.get("/twofold/store").json()
    assert (far["remote"], far["offers"], asked) == (True, None, [])
    assert web.http.get("/twofold/store?ask=1").json()["offers"] == []
    assert asked == ["https://example.org/store"]


def test_a_process_begins_as_twofold_run_begins_it(web: Serving, tmp_path: Path) -> None:
    asked: list[str] = []

    def mind(name: str) -> Any:
        asked.append(name)
        return Script(
            [{"calls": [{"name": "calculator", "arguments": {"expression": "12*7"}}]}, "It is ${v1}."]
        )

    from twofold import devices

    system = System(
        tmp_path / "os", minds=mind, devices=devices.opened(["calculator", "clock"]), policy=Rules()
    )
    web.state.extras["desktop"] = Desktop(tmp_path / "os", system)
    body = {
        "task": "What is 12*7?",
        "app": "tutor",
        "model": "box",
        "tokens": 9_000,
        "money": 0.5,
        "priority": 3,
    }
    begun = web.post("/twofold/processes", body).json()
    state = system.state(begun["pid"])
    system.run(until=lambda: bool(system.state(begun["pid"]).exit), seconds=20)
    assert (state.program.app, state.program.model, state.program.priority) == ("tutor", "box", 3)
    assert (state.program.budget.tokens, state.program.budget.calls, state.program.budget.money) == (
        9_000,
        80,
        0.5,
    )
    assert system.state(begun["pid"]).exit == "done"
    plain = system.state(web.post("/twofold/processes", {"task": "And?"}).json()["pid"])
    assert [one.device for one in plain.program.capabilities] == ["calculator", "clock"]
    none = system.state(
        web.post("/twofold/processes", {"task": "And?", "devices": [], "stays": True}).json()["pid"]
    )
    assert (none.program.capabilities, none.program.stays) == ((), True)
    assert asked == ["box", ""]
    for wrong in (
        {"task": " "},
        {"app": "tutor"},
        {"task": "x", "app": "nobody"},
        {"task": "x", "tokens": 0},
    ):
        assert web.post("/twofold/processes", wrong).status_code == 400
    assert web.post("/twofold/processes", {"task": "x", "model": "nobody"}).status_code == 404
    system.close()
    del web.state.extras["desktop"]
    known = {one["name"]: one["description"] for one in web.http.get("/twofold/devices").json()}
    assert {"calculator", "clock", "search"} <= set(known)
