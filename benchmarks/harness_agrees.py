"""`twofold eval` beside EleutherAI's lm-evaluation-harness: the same items, prompts and scores.

The harness drives twofold as its model class (twofold.measure.harness) with its own task definitions, which
write the prompts and compute the scores; only the data set is replaced by local records in the hub's layout.
twofold asks the same items by its own task files. Compared item by item: the texts that are asked, ln p to
1e-4 nats, greedy or not, what was written, and each metric; then the means.

With `--http` the harness asks `twofold serve` instead, by its own model for such servers (local-completions):
tokens over /tokenize, scores over /v1/completions.

Exits 1 when anything differs. Nothing is downloaded.

    benchmarks/rivals.sh
    python benchmarks/harness_agrees.py --limit 100 [--http]
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import machine
from pairs import table
from workers import HERE, rivals_python

from twofold import run
from twofold.measure import evaluation, items, records

BOX = HERE.parent / "src" / "twofold" / "box" / "model.gguf"
TOLERANCE = 1e-4  # nats
Record = dict[str, Any]


@dataclass(frozen=True)
class Pairing:
    """A task in both worlds: its name here, the harness's file, the hub's layout, metrics here and there.

    `most`: items at most, however many are asked for (texts that are written take long). `examples`: the file
    of worked examples.
    """

    ours: str
    theirs: str
    layout: Callable[[Record], Record]
    metrics: dict[str, str] = field(default_factory=lambda: {"acc": "acc"})
    most: int | None = None
    examples: str | None = None


def arc(record: Record) -> Record:
    """Return a record of allenai/ai2_arc."""
    labels = list("ABCDEFGH"[: len(record["choices"])])
    return {
        "question": record["query"].removeprefix("Question: "),
        "choices": {"text": record["choices"], "label": labels},
        "answerKey": labels[record["gold"]],
    }


def piqa(record: Record) -> Record:
    """Return a record of piqa."""
    goal = record["query"].removeprefix("Question: ").removesuffix("\n")
    return {"goal": goal, "sol1": record["choices"][0], "sol2": record["choices"][1], "label": record["gold"]}


def blimp(record: Record) -> Record:
    """Return a record of nyu-mll/blimp."""
    return {"sentence_good": record["good"], "sentence_bad": record["bad"]}


def lambada(record: Record) -> Record:
    """Return a record of EleutherAI/lambada_openai."""
    return {"text": f"{record['context']} {record['continuation']}"}


def winogrande(record: Record) -> Record:
    """Return a record of winogrande: the sentence with a blank and the two options."""
    first, second = record["context_options"]
    same = next(n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    shared = first[: first.rfind(" ", 0, same) + 1]
    return {
        "sentence": f"{shared}_ {record['continuation']}",
        "option1": first[len(shared) :],
        "option2": second[len(shared) :],
        "answer": str(record["gold"] + 1),
    }


def boolq(record: Record) -> Record:
    """Return a record of SuperGLUE's boolq."""
    passage, _, question = record["query"].removeprefix("Passage: ").rpartition("\nQuestion: ")
    return {"passage": passage, "question": question.removesuffix("?"), "label": record["gold"]}


BOTH = {"acc": "acc", "acc_norm": "acc_norm"}
PAIRINGS = (
    Pairing("blimp", "blimp/adjunct_island.yaml", blimp),
    Pairing("arc_easy", "arc/arc_easy.yaml", arc, BOTH),
    Pairing("piqa", "piqa/piqa.yaml", piqa, BOTH),
    Pairing("winogrande", "winogrande/default.yaml", winogrande),
    Pairing("boolq", "super_glue/boolq/default.yaml", boolq),
    Pairing(
        "lambada", "lambada/lambada_openai.yaml", lambada, {"acc": "acc", "perplexity": "perplexity"}
    ),
    Pairing(
        "gsm8k",
        "gsm8k/gsm8k.yaml",
        lambda record: record,
        {"strict": "exact_match,strict-match", "flexible": "exact_match,flexible-extract"},
        most=8,
        examples="gsm8k_train",
    ),
)  # fmt: skip


def main() -> None:
    """Compare, print, and exit 1 when they do not agree."""
    options = arguments()
    data = records.folder(options.data)
    chosen = [one for one in PAIRINGS if not options.tasks or one.ours in options.tasks]
    theirs_by_task = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, chosen, data, options)
        command = [str(rivals_python(options.python)), str(HERE / "harness_worker.py"), str(folder)]
        paths = [str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with serving(options) if options.http else nullcontext("") as url:
            done = subprocess.run(
                [*command, *([url] if url else [])], env=environment, capture_output=True, text=True
            )
        if done.returncode:
            sys.exit(f"The harness failed:\n{done.stderr[-3000:]}")
        theirs_by_task = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    engine = run.load(options.model, threads=options.threads, sequences=32)
    print(machine.describe())
    print(f"{options.model.name}; lm-evaluation-harness {theirs_by_task['version']}\n")
    rows, faults = [], []
    for pairing in chosen:
        limit = min(options.limit, pairing.most or options.limit)
        task = evaluation.prepare(pairing.ours, data)
        task = evaluation.Task(task.name, task.headline, task.shots, only(pairing, task, limit))
        answers = evaluation.Answers({})
        report = evaluation.evaluate(engine, task, answers)
        worst = compare(pairing, task, answers, report, theirs_by_task, faults)
        result = theirs_by_task["results"][f"local_{pairing.ours}"]
        for ours, theirs in pairing.metrics.items():
            score = report.scores[ours]
            there = result[theirs if "," in theirs else f"{theirs},none"]
            if not math.isclose(score.value, there, rel_tol=1e-4, abs_tol=1e-9):
                faults.append(f"{pairing.ours}: {ours} is {score.value}, there {there}")
            rows.append(
                [pairing.ours, str(report.items), ours, f"{score.value:.4f}", f"{there:.4f}", f"{worst:.1e}"]
            )
    print(table(["task", "items", "metric", "twofold eval", "harness", "largest Δ ln p, nats"], rows))
    for fault in faults[:20]:
        print(fault)
    print(f"\n{'They do not agree.' if faults else 'They agree, item by item.'}")
    sys.exit(bool(faults))


@contextmanager
def serving(options: argparse.Namespace) -> Iterator[str]:
    """Serve the model for the length of a block; yield the address."""
    from twofold.serve import app, server
    from twofold.serve.models import Models
    from twofold.serve.settings import Settings
    from twofold.serve.state import State

    settings = Settings(port=0, threads=options.threads, slots=2, grace_s=0.0)
    state = State(Models([str(options.model)], settings), settings)
    with server.running(app.build(state), settings) as running:
        yield running.url


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, default=BOX, help="a GGUF file; default: the model in the box")
    parser.add_argument(
        "--data", type=Path, help="folder of benchmarks; default: TWOFOLD_DATA or shared/data"
    )
    parser.add_argument("--limit", type=int, default=50, help="items of each task")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--python", help="one that has lm-eval; default: that of .venv-bench")
    parser.add_argument("--http", action="store_true", help="ask by `twofold serve`")
    parser.add_argument("--tasks", nargs="*", choices=[one.ours for one in PAIRINGS], help="default: all")
    return parser.parse_args()


def only(pairing: Pairing, task: evaluation.Task, limit: int) -> list[evaluation.Question]:
    """Return the questions both are asked: the first ones; of BLiMP those of one paradigm."""
    wanted = task.questions
    if pairing.ours == "blimp":
        wanted = [question for question in wanted if question.item.group == "adjunct_island"]
    return wanted[:limit]


def prepare(folder: Path, chosen: list[Pairing], data: Path, options: argparse.Namespace) -> None:
    """Write the records in the hub's layout, a task file for each over the harness's own, and the job."""
    where = subprocess.run(
        [str(rivals_python(options.python)), "-c", "import lm_eval.tasks; print(lm_eval.tasks.__path__[0])"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    ).stdout.strip()
    for pairing in chosen:
        limit = min(options.limit, pairing.most or options.limit)
        (source,) = evaluation.TASKS.get(pairing.ours).DATA
        lines = (record for _, record in read(data, source))
        if pairing.ours == "blimp":
            lines = (record for record in lines if record["UID"] == "adjunct_island")
        files = {"test": write(folder, pairing.ours, map(pairing.layout, islice(lines, limit)))}
        if pairing.examples:
            examples = (record for _, record in read(data, pairing.examples))
            files["train"] = write(folder, pairing.examples, examples)
        splits = {"training_split": "train" if pairing.examples else None, "validation_split": None}
        settings = {
            "include": str(Path(where) / pairing.theirs),
            "task": f"local_{pairing.ours}",
            "tag": None,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files},
            **splits,
            "test_split": "test",
        }
        # JSON is YAML.
        (folder / f"local_{pairing.ours}.yaml").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    job = {
        "model": str(options.model.resolve()),
        "threads": options.threads,
        "tasks": [f"local_{pairing.ours}" for pairing in chosen],
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")


def read(data: Path, source: str) -> Any:
    """Return the numbered records of a benchmark's file."""
    path = records.find(data, source)
    if path is None:
        sys.exit(f"There is no {source}.jsonl in {data}.")
    return records.read(path)


def write(folder: Path, name: str, lines: Any) -> str:
    """Write records as JSON Lines; return the file's name for the harness."""
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def compare(
    pairing: Pairing,
    task: evaluation.Task,
    answers: evaluation.Answers,
    report: evaluation.Report,
    theirs: dict[str, Any],
    faults: list[str],
) -> float:
    """Add to `faults` what is not the same of an item; return the largest difference of ln p."""
    samples = theirs["samples"][f"local_{pairing.ours}"]
    kinds = sorted({sample["filter"] for sample in samples})
    worst = 0.0
    for number, (question, grades) in enumerate(zip(task.questions, report.grades, strict=True)):
        for kind in kinds:
            sample = [one for one in samples if one["filter"] == kind][number]
            kept, where = answers.kept[question.key], f"{pairing.ours}, item {number}"
            if isinstance(question.item, items.Asked):
                if sample["asked"][0][0] != question.before + question.item.prompt:
                    faults.append(f"{where}: another prompt")
                if sample["answers"][0][0] != kept["text"]:
                    faults.append(f"{where}: wrote {kept['text']!r}, there {sample['answers'][0][0]!r}")
            else:
                assert isinstance(question.item, items.Scored)
                if [tuple(asked[:2]) for asked in sample["asked"]] != question.item.pairs(question.before):
                    faults.append(f"{where}: other texts, {sample['asked'][0]}")
                for ln_p, greedy, ((there, there_greedy),) in zip(
                    kept["ln_p"], kept["greedy"], sample["answers"], strict=True
                ):
                    worst = max(worst, abs(ln_p - float(there)))
                    if abs(ln_p - float(there)) > TOLERANCE or str(greedy) != str(there_greedy):
                        faults.append(f"{where}: ln p {ln_p} {greedy}, there {there} {there_greedy}")
            for ours, name in pairing.metrics.items():
                metric, _, of = name.partition(",")
                if of in ("", kind) and metric != "perplexity" and sample["metrics"][metric] != grades[ours]:
                    faults.append(f"{where}: {ours} is {grades[ours]}, there {sample['metrics'][metric]}")
    return worst


if __name__ == "__main__":
    main()
