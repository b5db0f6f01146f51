"""What other small models score, as their makers published it, for the card of the model in the box.

Only figures that were looked up at their source stand here; where none was found there is none. They are
theirs, measured on whole benchmarks with their prompts; ours are on the part of each benchmark that lies in
the data folder. So compare with a grain of salt: a few points mean nothing.

Not covered: scores of BLiMP and bits per byte for Pythia, which its own files do not have.
"""

import dataclasses
from pathlib import Path

from twofold.corpus.formats.jsonl import records
from twofold.corpus.opening import open_bytes


@dataclasses.dataclass(frozen=True)
class Published:
    """A figure in percent of a model of `parameters`, and where it stands."""

    model: str
    parameters: str
    read: str
    task: str
    percent: float
    source: str


BABYLM = "README of github.com/babylm/evaluation-pipeline-2024, strict-small and strict track"
SMOLLM = "model card of HuggingFaceTB/SmolLM2-135M, column SmolLM-135M (lighteval, zero-shot)"
PYTHIA = "evals/pythia-v1 of github.com/EleutherAI/pythia, step 143,000, zero-shot"
FOUND = (
    Published("BabyLlama (BabyLM 2024)", "58M", "10M words, often", "blimp", 69.8, BABYLM),
    Published("LTG-BERT (BabyLM 2024)", "–", "10M words, often", "blimp", 60.6, BABYLM),
    Published("BabyLlama (BabyLM 2024)", "58M", "100M words, often", "blimp", 73.1, BABYLM),
    Published("SmolLM-135M", "135M", "600B tokens", "piqa", 68.4, SMOLLM),
    Published("SmolLM-135M", "135M", "600B tokens", "winogrande", 51.3, SMOLLM),
    Published("SmolLM-135M", "135M", "600B tokens", "openbookqa", 34.0, SMOLLM),
)
SCALING = "scaling/pythia_v1_zero_shot.jsonl.zst"
LAST_STEP = 143_000
SIZES = {"pythia-70m": "70M", "pythia-160m": "160M"}
# Our task, theirs, and the metric that is ours too.
TASKS = {
    "arc_easy": ("arc_easy", "acc_norm"), "arc_challenge": ("arc_challenge", "acc_norm"),
    "piqa": ("piqa", "acc_norm"), "winogrande": ("winogrande", "acc"), "lambada": ("lambada_openai", "acc"),
}  # fmt: skip


def published(data: Path) -> list[Published]:
    """Return all figures, those of Pythia from its own evaluations in the data folder if they are there."""
    path = data / SCALING
    return [*FOUND, *(_pythia(path) if path.exists() else ())]


def _pythia(path: Path) -> list[Published]:
    theirs = {name: (task, metric) for task, (name, metric) in TASKS.items()}
    found = []
    with open_bytes(path) as stream:
        for _, row in records(stream, str(path)):
            if row["model"] in SIZES and row["step"] == LAST_STEP and row["task"] in theirs:
                task, metric = theirs[row["task"]]
                percent = round(100 * row[metric], 1)
                name = row["model"].replace("pythia-", "Pythia-").replace("m", "M")
                found.append(Published(name, SIZES[row["model"]], "300B tokens", task, percent, PYTHIA))
    return sorted(found, key=lambda one: (one.task, one.model))


def beside(task: str, some: list[Published]) -> str:
    """Return the figures of a task in a few words: "Pythia-70M 59.1, Pythia-160M 61.6"."""
    return ", ".join(f"{one.model} {one.percent:.1f}" for one in some if one.task == task)


def sources(some: list[Published]) -> list[str]:
    """Return where each figure comes from, one line a source."""
    found: dict[str, list[str]] = {}
    for one in some:
        text = f"{one.model} ({one.parameters}, {one.read})"
        if text not in found.setdefault(one.source, []):
            found[one.source].append(text)
    return [f"Published figures, not ours: {', '.join(who)}: {source}." for source, who in found.items()]
