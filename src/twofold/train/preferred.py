"""What a preference run leaves: the best weights, how they were found, and what that is worth.

The gold reward says where the run turned; the weights of that evaluation are kept. Then the curve of
over-optimisation, the win rate over the model before, the comparison on pairs and general text, and the card.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

from twofold.corpus.conversations import held_out_conversations
from twofold.corpus.pairs import PairCorpus
from twofold.measure.judge import Judge
from twofold.measure.overoptimisation import Curve
from twofold.parameters import Model
from twofold.run import load as open_engine
from twofold.train import cards, rehearsal
from twofold.train.adapters import Adapted
from twofold.train.appointment import read_decisions
from twofold.train.display import Screen, duration
from twofold.train.export import to_model, write_files
from twofold.train.finetune import compared
from twofold.train.folder import Recipe, write_recipe
from twofold.train.gold import PICTURE, GoldReward, write_curves
from twofold.train.loop import Trained
from twofold.train.patience import scores
from twofold.train.preference import PairRun, PairScore, accuracy, length_effect
from twofold.train.pretrain import Result
from twofold.train.settings import PreferConfig
from twofold.train.transformer import Transformer

JUDGED = ("pair_accuracy", "held-out pairs right")


@dataclasses.dataclass(frozen=True)
class Ending:
    """A run whose steps are done. `began`: when this session of it did."""

    recipe: Recipe
    config: PreferConfig
    parent: Model
    corpus: PairCorpus
    gold: GoldReward | None
    one: PairRun
    trained: Trained
    screen: Screen
    began: float

    def result(self) -> Result:
        """Write the files, after measuring; return the run."""
        one, folder = self.one, self.one.folder
        net = one.learner.whole()
        assert net is not None
        step, score = one.take_best(net)
        score = score or self.trained.score
        self._tell_turn(step, score)
        whole = net.merged() if isinstance(net, Adapted) else net
        facts = self._facts(step, score)
        path = self._write(whole, facts)
        if self.gold is not None:
            facts |= self._measured(whole, path)
        if self.config.compare and not self.config.reward:
            kinds = {}
            if self.config.rehearse:
                kinds = {rehearsal.NAME: held_out_conversations(folder / "corpus" / rehearsal.NAME)}
            rows = compared(self.config, path, one.plan.context, self.screen, kinds, self.corpus.held_out())
            facts["changes"] = [row.record() for row in rows]
        facts["wall_s"] = round(one.before_s + time.monotonic() - self.began, 1)
        path = self._write(whole, facts)
        write_recipe(folder, dataclasses.replace(self.recipe, decisions=read_decisions(folder), result=facts))
        length = f"{100 * facts['length_accuracy']:.1f} % by length alone"
        self.screen.say(
            f"Done: {100 * score.accuracy:.1f} % of {score.pairs:,} held-out pairs right ({length}), at step "
            f"{step:,} of {self.trained.steps:,}, in {duration(facts['wall_s'])}."
        )
        return Result(folder, path, score, self.trained, facts["wall_s"])

    def _facts(self, step: int, score: PairScore) -> dict[str, Any]:
        """Return the run's figures, units in the keys."""
        trained, corpus = self.trained, self.corpus
        slope = length_effect(corpus.train.lengths)
        longer_P = corpus.val.lengths[:, 0] - corpus.val.lengths[:, 1]
        return {
            **score.record(), "length_accuracy": accuracy(slope * longer_P), "best_step": step,
            "pairs": len(corpus.train), "steps": trained.steps, "tokens": trained.tokens,
            "train_s": round(trained.elapsed_s, 1), "utilisation": round(trained.utilisation, 4),
        }  # fmt: skip

    def _tell_turn(self, step: int, score: PairScore) -> None:
        """Say where the gold reward turned, if it did before the end."""
        known = scores(self.one.folder, read=PairScore.read)
        last = known.get(self.one.step)
        if step == self.one.step or last is None:
            return
        if score.gold is None or last.gold is None:
            self.screen.say(f"Held-out pairs were best at step {step:,}: its weights are kept.")
            return
        self.screen.say(
            f"Gold reward was highest at step {step:,} ({score.gold.reward:+.3f} ± {score.gold.error:.3f}, "
            f"{score.gold.kl_nats:.2f} nats away) and {last.gold.reward:+.3f} at step {self.one.step:,}: the "
            f"weights of step {step:,} are kept."
        )

    def _measured(self, net: Transformer, path: Path) -> dict[str, Any]:
        """Draw the curve of over-optimisation and, of a policy, count its wins; return the figures."""
        assert self.gold is not None
        curves: list[Curve] = []
        facts: dict[str, Any] = {"gold": self.gold.gold.name}
        with self.screen.busy("measuring what the answers are worth"):
            if self.config.reward:
                judge = Judge(open_engine(path, threads=self.config.threads, sequences=self.config.sequences))
                curves = [self.gold.best_of(None, judge, "best of n by this reward model")]
            else:
                known = scores(self.one.folder, read=PairScore.read)
                points = [
                    dataclasses.replace(one.gold, name=f"step {step}")
                    for step, one in known.items()
                    if one.gold
                ]
                curves = [Curve("along the run", points)] if points else []
                curves.append(self.gold.best_of(net, None, "best of n by the reward that DPO learned"))
                won = self.gold.wins(net)
                facts |= {"wins": won.record()}
                self.screen.say(f"Against the model before, by {self.gold.gold.name}: {won.spell()}.")
        write_curves(self.one.folder, self.gold.gold.name, curves)
        return facts

    def _write(self, net: Transformer, facts: dict[str, Any]) -> Path:
        recipe = dataclasses.replace(self.recipe, result=facts)
        name = self.config.name or self.one.folder.name
        card = cards.of_preference(self.config, recipe, self.parent, self.trained, name)
        if (self.one.folder / PICTURE).exists():
            card["notes"] = [f"{PICTURE} shows gold reward against the distance from the model before."]
        model = to_model(net, self.parent.tokenizer, card)
        return write_files(self.one.folder, model, self.config.file_type, JUDGED)
