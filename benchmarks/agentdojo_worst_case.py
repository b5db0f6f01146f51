"""AgentDojo v1.2.2 in the worst case: what gets out of a kernel that obeys every injected instruction, and
what still works. agentdojo_worker.py says what is run; about a quarter of an hour of one core.

    python benchmarks/agentdojo_worst_case.py        # --help: its options

AgentDojo (Debenedetti et al. 2024, arXiv:2406.13352) needs packages that twofold does not want, so it runs in
an environment of its own, `.venv-bench/dojo`, which `make bench` makes (benchmarks/rivals.sh).
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Become the worker, in the environment that has AgentDojo; exit code 2 where there is none."""
    python = ROOT / os.environ.get("BENCH_VENV", ".venv-bench") / "dojo/bin/python"
    if not python.exists():
        print("AgentDojo is not installed here: sh benchmarks/rivals.sh makes .venv-bench/dojo.")
        return 2
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    os.execve(python, [str(python), str(ROOT / "benchmarks/agentdojo_worker.py"), *sys.argv[1:]], environment)


if __name__ == "__main__":
    raise SystemExit(main())
