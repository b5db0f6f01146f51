"""The terminal: commands on a draft, the list of changes, commit and undo; and quick attempts to get out."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from escape_attempts import ALL, Attempt
from escape_world import World, world

from twofold.devices import _draft, _sandbox, terminal
from twofold.kernel.device import Context, DeviceError, Returned

pytestmark = pytest.mark.skipif(bool(_sandbox.refusal()), reason=_sandbox.refusal() or "")

Call = Callable[..., Returned]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return the folder that the terminal works on: two files and a folder."""
    own = tmp_path / "own"
    (own / "d").mkdir(parents=True)
    (own / "a.txt").write_text("one\ntwo\n")
    (own / "d/b.txt").write_text("b")
    return own


@pytest.fixture
def asked() -> list[str]:
    """Return the questions that were put to the user."""
    return []


@pytest.fixture
def call(own: Path, asked: list[str]) -> Call:
    device = terminal.open({"kept": own.parent / "kept", "seconds": 30})

    def answer(question: str, options: Any) -> str:
        asked.append(question)
        return str(options[0])

    def calling(function: str, user: Callable[[str, Any], str] = answer, **arguments: Any) -> Returned:
        return device.call(function, arguments, Context(pid=1, workspace=own, call="c1", ask_user=user))

    return calling


def _files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


BEFORE = {"a.txt": "one\ntwo\n", "d/b.txt": "b"}


def test_terminal_shows_changes_makes_them_and_takes_them_back(
    call: Call, own: Path, asked: list[str]
) -> None:
    ran = call(
        "run", command="sed -i s/two/zwei/ a.txt; rm -r d; echo new > n.sh; chmod +x n.sh; pwd; exit 3"
    )
    assert ran.value["exit"] == 3
    assert ran.value["output"] == f"{own}\n"
    assert ran.value["changes"] == [
        "changed a.txt (8 -> 9 bytes)",
        "deleted d (folder)",
        "deleted d/b.txt (1 bytes)",
        "added n.sh (4 bytes, can be run as a program)",
    ]
    assert _files(own) == BEFORE
    call("run", command="cat a.txt; echo more >> n.sh")
    shown = call("changes")
    assert "-two\n+zwei" in str(shown.text)
    with pytest.raises(DeviceError, match=r"not .* any more"):
        call("commit", draft=ran.value["draft"])
    made = call("commit", draft=shown.value["draft"])
    assert _files(own) == {"a.txt": "one\nzwei\n", "n.sh": "new\nmore\n"}
    assert os.access(own / "n.sh", os.X_OK)
    assert str(shown.value["differences"]) in asked[0]
    assert made.files == ("a.txt", "n.sh")
    call("undo", change=made.value["change"])
    assert _files(own) == BEFORE


def test_terminal_what_is_dropped_or_not_agreed_to_leaves_nothing(call: Call, own: Path) -> None:
    call("run", command="echo x > x")
    call("drop")
    assert call("changes").value == {"changes": []}
    call("run", command="echo x > x")
    with pytest.raises(DeviceError, match="did not want"):
        call("commit", user=lambda *_: "drop")
    assert _files(own) == BEFORE
    assert not list((own.parent / "kept/drafts").iterdir())


def test_terminal_a_yes_is_good_for_what_was_shown_only(call: Call, own: Path) -> None:
    """The answer comes late: meanwhile the draft became another one."""
    first = call("run", command="echo harmless > x").value["draft"]
    call("run", command="echo harmful > x")
    with pytest.raises(DeviceError, match="has not agreed"):
        call("commit", user=lambda *_: f"commit {first}")
    assert _files(own) == BEFORE


def test_terminal_a_file_changed_meanwhile_is_not_overwritten(call: Call, own: Path) -> None:
    call("run", command="echo mine > a.txt")
    (own / "a.txt").write_text("the user's")
    with pytest.raises(DeviceError, match=r"a\.txt has been changed meanwhile"):
        call("commit")
    with pytest.raises(DeviceError, match=r"a\.txt has been changed in the folder and in the draft"):
        call("run", command="true")
    assert (own / "a.txt").read_text() == "the user's"
    call("drop")
    assert call("run", command="cat a.txt").value["output"] == "the user's"


def test_terminal_other_changes_of_the_folder_are_seen_beside_the_draft(call: Call, own: Path) -> None:
    call("run", command="echo mine > n")
    (own / "a.txt").write_text("new\n")
    assert call("run", command="cat a.txt n").value["output"] == "new\nmine\n"


def test_terminal_what_would_trick_the_user_is_not_committed(call: Call, own: Path) -> None:
    call("run", command="mkdir x; ln -s ../../b x/l; ln -s a.txt fine")
    with pytest.raises(DeviceError, match=r"x/l is a link to '\.\./\.\./b', outside of the folder"):
        call("commit")
    with pytest.raises(DeviceError, match="nobody could be shown"):
        call("run", command="rm x/l; printf x > $'a\\u202eb'")
    assert call("run", command="ls -A x").value["output"] == "l\n"
    assert _files(own) == BEFORE


def test_terminal_a_command_that_is_ended_changes_nothing_even_in_the_draft(call: Call, own: Path) -> None:
    call("run", command="echo first > n")
    with pytest.raises(DeviceError, match=r"more than 1 s\. It changed nothing\. Its output:\nhello"):
        call("run", command="echo second > n; echo hello; sleep 20", seconds=1)
    assert call("run", command="cat n").value["output"] == "first\n"


def test_terminal_a_crash_while_a_command_runs_leaves_the_draft_as_it_was(
    call: Call, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(self: _draft.Draft) -> None:
        raise Crash

    call("run", command="echo first > n")
    with monkeypatch.context() as patch:
        patch.setattr(_draft.Draft, "keep", crash)
        patch.setattr(_draft.Draft, "back", crash)
        with pytest.raises(Crash):
            call("run", command="echo second > n")
    assert call("run", command="cat n").value["output"] == "first\n"


_KILLED = """
import sys
from pathlib import Path
from twofold.devices import _sandbox
_sandbox._prove = lambda: None
print("ready", flush=True)
_sandbox.run("sleep 4217.5 & sleep 4217.5", folder=Path(sys.argv[1]), scratch=Path(sys.argv[2]))
"""


def _sleepers() -> int:
    count = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            count += entry.name.isdigit() and (entry / "cmdline").read_bytes() == b"sleep\x004217.5\0"
    return count


def test_terminal_a_command_ends_with_twofold_even_after_kill_9(own: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _KILLED, str(own), str(own.parent / "scratch")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as running:
        while _sleepers() < 2:
            assert running.poll() is None
            time.sleep(0.05)
        running.kill()
    end = time.monotonic() + 30
    while _sleepers() and time.monotonic() < end:
        time.sleep(0.05)
    assert _sleepers() == 0


def test_terminal_a_command_can_be_cancelled(own: Path) -> None:
    device = terminal.open({"kept": own.parent / "kept"})
    context = Context(pid=1, workspace=own, call="c1", cancelled=lambda: _sleepers() > 0)
    with pytest.raises(DeviceError, match="it was cancelled"):
        device.call("run", {"command": "echo x > x; sleep 4217.5"}, context)
    assert _sleepers() == 0
    assert device.call("changes", {}, context).value == {"changes": []}


def test_terminal_long_output_is_cut_in_the_middle(own: Path) -> None:
    device = terminal.open({"kept": own.parent / "kept", "output_bytes": 1000})
    context = Context(pid=1, workspace=own, call="c1")
    output = device.call("run", {"command": "echo start; seq 20000; echo end"}, context).value["output"]
    assert output.startswith("start\n1\n")
    assert output.endswith("20000\nend\n")
    assert "bytes left out" in output
    assert len(output) < 1200


def test_terminal_has_what_programs_expect(call: Call) -> None:
    command = (
        "whoami; echo $HOME; cat <(echo a); echo b >/dev/stderr; cd /tmp; echo c >c; cat c; ls /proc | wc -l"
    )
    output = call("run", command=command).value["output"].splitlines()
    assert output[:5] == ["user", "/user", "a", "b", "c"]
    assert int(output[5]) < 12


def test_terminal_python_is_the_one_that_runs_twofold(call: Call) -> None:
    ran = call("run", command="python -c 'import numpy, sys; print(sys.prefix, numpy.arange(4).sum())'")
    assert ran.value["output"] == f"{sys.prefix} 6\n"


def test_terminal_refuses_where_there_is_no_sandbox(
    call: Call, monkeypatch: pytest.MonkeyPatch, own: Path
) -> None:
    _sandbox._prove.cache_clear()
    monkeypatch.setattr(_sandbox, "refusal", lambda: "There is no sandbox.")
    try:
        with pytest.raises(DeviceError, match=r"There is no sandbox\."):
            call("run", command="true")
    finally:
        _sandbox._prove.cache_clear()
    assert not (own.parent / "kept/drafts/1/now").exists()


@pytest.mark.parametrize("hole", ["r", "k", "n"])
def test_terminal_refuses_where_the_sandbox_has_a_hole(
    call: Call, monkeypatch: pytest.MonkeyPatch, hole: str
) -> None:
    """The trial attack finds a wall that does not stand, as its letter comes out."""
    _sandbox._prove.cache_clear()
    monkeypatch.setattr(_sandbox, "_ATTACK", f"echo {hole}\n{_sandbox._ATTACK}")
    try:
        with pytest.raises(DeviceError, match="does not hold"):
            call("run", command="true")
    finally:
        _sandbox._prove.cache_clear()


@pytest.fixture(scope="module")
def outside() -> Iterator[World]:
    with world() as made:
        yield made


QUICK = [attempt for attempt in ALL if attempt.quick]


@pytest.mark.parametrize("attempt", [a for a in QUICK if a.alone], ids=lambda a: a.name)
def test_terminal_bombs_do_not_go_off_and_no_daemon_stays(outside: World, attempt: Attempt) -> None:
    inside, how = outside.inside(attempt)
    assert inside == "blocked", how


def test_terminal_nothing_gets_out(outside: World) -> None:
    attempts = [attempt for attempt in QUICK if not attempt.alone]
    found = outside.inside_at_once(attempts)
    assert set(found) == {attempt.name for attempt in attempts}
    assert {name: how for name, how in found.items() if not how.startswith("blocked")} == {}
