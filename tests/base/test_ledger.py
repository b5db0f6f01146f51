"""A file that only grows: torn lines are passed over, threads take turns, a killed writer loses one line."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from twofold.base import ledger


def test_records_come_back_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "kept.jsonl"
    assert list(ledger.read(path)) == []
    ledger.add(path, {"n": 1, "text": "zwei\nZeilen ü"})
    ledger.add(path, {"n": 2, "half": "\ud800"})  # half a character is replaced, not lost with its line
    assert [(number, record["n"]) for number, record in ledger.read(path)] == [(1, 1), (2, 2)]


def test_a_torn_line_is_passed_over_and_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    ledger.add(path, {"n": 1})
    with open(path, "ab") as file:
        file.write(b'{"n": 2, "te')
    ledger.add(path, {"n": 3})
    assert [record["n"] for _, record in ledger.read(path)] == [1, 3]


def test_threads_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    several = [
        threading.Thread(target=lambda k=k: [ledger.add(path, {"n": k, "x": "y" * 5000}) for _ in range(20)])
        for k in range(4)
    ]
    for one in several:
        one.start()
    for one in several:
        one.join()
    assert sorted(record["n"] for _, record in ledger.read(path)) == sorted([*range(4)] * 20)


def test_what_was_confirmed_outlives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    program = (
        "import sys; from pathlib import Path; from twofold.base import ledger\n"
        "for n in range(10**9): ledger.add(Path(sys.argv[1]), {'n': n}); print(n, flush=True)"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= 20:
            break
    os.kill(writer.pid, signal.SIGKILL)
    confirmed = int((line + writer.stdout.read()).split()[-1])
    writer.wait()
    writer.stdout.close()
    kept = [record["n"] for _, record in ledger.read(path)]
    assert kept[: confirmed + 1] == list(range(confirmed + 1))
    assert len(kept) <= confirmed + 2
    json.dumps(kept)
