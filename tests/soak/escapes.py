"""Try to break out of the terminal's sandbox in every way we know; print a table. Some minutes; ends 1 on an
escape.

Every attempt is made without the sandbox first: what does not succeed there (the system itself denies it to
this user) proves nothing and is marked so. As root, everything is tried twice: as root, and as an ordinary
user.

    python tests/soak/escapes.py [--only WORD] [--markdown FILE]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests/devices")]

from escape_attempts import ALL, Attempt  # noqa: E402
from escape_world import SECRET, Outcome, world  # noqa: E402

_NOBODY = 65534


def battery(attempts: Sequence[Attempt], programs: Path) -> dict[str, Outcome]:
    """Return what became of each attempt, as the user that runs this."""
    found = {}
    with world(programs) as here:
        for group in dict.fromkeys(attempt.group for attempt in attempts):
            for name, outcome in here.outcomes([a for a in attempts if a.group == group]).items():
                found[f"{group}: {name}"] = outcome
                control = "succeeds" if outcome.control else "fails"
                said = f"{group}: {name}: outside it {control}; inside {outcome.inside} ({outcome.how})"
                print(said, file=sys.stderr, flush=True)
    return found


def as_user(only: str, programs: Path) -> dict[str, Outcome] | None:
    """Return what became of them for an ordinary user; None where no Python is there that one may run."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        command = [python, __file__, "--only", only, "--json", "--programs", str(programs)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": "/nonexistent"}
        probe = [python, "-c", "import sandlock, sys; sys.exit(sys.version_info < (3, 11))"]
        who = {"user": _NOBODY, "group": _NOBODY, "extra_groups": [], "cwd": "/"}
        try:
            subprocess.run(probe, env=environment, check=True, capture_output=True, **who)  # type: ignore[call-overload]
        except (OSError, subprocess.CalledProcessError):
            continue
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, **who)  # type: ignore[call-overload]
        return {name: Outcome(**outcome) for name, outcome in json.loads(done.stdout).items()}
    return None


def cell(outcome: Outcome | None) -> str:
    """Return what the table says of one outcome."""
    if outcome is None:
        return "not tried"
    if outcome.inside == "blocked" and not outcome.control:
        return "not possible anyway"
    return outcome.inside


def table(found: Mapping[str, Mapping[str, Outcome]]) -> str:
    """Return a Markdown table: attempts, and who tried."""
    lines = [f"| attempt | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for attempt in ALL:
        name = f"{attempt.group}: {attempt.name}"
        if any(name in outcomes for outcomes in found.values()):
            lines.append(
                f"| {name} | " + " | ".join(cell(outcomes.get(name)) for outcomes in found.values()) + " |"
            )
    return "\n".join(lines)


def main() -> int:
    """Run it; return 1 when something got out."""
    if "TWOFOLD_TEST_KEY" not in os.environ:  # a secret that is there from the start
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "TWOFOLD_TEST_KEY": SECRET})
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default="")
    options.add_argument("--markdown", type=Path)
    options.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--programs", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    attempts = [a for a in ALL if chosen.only in f"{a.group}: {a.name}"]
    if chosen.json:
        print(
            json.dumps({name: vars(outcome) for name, outcome in battery(attempts, chosen.programs).items()})
        )
        return 0
    with tempfile.TemporaryDirectory(prefix="twofold-programs-") as place:
        programs = Path(place)
        programs.chmod(0o755)
        if os.getuid() == 0:
            shutil.copy("/usr/bin/id", programs / "setuid_id")
            (programs / "setuid_id").chmod(0o4755)
        found = {"as root" if os.getuid() == 0 else "as a user": battery(attempts, programs)}
        if os.getuid() == 0 and (ordinary := as_user(chosen.only, programs)) is not None:
            found["as a user"] = ordinary
    print(table(found))
    bad = [
        f"{who}: {name}: {outcome.inside} ({outcome.how})"
        for who, outcomes in found.items()
        for name, outcome in outcomes.items()
        if outcome.inside != "blocked"
    ]
    for who, outcomes in found.items():
        proven = sum(outcome.control and outcome.inside == "blocked" for outcome in outcomes.values())
        print(
            f"\n{who}: {proven} of {len(outcomes)} attempts succeed outside and are blocked in the sandbox."
        )
    print("\n".join(["", "NOT BLOCKED:", *bad]) if bad else "\nNothing got out.")
    if chosen.markdown:
        chosen.markdown.write_text(table(found) + "\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
