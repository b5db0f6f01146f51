"""The web app's own routes: arena, labelling desk, models, runs."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_hub import Hub
from fake_hub import serving as serving_hub
from serving import Serving, serve, teach

from twofold.base import files
from twofold.base.errors import BadFileError, TwofoldError
from twofold.base.runlog import RunLog
from twofold.kernel.battles import Battles
from twofold.run import pulled
from twofold.serve.own import arena
from twofold.tokens.conversation import check
from twofold.tokens.pair import check_pair

ASKED = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data" / "twofold"


@pytest.fixture
def own(home: Path, tiny: Path) -> Iterator[Serving]:
    """Return a server of two models that say what they were told, and a real tiny one."""
    with serve(tiny) as running:
        teach(running.state, "left", "I am the left one.")
        teach(running.state, "right", "**Right** am I.")
        yield running


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def message(answer: httpx.Response) -> str:
    assert 400 <= answer.status_code < 500, answer.text
    return str(answer.json()["error"]["message"])


# --- the arena


def fought(own: Serving, **more: Any) -> tuple[str, dict[str, str]]:
    """Return a battle's id and its answers by side."""
    heard = events(own.post("/twofold/arena/battle", {"prompt": "Hello?", "a": "left", "b": "right", **more}))
    said = {side: "".join(e.get("text", "") for e in heard if e.get("side") == side) for side in "ab"}
    assert sum(bool(e.get("done")) for e in heard) == 2
    assert heard[-1] == {"finished": True}
    return str(heard[0]["battle"]), said


def test_a_battle_is_blind_until_the_verdict(own: Serving, home: Path) -> None:
    sides = set()
    for _ in range(12):
        answer = own.post("/twofold/arena/battle", {"messages": ASKED, "a": "left", "b": "right"})
        assert "tiny" not in answer.text
        assert '"left"' not in answer.text
        battle, said = fought(own)
        assert sorted(said.values()) == ["**Right** am I.", "I am the left one."]
        winner = "a" if said["a"].startswith("I am") else "b"
        sides.add(winner)
        told = own.post("/twofold/arena/vote", {"battle": battle, "verdict": winner, "who": "desk-1"}).json()
        assert told[winner] == "left"
        assert {told["a"], told["b"]} == {"left", "right"}
    assert sides == {"a", "b"}, "who stands where is drawn"
    kept = Battles(home / "arena").all()
    assert len(kept) == 12
    assert kept[0]["who"] == "desk-1"
    assert kept[0]["messages"] == ASKED
    assert own.http.get("/twofold/arena/battles.jsonl").text.count("\n") == 12
    table = own.http.get("/twofold/arena/ratings").json()
    assert [(one["name"], one["wins"]) for one in table["ratings"]] == [("left", 12), ("right", 0)]
    assert table["ratings"][0]["low"] < table["ratings"][0]["rating"] < table["ratings"][0]["high"]
    assert table["warning"] is None
    styled = own.http.get("/twofold/arena/ratings?style=1&anchor=right").json()
    assert styled["controlled"]
    assert {one["feature"] for one in styled["style"]} == {"length", "headings", "lists", "bold"}
    assert next(one for one in styled["ratings"] if one["name"] == "right")["rating"] == 1000


def test_a_verdict_counts_once(own: Serving) -> None:
    battle, _ = fought(own)
    vote = {"battle": battle, "verdict": "tie"}
    assert "one of a, b, tie, bad" in message(own.post("/twofold/arena/vote", {**vote, "verdict": "c"}))
    assert "short mark" in message(own.post("/twofold/arena/vote", {**vote, "who": "two words"}))
    assert own.post("/twofold/arena/vote", vote).status_code == 200
    assert "no such battle" in message(own.post("/twofold/arena/vote", vote))


def test_what_is_no_battle_is_refused(own: Serving) -> None:
    for body, said in (
        ({}, "needs a `prompt`"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "x"}]}, "end with the user's"),
        ({"prompt": "Hi", "a": "left", "b": "left"}, "two different models"),
        ({"prompt": "Hi", "a": "nobody"}, "no model 'nobody'"),
        ({"prompt": "Hi", "temperature": 99}, "number from 0 to 2"),
    ):
        assert said in message(own.post("/twofold/arena/battle", body))
    assert "no player 'x'" in message(own.http.get("/twofold/arena/ratings?anchor=x"))


def test_battles_that_nobody_judges_are_forgotten(own: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "WAITING", 1)
    first, _ = fought(own)
    second, _ = fought(own)
    assert "no such battle" in message(own.post("/twofold/arena/vote", {"battle": first, "verdict": "a"}))
    assert own.post("/twofold/arena/vote", {"battle": second, "verdict": "a"}).status_code == 200


def test_battles_wait_for_a_verdict_over_the_end_of_the_server(own: Serving, home: Path, tiny: Path) -> None:
    first, said = fought(own)
    second, _ = fought(own)
    third, _ = fought(own)
    assert own.post("/twofold/arena/vote", {"battle": second, "verdict": "a"}).status_code == 200
    with serve(tiny) as later:
        listed = later.http.get("/twofold/arena/waiting").json()
        assert [one["battle"] for one in listed] == [third, first]
        assert listed[1].keys() == {"battle", "time", "messages", "answers"}, "blind"
        assert (listed[1]["messages"], listed[1]["answers"]) == (ASKED, said)
        told = later.post("/twofold/arena/vote", {"battle": first, "verdict": "b"}).json()
        assert {told["a"], told["b"]} == {"left", "right"}
        assert "no such battle" in message(
            later.post("/twofold/arena/vote", {"battle": second, "verdict": "a"})
        )
        assert "no such battle" in message(
            later.post("/twofold/arena/vote", {"battle": first, "verdict": "a"})
        )
        assert [one["battle"] for one in later.http.get("/twofold/arena/waiting").json()] == [third]
    kept = Battles(home / "arena").all()
    assert [(one["battle"], one["verdict"]) for one in kept] == [(second, "a"), (first, "b")]
    assert kept[1]["answers"] == said
    (home / "arena" / "fought.jsonl").write_text('{"battle": "x"}\n')
    with pytest.raises(BadFileError, match="line 1: no battle"):
        Battles(home / "arena").waiting(10)


def test_a_verdict_that_cannot_be_kept_can_be_given_again(
    own: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    battle, _ = fought(own)
    vote = {"battle": battle, "verdict": "a"}

    def full(*_: Any, **__: Any) -> None:
        raise TwofoldError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(Battles, "add", full)
        assert own.post("/twofold/arena/vote", vote).status_code == 500
    assert own.post("/twofold/arena/vote", vote).status_code == 200


def test_an_unfinished_battle_is_not_judged(own: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PACE_S", "_PACE_EACH_S"):  # token by token, so that it takes its time
        monkeypatch.setattr(f"twofold.run.batcher.{name}", 0.0)
    body = {"prompt": "Go on", "a": "tiny", "b": "left", "max_tokens": 400}
    with own.http.stream("POST", "/twofold/arena/battle", json=body) as answer:
        lines = answer.iter_lines()
        battle = json.loads(next(line for line in lines if line)[6:])["battle"]
    assert "have to be whole" in message(own.post("/twofold/arena/vote", {"battle": battle, "verdict": "a"}))


# --- labels


def test_instructions_have_versions(own: Serving) -> None:
    first = own.http.get("/twofold/labels/instructions").json()
    assert first["version"] == 1
    assert "How to label" in first["text"]
    assert own.http.put("/twofold/labels/instructions", json={"text": "Be kind."}).json() == {"version": 2}
    assert own.http.get("/twofold/labels/instructions").json()["text"] == "Be kind."
    assert own.http.get("/twofold/labels/instructions?version=1").json()["text"] == first["text"]
    assert "no version 9" in message(own.http.get("/twofold/labels/instructions?version=9"))
    assert "whole number" in message(own.http.get("/twofold/labels/instructions?version=x"))


def test_from_questions_to_export(own: Serving, tiny: Path, home: Path) -> None:
    assert own.http.get("/twofold/labels/next").json() == {"messages": [], "waiting": 0}
    asked = own.post(
        "/twofold/labels/questions", {"questions": ["One?", [{"role": "user", "content": "Two?"}]]}
    )
    assert asked.json() == {"added": 2, "waiting": 2}
    item = own.http.get("/twofold/labels/next?who=desk-1").json()
    assert (item["messages"][0]["content"], item["answers"], item["waiting"]) == ("One?", [], 2)
    common = {"messages": item["messages"], "model": "tiny", "who": "desk-1"}
    bodies = (
        {"kind": "fix", "answer": "Two", "better": "One."},
        {"kind": "fix", "answer": "Fine.", "better": "Fine."},  # a draft that was left as it is
        {"kind": "compare", "answer": "x", "better": "y", "why": "it is"},
    )
    ids = [own.post("/twofold/labels", {**common, **body}).json()["id"] for body in bodies]
    own.post("/twofold/labels", {"kind": "why", "of": ids[0], "why": "counting", "who": "desk-1"})
    told = own.http.get("/twofold/labels").json()
    assert told["counts"] == {"fix": 1, "good": 1, "compare": 1}
    assert [label["why"] for label in told["labels"]] == ["counting", None, "it is"]
    digest = files.sha256(tiny / "model.gguf")
    assert told["labels"][0]["model"] == {"name": "tiny", "sha256": digest}
    second = own.http.get("/twofold/labels/next?who=desk-2&kind=compare").json()
    assert second["messages"][0]["content"] == "Two?"
    lines = own.http.get("/twofold/labels/export.jsonl").text.splitlines()
    assert json.loads(lines[-1])["messages"][-1] == {"role": "assistant", "content": "y"}
    for line in lines:
        check(json.loads(line), "export", "line")  # as `twofold tune` does
    pairs = own.http.get("/twofold/labels/export.jsonl?form=pairs").text.splitlines()
    for line in pairs:
        check_pair(json.loads(line), "export", "line")  # as `twofold prefer` does
    assert [json.loads(line)["chosen"] for line in pairs] == ["One.", "y"]
    assert "?form=" in message(own.http.get("/twofold/labels/export.jsonl?form=x"))


def test_agreement_over_http(own: Serving) -> None:
    for n in range(3):
        body = {
            "kind": "compare",
            "messages": [{"role": "user", "content": f"{n}"}],
            "answer": "x",
            "better": "y",
        }
        for who in ("one", "two"):
            own.post("/twofold/labels", {**body, "who": who})
    own.post("/twofold/labels", {**body, "answer": "y", "better": "x", "who": "three"})
    told = own.http.get("/twofold/labels/agreement").json()
    assert told["shared"] == 3
    assert {(pair["a"], pair["b"]): pair["agreement"] for pair in told["pairs"]} == {
        ("one", "two"): 1.0, ("one", "three"): 0.0, ("three", "two"): 0.0,
    }  # fmt: skip
    assert "say little" in told["note"]


def test_wrong_labels_are_sentences(own: Serving) -> None:
    for body, said in (
        ({"kind": "fix", "better": "x"}, "needs the `messages`"),
        ({"kind": "fix", "messages": ASKED}, "needs the words"),
        ({"kind": "compare", "messages": ASKED, "answer": "x", "better": "x"}, "are the same"),
        ({"kind": "good", "messages": ASKED}, "could be good"),
        ({"kind": "why", "of": "none", "why": "x"}, "no such label"),
        (
            {"kind": "good", "messages": [*ASKED, {"role": "assistant", "content": "x"}], "answer": "y"},
            "end where",
        ),
        (
            {"kind": "good", "messages": [{"role": "tool", "content": "x"}], "answer": "y"},
            "no call asked for it",
        ),
        ({"kind": "love", "messages": ASKED}, "one of fix, good"),
        ({"kind": "good", "messages": ASKED, "answer": "x", "who": "two words"}, "short mark"),
    ):
        assert said in message(own.post("/twofold/labels", body))
    assert "is a text" in message(own.post("/twofold/labels/questions", {"questions": [" "]}))
    assert "fix or compare" in message(own.http.get("/twofold/labels/next?kind=x"))


# --- models


@pytest.fixture
def hub(home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    held = Hub(files={"tiny-F32.gguf": (tiny / "model.gguf").read_bytes()})
    with serving_hub(held):
        monkeypatch.setenv("HF_ENDPOINT", held.address)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield held


def test_pull_to_chat_to_remove(hub: Hub) -> None:
    with serve() as own:
        dry = events(own.post("/twofold/pull", {"name": "owner/tiny-GGUF", "dry": True}))
        assert len(dry) == 1
        assert pulled.models() == []
        heard = events(own.post("/twofold/pull", {"name": "owner/tiny-GGUF", "as": "small"}))
        size = len(hub.files["tiny-F32.gguf"])
        assert (heard[0]["name"], heard[0]["download_bytes"], heard[0]["here"]) == ("small", size, False)
        assert heard[0]["predicted_tokens_per_s"] > 0
        assert {"file": "model.gguf", "done": size, "total": size} in heard
        assert heard[-1] == {"finished": True, "name": "small"}
        models = own.http.get("/twofold/models").json()
        assert [(one["name"], one["default"], one["removable"]) for one in models] == [
            ("box", True, False), ("small", False, True),
        ]  # fmt: skip
        small = models[1]
        assert (small["file_type"], small["loaded"], small["source"]["repo"]) == (
            "F32",
            False,
            "owner/tiny-GGUF",
        )
        chat = {"model": "small", "messages": ASKED, "max_tokens": 3}
        assert own.post("/v1/chat/completions", chat).status_code == 200
        assert own.http.get("/twofold/models?predict=0").json()[1]["loaded"]
        assert "was not pulled" in message(own.http.delete("/twofold/models/box"))
        assert own.http.delete("/twofold/models/none").status_code == 404
        assert own.http.delete("/twofold/models/small").json() == {"removed": "small"}
        assert own.post("/v1/chat/completions", chat).status_code == 404
        assert not (pulled.folder() / "small").exists()


def test_who_closes_the_page_stops_the_pull_and_can_go_on(hub: Hub) -> None:
    hub.pause = threading.Event()
    with serve() as own:
        with own.http.stream("POST", "/twofold/pull", json={"name": "owner/tiny-GGUF"}) as answer:
            for line in answer.iter_lines():
                if '"done"' in line:
                    break
        hub.pause.set()
        hub.pause = None
        for _ in range(200):
            answer = own.post("/twofold/pull", {"name": "owner/tiny-GGUF"})
            if "being pulled by another" not in answer.text:
                break
        assert events(answer)[-1] == {"finished": True, "name": "tiny-F32"}


def test_a_pull_that_fails_says_why(hub: Hub) -> None:
    with serve() as own:
        assert "no model's name" in message(own.post("/twofold/pull", {"name": "x"}))
        assert "There is no model" in message(own.post("/twofold/pull", {"name": "owner/none"}))
        hub.served = {"tiny-F32.gguf": b"\0" * len(hub.files["tiny-F32.gguf"])}
        assert "checksum" in events(own.post("/twofold/pull", {"name": "owner/tiny-GGUF"}))[-1]["error"]
        hub.refuses = (503, "")
        assert own.post("/twofold/pull", {"name": "owner/tiny-GGUF"}).status_code == 503


# --- runs


def test_runs_are_followed(own: Serving, tmp_path: Path) -> None:
    assert own.http.get("/twofold/runs").json() == []
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    with RunLog(folder / "metrics.jsonl") as log:
        log.write(step=1, loss_nats=2.0)
        (run,) = own.http.get("/twofold/runs").json()
        assert (run["name"], run["step"], run["running"]) == ("first", 1, True)
        found = own.http.get("/twofold/runs/first").json()
        assert found["records"] == [{"step": 1, "loss_nats": 2.0}]
        log.write(step=2, loss_nats=1.5)
        more = own.http.get(f"/twofold/runs/first?from={found['next']}&most=10").json()
        assert (more["records"], more["anew"]) == ([{"step": 2, "loss_nats": 1.5}], False)
    assert own.http.get("/twofold/runs/none").status_code == 404
    assert own.http.get("/twofold/runs/..%2Ffirst").status_code == 404
    assert "whole number" in message(own.http.get("/twofold/runs/first?from=-1"))


# --- anything


JUNK: list[Any] = [0, -1, True, "", "a/b", "~nobody/x", "../..", "\0", "x" * 5000, [[]], {"a": 1}]
FIELDS = {
    "/twofold/arena/battle": {"prompt": "Hi", "messages": ASKED, "a": "left", "b": "right", "max_tokens": 4},
    "/twofold/arena/vote": {"battle": "x", "verdict": "a", "who": "desk-1"},
    "/twofold/labels": {"kind": "fix", "messages": ASKED, "answer": "x", "better": "y", "model": "m"},
    "/twofold/labels/instructions": {"text": "Be kind."},
    "/twofold/labels/questions": {"questions": ["One?"]},
    "/twofold/pull": {"name": "none", "type": "q8_0", "as": "x", "dry": True},
}  # fmt: skip
QUERIES = (
    "/twofold/arena/ratings?anchor={}", "/twofold/arena/ratings?style={}", "/twofold/labels/next?who={}",
    "/twofold/labels/next?skip={}", "/twofold/labels/instructions?version={}", "/twofold/runs/x?from={}",
    "/twofold/labels/export.jsonl?form={}", "/twofold/runs/{}", "/twofold/models?predict={}",
)  # fmt: skip


def test_no_request_breaks_the_server(own: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for path, good in FIELDS.items():
        for body in (*JUNK, *({**good, name: junk} for name in good for junk in JUNK)):
            answer = own.post(path, body)
            assert answer.status_code < 500, (path, body, answer.text)
    for query in QUERIES:
        for junk in ("", "x", "-1", "9" * 30, "%00", "..%2F..", "²", "a" * 3000):
            answer = own.http.get(query.format(junk))
            assert answer.status_code < 500, (query, junk, answer.text)
    for name in ("x", "..%2Fbox", ".partial", "box"):
        assert own.http.delete(f"/twofold/models/{name}").status_code in (403, 404, 405)
