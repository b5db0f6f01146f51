"""Recall on three retrieval benchmarks: words, each embedder alone, and both together by several weights.

    python benchmarks/recall.py [--embedders hashed words minilm] [--rag FOLDER] [--speed]

Cranfield: 225 questions over 1,400 abstracts of aeronautics, graded by hand (nDCG of the first ten). XQuAD
and QED: a question and the paragraph that answers it, among all paragraphs of the set (share of questions
whose paragraph comes first, and is among the first five). `equal ranks` is reciprocal-rank fusion with equal
weights (Cormack et al. 2009, k = 60), which most programs use."""

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import zstandard

from twofold.base.errors import TwofoldError
from twofold.kernel.embedders import EMBEDDERS, Embedder, find
from twofold.kernel.recall import Index

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
_K = 60
Ranking = list[str]


def rows(path: Path) -> list[dict[str, str]]:
    """Return the records of a file."""
    with zstandard.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def cranfield(rag: Path) -> tuple[dict[str, str], list[tuple[str, dict[str, float]]]]:
    """Return texts, and questions with what is relevant and how much."""
    texts = {row["id"]: row["text"] for row in rows(rag / "cranfield_docs.jsonl.zst")}
    relevant: dict[int, dict[str, float]] = {}
    for line in (rag / "cranqrel.txt").read_text().splitlines():
        number, text, grade = line.split()
        # 1 is a complete answer, 4 of minimal interest; -1 and 5 are none.
        gain = {"1": 4.0, "2": 3.0, "3": 2.0, "4": 1.0}.get(grade, 0.0)
        relevant.setdefault(int(number), {})[text] = gain
    found = [
        (row["query"], relevant.get(int(row["n"]), {})) for row in rows(rag / "cranfield_queries.jsonl.zst")
    ]
    return texts, [(question, good) for question, good in found if any(good.values())]


def answered(rag: Path, name: str, text: str) -> tuple[dict[str, str], list[tuple[str, dict[str, float]]]]:
    """Return paragraphs, and questions with the one that answers each."""
    table = rows(rag / name)
    texts = {paragraph: str(n) for n, paragraph in enumerate(dict.fromkeys(row[text] for row in table))}
    questions = [(row["question"], {texts[row[text]]: 1.0}) for row in table]
    return {name: paragraph for paragraph, name in texts.items()}, questions


def quality(
    rankings: Sequence[Ranking], questions: Sequence[tuple[str, Mapping[str, float]]], graded: bool
) -> list[float]:
    """Return nDCG at 10, or the shares found first and among five, in per cent."""
    pairs = list(zip(rankings, questions, strict=True))
    if not graded:
        return [
            100 * float(np.mean([any(good.get(n) for n in ranking[:k]) for ranking, (_, good) in pairs]))
            for k in (1, 5)
        ]
    found = []
    for ranking, (_, good) in pairs:
        gains = [good.get(name, 0.0) / math.log2(2 + n) for n, name in enumerate(ranking[:10])]
        best = sorted(good.values(), reverse=True)[:10]
        found.append(sum(gains) / sum(gain / math.log2(2 + n) for n, gain in enumerate(best)))
    return [100 * float(np.mean(found))]


def rankings(index: Index, questions: Sequence[str]) -> dict[str, list[Ranking]]:
    """Return the ranking of each question by each way to join words and meaning."""
    found: dict[str, list[Ranking]] = {}

    def add(way: str, ids: Sequence[str], scores_N: np.ndarray) -> None:
        found.setdefault(way, []).append([ids[n] for n in np.argsort(-scores_N, kind="stable")[:10]])

    for question in questions:
        ids, words_N, meanings_N = index.scores(question)
        for weight in WEIGHTS:
            add(f"{weight:.1f}", ids, (1 - weight) * words_N + weight * np.maximum(meanings_N, 0))
        ranks = [np.argsort(np.argsort(-s, kind="stable"), kind="stable") for s in (words_N, meanings_N)]
        add("equal ranks", ids, sum(1.0 / (_K + 1 + r) for r in ranks))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embedders", nargs="*", default=EMBEDDERS.names())
    parser.add_argument("--rag", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "rag")
    options = parser.parse_args()
    sets = {
        "cranfield, nDCG@10": (*cranfield(options.rag), True),
        "xquad, first / five": (*answered(options.rag, "xquad_en.jsonl.zst", "context"), False),
        "qed, first / five": (*answered(options.rag, "qed_dev.jsonl.zst", "paragraph"), False),
    }
    for name in options.embedders:
        try:
            embedder: Embedder = find(name)
        except TwofoldError as error:
            print(f"{name}: {error}")
            continue
        print(
            f"\n{name}, {embedder.dim} numbers\n| weight of the meaning | {' | '.join(sets)} |\n"
            f"|---|{'---|' * len(sets)}"
        )
        table: dict[str, list[str]] = {}
        took, texts_read = 0.0, 0
        for texts, questions, graded in sets.values():
            index = Index(embedder)
            began = time.perf_counter()
            index.add(texts)
            took, texts_read = took + time.perf_counter() - began, texts_read + len(texts)
            for way, ranked in rankings(index, [question for question, _ in questions]).items():
                cell = " / ".join(f"{value:.1f}" for value in quality(ranked, questions, graded))
                table.setdefault(way, []).append(cell)
            index.close()
        for way, cells in table.items():
            print(f"| {way} | {' | '.join(cells)} |")
        print(f"{texts_read / took:,.0f} texts a second are read into the index")
    return 0


if __name__ == "__main__":
    sys.exit(main())
