"""The search device over files on disk, against plain full text: how good, how fast, how true its places are.

    python benchmarks/search.py [--rag FOLDER] [--embedder words]

Cranfield: 1,400 abstracts of aeronautics as text files, 225 questions graded by hand (nDCG of the first
ten files). XQuAD: its paragraphs, by subject as Markdown files of many paragraphs, and questions whose
answer stands in one of them: is the answer in the first passage, in the first five? The rival is SQLite's
FTS5 with BM25 over the same files (Cranfield) and paragraphs (XQuAD), stemmed as ours. Each place that is
returned is looked up in its file. Last, a second search when nothing has changed, and after one file of
all has.
"""

import argparse
import json
import math
import os
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

from twofold.devices import search
from twofold.kernel.device import Context

Ranked = Callable[[str, int], list[dict[str, Any]]]


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file."""
    with zstandard.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def plain(texts: Mapping[str, str]) -> Ranked:
    """Return a search by FTS5 and BM25 alone; a result has the path and the text."""
    base = sqlite3.connect(":memory:")
    base.execute("CREATE VIRTUAL TABLE words USING fts5(path UNINDEXED, text, tokenize = 'porter unicode61')")
    base.executemany("INSERT INTO words VALUES (?, ?)", texts.items())

    def ranked(query: str, count: int) -> list[dict[str, Any]]:
        words = " OR ".join(f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", query.lower())))
        found = base.execute(
            "SELECT path, text FROM words WHERE words MATCH ? ORDER BY bm25(words) LIMIT ?", (words, count)
        )
        return [{"path": path, "text": text} for path, text in found]

    return ranked


def device(folder: Path, index: Path, embedder: str, meaning: float | None) -> Ranked:
    """Return the search of the device over a folder."""
    settings: dict[str, Any] = {"folders": {"files": str(folder)}, "index": str(index), "embedder": embedder}
    opened = search.open(settings if meaning is None else settings | {"meaning": meaning})
    context = Context(pid=1, workspace=folder, call="c")

    def ranked(query: str, count: int) -> list[dict[str, Any]]:
        value = opened.call("search", {"query": query, "count": count}, context).value
        while value["unread"]:
            value = opened.call("search", {"query": query, "count": count}, context).value
        found: list[dict[str, Any]] = value["results"]
        return found

    return ranked


def ndcg(ranked: Ranked, questions: Sequence[tuple[str, Mapping[str, float]]]) -> float:
    """Return the mean nDCG of the first ten files, in per cent."""
    total = 0.0
    for question, good in questions:
        files = list(dict.fromkeys(one["path"].rpartition("/")[2] for one in ranked(question, 20)))[:10]
        gain = sum(good.get(name, 0.0) / math.log2(2 + n) for n, name in enumerate(files))
        best = sorted(good.values(), reverse=True)[:10]
        total += gain / sum(value / math.log2(2 + n) for n, value in enumerate(best))
    return 100 * total / len(questions)


def answered(ranked: Ranked, questions: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Return the shares of questions whose answer stands in the first passage, and in the first five."""
    first = five = 0
    for question, answer in questions:
        texts = [" ".join(one["text"].split()) for one in ranked(question, 5)]
        first += any(answer in text for text in texts[:1])
        five += any(answer in text for text in texts)
    return 100 * first / len(questions), 100 * five / len(questions)


def untrue(ranked: Ranked, folder: Path, queries: Sequence[str]) -> tuple[int, int]:
    """Return how many places were returned, and how many do not hold the text that was shown."""
    count = wrong = 0
    for query in queries:
        for one in ranked(query, 10):
            text = (folder / one["path"].removeprefix("/files/")).read_text(encoding="utf-8")
            first, last = one["lines"]
            lines = "\n".join(text.split("\n")[first - 1 : last])
            count += 1
            wrong += text[slice(*one["offsets"])] != one["text"] or one["text"] not in lines
    return count, wrong


def cranfield(rag: Path, folder: Path) -> tuple[dict[str, str], list[tuple[str, dict[str, float]]]]:
    """Write the abstracts as files; return them, and questions with what is relevant and how much."""
    texts = {f"{row['id']}.txt": row["text"] for row in rows(rag / "cranfield_docs.jsonl.zst")}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    relevant: dict[int, dict[str, float]] = {}
    for line in (rag / "cranqrel.txt").read_text().splitlines():
        number, name, grade = line.split()
        # 1 is a complete answer, 4 of minimal interest; -1 and 5 are none.
        relevant.setdefault(int(number), {})[f"{name}.txt"] = {"1": 4.0, "2": 3.0, "3": 2.0, "4": 1.0}.get(
            grade, 0.0
        )
    found = [
        (row["query"], relevant.get(int(row["n"]), {})) for row in rows(rag / "cranfield_queries.jsonl.zst")
    ]
    return texts, [(question, good) for question, good in found if any(good.values())]


def xquad(rag: Path, folder: Path) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Write the paragraphs as files of ten each; return them, and questions with their answers."""
    table = rows(rag / "xquad_en.jsonl.zst")
    paragraphs = list(dict.fromkeys(row["context"] for row in table))
    for n in range(0, len(paragraphs), 10):
        (folder / f"{n // 10}.md").write_text("\n\n".join(paragraphs[n : n + 10]), encoding="utf-8")
    return {str(n): text for n, text in enumerate(paragraphs)}, [
        (row["question"], " ".join(row["answers"][0]["text"].split())) for row in table
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rag", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "rag")
    parser.add_argument("--embedder", default="words")
    parser.add_argument(
        "--meaning", type=float, nargs="*", help="weights of the vectors to try beside the usual one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        there = Path(temporary)
        abstracts, subjects = there / "cranfield", there / "xquad"
        abstracts.mkdir()
        subjects.mkdir()
        texts, graded = cranfield(options.rag, abstracts)
        paragraphs, questions = xquad(options.rag, subjects)
        print("| search | Cranfield, nDCG@10 | XQuAD, answer in first / first five |\n|---|---|---|")
        first, five = answered(plain(paragraphs), questions)
        print(f"| FTS5, BM25 | {ndcg(plain(texts), graded):.1f} | {first:.1f} / {five:.1f} |", flush=True)
        ways = [
            ("none", None, "the device, words alone"),
            (options.embedder, None, f"the device, with {options.embedder}"),
        ]
        ways += [(options.embedder, weight, f"– weight {weight}") for weight in options.meaning or ()]
        for embedder, meaning, name in ways:
            ranked = device(abstracts, there / "index", embedder, meaning)
            passages = device(subjects, there / "index", embedder, meaning)
            began = time.perf_counter()
            ranked("anything", 1)
            took = time.perf_counter() - began
            first, five = answered(passages, questions)
            print(f"| {name} | {ndcg(ranked, graded):.1f} | {first:.1f} / {five:.1f} |", flush=True)
            if meaning is None:
                speed = f"1,400 files read into the index ({name}): {took:.1f} s"
        print(f"\n{speed}")
        count, wrong = untrue(passages, subjects, [question for question, _ in questions[:200]])
        print(f"{count} places looked up in their files: {wrong} do not hold what they say")
        for what in ("nothing has changed", "one file has changed"):
            if what.startswith("one"):
                path = abstracts / "1.txt"
                path.write_text("Another text.")
                os.utime(path, ns=(1, 1))
            spent = []
            for question, _ in graded[:20] if what.startswith("nothing") else graded[:1]:
                began = time.perf_counter()
                ranked(question, 5)
                spent.append(time.perf_counter() - began)
            print(f"a search of 1,400 files when {what}: {1000 * sorted(spent)[len(spent) // 2]:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
