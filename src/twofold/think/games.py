"""Tree search over the moves of a game, with the model as the one who says which moves are worth a look.

Each simulation walks down the tree to a position that is new, asks the model how likely it would play each
move there, plays the game out at random from there, and tells all positions on the way how it ended. On the
way the move is taken that has done well, or that the model likes and that was tried little (PUCT: Rosin
2011; Silver et al. 2017, "Mastering the game of Go without human knowledge", Methods). The move tried most
is played. The other side is taken to play as the model would. With no budget at all it is the model's own
move.

Several simulations are read in one pass; each counts as lost until it has come back, so that the next goes
elsewhere (virtual loss). What all positions begin with is read once.

Not covered: a value that the model itself gives a position, chance in the rules, hidden information.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import UsageError
from twofold.think.budget import Meter
from twofold.think.writing import Thoughts

if TYPE_CHECKING:
    from twofold.run import Engine

EXPLORE = 1.5  # how much the model's liking counts against what was seen
SIDE_BY_SIDE = 8  # simulations in a pass at most, and at most a share of what was done so far, since they
_SHARE = 1 / 16  # do not know of each other
ALIKE = 0.5  # the share of a liking that goes to all moves alike: a sure model would never look elsewhere
THOUGHT_TOKENS = 64  # before a move, at most
PLAYOUTS = 4  # games played out at random from a new position

Floats = NDArray[np.float32]


class Position(Protocol):
    """A position of a game for two, seen by the one whose turn it is."""

    @property
    def text(self) -> str:
        """What a model reads."""
        ...

    def moves(self) -> Sequence[str]:
        """Return the moves, as a model answers."""
        ...

    def after(self, move: str) -> "Position":
        """Return the position after a move, seen by the other."""
        ...

    def result(self) -> float | None:
        """Return what it is worth, 0 lost to 1 won, if the game is over."""
        ...


class _Node:
    """A position in the tree. `worth` is the sum of what `visits` brought the one whose turn it is."""

    __slots__ = ("children", "moves", "position", "priors", "result", "visits", "worth")

    def __init__(self, position: Position) -> None:
        self.position, self.result = position, position.result()
        self.moves: Sequence[str] = ()
        self.priors: list[float] = []
        self.children: list[_Node | None] = []
        self.visits, self.worth = 0, 0.0

    def choose(self) -> int:
        """Return the number of the move to try next."""
        root = math.sqrt(1 + self.visits)
        best, most = 0, -1.0
        for n, (prior, child) in enumerate(zip(self.priors, self.children, strict=True)):
            visits = child.visits if child else 0
            value = 1 - child.worth / visits if child and visits else 0.5
            if (score := value + EXPLORE * prior * root / (1 + visits)) > most:
                best, most = n, score
        return best


Liking = Callable[[Sequence[Position]], list[list[float]]]


class GameSearch:
    """Looks for the best move in a position. `liking` says how likely each move of some positions is."""

    def __init__(
        self, position: Position, liking: Liking, meter: Meter, *, seed: int, width: int = SIDE_BY_SIDE
    ) -> None:
        """Read the position. `width`: positions read side by side. Raises UsageError if the game is over."""
        self._liking, self.meter = liking, meter
        self._chance = random.Random(seed)
        self._width = width
        self.root = _Node(position)
        if self.root.result is not None:
            raise UsageError("This game is over.")
        self._read([self.root])
        meter.tokens = 0  # reading the prompt is free, as it is everywhere
        meter.starts()

    @property
    def simulations(self) -> int:
        """How many were done."""
        return self.root.visits

    @property
    def done(self) -> bool:
        """Whether there is nothing to look for: one move only, or one that wins at once."""
        return len(self.root.moves) == 1 or self._winning() is not None

    def _winning(self) -> int | None:
        children = enumerate(self.root.children)
        return next((n for n, child in children if child is not None and child.result == 0), None)

    def best(self) -> tuple[str, int]:
        """Return the best move and how often it was tried.

        That is one that wins at once, else the one tried most, of equals the one that the model likes best.
        """
        root, best = self.root, self._winning()
        visits = [child.visits if child else 0 for child in root.children]
        if best is None:
            best = max(range(len(visits)), key=lambda n: (visits[n], root.priors[n]))
        return root.moves[best], visits[best]

    def step(self) -> None:
        """Do one pass through the model, or a few simulations that need none."""
        paths = []
        for _ in range(max(1, min(self._width, int(self.simulations * _SHARE)))):
            path = self._descend()
            for node in path:  # until it has come back, it counts as if each who moved there had lost
                node.visits += 1
                node.worth += 1
            paths.append(path)
        leaves = {id(path[-1]): path[-1] for path in paths if path[-1].result is None}
        if new := [leaf for leaf in leaves.values() if not leaf.moves]:
            self._read(new)
        else:
            self.meter.passed(len(paths))  # so that a game seen to its end does not go on for ever
        for path in paths:
            self._back(path)

    def _descend(self) -> list[_Node]:
        path = [self.root]
        while (node := path[-1]).moves and node.result is None:
            n = node.choose()
            child = node.children[n]
            if child is None:
                child = node.children[n] = _Node(node.position.after(node.moves[n]))
            path.append(child)
        return path

    def _back(self, path: list[_Node]) -> None:
        leaf = path[-1]
        worth = leaf.result if leaf.result is not None else self._played_out(leaf.position)
        for node in reversed(path):
            node.worth += worth - 1
            worth = 1 - worth

    def _played_out(self, position: Position) -> float:
        """Return what a position brings on average when both sides play at random."""
        total = 0.0
        for _ in range(PLAYOUTS):
            at, mine = position, True
            while (result := at.result()) is None:
                at, mine = at.after(self._chance.choice(at.moves())), not mine
            total += result if mine else 1 - result
        return total / PLAYOUTS

    def _read(self, nodes: Sequence[_Node]) -> None:
        """Give positions their moves, and ask how likely each is."""
        for node, priors in zip(nodes, self._liking([node.position for node in nodes]), strict=True):
            node.moves, node.children = node.position.moves(), [None] * len(priors)
            node.priors = [(1 - ALIKE) * prior + ALIKE / len(priors) for prior in priors]


class ModelLiking:
    """How likely a model would play each move of some positions, after its thoughts if it has any.

    Positions are read in one pass, and thoughts are the likeliest words, side by side. Asks nothing twice.
    """

    def __init__(self, engine: "Engine", prompt: Callable[[str], list[int]], meter: Meter) -> None:
        """`prompt`: from a position's text to token ids. Raises UsageError for an engine of one sequence."""
        if engine.sequences < 2:
            raise UsageError("Thinking takes an engine with two sequences or more.")
        self._engine, self._prompt, self._meter = engine, prompt, meter
        self._thoughts = Thoughts(engine.tokenizer)
        self._first: list[int] = []  # the tokens of the first position, which sequence 0 holds
        self._known: dict[str, list[float]] = {}

    def __call__(self, positions: Sequence[Position]) -> list[list[float]]:
        """Return the probabilities of the moves of each of positions that fit side by side."""
        unknown = {one.text: one for one in positions if one.text not in self._known}
        if unknown:
            self._ask(list(unknown.values()))
        else:
            self._meter.passed(len(positions))
        return [self._known[position.text] for position in positions]

    def _ask(self, positions: list[Position]) -> None:
        tokens: list[int] = []
        sequences: list[int] = []
        places: list[int] = []
        wanted: list[bool] = []
        for slot, position in enumerate(positions, 1):
            ids = self._prompt(position.text)
            if self._first:
                common = _common(ids[:-1], self._first)
                self._engine.copy(0, slot, common)
            else:
                slot, common, self._first = 0, self._engine.share(ids[:-1], 0), ids
            tokens += ids[common:]
            sequences += [slot] * (len(ids) - common)
            places += range(common, len(ids))
            wanted += [False] * (len(ids) - common - 1) + [True]
        logits_NV = self._engine.forward(tokens, sequences, places, wanted)
        self._meter.passed(len(tokens))
        ends = [(sequences[at], places[at] + 1) for at, last in enumerate(wanted) if last]
        self._think(logits_NV, ends)
        for position, logits_V in zip(positions, logits_NV, strict=True):
            first = [self._engine.tokenizer.encode(move)[0] for move in position.moves()]
            scores = logits_V[first].astype(np.float64)
            p = np.exp(scores - scores.max())
            self._known[position.text] = (p / p.sum()).tolist()

    def _think(self, logits_NV: Floats, ends: Sequence[tuple[int, int]]) -> None:
        """Let the model think where it would; the logits become those of what it says first afterwards.

        `ends`: the sequence of each row of logits, and its next position.
        """
        thoughts = self._thoughts
        if not thoughts.known:
            return
        firsts = logits_NV.argmax(1).tolist()
        going = {row: [first] for row, first in enumerate(firsts) if first == thoughts.open_id}
        while going:
            last = [said[-1] for said in going.values()]
            slots = [ends[row][0] for row in going]
            places = [ends[row][1] + len(said) - 1 for row, said in going.items()]
            logits_NV[list(going)] = self._engine.forward(last, slots, places)
            self._meter.passed(len(going))
            for row, said in list(going.items()):
                token = int(logits_NV[row].argmax())
                ended = thoughts.close_id in said and not self._engine.tokenizer.decode([token]).isspace()
                if ended or len(said) == THOUGHT_TOKENS or ends[row][1] + len(said) == self._engine.context:
                    del going[row]
                else:
                    said.append(token)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two lists begin with in common."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
