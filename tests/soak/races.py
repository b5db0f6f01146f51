"""run.c under ThreadSanitizer: no two threads may touch the same memory without an order between them.

    python tests/soak/races.py

Compiles run.c with -fsanitize=thread, as the portable build and for this very processor, and lets four
threads read prompts of several pages and of several batches, write, and hold a conversation. Some seconds.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twofold.run import box, library

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "model.gguf"
LONG = "The cat sat on the wall and looked at the dog. " * 40
RUNS = (  # model, arguments, standard input
    (GOLDEN, ("-p", "The cat sat on a", "-n", "60"), ""),
    (GOLDEN, ("-n", "30"), "Good morning.\nWho are you?\nWhat is 3 + 4?\n"),
    (box.path(), ("-p", LONG[:1500], "-n", "20"), ""),
    (box.path(), ("-n", "30"), "Hello!\nTell me a story about a cat.\n"),
    (box.path(), ("-n", "12"), f"Hello!\n{LONG}\n"),  # by then each thread keeps its own tokens
)


def main() -> None:
    """Compile, run, and exit 1 when anything was found."""
    compiler = shutil.which("clang") or shutil.which("gcc")
    if not compiler:
        sys.exit("races: there is neither clang nor gcc")
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    with tempfile.TemporaryDirectory(prefix="twofold-races-") as folder:
        for flags in ((), ("-march=native",)):
            program = Path(folder) / "run"
            command = [compiler, "-g", "-O1", "-fsanitize=thread", *flags, str(library.source())]
            subprocess.run([*command, "-o", str(program), "-lm", "-lpthread"], check=True)
            for model, arguments, stdin in RUNS:
                command = [str(program), str(model), "-t", "4", "--temp", "0", *arguments]
                done = subprocess.run(
                    command, input=stdin, capture_output=True, text=True, env=environment, check=False
                )
                if done.returncode or "ThreadSanitizer" in done.stderr:
                    sys.exit(f"races: {' '.join(command[1:4])}: {done.stderr[-3000:]}")
                print(f"  {' '.join(flags) or 'portable'}: {model.parent.name} {arguments[0]} clean")
    print("no races")


if __name__ == "__main__":
    main()
