"""Preferences: what DPO and reward models make of pairs, where the truth is known and where people chose.

    python recipes/preferences.py sums --model box --out runs/preferences
    python recipes/preferences.py people --model box --data ../shared/data --out runs/preferences

`sums`: the model answers each problem of the task `honest_sums` several times; the task's checker says what
an answer is worth (1 if right, a half for admitting that it cannot, 0 if wrong), and every pair is two of
these answers to one problem. The gold reward is the checker's, on problems that no pair holds. Here
preference learning has to win.

`people`: dialogues of harmless-base (Anthropic, MIT licence; the part in --data), in each of which people
preferred one of two last answers. A fifth is held out for everything. The model is first tuned on the chosen
answers of the rest; half of the rest trains the judge that gives the gold reward, and the other half is
learned from: by DPO, by DPO under length control, and by reward models with and without it. What length
alone would get stands beside each. The dialogues contain offensive text: they are read, not shown.

Everything of one seed lies in --out/STUDY-SEED; what is finished there is used again, what was interrupted
goes on. At the end the table, which also lies in --out, is printed. On two cores `sums` takes minutes,
`people` a quarter of an hour.
"""

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from twofold.base.errors import TwofoldError, UsageError
from twofold.base.files import write_text
from twofold.cli import models
from twofold.corpus.formats.jsonl import records
from twofold.corpus.opening import open_bytes
from twofold.environments import TASKS, draw
from twofold.measure.attempts import Prompts, play
from twofold.run import load
from twofold.train import FinetuneConfig, PreferConfig, finetune, prefer, resume
from twofold.train.folder import read_recipe
from twofold.train.gold import read_curves

TASK, EACH = "honest_sums", 6  # and the answers to each
HARMLESS = "preference/hh_harmless_base_test.jsonl.zst"
HELD_OUT = 0.2
Pair = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What is run, for one seed."""

    model: Path
    data: Path
    out: Path
    seed: int
    problems: int
    threads: int | None

    def settings(self, **how: Any) -> dict[str, Any]:
        """Return settings of a run, with what all runs share."""
        return {"seed": self.seed, "threads": self.threads, **how}


# ---- sums


def sums(study: Study, console: Console) -> list[str]:
    """Return the rows of the study where the truth is known."""
    pairs = study.out / "pairs.jsonl"
    if not pairs.exists():
        write(pairs, right_and_wrong(study))
    how = study.settings(
        model=study.model, data=(str(pairs),), judge=TASK, max_tokens=32, gold_prompts=200,
    )  # fmt: skip
    rows = []
    for name, more in (("DPO", {}), ("reward model", {"reward": True})):
        folder = study.out / name.replace(" ", "-")
        run(folder, PreferConfig(**{**how, **more, "out": folder}), console)
        rows.append(row(name, folder))
    return rows


def right_and_wrong(study: Study) -> Iterator[Pair]:
    """Yield pairs of the model's own answers to a problem, one worth more than the other, at most two."""
    task = TASKS.get(TASK)
    engine = load(study.model, sequences=64, threads=study.threads)
    prompts = Prompts(engine.tokenizer)
    problems = draw(task, study.problems, seed=study.seed, split="train")
    tried = play(task, [p for p in problems for _ in range(EACH)], engine, seed=study.seed)
    for start in range(0, len(tried), EACH):
        worth: dict[str, float] = {}
        for one in tried[start : start + EACH]:
            text = prompts.text(one.turns[0].answer).strip()
            if text and one.turns[0].answer.ended:
                worth[text] = one.reward
        ranked = sorted(worth, key=lambda text: -worth[text])
        for better, worse in [*zip(ranked, reversed(ranked), strict=True)][: min(2, len(ranked) // 2)]:
            if worth[better] > worth[worse]:
                yield {"prompt": tried[start].problem.text, "chosen": better, "rejected": worse}


# ---- people


def people(study: Study, console: Console) -> list[str]:
    """Return the rows of the study of what people preferred."""
    learn, test, talk = (study.out / f"{name}.jsonl" for name in ("pairs", "held-out", "chosen"))
    if not talk.exists():
        found = list(harmless(study.data / HARMLESS))
        chance = random.Random(study.seed)
        first = {json.dumps(one["chosen"][:-1]): chance.random() for one in found}
        held = [first[json.dumps(one["chosen"][:-1])] < HELD_OUT for one in found]
        write(test, (one for one, out in zip(found, held, strict=True) if out))
        write(learn, (one for one, out in zip(found, held, strict=True) if not out))
        write(talk, ({"messages": taught(one["chosen"])}
                     for one, out in zip(found, held, strict=True) if not out))  # fmt: skip
    tuned = study.out / "tuned"
    how = study.settings(bad_lines="skip", model=study.model, out=tuned, data=(str(talk),), compare=False)
    run(tuned, FinetuneConfig(**how), console)
    how = study.settings(
        bad_lines="skip", model=tuned, data=(str(learn),), val=(str(test),), max_tokens=96, keep_back=0.5
    )
    rows = []
    judge: str | None = None
    for name, more in (
        ("DPO", {}), ("DPO, length control", {"length_control": True}), ("reward model", {"reward": True}),
        ("reward model, length control", {"reward": True, "length_control": True}),
    ):  # fmt: skip
        folder = study.out / name.replace(", ", "-").replace(" ", "-")
        run(folder, PreferConfig(**{**how, **more, "judge": judge, "out": folder}), console)
        if judge is None:  # all runs have the same seed, so the same half is kept back
            judge = str(folder / "judge" / "model.gguf")
            rows.append(row("the judge, on the half kept back", folder / "judge"))
        rows.append(row(name, folder))
    return rows


def harmless(path: Path) -> Iterator[Pair]:
    """Yield the dialogues as pairs of whole conversations; those that differ before the end are left out."""
    if not path.is_file():
        raise UsageError(f"There is no {path}: --data names the folder that holds preference/.")
    with open_bytes(path) as stream:
        for _, record in records(stream, str(path)):
            sides = {side: dialogue(str(record[side])) for side in ("chosen", "rejected")}
            (*before, chosen), (*other, rejected) = sides.values()
            last = chosen["role"] == rejected["role"] == "assistant"
            if last and before == other and chosen != rejected and chosen["content"] and rejected["content"]:
                yield sides


def dialogue(text: str) -> list[dict[str, str]]:
    """Return a transcript with `Human:` and `Assistant:` as messages."""
    parts = re.split(r"\n\n(Human|Assistant):", text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[a], "content": b.strip()} for a, b in zip(parts[::2], parts[1::2], strict=True)]


def taught(messages: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """Return a conversation of which the last answer alone is learned."""
    *before, last = messages
    return [*({**m, "weight": 0} if m["role"] == "assistant" else m for m in before), last]


# ---- both


def write(path: Path, lines: Iterator[Pair]) -> None:
    """Write records as JSON Lines."""
    write_text(path, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines))


def run(folder: Path, config: FinetuneConfig | PreferConfig, console: Console) -> None:
    """Do a run, or go on with it; a finished one is left alone."""
    if (folder / "recipe.toml").exists():
        if not read_recipe(folder).result:
            resume(folder, console=console)
        return
    console.print(f"\n{folder.name}", style="bold")
    if isinstance(config, PreferConfig):
        prefer(config, console=console)
    else:
        finetune(config, console=console)


HEAD = (
    "| | held-out pairs right | by length alone | won against the model before | the same at equal length | "
    "tokens an answer | best of n: gold reward gained |\n|---|---|---|---|---|---|---|"
)


def row(name: str, folder: Path) -> str:
    """Return a run's row of the table."""
    facts = read_recipe(folder).result
    count, right = facts["val_pairs"], facts["pair_accuracy"]
    error = 1.96 * (right * (1 - right) / count) ** 0.5
    cells = [
        name,
        f"{100 * right:.1f} ± {100 * error:.1f} % of {count}",
        f"{100 * facts['length_accuracy']:.1f} %",
    ]
    if wins := facts.get("wins"):
        cells += [
            f"{100 * wins['rate']:.1f} % ({100 * wins['low']:.1f} to {100 * wins['high']:.1f})",
            f"{100 * wins['equal_length']:.1f} % ({100 * wins['equal_length_low']:.1f} to "
            f"{100 * wins['equal_length_high']:.1f})",
            f"{wins['tokens_before']:.0f} → {wins['tokens_after']:.0f}",
        ]
    else:
        cells += ["", "", ""]
    drawn = read_curves(folder)
    last = drawn[1][-1].points[-1] if drawn is not None else None
    cells.append(f"{last.name}: {last.reward:+.3f} ± {last.error:.3f}" if last else "")
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    """Run a study; exit code 0, or that of the error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=("sums", "people"))
    parser.add_argument("--model", default="box", help="a model that talks (%(default)s)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/preferences"), help="(%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="(%(default)s)")
    parser.add_argument("--problems", type=int, default=1000, help="sums to answer (%(default)s)")
    parser.add_argument("--threads", type=int, help="default: all cores")
    options = parser.parse_args()
    console = Console(stderr=True)
    try:
        lines = [HEAD]
        for seed in options.seeds:
            out = options.out / f"{options.study}-{seed}"
            study = Study(
                models.start(options.model), options.data, out, seed, options.problems, options.threads
            )
            lines += (sums if options.study == "sums" else people)(study, console)
            write_text(options.out / f"{options.study}.md", "\n".join(lines) + "\n")
    except KeyboardInterrupt:
        return 130
    except TwofoldError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
