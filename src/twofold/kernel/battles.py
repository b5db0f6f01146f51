"""Battles: two models answered the same prompt, and a person said which answer is better.

Kept in the user's data folder as `arena/battles.jsonl` (base/ledger.py: lines are added, never changed). A
battle says who judged (as labels do), when, what both models answered to which messages, and which files
they were, by their hash: a name can be another model tomorrow.

    {"battle", "time", "who", "messages", "answers": {"a", "b"}, "models": {"a", "b"}, "verdict"}

`models`: {name, sha256} of each side. `verdict`: "a", "b", "tie", or "bad" (neither is any good).
`arena/fought.jsonl` holds each battle from when both answers were whole, without who and verdict: those that
are not in the other file wait for one.
Not covered: taking a verdict back.
"""

import collections
import datetime
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.base import home, ledger
from twofold.base.errors import BadFileError, UsageError
from twofold.base.names import unknown
from twofold.measure import arena, style

SIDES = ("a", "b")


class Battles:
    """The battles of this user."""

    def __init__(self, folder: Path | None = None) -> None:
        """Open the folder; the user's own by default. Nothing is written before the first battle."""
        self.folder = home.data_folder() / "arena" if folder is None else folder
        self.path, self._fought = self.folder / "battles.jsonl", self.folder / "fought.jsonl"

    def fought(
        self,
        messages: Sequence[Mapping[str, Any]],
        answers: Mapping[str, str],
        models: Mapping[str, Mapping[str, str]],
        battle: str,
    ) -> dict[str, Any]:
        """Keep a battle that waits for its verdict, and return it as `waiting` does."""
        record = _record(messages, answers, models, battle)
        ledger.add(self._fought, record)
        return record

    def waiting(self, most: int) -> dict[str, dict[str, Any]]:
        """Return by their ids the battles without a verdict, the newest last, `most` at most."""
        judged = {record["battle"] for record in self.all()}
        found = {}
        for number, record in ledger.read(self._fought):
            try:
                _parts({**record, "verdict": ""})
                if record["battle"] not in judged:
                    found[str(record["battle"])] = record
            except (KeyError, TypeError) as error:
                raise BadFileError(f"{self._fought}, line {number}: no battle ({error}).") from error
        return dict(list(found.items())[-most:])

    def add(
        self,
        messages: Sequence[Mapping[str, Any]],
        answers: Mapping[str, str],
        models: Mapping[str, Mapping[str, str]],
        verdict: str,
        *,
        who: str | None = None,
        battle: str | None = None,
    ) -> str:
        """Keep a battle; return its id. Raises UsageError for a wrong verdict.

        `answers` and `models`: by side. `who`: a label such as "desk-1"; by default this user of the machine.
        """
        if verdict not in arena.VERDICTS:
            raise UsageError(unknown("verdict", verdict, arena.VERDICTS))
        record = _record(messages, answers, models, battle or secrets.token_hex(6))
        ledger.add(self.path, {**record, "who": who or home.user(), "verdict": verdict})
        return str(record["battle"])

    def all(self) -> list[dict[str, Any]]:
        """Return the battles in order. Raises BadFileError for a line that is none."""
        found = []
        for number, record in ledger.read(self.path):
            try:
                _parts(record)
            except (KeyError, TypeError) as error:
                raise BadFileError(f"{self.path}, line {number}: no battle ({error}).") from error
            found.append(record)
        return found

    def rated(self, *, style_control: bool = False, anchor: str | None = None) -> arena.Table:
        """Return the ratings of the models that fought. Raises UsageError as arena.rate does.

        Models of one name but different files are different players, and the hash stands in their names. A
        model against itself says nothing and is left out.
        """
        parts = [_parts(record) for record in self.all()]
        files: dict[str, set[str]] = collections.defaultdict(set)
        for _, sides, _ in parts:
            for name, digest in sides:
                files[name].add(digest)

        def player(side: tuple[str, str]) -> str:
            name, digest = side
            return name if len(files[name]) == 1 else f"{name} ({digest[:8] or 'no file'})"

        fought = [
            arena.Battle(player(sides[0]), player(sides[1]), verdict, style.difference(*answers))
            for answers, sides, verdict in parts if sides[0] != sides[1]
        ]  # fmt: skip
        return arena.rate(fought, style=style_control, anchor=anchor)


def _record(
    messages: Sequence[Mapping[str, Any]],
    answers: Mapping[str, str],
    models: Mapping[str, Mapping[str, str]],
    battle: str,
) -> dict[str, Any]:
    """Return what is known of a battle before its verdict."""
    return {
        "battle": battle, "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "messages": [dict(message) for message in messages],
        "answers": {side: answers[side] for side in SIDES},
        "models": {side: dict(models[side]) for side in SIDES},
    }  # fmt: skip


def _parts(record: dict[str, Any]) -> tuple[tuple[str, str], list[tuple[str, str]], str]:
    """Return both answers, both models as (name, sha256), and the verdict."""
    answers = str(record["answers"]["a"]), str(record["answers"]["b"])
    sides = [(str(record["models"][s]["name"]), str(record["models"][s].get("sha256", ""))) for s in SIDES]
    return answers, sides, str(record["verdict"])
