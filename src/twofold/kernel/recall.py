"""Recall: which of many texts have to do with a question. Full text and vectors together.

Words are found by SQLite's FTS5 and scored by BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance
Framework"), with word stems; meaning by the dot product with every vector, which for 200,000 texts takes some
hundredths of a second and needs no index that could be wrong. Both scores are put on one scale before they
are added: BM25 as a share of what a text that has every word of the question would get, so a score says how
good a hit is and not only that it was the best of a bad lot. Ranks are not fused: they forget how much better
the first is than the second (figures in docs/log.md).

Not covered: texts longer than a page or two, which their reader cuts up first.
"""

import math
import re
import sqlite3
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twofold.kernel.embedders import Embedder, Floats

MEANING = 0.3  # the weight of the vectors in a score beside that of words, with the default embedder
_MOST_WORDS = 32  # of a question: the rarest
_WORD = re.compile(r"\w+")
_TABLES = """
CREATE TABLE IF NOT EXISTS texts (row INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, vector BLOB);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, tokenize = 'porter unicode61 remove_diacritics 2');
"""


@dataclass(frozen=True)
class Hit:
    """A text that was found. `score` joins `words` (0 to about 1) and `meaning` (-1 to 1)."""

    id: str
    score: float
    words: float
    meaning: float


class Index:
    """Texts by id, in memory or in a file. Any thread may use it."""

    def __init__(
        self, embedder: Embedder | None = None, path: Path | None = None, *, meaning: float | None = None
    ) -> None:
        """Open an index. Without an embedder words alone decide. meaning: the weight of its vectors, by
        default what suits it best.

        A file must be opened with the embedder that it was made with.
        """
        self._embedder, self._meaning = embedder, 0.0
        if embedder:
            self._meaning = embedder.meaning if meaning is None else meaning
        self._lock = threading.Lock()
        self._base = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        # It can be made again, so it need not be on the disk at once; WAL keeps it whole all the same.
        self._base.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _TABLES)
        self._ids: list[str] = []  # in the order of the vectors
        self._places: dict[str, int] = {}
        self._hashes: dict[str, int] = {}
        self._vectors: Floats = np.zeros((16, embedder.dim if embedder else 0), np.float32)
        for name, vector in self._base.execute("SELECT id, vector FROM texts ORDER BY row"):
            self._place(name, np.frombuffer(vector or b"", np.float32))

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def add(self, texts: Mapping[str, str]) -> None:
        """Add texts; one whose id is there already is replaced, if it has changed."""
        texts = {name: text for name, text in texts.items() if self._hashes.get(name) != hash(text)}
        if not texts:
            return
        vectors = self._embedder.encode(list(texts.values())) if self._embedder else [None] * len(texts)
        with self._lock, self._base:
            self._base.execute("BEGIN")
            for (name, text), vector in zip(texts.items(), vectors, strict=True):
                self._drop(name)
                blob = None if vector is None else vector.tobytes()
                row = self._base.execute(
                    "INSERT INTO texts (id, vector) VALUES (?, ?)", (name, blob)
                ).lastrowid
                self._base.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (row, text))
                self._place(name, np.zeros(0, np.float32) if vector is None else vector)
                self._hashes[name] = hash(text)

    def remove(self, name: str) -> None:
        """Take a text out; one that is not there is no mistake."""
        with self._lock, self._base:
            self._base.execute("BEGIN")
            self._drop(name)
            self._hashes.pop(name, None)
            if name in self._places:  # the last one takes its place
                place, last = self._places.pop(name), self._ids.pop()
                if last != name:
                    self._ids[place], self._places[last] = last, place
                    self._vectors[place] = self._vectors[len(self._ids)]

    def search(self, question: str, count: int = 8, *, among: Collection[str] | None = None) -> list[Hit]:
        """Return the best texts, best first, of those `among` allows; none that has nothing in common."""
        ids, words_N, meanings_N = self.scores(question)
        scores_N = (1 - self._meaning) * words_N + self._meaning * np.maximum(meanings_N, 0)
        found: list[Hit] = []
        for n in np.argsort(-scores_N, kind="stable"):
            if scores_N[n] <= 0 or len(found) == count:
                break
            if among is None or ids[n] in among:
                found.append(Hit(ids[n], float(scores_N[n]), float(words_N[n]), float(meanings_N[n])))
        return found

    def scores(self, question: str) -> tuple[list[str], Floats, Floats]:
        """Return all ids, the last added first, and how much each text has of the question's words and of its
        meaning, [N] each."""
        with self._lock:
            words = self._by_words(question)
            meanings_N = np.zeros(len(self._ids), np.float32)
            if self._embedder:
                meanings_N = self._vectors[: len(self._ids)] @ self._embedder.encode([question])[0]
            words_N = np.array([words.get(name, 0.0) for name in self._ids], np.float32)
            return self._ids[::-1], words_N[::-1], meanings_N[::-1]

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def __del__(self) -> None:
        if "_base" in self.__dict__:
            self._base.close()

    # ---- with the lock held

    def _drop(self, name: str) -> None:
        row = self._base.execute("SELECT row FROM texts WHERE id = ?", (name,)).fetchone()
        if row:
            self._base.execute("DELETE FROM words WHERE rowid = ?", row)
            self._base.execute("DELETE FROM texts WHERE row = ?", row)

    def _place(self, name: str, vector: Floats) -> None:
        place = self._places.setdefault(name, len(self._ids))
        if place == len(self._ids):
            self._ids.append(name)
        if place == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        if vector.size:
            self._vectors[place] = vector

    def _by_words(self, question: str) -> dict[str, float]:
        """Return the texts that share words with the question, and the share of its words that they have."""
        weights = {}
        for word in dict.fromkeys(_WORD.findall(question.lower())):
            (there,) = self._base.execute(
                "SELECT count(*) FROM words WHERE words MATCH ?", (f'"{word}"',)
            ).fetchone()
            # As FTS5 weighs a word: nothing when half of the texts have it.
            weights[word] = max(0.0, math.log((len(self._ids) - there + 0.5) / (there + 0.5)))
        chosen = sorted(weights, key=lambda word: -weights[word])[:_MOST_WORDS]
        all_of_it = sum(weights[word] for word in chosen)
        if not all_of_it:
            return {}
        found = self._base.execute(
            "SELECT id, -bm25(words) FROM words JOIN texts ON texts.row = words.rowid WHERE words MATCH ?",
            (" OR ".join(f'"{word}"' for word in chosen if weights[word]),),
        )
        return {name: score / all_of_it for name, score in found}
