"""Tests of apps: they run on the real kernel, say what does not hold, and reach nothing outside."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from twofold.apps import manifest, shelf, trial
from twofold.base.errors import BadFileError


@pytest.mark.parametrize("name", shelf.built_in())
def test_the_built_in_apps_pass_their_tests(name: str) -> None:
    outcomes = trial.run(shelf.find(name))
    assert outcomes
    for outcome in outcomes:
        assert outcome.passed, outcome


def outcome(folder: Path, old: str = "", new: str = "", more: str = "") -> trial.Outcome:
    path = folder / "tests" / "sum.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new) + more)
    (one,) = trial.run(manifest.read(folder))
    return one


def test_the_starter_passes(make) -> None:
    assert outcome(make()).passed


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("is 84.", "is 85.", "does not match"),
        ("[expect]", "[expect]\nnot_answer = ['12']", "The answer matches"),
        (
            'expression = "12 * 7" } }]\n\n[[mind]]',
            'expression = "12 + 7" } }]\n\n[[mind]]',
            "was not called",
        ),
        ("[expect]", "[expect]\ndenied = ['calculator']", "Denied was nothing, and not calculator"),
        ("[expect]", "[expect]\napprovals = 1", "asked 0 times, and not 1"),
        ("[expect]", "[expect.files]\n'a.md' = 'x'\n[expect]", "There is no file a.md"),
        ('name = "calculator"', 'name = "browser_read"', "Denied was browser_read, and not nothing"),
        ('[[mind]]\ntext = "12 times 7 is 84."', "", "no more replies"),
    ],
)
def test_what_does_not_hold_is_told(make, old: str, new: str, told: str) -> None:
    failures = outcome(make(), old, new).failures
    assert any(told in failure for failure in failures), failures


def test_without_a_script_a_model_is_needed(make) -> None:
    folder = make()
    text = (folder / "tests" / "sum.toml").read_text()
    begin, end = text.index("[[mind]]"), text.index("[expect]")
    (folder / "tests" / "sum.toml").write_text(text[:begin] + text[end:])
    (one,) = trial.run(manifest.read(folder))
    assert "--model" in one.failures[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("about =", "abuot ="),
        ("says =", "#"),
        ("[expect]", "[expect"),
        (r"\b84\b", "("),
        ('says = "', 'says = 1 # "'),
    ],
)
def test_a_test_that_cannot_be_read_is_refused(make, old: str, new: str) -> None:
    with pytest.raises(BadFileError, match=r"sum\.toml"):
        outcome(make(), old, new)


BROWSE = """
[[capabilities]]
device = "browser"
"""
READS = """
about = "A page is read."
says = "Read it."
[[mind]]
calls = [{ name = "browser_read", arguments = { url = "http://127.0.0.1:%d/" } }]
[[mind]]
text = "${v1}"
[expect]
answer = ['A page\\.']
"""


@pytest.fixture
def door() -> Iterator[tuple[int, list[str]]]:
    """Return the port of a server, and what it is asked."""
    import http.server
    import threading

    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"A page.")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_test_reaches_nothing_outside(make, door: tuple[int, list[str]]) -> None:
    folder = make(more=BROWSE)
    (folder / "tests" / "sum.toml").write_text(READS % door[0])
    (one,) = trial.run(manifest.read(folder))
    assert any("reaches out of the test" in failure for failure in one.failures)
    stands = '\n[[returns]]\ncall = "browser_read"\ntext = "A page."\n'
    assert outcome(folder, more=stands).passed
    assert door[1] == []


def test_a_process_searches_the_files_that_its_app_brings(make) -> None:
    more = '[[capabilities]]\ndevice = "search"\nscope = ["/app", "/app/*"]\nwhy = "looks it up"\n'
    folder = make(more=more)
    (folder / "app.toml").write_text('files = ["handbook"]\n' + (folder / "app.toml").read_text())
    (folder / "handbook").mkdir()
    (folder / "handbook" / "boats.md").write_text("The ferry sails at seven.")
    (folder / "tests" / "ferry.toml").write_text(
        'about = "What it is asked stands in its handbook."\nsays = "When does the ferry sail?"\n'
        '[[mind]]\ncalls = [{ name = "search", arguments = { query = "ferry sails" } }]\n'
        '[[mind]]\ncalls = [{ name = "spawn", arguments = { task = "When?", devices = ["search"] } }]\n'
        '[[mind]]\ncalls = [{ name = "search", arguments = { query = "ferry sails", folder = "/app" } }]\n'
        '[[mind]]\ntext = "${v1}"\n[[mind]]\ntext = "At seven, says ${v2}."\n'
        "[expect]\nanswer = ['boats\\.md, line 1\\nThe ferry sails at seven']\n"
        'calls = [{ name = "search" }, { name = "spawn" }]\n'
    )
    (folder / "app.toml").write_text(
        (folder / "app.toml").read_text() + '[[capabilities]]\ndevice = "spawn"\nwhy = "asks a child"\n'
    )
    assert [(one.name, one.failures) for one in trial.run(manifest.read(folder))] == [
        ("ferry", ()),
        ("sum", ()),
    ]
