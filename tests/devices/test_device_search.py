"""Search: what is found, that places can be looked up, and that the index follows the files."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_device_documents import a_pdf, a_word_file, paragraph

from twofold.base.errors import UsageError
from twofold.devices import _documents, _library, search
from twofold.devices._beneath import Folder
from twofold.kernel.device import Context, DeviceError, Returned
from twofold.kernel.flow import Label, Ring

Call = Callable[..., Returned]
TOPICS = (
    "bridges",
    "harbours",
    "lanterns",
    "orchards",
    "windmills",
    "glaciers",
    "violins",
    "saffron",
    "comets",
    "looms",
)


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "papers"
    (folder / "deep").mkdir(parents=True)
    for n, topic in enumerate(TOPICS):
        (folder / f"{topic}.md").write_text(
            f"# On {topic}\n\nThere are {n + 2} of them.\n\n## Cost\n\nThe {topic} cost {n}00.\n"
        )
    (folder / "deep" / "report.pdf").write_bytes(
        a_pdf("First comes nothing", "The yearly turnover\nwas twelve million")
    )
    (folder / "plan.docx").write_bytes(
        a_word_file(paragraph("Plan", "Heading1") + paragraph("We plant hazel trees."))
    )
    (folder / "page.html").write_text(
        "<title>Zebras</title><p>Zebras are striped all over, it says here.</p>"
    )
    return folder


@pytest.fixture(autouse=True)
def _pdf_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read PDFs here: that they are read apart is tested elsewhere, and takes a start of Python each."""
    monkeypatch.setattr(_documents._confined, "run", lambda function, data: _documents.pages_of_pdf(data))


def device(tmp_path: Path, **settings: Any) -> Any:
    given = {
        "folders": {"papers": str(tmp_path / "papers")},
        "index": str(tmp_path / "index"),
        "embedder": "hashed",
    }
    return search.open(given | settings)


@pytest.fixture
def call(papers: Path, tmp_path: Path) -> Call:
    opened = device(tmp_path)

    def calling(function: str = "search", scope: tuple[str, ...] = (), **arguments: Any) -> Returned:
        context = Context(pid=1, workspace=tmp_path, call="c", scope=scope)
        found: Returned = opened.call(function, arguments, context)
        return found

    return calling


def test_passages_are_found_with_their_places(call: Call, papers: Path) -> None:
    found = call(query="What do the windmills cost?", count=1)
    (one,) = found.value["results"]
    assert found.text == "[1] /papers/windmills.md, line 7 (On windmills > Cost)\nThe windmills cost 400."
    assert (
        (papers / "windmills.md").read_text()[slice(*one["offsets"])]
        == one["text"]
        == "The windmills cost 400."
    )
    assert found.label is not None
    assert (found.label.ring, found.label.readers) == (Ring.TOOL, {"user"})
    assert found.label.sources == {"file:/papers/windmills.md"}
    for query, place in (
        ("yearly turnover", "/papers/deep/report.pdf, page 2, lines 1-2"),
        ("hazel trees", "/papers/plan.docx, line 3 (Plan)"),
        ("striped zebras", "/papers/page.html, line 1"),
    ):  # fmt: skip
        assert (call(query=query, count=1).text or "").startswith(f"[1] {place}\n")


def test_every_place_holds_what_it_says(call: Call, papers: Path) -> None:
    results = [one for topic in TOPICS for one in call(query=topic, count=20).value["results"]]
    assert len(results) > 20
    documents = {
        path: _documents.read(papers / path.removeprefix("/papers/"))
        for path in {one["path"] for one in results}
    }
    for one in results:
        document = documents[one["path"]]
        page = document.pages[(one["page"] or 1) - 1]
        assert page[slice(*one["offsets"])] == one["text"]
        first, last = one["lines"]
        assert one["text"] in "\n".join(page.split("\n")[first - 1 : last])


def test_a_quotation_is_looked_up_in_the_file_as_it_is(call: Call, papers: Path) -> None:
    right = call("check", path="/papers/deep/report.pdf", quote="yearly turnover was")
    assert right.text == "It stands in /papers/deep/report.pdf, page 2, lines 1-2."
    assert right.value["page"] == 2
    wrong = call("check", path="/papers/looms.md", quote="The looms cost 901.")
    assert (wrong.value, wrong.text) == ({"found": False}, "That does not stand in /papers/looms.md.")
    (papers / "looms.md").write_text("The looms cost 901.")
    assert call("check", path="/papers/looms.md", quote="The looms cost 901.").value["found"]


@pytest.mark.parametrize(
    "path",
    ["/papers/../secret.txt", "/papers/link.txt", "/other/a.txt", "papers", "/papers/", "/papers//etc"],
)
def test_nothing_outside_is_looked_up(call: Call, papers: Path, path: str) -> None:
    (papers.parent / "secret.txt").write_text("the secret word")
    os.symlink(papers.parent / "secret.txt", papers / "link.txt")
    os.symlink(papers.parent, papers / "up")
    with pytest.raises(DeviceError):
        call("check", path=path, quote="secret")
    assert "secret word" not in json.dumps(call(query="the secret word", count=20).value)


def test_the_index_follows_the_files(call: Call, papers: Path) -> None:
    call(query="anything")
    (papers / "comets.md").write_text("Nothing about them any more, but marmalade.")
    (papers / "looms.md").unlink()
    (papers / "new.txt").write_text("Here is a walrus.")
    assert call(query="marmalade", count=1).value["results"][0]["path"] == "/papers/comets.md"
    assert call(query="walrus", count=1).value["results"][0]["path"] == "/papers/new.txt"
    paths = {one["path"] for one in call(query="looms comets cost", count=20).value["results"]}
    assert "/papers/looms.md" not in paths
    texts = [one["text"] for one in call(query="the comets cost 800", count=20).value["results"]]
    assert not any("comets cost" in text for text in texts)


def test_what_has_not_changed_is_not_read_again(
    papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    inner = _documents.read
    monkeypatch.setattr(
        _library._documents, "read", lambda path, data: read.append(path.name) or inner(path, data)
    )
    opened: list[str] = []
    reading = Folder.reading
    monkeypatch.setattr(Folder, "reading", lambda folder, path: opened.append(path) or reading(folder, path))
    context = Context(pid=1, workspace=tmp_path, call="c")
    for _ in range(2):
        device(tmp_path).call("search", {"query": "violins"}, context)
    assert len(read) == len(opened) == 13
    os.utime(papers / "violins.md", ns=(1, 1))  # another time, the same bytes
    (papers / "saffron.md").write_text("Another text.")
    read.clear()
    device(tmp_path).call("search", {"query": "violins"}, context)
    assert read == ["saffron.md"]
    assert sorted(opened[13:]) == ["saffron.md", "violins.md"]


def test_an_index_that_was_cut_off_is_mended(
    papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever write the machine dies at: the next search finds all files."""
    context = Context(pid=1, workspace=tmp_path, call="c")
    for dies_at in (1, 4, 9, 12):
        opened = device(tmp_path, index=str(tmp_path / f"index{dies_at}"))
        library, count = opened._library(opened._folders), [0]
        inner = library._index.add

        def dying(texts: Any, inner: Any = inner, count: list[int] = count, dies_at: int = dies_at) -> None:
            count[0] += 1
            if count[0] == dies_at:
                raise KeyboardInterrupt
            inner(texts)

        monkeypatch.setattr(library._index, "add", dying)
        with pytest.raises(KeyboardInterrupt):
            opened.call("search", {"query": "x"}, context)
        opened.close()
        again = device(tmp_path, index=str(tmp_path / f"index{dies_at}"))
        for topic in TOPICS:
            (one,) = again.call("search", {"query": f"{topic} cost", "count": 1}, context).value["results"]
            assert one["path"] == f"/papers/{topic}.md"
        again.close()


def test_two_programs_share_an_index(papers: Path, tmp_path: Path) -> None:
    context = Context(pid=1, workspace=tmp_path, call="c")
    one, other = device(tmp_path), device(tmp_path)
    for opened in (one, other):
        opened.call("search", {"query": "x"}, context)
    (papers / "new.txt").write_text("Here is a walrus.")
    for opened in (one, other):
        (found,) = opened.call("search", {"query": "walrus", "count": 1}, context).value["results"]
        assert found["path"] == "/papers/new.txt"


def test_a_scope_hides_the_rest(call: Call) -> None:
    assert call(query="windmills cost", scope=("/papers/deep/*",)).value["files"] == 1
    found = call(query="windmills cost", count=20, scope=("/papers/wind*",)).value["results"]
    assert {one["path"] for one in found} == {"/papers/windmills.md"}
    assert call(query="windmills", scope=("/elsewhere/*",)).text == "There are no files that can be read."
    with pytest.raises(DeviceError, match="outside"):
        call("check", path="/papers/looms.md", quote="x", scope=("/papers/deep/*",))
    # What one process may not see is still there for another.
    assert call(query="windmills cost", count=1).value["results"][0]["path"] == "/papers/windmills.md"
    assert call(query="turnover", folder="/papers/deep", count=20).value["files"] == 1


def test_what_cannot_be_read_is_told_and_tried_again(call: Call, papers: Path) -> None:
    (papers / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    wrong = call(query="x").value["wrong"]
    assert list(wrong) == ["/papers/broken.pdf"]
    assert "cannot be read" in wrong["/papers/broken.pdf"]
    (papers / "broken.pdf").write_bytes(a_pdf("Now it says pelican"))
    assert call(query="pelican", count=1).value["results"][0]["path"] == "/papers/broken.pdf"
    assert call(query="x").value["wrong"] == {}


def test_reading_stops_when_time_is_up_and_goes_on(
    papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = device(tmp_path)
    context = Context(pid=1, workspace=tmp_path, call="c")
    monkeypatch.setattr(search, "_SECONDS", -1.0)
    first = opened.call("search", {"query": "looms"}, context)
    assert first.value["unread"] == 13
    assert "13 files are not read yet" in first.text
    monkeypatch.setattr(search, "_SECONDS", 60.0)
    assert opened.call("search", {"query": "looms"}, context).value["unread"] == 0


def test_hidden_files_and_other_kinds_are_left_alone(call: Call, papers: Path) -> None:
    (papers / ".secret.txt").write_text("walrus")
    (papers / ".git").mkdir()
    (papers / ".git" / "a.txt").write_text("walrus")
    (papers / "a.exe").write_text("walrus")
    os.mkfifo(papers / "pipe.txt")
    assert "walrus" not in json.dumps(
        [one["text"] for one in call(query="walrus", count=20).value["results"]]
    )


def test_settings_of_search_are_checked(tmp_path: Path) -> None:
    for wrong in (
        {"folders": {"app": "a"}},  # where apps bring their files
        {"folders": ["x"]},
        {"folders": {"a/b": "x"}},
        {"meaning": 2},
        {"embedder": "no"},
        {"folder": {}},
    ):
        with pytest.raises(UsageError, match=r"devices.toml"):
            search.open(wrong)
    with pytest.raises(DeviceError, match="No folders"):
        search.open({}).call("search", {"query": "x"}, Context(pid=1, workspace=tmp_path, call="c"))


def test_many_random_changes_leave_the_index_right(papers: Path, tmp_path: Path) -> None:
    """The index after many changes finds what a new index finds."""
    rng, context = random.Random(2), Context(pid=1, workspace=tmp_path, call="c")
    opened = device(tmp_path)
    for step in range(25):
        path = papers / f"f{rng.randrange(6)}.txt"
        if path.exists() and rng.random() < 0.3:
            path.unlink()
        else:
            path.write_text(
                "\n\n".join(" ".join(rng.choices(TOPICS, k=40)) for _ in range(rng.randint(1, 4)))
            )
            os.utime(path, ns=(step, step))
        opened.call("search", {"query": "x", "count": 1}, context)
    fresh = device(tmp_path, index=str(tmp_path / "fresh"))
    for topic in TOPICS:
        ways = [
            way.call("search", {"query": f"{topic} x", "count": 20}, context).value["results"]
            for way in (opened, fresh)
        ]  # fmt: skip
        scores = [{(one["path"], *one["offsets"]): one["score"] for one in found} for found in ways]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_what_an_app_brings_is_found_by_its_processes_alone(call: Call, papers: Path, tmp_path: Path) -> None:
    app = tmp_path / "app"
    (app / "handbook").mkdir(parents=True)
    (app / "handbook" / "boats.md").write_text("The ferry sails at seven; windmills cost it nothing.")
    (app / "tests.md").write_text("The ferry is not for processes.")
    opened = device(tmp_path)

    def asked(function: str, scope: tuple[str, ...] = (), **arguments: Any) -> Returned:
        own = {"app": "harbour", "folder": app, "files": ("handbook",), "scope": scope}
        found: Returned = opened.call(
            function, arguments, Context(pid=1, workspace=tmp_path, call="c", **own)
        )
        return found

    found = asked("search", query="When does the ferry sail?", folder="/app")
    assert (
        found.text
        == "[1] /app/handbook/boats.md, line 1\nThe ferry sails at seven; windmills cost it nothing."
    )
    assert found.label == Label(Ring.DEVELOPER, None, frozenset({"harbour"}))  # as its instructions are
    quoted = asked("check", path="/app/handbook/boats.md", quote="sails at seven")
    assert (quoted.value["found"], quoted.label) == (True, found.label)
    both = asked("search", query="What do the windmills cost?", count=20)
    assert {"/app/handbook/boats.md", "/papers/windmills.md"} <= {
        one["path"] for one in both.value["results"]
    }
    assert both.label is not None
    assert (both.label.ring, both.label.readers) == (Ring.TOOL, {"user"})
    assert {"harbour", "file:/papers/windmills.md"} <= both.label.sources
    assert asked("search", query="ferry", scope=("/papers/*",)).value["files"] == 13
    for path in ("/app/tests.md", "/app/../papers/looms.md", "/app"):
        with pytest.raises(DeviceError):
            asked("check", path=path, quote="The ferry")
    with pytest.raises(DeviceError, match="There is no folder /app"):
        call(query="ferry", folder="/app")
    assert "ferry" not in json.dumps(call(query="ferry sails at seven", count=20).value)
