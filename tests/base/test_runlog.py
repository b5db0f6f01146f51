"""The run log: same record on file and console, torn tails dropped, resumed steps kept once."""

import json
from pathlib import Path

import pytest

from twofold.base import runlog
from twofold.base.errors import BadFileError


def test_file_and_console_get_the_same_record(tmp_path: Path) -> None:
    lines: list[str] = []
    with runlog.RunLog(tmp_path / "metrics.jsonl", console=lines.append) as log:
        log.write(step=1, loss_nats=3.14159, tokens_per_s=18400, sample="a cat")
    assert lines == ["step 1 · loss_nats 3.142 · tokens_per_s 18,400 · sample a cat"]
    assert runlog.read(log.path) == [
        {"step": 1, "loss_nats": 3.14159, "tokens_per_s": 18400, "sample": "a cat"}
    ]


def test_each_line_is_on_disk_at_once(tmp_path: Path) -> None:
    log = runlog.RunLog(tmp_path / "metrics.jsonl")
    log.write(step=1, loss_nats=1.5)
    assert json.loads(log.path.read_text()) == {"step": 1, "loss_nats": 1.5}
    log.close()


def test_resume_keeps_steps_once_and_drops_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with runlog.RunLog(path) as log:
        log.write(parameters=7)
        for step in (1, 2, 3):
            log.write(step=step, loss_nats=step / 10)
    with open(path, "a") as file:
        file.write('{"step": 4, "loss')
    with runlog.RunLog(path, resume_step=2) as log:
        log.write(step=3, loss_nats=0.3)
    assert runlog.read(path) == [
        {"parameters": 7},
        {"step": 1, "loss_nats": 0.1},
        {"step": 2, "loss_nats": 0.2},
        {"step": 3, "loss_nats": 0.3},
    ]


def test_a_new_run_starts_an_empty_log(tmp_path: Path) -> None:
    for _ in range(2):
        with runlog.RunLog(tmp_path / "metrics.jsonl") as log:
            log.write(step=1)
    assert runlog.read(log.path) == [{"step": 1}]


def test_numbers_that_json_has_no_word_for(tmp_path: Path) -> None:
    with runlog.RunLog(tmp_path / "m.jsonl") as log:
        log.write(loss_nats=float("nan"), more=[float("inf"), {"x": 1.0}])
    assert runlog.read(log.path) == [{"loss_nats": None, "more": [None, {"x": 1.0}]}]


def test_foreign_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 1}\nhello\n')
    with pytest.raises(BadFileError, match="line 2: not JSON"):
        runlog.read(path)
    path.write_text("[1]\n")
    with pytest.raises(BadFileError, match="line 1: expected an object"):
        runlog.read(path)
    with pytest.raises(BadFileError, match="Cannot read"):
        runlog.read(tmp_path / "none.jsonl")
