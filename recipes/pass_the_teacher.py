"""Passing the teacher: imitation of a mediocre player ends at its level; rewards take the same model above.

    python recipes/pass_the_teacher.py --seeds 3 --out runs/pass-the-teacher

For each seed a fresh model of half a million parameters learns connect four: first from a teacher who looks
one stone ahead and says what it sees, then from playing against that teacher, where only the result of a game
counts. It is tested on starting positions that it never trains on. The same command after a crash or Ctrl-C
goes on. At the end `curve.png` and `table.md` lie in --out, and the table is printed. A seed takes some
ten minutes of a core with AMX, longer of others; the figures do not depend on the machine's speed, as there
are so many rounds and not so much time.

What it shows: imitation cannot get past the teacher, because the teacher's moves are all that it learns; a
reward can, because the game says which moves were good, whoever made them. Any other task of
twofold/environments can take the game's place (--task); the solvers of those are always right.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from twofold.base.errors import TwofoldError
from twofold.base.files import atomic_write, write_text
from twofold.environments import TASKS, draw
from twofold.measure.attempts import Scores, bootstrap, scores
from twofold.parameters import ModelConfig, save_gguf
from twofold.tokens import Tokenizer
from twofold.train import ImproveConfig, improve, machine, resume
from twofold.train.examples import solved
from twofold.train.export import to_model
from twofold.train.optimiser import OptimizerConfig
from twofold.train.rounds import MODES, evaluations, solver_rewards
from twofold.train.transformer import Transformer

TEXTS = 4000  # examples that the vocabulary is made from
EVAL_EVERY = 30  # rounds
IMITATED = 128  # examples in a step
# A model this small, of one thing only, takes larger steps than `twofold improve` would give one that talks.
LEARNS = OptimizerConfig(muon_lr=0.02, embedding_lr=0.0133, head_lr=0.002, norm_lr=0.0067)
# What a round says is mostly chance, so steps go along the gradient: other ones unlearn the marks.
IMPROVES = OptimizerConfig(plain_lr=1.0)
DECAY = 0.3  # of the rounds: towards their end the chance in what a round says is to be averaged out
COLOURS = {"greedy": "#c05621", "sampled": "#2b6cb0"}


@dataclass(frozen=True)
class Study:
    """What is run: a task, a shape, and how long each seed may take."""

    task: str
    out: Path
    seeds: int
    time: str | None
    rounds: int | None
    imitate: int
    tests: int
    layers: int = 2
    width: int = 128
    vocab: int = 640
    context: int = 128
    threads: int | None = None
    compiled: bool = False


def fresh(study: Study, task: ModuleType, seed: int, path: Path) -> None:
    """Write a model that knows nothing, with a vocabulary made from the task's own text."""
    plain = Tokenizer.train([], 320)
    texts = [
        plain.render(one["messages"], tools=one.get("tools"), add_generation_prompt=False)
        for one in solved(task, TEXTS, seed)
    ]
    tokenizer = Tokenizer.train(texts, study.vocab)
    heads = study.width // 32
    shape = ModelConfig(
        architecture="qwen3", family="qwen3", context=study.context, vocab_size=study.vocab,
        layers=study.layers, width=study.width, heads=heads, kv_heads=heads, head_dim=32, ffn=3 * study.width,
        tied=True,
    )  # fmt: skip
    net = Transformer(shape)
    net.initialise(seed)
    save_gguf(to_model(net, tokenizer, {"name": f"fresh-{seed}"}), path, "F32")


def life(study: Study, seed: int, console: Console) -> Path:
    """Return the folder of one seed's run, finished, from wherever it stands."""
    folder, model = study.out / f"seed-{seed}", study.out / f"fresh-{seed}.gguf"
    if (folder / "recipe.toml").exists():
        resume(folder, console=console)
        return folder
    if not model.exists():
        study.out.mkdir(parents=True, exist_ok=True)
        fresh(study, TASKS.get(study.task), seed, model)
    improve(
        ImproveConfig(
            model=model, task=study.task, out=folder, seed=seed, time=study.time, rounds=study.rounds,
            imitate=study.imitate, imitate_batch=IMITATED, test_problems=study.tests, eval_every=EVAL_EVERY,
            threads=study.threads, compute="bfloat16", compiled=study.compiled, engine_type="Q8_0",
            decay=DECAY,
            imitation_optimizer=LEARNS, optimizer=IMPROVES,
        ),
        console=console,
    )  # fmt: skip
    return folder


def stages(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tests of a run after imitation (the last before the first round) and at its end."""
    found = evaluations(folder)
    return [record for record in found if record["round"] == 0][-1], found[-1]


def table(folders: list[Path], task: ModuleType, tests: int) -> str:
    """Return the table of all seeds as Markdown, and of all their games together."""
    lines = [
        "| | after imitation, greedy | sampled | after rewards, greedy | sampled | gained, sampled |",
        "|---|---|---|---|---|---|",
    ]
    together: dict[tuple[int, str], list[float]] = {(stage, mode): [] for stage in (0, 1) for mode in MODES}
    for number, folder in enumerate(folders):
        found = stages(folder)
        for stage, mode in together:
            together[stage, mode] += found[stage][f"rewards_{mode}"]
        lines.append(_row(f"seed {number}", {key: found[key[0]][f"rewards_{key[1]}"] for key in together}))
    lines.append(_row("all", together))
    lines.append(f"| the teacher itself | {teacher(task, len(folders), tests).spell()} | | | | |")
    return "\n".join(lines) + "\n"


def teacher(task: ModuleType, seeds: int, tests: int) -> Scores:
    """Return what the teacher gets against itself, on the problems of all seeds."""
    problems = [one for seed in range(seeds) for one in draw(task, tests, seed=seed, split="test")]
    return scores(solver_rewards(task, problems))


def _row(name: str, rewards: dict[tuple[int, str], list[float]]) -> str:
    cells = [scores(rewards[stage, mode]).spell() for stage in (0, 1) for mode in MODES]
    gained = [b - a for a, b in zip(rewards[0, "sampled"], rewards[1, "sampled"], strict=True)]
    low, high = bootstrap(gained)
    mean = sum(gained) / len(gained)
    return f"| {name} | {' | '.join(cells)} | {100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) |"


def plot(folders: list[Path], task: ModuleType, tests: int, path: Path) -> None:
    """Draw reward on unseen problems against tokens learned from: a line a seed, the teacher level."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    level = teacher(task, len(folders), tests)
    axes.axhspan(100 * level.reward_low, 100 * level.reward_high, color="#cbd5e0", alpha=0.6, lw=0)
    axes.axhline(100 * level.reward, color="#4a5568", lw=1)
    ends = []
    for number, folder in enumerate(folders):
        found = evaluations(folder)
        ends.append(stages(folder)[0]["tokens"] / 1e6)
        for mode in MODES:
            tested = [scores(record[f"rewards_{mode}"]) for record in found]
            learned = [record["tokens"] / 1e6 for record in found]
            axes.plot(
                learned, [100 * one.reward for one in tested], color=COLOURS[mode], lw=1.4, marker=".",
                label=f"model, {mode}" if number == 0 else None,
            )  # fmt: skip
            low, high = ([100 * getattr(one, f"reward_{end}") for one in tested] for end in ("low", "high"))
            axes.fill_between(learned, low, high, color=COLOURS[mode], alpha=0.12, lw=0)
    for end in ends:
        axes.axvline(end, color="#a0aec0", lw=0.8, ls=":")
    axes.text(0, 100 * level.reward + 1, "  the teacher against itself", color="#4a5568", fontsize=9)
    axes.text(max(ends), 1, "  imitation ends, rewards begin", color="#718096", fontsize=9)
    axes.set(
        xlabel="million tokens learned from",
        ylabel="points against the teacher, %",
        ylim=(0, 100),
        xlim=(0, None),
    )
    axes.set_title(f"{len(folders)} seeds, {tests:,} unseen problems each, 95 % intervals", fontsize=10)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def study(given: Study, console: Console) -> str:
    """Return the table of all seeds' runs; table and curve lie in the folder."""
    task = TASKS.get(given.task)
    folders = []
    for seed in range(given.seeds):
        console.print(f"Seed {seed} of {given.seeds}")
        folders.append(life(given, seed, console))
        text = table(folders, task, given.tests)  # after each, for those who cannot wait
        write_text(given.out / "table.md", text)
        plot(folders, task, given.tests, given.out / "curve.png")
    return text


def main() -> int:
    """Run the study; exit code 0, or that of the error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/pass-the-teacher"), help="(%(default)s)")
    parser.add_argument("--task", default="connect4", help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=150, help="of each seed (%(default)s)")
    parser.add_argument("--time", help="of each seed, instead of rounds: 25m")
    parser.add_argument("--imitate", type=int, default=500_000, help="examples of the teacher (%(default)s)")
    parser.add_argument("--tests", type=int, default=1000, help="unseen problems (%(default)s)")
    parser.add_argument("--threads", type=int, help="default: all cores")
    options = vars(parser.parse_args())
    if options["time"] is not None:
        options["rounds"] = None
    try:
        print(study(Study(**options, compiled=machine.compiler()), Console(stderr=True)))
    except KeyboardInterrupt:
        return 130
    except TwofoldError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
