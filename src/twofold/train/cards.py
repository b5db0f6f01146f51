"""What a finished run says about itself: its figures and its model's card."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.corpus import Corpus
from twofold.measure.judge import TAG
from twofold.parameters import Model
from twofold.tokens.specials import VERDICTS
from twofold.train.dial import Plan
from twofold.train.evaluation import Score
from twofold.train.folder import Recipe
from twofold.train.loop import Trained
from twofold.train.settings import FinetuneConfig, PreferConfig, PretrainConfig

LIMITS = ["It is small: it writes fluent text and makes things up. Believe nothing it says."]
PATHS = ("data", "val", "corpus", "model", "start", "judge")


def facts(score: Score, trained: Trained, wall_s: float) -> dict[str, Any]:
    """Return a run's figures, units in the keys."""
    return {
        "bits_per_byte": score.bits_per_byte, "val_loss_nats": score.loss_nats, "val_tokens": score.tokens,
        "val_bytes": score.bytes, "steps": trained.steps, "tokens": trained.tokens,
        "train_s": round(trained.elapsed_s, 1), "wall_s": round(wall_s, 1),
        "utilisation": round(trained.utilisation, 4),
    }  # fmt: skip


def of_pretraining(
    config: PretrainConfig,
    recipe: Recipe,
    chosen: Plan,
    corpus: Corpus,
    trained: Trained,
    name: str,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the card of a base model; `before`: of the model that it went on from."""
    size = chosen.parameters
    score = {"name": "bits per byte", "split": "held out", "bytes": recipe.result["val_bytes"]}
    card: dict[str, Any] = {
        "name": name,
        "summary": f"A base model of {size:,} parameters that goes on with text; it takes no turns.",
        "data": [*(before or {}).get("data", []), *_sources(corpus)],
        "scores": [{**score, "value": round(recipe.result["bits_per_byte"], 4)}],
        "samples": trained.samples,
        "limits": LIMITS,
        "training": recipe.result,
        "recipe": {
            "kind": "pretrain",
            "settings": public(recipe.settings),
            "plan": dataclasses.asdict(chosen),
        },
    }
    if before is not None:
        parent = {"name": before.get("name") or (config.start and config.start.stem)}
        card["parents"] = [parent]
        card["recipe"]["before"] = before.get("recipe")
    return card if config.license is None else {**card, "license": config.license}


def of_finetuning(
    config: FinetuneConfig,
    recipe: Recipe,
    parent: Model,
    kinds: Mapping[str, Corpus],
    trained: Trained,
    name: str,
) -> dict[str, Any]:
    """Return the card of a tuned model: its own figures, its parent, and what the parent was made of."""
    before = parent.card
    score = {"name": "bits per byte of answers", "split": "held out", "bytes": recipe.result["val_bytes"]}
    card: dict[str, Any] = {
        "name": name,
        "summary": f"A model of {parent.config.parameters:,} parameters, tuned to answer in turns.",
        "parents": [{"name": before.get("name") or config.model.stem}],
        "data": [
            *before.get("data", []),
            *(entry for corpus in kinds.values() for entry in _sources(corpus)),
        ],
        "scores": [
            {**score, "value": round(recipe.result["bits_per_byte"], 4)},
            *({**one, "name": f"{one['name']} (parent)"} for one in before.get("scores", [])),
        ],
        "samples": trained.samples,
        "limits": LIMITS,
        "training": recipe.result,
        "recipe": {
            "kind": "finetune",
            "settings": public(recipe.settings),
            "plan": recipe.plan,
            "parent": before.get("recipe", {}),
        },
    }
    license_ = config.license or before.get("license")
    return {**card, "license": license_} if license_ else card


def of_preference(
    config: PreferConfig, recipe: Recipe, parent: Model, trained: Trained, name: str
) -> dict[str, Any]:
    """Return the card of a model that learned preferences, or of a reward model."""
    before, facts, size = parent.card, recipe.result, parent.config.parameters
    scored = [
        {"name": "held-out pairs right", "value": round(facts["pair_accuracy"], 4), "split": "held out"}
    ]
    scored.append({**scored[0], "name": "by length alone", "value": round(facts["length_accuracy"], 4)})
    if "wins" in facts:
        won = {"name": "win rate over the model before", "split": f"by {facts['gold']}"}
        scored.append({**won, "value": round(facts["wins"]["rate"], 4)})
        equal = round(facts["wins"]["equal_length"], 4)
        scored.append({**won, "name": "the same at equal length", "value": equal})
    summary = f"A model of {size:,} parameters, tuned to what people prefer (DPO)."
    if config.reward:
        summary = (
            f"A reward model of {size:,} parameters: behind an answer, the logit of {VERDICTS[0]} less "
            f"that of {VERDICTS[1]} says how good it is."
        )
    card: dict[str, Any] = {
        "name": name, "summary": summary,
        "parents": [{"name": before.get("name") or config.model.stem}],
        "data": [*before.get("data", []), *_named(recipe.data)],
        "scores": [
            *scored, *({**one, "name": f"{one['name']} (parent)"} for one in before.get("scores", [])),
        ],
        "samples": trained.samples,
        "limits": LIMITS,
        "training": facts,
        "recipe": {
            "kind": "prefer", "settings": public(recipe.settings), "plan": recipe.plan,
            "parent": before.get("recipe", {}),
        },
    }  # fmt: skip
    if config.reward:
        card["tags"] = [TAG]
        card["limits"] = [
            "Its rewards compare answers to one question only. It writes nothing worth reading."
        ]
    license_ = config.license or before.get("license")
    return {**card, "license": license_} if license_ else card


def public(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings for a card, which others read: paths of this machine become names of files."""

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [Path(entry).name for entry in value]
        return Path(value).name if isinstance(value, str) else value

    return {key: named(value) if key in PATHS else value for key, value in settings.items()}


def _sources(corpus: Corpus) -> list[dict[str, Any]]:
    return _named(corpus.sources)


def _named(sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"name": Path(source["path"]).name, "bytes": source["bytes"], "sha256": source["sha256"] or ""}
        for source in sources
    ]
