"""Connect four: a column a turn, four in a line win; against a teacher who looks one stone ahead.

The teacher wins if a stone does it, else stops the other from doing so, and otherwise drops a stone anywhere.
An episode is a game. It starts after some random stones: that is the problem, and mirrored or with the sides
swapped it is the same one. The model sees the board at each of its turns and names a column, a to g. A win is
worth 1, a draw a half; a column that is full or does not exist loses the game.

The teacher thinks aloud, a word for each column: its letter, and behind it X where its own stone would win, O
where the other's would, F where the column is full. A model that is to name a column at once has one word of
a position to learn from; with these it has eight, of which seven follow one rule. Thoughts do not count for
the result, and a model may do without them. What the teacher shows are mostly positions of random stones and
not of its own games: there hardly anything is ever left to see, since both sides stop each other at once
(docs/log.md). But random games end early, so late boards, on which columns are full, are of its own games.

The board is seven words, one a column from left to right, stones from the bottom up: x the model's, o the
other's, and `-` a column without any. The bars at both ends make all words alike for a tokenizer, which keeps
the space before a word with the word. Model and teacher see whole positions, so each turn is a question of
its own. Not covered: teachers who look further ahead.

Boards are two numbers, the stones of either side, with 7 bits a column (six cells and an empty one above), so
that lines are found by shifting (Tromp's fhourstones, tromp.github.io/c4).
"""

import functools
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from twofold.environments import Episode, Problem, Split, only, said, split_of

ANSWER_TOKENS = 18
COLUMNS, ROWS = 7, 6
NAMES = "abcdefg"
OPENINGS = (4, 5, 6, 7, 8)  # random stones before the game begins
SHOWN = range(4, 41)  # random stones in a position that the teacher shows
SHARE = 0.25  # of the positions of a game of random stones
LATE = 22  # stones: from here on, positions of the teacher's own games are shown, too
OWN = 0.3  # of the games that positions are taken from, those that it plays against itself
_TOPS = tuple(1 << 7 * column + ROWS - 1 for column in range(COLUMNS))
_TEXT = re.compile(r"\|(?: (?:-|[xo]{1,6})){7} \|")
_COLUMN = tuple(((1 << ROWS) - 1) << 7 * column for column in range(COLUMNS))


def wins(stones: int) -> bool:
    """Return whether four of the stones stand in a line."""
    for step in (1, 7, 6, 8):  # up, right, and the two diagonals
        pairs = stones & stones >> step
        if pairs & pairs >> 2 * step:
            return True
    return False


def open_columns(all_stones: int) -> list[int]:
    """Return the columns that are not full, counted from 0."""
    return [column for column, top in enumerate(_TOPS) if not all_stones & top]


def dropped(all_stones: int, column: int) -> int:
    """Return where a stone dropped into a column comes to lie, as one bit."""
    return (all_stones + (1 << 7 * column)) & _COLUMN[column]


def teacher(mine: int, other: int, chance: random.Random) -> int:
    """Return the column that the teacher plays: a win, else the other's win, else any."""
    stones = mine | other
    columns = open_columns(stones)
    for own in (mine, other):
        for column in columns:
            if wins(own | dropped(stones, column)):
                return column
    return chance.choice(columns)


def marks(mine: int, other: int) -> str:
    """Return what a stone in each column would do: X wins, O is where the other would, F full."""
    stones = mine | other
    words = []
    for column, name in enumerate(NAMES):
        drop = dropped(stones, column)
        words.append(
            name + ("F" if not drop else "X" if wins(mine | drop) else "O" if wins(other | drop) else "")
        )
    return _framed(words)


def spell(mine: int, other: int) -> str:
    """Return the board as words, a column each, stones from the bottom up."""
    return _framed(_word(mine >> 7 * c & 63, other >> 7 * c & 63) for c in range(COLUMNS))


def _framed(words: Iterable[str]) -> str:
    return f"| {' '.join(words)} |"


@functools.cache
def _word(mine: int, other: int) -> str:
    word = "".join("x" if mine >> row & 1 else "o" for row in range(ROWS) if (mine | other) >> row & 1)
    return word or "-"


def problems(seed: int, split: Split) -> Iterator[Problem]:
    """Return starting positions in an endless stream; in one of two the model moves first."""
    return only(split, _all(random.Random(f"connect4 {seed} {split}")))


def _all(chance: random.Random) -> Iterator[Problem]:
    while True:
        mover, other = _scattered(chance, chance.choice(OPENINGS))
        if wins(mover) or wins(other):
            continue
        first = chance.random() < 0.5
        text = spell(mover, other) if first else spell(other, mover)
        yield Problem(text, _key(mover, other), {"mover": mover, "other": other, "first": first})


def _scattered(chance: random.Random, stones: int) -> tuple[int, int]:
    """Return a position of so many random stones, fewer when one wins: whose turn it is, and the other."""
    mover = other = 0
    for _ in range(stones):
        stone = dropped(mover | other, chance.choice(open_columns(mover | other)))
        mover, other = other, mover | stone
        if wins(other):
            break
    return mover, other


def lessons(seed: int) -> Iterator[Episode]:
    """Return positions in which the teacher shows what it would do, in an endless stream.

    Each game gives a few: playing one for every position would take most of the time.
    """
    chance = random.Random(f"connect4 lessons {seed}")
    while True:
        own = chance.random() < OWN
        mover = other = 0
        for stones in range(1, SHOWN.stop):
            if own and stones > max(OPENINGS):
                column = teacher(mover, other, chance)
            else:
                column = chance.choice(open_columns(mover | other))
            mover, other = other, mover | dropped(mover | other, column)
            if wins(other):
                break
            if stones not in SHOWN or chance.random() > SHARE or (own and stones < LATE):
                continue
            key = _key(mover, other)
            if split_of(key) == "train":
                facts = {"mover": mover, "other": other, "first": True}
                yield Game(Problem(spell(mover, other), key, facts), chance.getrandbits(32))


def _key(a: int, b: int) -> str:
    """Return what a position has in common with its mirror image, and with itself with the sides swapped."""
    c, d = _mirrored(a), _mirrored(b)
    return str(min((a, b), (b, a), (c, d), (d, c)))


def _mirrored(stones: int) -> int:
    turned = stones & 63
    for _ in range(COLUMNS - 1):
        stones >>= 7
        turned = turned << 7 | stones & 63
    return turned


class Game(Episode):
    """One game from a problem's position; `seed` decides what the teacher does where it has no reason."""

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem)
        facts = problem.facts
        self.chance = random.Random(f"{problem.key} {seed}")
        self.mine, self.other = facts["mover"], facts["other"]
        if not facts["first"]:
            self.mine, self.other = self.other, self.mine
            self._other_plays()
        self._show()

    def take(self, answer: str) -> None:
        """Drop the model's stone, and then the teacher's."""
        text = said(answer)
        columns = open_columns(self.mine | self.other)
        if len(text) != 1 or NAMES.find(text) not in columns:
            self.finish(0.0)
            return
        self.mine |= dropped(self.mine | self.other, NAMES.index(text))
        if wins(self.mine):
            self.finish(1.0)
        elif not open_columns(self.mine | self.other):
            self.finish(0.5)
        else:
            self._other_plays()
            self._show()

    def _other_plays(self) -> None:
        column = teacher(self.other, self.mine, self.chance)
        self.other |= dropped(self.mine | self.other, column)
        if wins(self.other):
            self.finish(0.0)
        elif not open_columns(self.mine | self.other):
            self.finish(0.5)

    def _show(self) -> None:
        self.messages = [{"role": "user", "content": spell(self.mine, self.other)}]


def begin(problem: Problem, seed: int = 0) -> Episode:
    """Return a game against the teacher."""
    return Game(problem, seed)


def solve(episode: Episode) -> str:
    """Return what the teacher sees in each column, as thoughts, and the one that it plays."""
    assert isinstance(episode, Game)
    column = teacher(episode.mine, episode.other, episode.chance)
    return f"<think>\n{marks(episode.mine, episode.other)}\n</think>\n\n{NAMES[column]}"


@dataclass(frozen=True)
class Position:
    """A board as the one whose turn it is sees it: the rules, for search. The teacher has no part in it."""

    mine: int
    other: int

    @property
    def text(self) -> str:
        """The board as words."""
        return spell(self.mine, self.other)

    def moves(self) -> Sequence[str]:
        """Return the columns that are not full."""
        return [NAMES[column] for column in open_columns(self.mine | self.other)]

    def after(self, move: str) -> "Position":
        """Return the position after a stone in this column, as the other sees it."""
        return Position(self.other, self.mine | dropped(self.mine | self.other, NAMES.index(move)))

    def result(self) -> float | None:
        """Return 0 when the other has four in a line, a half when the board is full, else None."""
        if wins(self.other):
            return 0.0
        return None if open_columns(self.mine | self.other) else 0.5


def read(text: str) -> Problem | None:
    """Return the problem of the position that a text shows, the model to move; None if the game is over."""
    if not _TEXT.fullmatch(text):
        return None
    sides = [0, 0]
    for column, word in enumerate(text.strip("| ").split()):
        for row, stone in enumerate(word.strip("-")):
            sides["xo".index(stone)] |= 1 << 7 * column + row
    if wins(sides[0]) or Position(*sides).result() is not None:
        return None
    facts = {"mover": sides[0], "other": sides[1], "first": True}
    return Problem(text, _key(*sides), facts)


def position(problem: Problem) -> Position:
    """Return the position of a problem that `read` has returned, or of the model's turn in one."""
    mine, other = problem.facts["mover"], problem.facts["other"]
    return Position(mine, other) if problem.facts["first"] else Position(other, mine)
