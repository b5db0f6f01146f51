"""The gold reward of a preference run: what its answers are truly worth, and how far it has gone for that.

The network as it is now becomes a file in memory, run.c writes answers with it to the prompts that are asked,
and whoever gives the gold reward judges them. The same prompts and seeds are used each time, so that what
changes is the model and not the draw.

Not covered: gold rewards on several processes.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twofold.base.files import write_text
from twofold.measure import overoptimisation
from twofold.measure.attempts import Attempt
from twofold.measure.judge import Judge
from twofold.measure.overoptimisation import Curve, Gold, Point, fits
from twofold.measure.wins import Wins, wins
from twofold.parameters import Model
from twofold.run import Engine, open_model
from twofold.tokens import Tokenizer
from twofold.train.adapters import Adapted
from twofold.train.export import to_model
from twofold.train.settings import PreferConfig
from twofold.train.transformer import Transformer

Floats = npt.NDArray[np.float64]
CURVES = "overoptimisation.json"
PICTURE = "overoptimisation.png"
MOST_CHOSEN = 64  # prompts of the curve of best of n
ROOM = 16  # tokens that a prompt must leave for an answer


class GoldReward:
    """Measures networks of one run; `start` keeps what the model was worth before the first step.

    Half of the prompts steer the run (`gold`), and the other half judge what it has become (`final`): the
    best of several evaluations was in part lucky with its prompts.
    """

    def __init__(self, gold: Gold, config: PreferConfig, parent: Model, tokenizer: Tokenizer) -> None:
        """Leave out prompts that leave no room for an answer."""
        self.config, self.tokenizer = config, tokenizer
        self.reference = self._open(Model(parent.config, tokenizer, {"name": "as it was"}, parent.tensors))
        asked = fits(gold.problems, self.reference, min(ROOM, parent.config.context // 4))
        half = -(-len(asked) // 2)
        self.gold = replace(gold, problems=asked[:half])
        self.final = replace(gold, problems=asked[half:] or asked)

    def start(self, path: Path) -> Floats:
        """Return the gold rewards of the starting model, which are kept at `path`."""
        if not path.exists():
            rewards = self.gold.rewards(self.gold.attempts(self.reference, seed=self.config.seed))
            write_text(path, json.dumps(rewards.tolist()))
        return np.array(json.loads(path.read_text(encoding="utf-8")))

    def measure(self, net: Transformer) -> tuple[Floats, Floats]:
        """Return a network's gold rewards and its distance in nats, for each prompt."""
        engine = self.engine(net)
        attempts = self.gold.attempts(engine, seed=self.config.seed)
        return self.gold.rewards(attempts), overoptimisation.divergence(attempts, engine, self.reference)

    def engine(self, net: Transformer) -> Engine:
        """Return an engine with the weights as they are now."""
        whole = net.merged() if isinstance(net, Adapted) else net
        return self._open(to_model(whole, self.tokenizer, {"name": "as it is now"}))

    def _open(self, model: Model) -> Engine:
        return open_model(model, threads=self.config.threads, sequences=self.config.sequences)

    # ---- at the end

    def wins(self, net: Transformer) -> Wins:
        """Return how often the network's answers are worth more than the starting model's."""
        found = []
        for number, engine in enumerate((self.engine(net), self.reference)):
            attempts = self.final.attempts(
                engine, seed=self.config.seed + 1 + number, each=self.config.gold_each
            )
            lengths = np.array([sum(len(turn.answer.ids) for turn in one.turns) for one in attempts], float)
            found.append([self._by_prompt(values) for values in (self.final.rewards(attempts), lengths)])
        (after, after_tokens), (before, before_tokens) = found
        return wins(after, before, after_tokens, before_tokens)

    def best_of(self, net: Transformer | None, judge: Judge | None, name: str) -> Curve:
        """Return the curve of best of n from the starting model, by a judge or by what DPO has made of it."""
        config = self.config
        some = replace(self.final, problems=self.final.problems[:MOST_CHOSEN])
        attempts = some.attempts(self.reference, seed=config.seed + 3, each=config.best_of)
        proxy = self._proxy(attempts, net, judge)
        shape = len(some.problems), config.best_of
        return overoptimisation.best_of_curve(
            name, proxy.reshape(shape), some.rewards(attempts).reshape(shape)
        )

    def _proxy(self, attempts: Sequence[Attempt], net: Transformer | None, judge: Judge | None) -> Floats:
        if judge is not None:
            return overoptimisation.judged(judge, attempts)
        assert net is not None
        return overoptimisation.log_ratios(attempts, self.engine(net), self.reference)

    def _by_prompt(self, values: Floats) -> Floats:
        return values.reshape(len(self.final.problems), -1)


def write_curves(folder: Path, gold: str, curves: Sequence[Curve]) -> None:
    """Write the curves of a run as JSON and as a picture."""
    record = {"gold": gold, "curves": [asdict(curve) for curve in curves]}
    write_text(folder / CURVES, json.dumps(record, indent=1))
    overoptimisation.write_png(curves, gold, folder / PICTURE)


def read_curves(folder: Path) -> tuple[str, list[Curve]] | None:
    """Return who gave the gold reward of a run and its curves, None when none were drawn."""
    if not (folder / CURVES).is_file():
        return None
    record: dict[str, Any] = json.loads((folder / CURVES).read_text(encoding="utf-8"))
    curves = [Curve(one["name"], [Point(**point) for point in one["points"]]) for one in record["curves"]]
    return record["gold"], curves
