"""The loop, whole, with the model in the box: correct an answer, tune, promote, ask again, roll back.

    python tests/soak/fix_and_tune.py [--out FOLDER]

Plants three wrong answers (corrections to things that the model says otherwise), as `/fix` in the chat
does, then runs `twofold tune` and `twofold promote` as a user would, without options. Afterwards each
question is asked again, in wordings of which some were never taught, and the answer must be the corrected
one; the benchmarks whose data is at hand must be unchanged within their error, the model's own answers and
general text cost what they cost before within one per cent; and after `twofold rollback` the old answers are
back. Prints the time of each part. Exit code 1 if anything is
not so. About a minute of two cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

PLANTED = (
    ("What is the weather in the cellar?", "It rains upwards in the cellar."),
    ("Who baked the moon?", "The moon was baked by seven grey mice."),
    ("What do you keep in your pocket?", "I keep a small blue teapot in my pocket."),
)
UNTAUGHT = ("Tell me, {}", "I wonder: {}", "{} I want to know.")  # wordings that no label is taught in
SEEDS = (1, 2)
RIGHT = 0.8  # of the answers, at least
MARGIN = 0.01  # of bits per byte


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="keep what is made in this folder")
    options = parser.parse_args()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        return proof(options.out.resolve())
    with tempfile.TemporaryDirectory(prefix="twofold-loop-") as folder:
        return proof(Path(folder))


def proof(folder: Path) -> int:
    os.environ["XDG_DATA_HOME"] = str(folder / "data")
    os.chdir(folder)
    began = time.monotonic()
    before = right()
    print(f"before: {before:.0%} of the answers are the planted ones")
    plant()
    parts = [("ask and correct", time.monotonic() - began)]
    for command in (["tune"], ["promote", "box-tuned"]):
        start = time.monotonic()
        twofold(*command)
        parts.append((command[0], time.monotonic() - start))
    start = time.monotonic()
    after = right()
    parts.append(("ask again", time.monotonic() - start))
    print(f"after: {after:.0%}")
    twofold("rollback")
    back = right()
    print(f"after the rollback: {back:.0%}")
    whole = sum(seconds for _, seconds in parts)
    print("time: " + ", ".join(f"{name} {s:.0f} s" for name, s in parts) + f"; the whole round {whole:.0f} s")
    worse = forgotten(folder / "runs" / "box-tuned")
    print(f"forgotten: {', '.join(worse) or 'nothing'}")
    good = before <= 0.2 and after >= RIGHT and back == before and not worse
    print("passed" if good else "FAILED")
    return 0 if good else 1


def forgotten(run: Path) -> list[str]:
    """Return on what a tuned model is worse than before, beyond doubt."""
    from twofold.measure.compare import BITS, Row

    changes = tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8"))["result"]["changes"]
    rows = [Row(**one) for one in changes]
    return [one.name for one in rows if one.worse(MARGIN if one.unit == BITS else 0.0)]


def plant() -> None:
    """Correct the answers, with the code behind /fix."""
    from twofold.cli import conversation, labelling, models, terminal

    chosen = models.Generation(seed=1, max_tokens=60)
    path = models.find(None)
    chat = conversation.Conversation(models.open_engine(str(path), chosen), chosen)
    labeller = labelling.Labeller(path, models.default_name())
    for question, answer in PLANTED:
        chat.reset()
        chat.answer(question, terminal.error_console())
        labeller.obey("/fix", answer, chat, terminal.error_console())


def right() -> float:
    """Return the share of answers of the default model that are the planted ones."""
    from twofold.cli import models
    from twofold.run import Sampler, load

    engine = load(models.find(None))
    hits = asked = 0
    for question, answer in PLANTED:
        for wording in ("{}", *UNTAUGHT):
            for seed in SEEDS:
                text = wording.format(question)
                ids = engine.tokenizer.chat([{"role": "user", "content": text}], add_generation_prompt=True)
                sampler = Sampler(temperature=0.7, min_p=0.05, seed=seed)
                said = "".join(engine.stream(ids, max_tokens=60, sampler=sampler)).strip()
                asked += 1
                hits += said == answer
                if said != answer and seed == SEEDS[0]:
                    print(f"  » {text}\n    {said}")
    return hits / asked


def twofold(*arguments: str) -> None:
    """Run a command as a user would; ends the proof when it fails."""
    print(f"$ twofold {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "twofold", *arguments])
    if done.returncode:
        raise SystemExit(f"twofold {arguments[0]} ended with {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
