"""The journal: a chain that tells what was changed, forks by reference, leases that die with their owner."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from twofold.base.errors import BadFileError, UsageError
from twofold.kernel.journal import Journal, Moved


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path)
    yield found
    found.close()


def filled(journal: Journal) -> tuple[int, int]:
    """Return a process of three events, and a fork of it after the second."""
    pid = journal.create("spawned", {"n": 1}).pid
    for number in (2, 3):
        journal.append(pid, "told", {"n": number})
    fork = journal.fork(pid, 2).pid
    journal.append(fork, "told", {"n": "other"})
    return pid, fork


def test_events_come_back_in_order_and_a_fork_shares_them(journal: Journal) -> None:
    pid, fork = filled(journal)
    assert [event.body["n"] for event in journal.events(pid)] == [1, 2, 3]
    shared = journal.events(fork)
    assert [event.seq for event in shared] == [1, 2, 3, 4]
    assert [event.body.get("n") for event in shared] == [1, 2, None, "other"]
    assert [event.seq for event in journal.events(fork, since=1, until=3)] == [2, 3]
    again = journal.fork(fork, 1).pid
    assert [event.body.get("n") for event in journal.events(again)] == [1, None]
    rows = sqlite3.connect(journal.path).execute("SELECT count(*) FROM events").fetchone()[0]
    assert rows == 3 + 2 + 1
    assert journal.verify() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE events SET body = '{\"n\":7}' WHERE pid = 1 AND seq = 2", "event 2 is not as it was"),
        ("UPDATE events SET at = at + 1 WHERE pid = 1 AND seq = 2", "event 2 is not as it was"),
        ("UPDATE events SET kind = 'said' WHERE pid = 1 AND seq = 3", "event 3 is not as it was"),
        ("DELETE FROM events WHERE pid = 1 AND seq = 2", "event 2 is missing"),
        ("DELETE FROM events WHERE pid = 1 AND seq = 3", "what followed event 2 is missing"),
        (
            "UPDATE events SET seq = -seq WHERE pid = 1 AND seq > 1; "
            "UPDATE events SET seq = 5 + seq WHERE seq < 0",
            "event 2 is not as it was",
        ),
        ("UPDATE events SET pid = 9 WHERE pid = 1 AND seq = 3", "what followed event 2 is missing"),
        ("DELETE FROM processes WHERE pid = 2", "Process 2 is missing"),
        ("UPDATE processes SET at = 1 WHERE pid = 2", "its end is not the one that was written"),
        (
            "DELETE FROM events WHERE pid = 1 AND seq = 3; UPDATE processes SET seq = 2, "
            "hash = (SELECT hash FROM events WHERE pid = 1 AND seq = 2) WHERE pid = 1",
            "its end is not the one that was written",
        ),
        (
            "UPDATE processes SET at = 1 WHERE pid = 0; DELETE FROM processes WHERE pid = 2",
            "Process 0: its end",
        ),
    ],
)
def test_whatever_is_changed_is_found(journal: Journal, change: str, says: str) -> None:
    filled(journal)
    with sqlite3.connect(journal.path) as database:
        database.executescript(change)
    wrong = journal.verify()
    assert any(says in sentence for sentence in wrong), wrong


def test_a_fork_is_wrong_when_its_past_is(journal: Journal) -> None:
    pid, fork = filled(journal)
    with sqlite3.connect(journal.path) as database:
        database.execute("UPDATE events SET body = '{}' WHERE pid = 1 AND seq = 1")
    assert any(f"Process {pid}" in sentence for sentence in journal.verify(fork))


def test_who_expects_another_end_is_told(journal: Journal) -> None:
    pid, _ = filled(journal)
    with pytest.raises(Moved):
        journal.append(pid, "told", {}, after=2)
    assert journal.append(pid, "told", {}, after=3).seq == 4
    with pytest.raises(UsageError, match="no process 99"):
        journal.append(99, "told", {})
    with pytest.raises(UsageError, match="no event 50"):
        journal.fork(pid, 50)


def test_one_origin_makes_one_process(journal: Journal) -> None:
    first = journal.create("spawned", {}, origin="1 c1")
    assert journal.create("spawned", {"other": True}, origin="1 c1") == first


def test_text_that_is_no_text_is_kept_as_text(journal: Journal) -> None:
    event = journal.create("spawned", {"text": "half \ud83d a pair"})
    assert journal.events(event.pid)[0].body["text"] == "half ? a pair"
    assert journal.verify() == []


def test_a_lease_lives_as_long_as_its_owner(journal: Journal, tmp_path: Path) -> None:
    pid = journal.create("spawned", {}).pid
    other = Journal(tmp_path)
    assert not other.take(pid)
    journal.drop(pid)
    assert other.take(pid)
    assert journal.holder(pid) == other.owner
    other.close()
    assert journal.holder(pid) is None
    program = (
        "import os, signal, sys; from pathlib import Path; from twofold.kernel.journal import Journal;"
        f"j = Journal(Path({str(tmp_path)!r})); print(j.take({pid}), flush=True);"
        "sys.stdin.readline(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout
        assert killed.stdin
        assert killed.stdout.readline() == "True\n"
        assert not journal.take(pid)
        killed.stdin.write("now\n")
        killed.stdin.flush()
        killed.wait()
    assert journal.take(pid)


def test_what_is_no_journal_is_said(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(BadFileError, match="is not a journal"):
        Journal(tmp_path)
