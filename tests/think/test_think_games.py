"""Search in games: it sees wins and threats, and asks the model what the model would say."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tiny_models import random_model

from twofold.base.errors import UsageError
from twofold.environments import connect4
from twofold.run import open_model
from twofold.think.budget import Budget, Meter
from twofold.think.games import GameSearch, ModelLiking, Position

MODEL = random_model("qwen3")


def alike(positions: Sequence[Position]) -> list[list[float]]:
    return [[1 / len(position.moves())] * len(position.moves()) for position in positions]


@dataclass(frozen=True)
class Nim:
    """Take one, two or three; who takes the last one wins."""

    left: int

    @property
    def text(self) -> str:
        return f"{self.left} left"

    def moves(self) -> Sequence[str]:
        return [str(n) for n in (1, 2, 3) if n <= self.left]

    def after(self, move: str) -> "Nim":
        return Nim(self.left - int(move))

    def result(self) -> float | None:
        return None if self.left else 0.0


def searched(position: Position, simulations: int, width: int = 8) -> GameSearch:
    search = GameSearch(position, alike, Meter(Budget(tokens=1)), seed=1, width=width)
    while search.simulations < simulations:
        search.step()
    return search


@pytest.mark.parametrize("left", [5, 6, 7, 9, 10, 11])
@pytest.mark.parametrize("width", [1, 8])
def test_it_finds_the_move_that_wins_whatever_comes(left: int, width: int) -> None:
    assert searched(Nim(left), 600, width).best()[0] == str(left % 4)


def test_visits_and_worth_add_up() -> None:
    search = searched(Nim(11), 300)
    stack = [search.root]
    while stack:
        node = stack.pop()
        children = [child for child in node.children if child]
        assert 0 <= node.worth <= node.visits
        if children:
            assert node.visits == sum(child.visits for child in children) + (node is not search.root)
        stack += children
    assert search.simulations == search.root.visits


def test_it_sees_a_win_and_a_threat_in_connect_four() -> None:
    for text, move in (("| - xxx ooo - - - o |", "b"), ("| o xo ooo xx - - x |", "c")):
        problem = connect4.read(text)
        assert problem is not None
        assert searched(connect4.position(problem), 200).best()[0] == move


def test_a_game_seen_to_its_end_does_not_go_on_for_ever() -> None:
    meter = Meter(Budget(tokens=500))
    search = GameSearch(Nim(4), alike, meter, seed=1)
    while not meter.over:
        search.step()
    assert search.simulations < 600
    assert not search.done
    quick = searched(Nim(3), 50)
    assert quick.done
    assert quick.best()[0] == "3"


def test_without_budget_it_is_the_models_own_move_and_the_likings_are_its_own() -> None:
    engine = open_model(MODEL, threads=1, context=64, sequences=4)

    def prompt(text: str) -> list[int]:
        return MODEL.tokenizer.chat([{"role": "user", "content": text}])

    meter = Meter(Budget(tokens=1))
    liking = ModelLiking(engine, prompt, meter)
    chance, positions = random.Random(0), []
    position: Position = connect4.Position(0, 0)
    for _ in range(3):
        positions.append(position)
        position = position.after(chance.choice(position.moves()))
    found = [liking(positions[:1])[0], *liking(positions[1:])]
    spent = meter.tokens
    assert liking(positions[:2]) == found[:2]
    assert meter.tokens == spent + 2  # nothing is read twice; each look counts one
    for position, priors in zip(positions, found, strict=True):
        ids = prompt(position.text)
        logits = open_model(MODEL, threads=1, context=64).forward(ids, [0] * len(ids), range(len(ids)))[-1]
        first = [MODEL.tokenizer.encode(move)[0] for move in position.moves()]
        p = np.exp(logits[first].astype(np.float64))
        np.testing.assert_allclose(priors, p / p.sum(), rtol=1e-4)
    search = GameSearch(positions[0], liking, Meter(Budget(tokens=1)), seed=0)
    assert search.best() == ("abcdefg"[int(np.argmax(found[0]))], 0)


class Scripted:
    """An engine whose model thinks before it moves: what follows a token is written down."""

    tokenizer = MODEL.tokenizer
    context, sequences = 64, 3

    def __init__(self, follows: dict[int, list[tuple[int, float]]]) -> None:
        self.follows, self.read = follows, []  # type: ignore[var-annotated]

    def share(self, ids: Sequence[int], sequence: int) -> int:
        return 0

    def copy(self, source: int, target: int, length: int) -> None: ...

    def forward(self, tokens: Any, sequences: Any, positions: Any, wanted: Any = None) -> Any:
        self.read.append(list(zip(sequences, positions, tokens, strict=True)))
        rows = [t for n, t in enumerate(tokens) if wanted is None or wanted[n]]
        logits_NV = np.full((len(rows), MODEL.config.vocab_size), -10, np.float32)
        for logits_V, token in zip(logits_NV, rows, strict=True):
            for after, score in self.follows[token]:
                logits_V[after] = score
        return logits_NV


def test_a_model_that_thinks_is_asked_for_its_move_after_its_thoughts() -> None:
    encode = MODEL.tokenizer.encode
    opened, closed = (MODEL.tokenizer.special_id(name) for name in ("<think>", "</think>"))
    (a,), (b,), line = encode("a"), encode("b"), encode("\n")[0]
    one, two, three = (encode(n)[0] for n in "123")
    follows = {
        a: [(opened, 5.0), (three, 4.0)], b: [(two, 1.0), (opened, 0.0)], opened: [(closed, 1.0)],
        closed: [(line, 3.0), (three, 2.0)], line: [(one, 2.0), (two, 1.0), (closed, 0.0)],
    }  # fmt: skip
    engine, meter = Scripted(follows), Meter(Budget(tokens=1))
    liking = ModelLiking(engine, lambda text: [b, a] if text == "3 left" else [a, b], meter)  # type: ignore[arg-type]
    likes = liking([Nim(3)])[0]
    e = np.exp([2.0, 1.0, -10.0])
    np.testing.assert_allclose(likes, e / e.sum(), rtol=1e-6)
    assert meter.tokens == 2 + 3
    assert [step[0][1:] for step in engine.read[1:]] == [(2, opened), (3, closed), (4, line)]
    p = np.exp([-10.0, 1.0])
    np.testing.assert_allclose(liking([Nim(2)])[0], p / p.sum(), rtol=1e-6)  # this one does without
    endless = Scripted(follows | {opened: [(opened, 1.0)]})
    ModelLiking(endless, lambda _: [a], Meter(Budget(tokens=1)))([Nim(3)])  # type: ignore[arg-type]
    assert max(place for step in endless.read for _, place, _ in step) == endless.context - 1


def test_a_game_that_is_over_is_refused() -> None:
    with pytest.raises(UsageError, match="over"):
        GameSearch(Nim(0), alike, Meter(Budget(tokens=1)), seed=0)
    with pytest.raises(UsageError, match="two sequences"):
        ModelLiking(open_model(MODEL, threads=1, context=64), lambda _: [1], Meter(Budget(tokens=1)))
