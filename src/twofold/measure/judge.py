"""A judge: a reward model reads a conversation and its answer, and says how good the answer is.

A reward model (Christiano et al. 2017, arXiv:1706.03741; Ouyang et al. 2022, arXiv:2203.02155, section 3.5)
is here an ordinary model file. Two reserved tokens stand for "good" and "bad"; the reward of an answer is the
logit of the first less that of the second, right behind the token that ends the answer:

    reward = logit(good) − logit(bad) = ln p(good) − ln p(bad)

So run.c evaluates it as it is, in any file type, and neither torch nor a head of its own is needed. The
rewards of two answers to one question make a probability, σ(r₁ − r₂), that people prefer the first (Bradley
and Terry 1952); rewards of answers to different questions do not compare.

Not covered: rewards for steps on the way to an answer.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twofold.base.errors import UsageError
from twofold.measure.likelihood import Scorer
from twofold.tokens.pair import answer_ids, answered
from twofold.tokens.specials import VERDICTS
from twofold.tokens.vocabulary import UNUSED

if TYPE_CHECKING:
    from twofold.run import Answer, Engine
    from twofold.tokens import Tokenizer

TAG = "reward-model"  # in the card of every judge
Message = dict[str, Any]
T = TypeVar("T")


def verdict_ids(tokenizer: "Tokenizer") -> tuple[int, int]:
    """Return the ids of the tokens for good and bad: two reserved ones, or the last two that are unused.

    Raises UsageError when the vocabulary has neither.
    """
    vocabulary = tokenizer.vocabulary
    if all(name in vocabulary.tokens for name in VERDICTS):
        good, bad = (tokenizer.special_id(name) for name in VERDICTS)
        return good, bad
    unused = [token for token, kind in enumerate(vocabulary.types) if kind == UNUSED]
    if len(unused) < 2:
        raise UsageError("The model's vocabulary has no unused tokens, which a reward model needs two of.")
    return unused[-2], unused[-1]


class Judge:
    """A reward model in an engine, which is its own while it works."""

    def __init__(self, engine: "Engine") -> None:
        """Raises UsageError when the model was not trained to judge."""
        if TAG not in engine.card.get("tags", ()):
            raise UsageError(
                f"{engine.card.get('name', 'The model')} is no reward model: make one by "
                "`twofold prefer MODEL --on PAIRS --reward`."
            )
        self._scorer = Scorer(engine)
        self._good, self._bad = verdict_ids(engine.tokenizer)
        self.tokenizer = engine.tokenizer

    def rewards(self, asked: Sequence[tuple[Sequence[Message], str]]) -> list[float]:
        """Return the reward of each (messages, answer), in logits. What the window cannot hold is cut left.

        Many are read at once, as many as the engine has sequences; what they begin with in common is read
        once. Raises UsageError when the chat template cannot take the messages.
        """
        texts = []
        for messages, answer in asked:
            conversation = answered(list(messages), {"role": "assistant", "content": answer.strip()})
            prompt, said = answer_ids(conversation, self.tokenizer)
            texts.append([*prompt, *said])
        return self.of_tokens(texts)

    def of_tokens(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """Return the reward of each text of ids that ends with the end of an answer."""
        pairs = [(text, (verdict,)) for text in texts for verdict in (self._good, self._bad)]
        found = [one.ln_p for one in self._scorer.of_tokens(pairs)]
        return [good - bad for good, bad in zip(found[::2], found[1::2], strict=True)]


def best_of(answers: Sequence[T], rewards: Callable[[Sequence[T]], Sequence[float]]) -> T:
    """Return the answer with the highest reward, the first of equals.

    Best of n: Stiennon et al. 2020, arXiv:2009.01325.
    `rewards` gives one for each answer, such as a judge's or a checker's. Raises UsageError without answers.
    """
    if not answers:
        raise UsageError("There is no answer to choose from.")
    found = list(rewards(answers))
    return answers[found.index(max(found))]


def best_answer(
    engine: "Engine", judge: Judge, messages: Sequence[Message], ids: Sequence[int], *, n: int, seed: int,
    max_tokens: int, temperature: float,
) -> "Answer":  # fmt: skip
    """Return the best of `n` answers to `messages`, rendered as `ids`, in the judge's eyes.

    They are drawn side by side, in as many sequences as the engine has.
    """
    from twofold.run import answers

    drawn = answers(
        engine, [ids] * n, max_tokens=max_tokens, seeds=[seed + number for number in range(n)],
        temperature=temperature,
    )  # fmt: skip

    def rewards(some: Sequence["Answer"]) -> list[float]:
        said = [engine.tokenizer.decode(one.ids[:-1] if one.ended else one.ids) for one in some]
        return judge.rewards([(messages, text) for text in said])

    return best_of(drawn, rewards)
