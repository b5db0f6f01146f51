"""The last stages of the model in the box: preferring right answers to its own mistakes, and rewards.

`preferred`: the tuned model answers thousands of the programs' questions (those to learn from, by other
seeds), and every wrong answer makes a pair with the right one: its own mistakes, not invented ones.
`improved`: rounds of tries at word problems with a calculator, rewarded by their checker. A stage counts only
if the model after it scores higher in box_check.py, by a seed that the card does not use; else the one before
ships.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import box_check
from box_turns import OWN_KEYS, Message, right
from rich.console import Console

from twofold.base.files import write_text
from twofold.run import load as open_engine
from twofold.train import ImproveConfig, PreferConfig, improve, prefer, resume

TASK = "word_problems"
ASKED, DRAWN, CHOOSING = 300, 11, 7  # conversations of each kind for pairs; seeds of pairs and of the choice
JUDGED = 100  # conversations of each kind to choose by


def preferred(model: Path, folder: Path, console: Console, *, threads: int | None, device: Any) -> Path:
    """Return the run folder of the model after preferring, or that of `model` when it is not better."""

    def begin() -> None:
        path = folder.with_name("mistakes.jsonl")
        if not path.exists() or not path.stat().st_size:
            console.print(f"{mistakes(model / 'model.gguf', path, threads):,} pairs from its own mistakes.")
        config = PreferConfig(
            model=model, data=(str(path),), out=folder, name="twofold-box", epochs=1.0, keep_back=0.0,
            rehearse=0.0, device=device, threads=threads, file_type="F32",
        )  # fmt: skip
        prefer(config, console=console)

    return kept(model, folder, begin, console, threads)


def improved(
    model: Path, folder: Path, console: Console, *, rounds: int, threads: int | None, device: Any
) -> Path:
    """Return the run folder of the model after rewards, or that of `model` when it is not better."""
    config = ImproveConfig(
        model=model, task=TASK, rounds=rounds, out=folder, name="twofold-box", threads=threads,
        device="cuda" if device == "cuda" else "cpu", file_type="F32",
    )  # fmt: skip
    return kept(model, folder, lambda: improve(config, console=console), console, threads)


def kept(
    before: Path, folder: Path, begin: Callable[[], object], console: Console, threads: int | None
) -> Path:
    """Return the better of two run folders, the second made, gone on with or found in `folder`."""
    if not (folder / "model.gguf").exists():
        resume(folder, console=console) if (folder / "recipe.toml").exists() else begin()
    noted = folder / "choice.json"
    if not noted.exists():
        scores = [
            box_check.overall(
                box_check.check(one / "model.gguf", count=JUDGED, seed=CHOOSING, threads=threads)["scores"]
            )
            for one in (before, folder)
        ]
        write_text(noted, json.dumps({"before": scores[0], "after": scores[1]}) + "\n")
    scores = json.loads(noted.read_bytes())
    chosen = folder if scores["after"] > scores["before"] else before
    console.print(
        f"{folder.name}: {100 * scores['before']:.1f} % before, {100 * scores['after']:.1f} % after; "
        f"{'it is kept' if chosen == folder else 'the one before is kept'}."
    )
    return chosen


def mistakes(model: Path, path: Path, threads: int | None, asked: int = ASKED) -> int:
    """Write pairs of the right answer and a wrong one of the model, JSON Lines; return how many."""
    engine = open_engine(model, sequences=box_check.SEQUENCES, threads=threads)
    some = box_check.items(asked, DRAWN, "train")
    lines = []
    for item, said in zip(some, box_check.ask(engine, some, temperature=1.0), strict=True):
        if said.strip() and not right(item.answer, said):
            record: dict[str, Any] = {
                "prompt": item.messages,
                "chosen": [plain(item.answer)],
                "rejected": [{"role": "assistant", "content": said.strip()}],
            }
            lines.append(json.dumps({**record, **({"tools": item.tools} if item.tools else {})}))
    write_text(path, "".join(line + "\n" for line in lines))
    return len(lines)


def plain(message: Message) -> Message:
    """Return an answer without what it is judged by."""
    return {key: value for key, value in message.items() if key not in OWN_KEYS}
