"""Preference pairs: read from files, split by prompt, and kept as tokens.

What a line may hold is in tokens/pair.py. A line that is no pair is told with its number and the reason, as
lines of conversation files are. A run's pairs come in three parts, and pairs with the same prompt are always
in the same one: what it learns from, what is held out to judge it by, and (if asked for) what is kept back
for a judge, a reward model that the run itself never learns from.

    train.npz, val.npz      token ids, and where prompt, chosen and rejected of each pair end
    val.jsonl, judge.jsonl  the pairs of these parts as text
    about.json              counts, sources with hashes, what was left out; written last

Not covered: pairs that do not fit into memory.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twofold.base.errors import BadFileError, UsageError
from twofold.base.files import atomic_write, write_text
from twofold.corpus.build import sources
from twofold.corpus.conversations import BadLines, Troubles, checked
from twofold.corpus.documents import Paths, places
from twofold.tokens import Tokenizer
from twofold.tokens.pair import SIDES, Pair, answer_ids, check_pair

ENOUGH = 200  # held-out pairs, where there are enough of them
LEAST_SHARE, MOST_SHARE = 0.05, 0.2  # that are held out
JUDGE_SHARE, JUDGE_LEAST = 0.5, 200  # kept back for a judge, of so many pairs and more
TRAIN, VAL, JUDGE = range(3)

Tokens = tuple[list[int], list[int], list[int]]  # of prompt, chosen, rejected


def pairs(paths: Paths, *, bad: Callable[[str], object] | None = None) -> Iterator[Pair]:
    """Return the pairs of `.jsonl` files (or `.gz`, `.zst` of them) and folders of such, in order.

    `bad` and errors as for `conversations`.
    """
    return checked(paths, check_pair, "pairs", bad)


@dataclasses.dataclass(frozen=True)
class PairTokens:
    """Pairs as tokens: `ids` one after the other, `ends` [P, 3] of prompt, chosen and rejected in them."""

    ids: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    def texts(self, index: int) -> tuple[list[int], list[int], list[int]]:
        """Return the ids of a pair's prompt, chosen and rejected answer."""
        start = int(self.ends[index - 1, 2]) if index else 0
        first, second, end = self.ends[index].tolist()
        part = self.ids[start:end].tolist()
        return part[: first - start], part[first - start : second - start], part[second - start :]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The tokens of both answers [P, 2]."""
        return np.diff(self.ends, axis=1)

    @property
    def read(self) -> int:
        """The tokens that are read for all pairs: the prompt of each counts twice."""
        starts = np.append(0, self.ends[:-1, 2]) if len(self) else np.zeros(0, np.int64)
        return int((self.ends[:, 2] - starts + self.ends[:, 0] - starts).sum())


@dataclasses.dataclass(frozen=True)
class PairCorpus:
    """A run's pairs: tokens to learn from and held out, the texts' files, and what is known of them."""

    folder: Path
    train: PairTokens
    val: PairTokens
    about: dict[str, Any]

    @property
    def kept_back(self) -> int:
        """How many pairs are kept back for a judge, in judge.jsonl."""
        return int(self.about["judge"])

    def held_out(self) -> list[Pair]:
        """Return the held-out pairs as text."""
        return list(pairs(self.folder / "val.jsonl"))


def prepare_pairs(
    data: Paths,
    folder: Path,
    *,
    tokenizer: Tokenizer,
    context: int,
    val: Sequence[str | Path] = (),
    val_fraction: float | None = None,
    keep_back: float | None = 0.0,
    seed: int = 0,
    bad_lines: BadLines = "stop",
) -> PairCorpus:
    """Return the pairs in files, written to `folder`, or opened if they are there already.

    `context`: longer ones are bad lines. `val`: files of held-out pairs, or else `val_fraction`: the share
    of prompts to hold out; None: about 200 pairs, a twentieth of many and a fifth of few. `keep_back`: the
    share of the others that a judge gets; None: half of 200 and more. `bad_lines` "skip" leaves bad lines
    out and reports them. Raises UsageError or BadFileError, which names all bad lines, or says that there
    are fewer than two prompts.
    """
    if (folder / "about.json").is_file():
        return open_pairs(folder)
    troubles = Troubles("pairs")
    taken = list(_read(data, tokenizer, context, troubles))
    held_out = list(_read(list(val), tokenizer, context, troubles)) if val else []
    if bad_lines == "stop" or not taken:
        troubles.check()
    known = {_key(pair) for pair, _ in held_out}
    taken += held_out
    parts = _parts([pair for pair, _ in taken], known, val_fraction, keep_back, seed)
    for name, part in (("train", TRAIN), ("val", VAL)):
        _write(folder / f"{name}.npz", [ids for (_, ids), p in zip(taken, parts, strict=True) if p == part])
    for name, part in (("val", VAL), ("judge", JUDGE)):
        some = [pair.record() for (pair, _), p in zip(taken, parts, strict=True) if p == part]
        lines = [json.dumps(record, ensure_ascii=False) for record in some]
        write_text(folder / f"{name}.jsonl", "".join(f"{line}\n" for line in lines))
    counts = {name: parts.count(part) for name, part in (("train", TRAIN), ("val", VAL), ("judge", JUDGE))}
    sizes: dict[str, int] = {}
    for pair, _ in taken:
        said = sum(pair.conversation(side).learned_bytes for side in SIDES)
        sizes[pair.source] = sizes.get(pair.source, 0) + said
    listed = sources([*places(data), *(places(list(val)) if val else [])], sizes)
    about = {**counts, "sources": listed, "skipped": troubles.listed()}
    write_text(folder / "about.json", json.dumps(about, ensure_ascii=False, indent=1))
    return open_pairs(folder)


def _read(
    data: Paths, tokenizer: Tokenizer, context: int, troubles: Troubles
) -> Iterator[tuple[Pair, Tokens]]:
    """Yield the pairs of files with their tokens; `troubles` hears of all others."""
    for pair in pairs(data, bad=troubles.add):
        try:
            found = _tokens(pair, tokenizer, context)
        except (BadFileError, UsageError) as error:
            text = str(error)
            troubles.add(text if text.startswith(pair.where) else f"{pair.where}: {text}")
        else:
            yield pair, found


def open_pairs(folder: Path) -> PairCorpus:
    """Return the pairs that `prepare_pairs` wrote. Raises BadFileError when they are damaged."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        found = []
        for name in ("train", "val"):
            with np.load(folder / f"{name}.npz") as arrays:
                found.append(PairTokens(arrays["ids"], arrays["ends"]))
        return PairCorpus(folder, found[0], found[1], about)
    except (OSError, ValueError, KeyError) as error:
        raise BadFileError(f"The pairs in {folder} are damaged ({error}): remove that folder.") from error


def _tokens(pair: Pair, tokenizer: Tokenizer, context: int) -> Tokens:
    """Return the ids of prompt, chosen and rejected. Raises BadFileError when they are too long."""
    (prompt, chosen), (other, rejected) = (answer_ids(pair.conversation(s), tokenizer) for s in SIDES)
    if prompt != other:
        raise BadFileError(f"{pair.where}: the chat template renders the prompt in two ways.")
    if chosen == rejected:
        raise BadFileError(f"{pair.where}: `chosen` and `rejected` are the same.")
    longest = len(prompt) + max(len(chosen), len(rejected)) + 1  # a verdict comes behind
    if longest > context:
        raise BadFileError(f"{pair.where}: too long, {longest:,} tokens, and the window is {context:,}.")
    return prompt, chosen, rejected


def _write(path: Path, tokens: Sequence[Tokens]) -> None:
    ids = [token for pair in tokens for part in pair for token in part]
    ends = np.cumsum([len(part) for pair in tokens for part in pair]).reshape(-1, 3)
    with atomic_write(path) as file:
        np.savez(file, ids=np.array(ids, np.int32), ends=np.asarray(ends, np.int64))


def _parts(
    taken: Sequence[Pair], known: set[str], val_fraction: float | None, keep_back: float | None, seed: int
) -> list[int]:
    """Return the part of each pair: TRAIN, VAL or JUDGE. `known`: prompts to hold out; none: a share."""
    prompts = [_key(pair) for pair in taken]
    order = sorted(set(prompts), key=lambda text: _fraction(text, f"split{seed}"))
    if len(order) < 2 or known == set(order):
        raise BadFileError(
            f"There are pairs for {len(order)} prompts, and two are needed at least: one to learn from, one "
            "to hold out."
        )
    held_out = known
    if not held_out:
        share = val_fraction or min(MOST_SHARE, max(LEAST_SHARE, ENOUGH / len(taken)))
        held_out = {text for text in order[:-1] if _fraction(text, f"split{seed}") < share} | {order[0]}
    left = [text for text in order if text not in held_out]
    if keep_back is None:
        keep_back = JUDGE_SHARE if sum(text not in held_out for text in prompts) >= JUDGE_LEAST else 0.0
    judged = {text for text in left[:-1] if _fraction(text, f"judge{seed}") < keep_back}
    return [VAL if text in held_out else JUDGE if text in judged else TRAIN for text in prompts]


def _key(pair: Pair) -> str:
    return json.dumps(pair.messages, sort_keys=True)


def _fraction(text: str, purpose: str) -> float:
    """Return a number in [0, 1) that depends on the text and the purpose alone."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=purpose.encode()).digest()
    return int.from_bytes(digest) / 2**64
