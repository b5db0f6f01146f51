"""Vectors of words for recall, made here in minutes: src/twofold/kernel/embedders/words.npz.

    python recipes/word_vectors.py --data ../shared/data [--minutes 10] [--out words.npz]

Text is public domain, CC BY 4.0 and Apache-2.0 only: shards of the pretraining text (books, textbooks, the
Factbook), and FairytaleQA's questions with the passages that answer them. A sentence and what stands around
it in its paragraph are a pair, and so are a question and its passage; the vector of each is the sum of its
words' rows at length 1, and a pair must be nearer than the other pairs of the batch (cross-entropy over
cosines, both ways). Several pairs of a batch come from one document, so that the topic alone does not do. At
the end the rows of the most frequent words are rounded to 4 bits. Prints the share of held-out pairs that
find each other among 1,000."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from twofold.base.files import atomic_write
from twofold.corpus.formats.jsonl import records
from twofold.corpus.opening import open_bytes
from twofold.kernel.embedders.words import split

SHARDS = (
    "pretrain/train-00-of-05.jsonl.zst",
    "pretrain/train-01-of-05.jsonl.zst",
    "pretrain/train-02-of-05.jsonl.zst",
)
QUESTIONS = "sft/fairytaleqa_train.jsonl.zst"
WORDS, NUMBERS, BATCH, EACH = 20_000, 128, 1024, 4
STORED = 14_000  # of the words: with 4 bits a number the file stays below a megabyte
AROUND = 60  # words before and after a sentence
KEPT = 0.2  # how often the sentence stays in what is around it, so that the same words are near as well
HELD_OUT = 1_000


def texts(data: Path, name: str) -> Iterator[dict[str, str]]:
    """Yield the records of a file."""
    with open_bytes(data / name) as stream:
        for _, record in records(stream, name):
            yield record


@dataclass
class Documents:
    """Ids of words, one after the other; where documents and sentences begin."""

    ids: np.ndarray
    sentences: list[np.ndarray]  # of each document, the bounds


def read(data: Path, shards: int) -> tuple[list[str], Documents, list[tuple[np.ndarray, np.ndarray]]]:
    """Return the words by frequency, the documents, and pairs of questions and passages."""
    counts: Counter[str] = Counter()
    documents = []
    for name in SHARDS[:shards]:
        for record in texts(data, name):
            sentences = [split(s) for s in record["text"].replace("!", ".").replace("?", ".").split(".")]
            sentences = [s for s in sentences if s]
            documents.append(sentences)
            for sentence in sentences:
                counts.update(sentence)
    asked = [(split(r["question"]), split(r["context"])) for r in texts(data, QUESTIONS)]
    for question, _ in asked:
        counts.update(question)
    words = [word for word, _ in counts.most_common(WORDS)]
    places = {word: n for n, word in enumerate(words)}

    def known(sentence: list[str]) -> list[int]:
        return [places[word] for word in sentence if word in places]

    ids: list[int] = []
    bounds = []
    for sentences in documents:
        starts = [len(ids)]
        for sentence in sentences:
            ids += known(sentence)
            starts.append(len(ids))
        bounds.append(np.array(starts))
    pairs = [(np.array(known(q)), np.array(known(p)[:300])) for q, p in asked]
    return words, Documents(np.array(ids), bounds), [pair for pair in pairs if all(map(len, pair))]


def drawn(
    documents: Documents, random: np.random.Generator, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return so many pairs of a sentence and what is around it."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    while len(found) < count:
        bounds = documents.sentences[random.integers(len(documents.sentences))]
        lengths = np.diff(bounds)
        good = np.flatnonzero((lengths >= 5) & (lengths <= 40))
        for n in random.permutation(good)[:EACH]:
            start, end = bounds[n], bounds[n + 1]
            before, after = max(bounds[0], start - AROUND), min(bounds[-1], end + AROUND)
            if random.random() < KEPT:
                around = documents.ids[before:after]
            else:
                around = np.concatenate([documents.ids[before:start], documents.ids[end:after]])
            if len(around) >= 10:
                found.append((documents.ids[start:end], around))
    return found[:count]


def vectors(table: torch.Tensor, side: list[np.ndarray]) -> torch.Tensor:
    """Return the vectors of texts, at length 1."""
    offsets = torch.from_numpy(np.cumsum([0, *map(len, side[:-1])]))
    ids = torch.from_numpy(np.concatenate(side))
    return torch.nn.functional.normalize(torch.nn.functional.embedding_bag(ids, table, offsets, mode="sum"))


def found(table: torch.Tensor, pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the share of pairs whose halves find each other first."""
    with torch.no_grad():
        scores = vectors(table, [a for a, _ in pairs]) @ vectors(table, [b for _, b in pairs]).T
    return float((scores.argmax(1) == torch.arange(len(pairs))).float().mean())


def store(path: Path, words: list[str], rows_VD: np.ndarray, unknown: float) -> None:
    """Write words and their rows, of whose numbers two are a byte; see kernel/embedders/words.py."""
    scales_V = np.maximum(np.abs(rows_VD).max(1), 1e-6) / 7
    numbers_VD = (np.round(rows_VD / scales_V[:, None]) + 8).astype(np.uint8)
    with atomic_write(path) as file:
        np.savez_compressed(
            file, rows=numbers_VD[:, ::2] << 4 | numbers_VD[:, 1::2], scales=scales_V.astype(np.float16),
            words=np.frombuffer("\n".join(words).encode(), np.uint8), unknown=np.float32(unknown),
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--shards", type=int, default=len(SHARDS))
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("src/twofold/kernel/embedders/words.npz"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    words, documents, questions = read(options.data, options.shards)
    print(
        f"{len(documents.ids):,} words, {len(documents.sentences):,} texts, {len(questions):,} questions",
        flush=True,
    )
    held_out = drawn(documents, np.random.default_rng(1), HELD_OUT)
    table = torch.nn.Parameter(0.1 * torch.randn(len(words), NUMBERS))
    scale = torch.nn.Parameter(torch.tensor(3.0))
    adam = torch.optim.Adam([table, scale], lr=options.rate, betas=(0.9, 0.99))
    began, steps = time.monotonic(), 0
    while (part := (time.monotonic() - began) / (60 * options.minutes)) < 1:
        for group in adam.param_groups:
            group["lr"] = options.rate * (1 - part)
        pairs = drawn(documents, random, BATCH - BATCH // 8)
        pairs += [questions[n] for n in random.choice(len(questions), BATCH // 8, replace=False)]
        scores = scale.exp() * vectors(table, [a for a, _ in pairs]) @ vectors(table, [b for _, b in pairs]).T
        right = torch.arange(len(pairs))
        loss = (
            torch.nn.functional.cross_entropy(scores, right)
            + torch.nn.functional.cross_entropy(scores.T, right)
        ) / 2
        adam.zero_grad()
        loss.backward()
        adam.step()
        steps += 1
        if steps % 200 == 0:
            print(
                f"{steps:,} steps, loss_nats {loss.item():.3f}, found {100 * found(table, held_out):.1f} %",
                flush=True,
            )
    rows_VD = table.detach().numpy()
    print(f"{steps:,} steps; found {100 * found(table, held_out):.1f} % of {HELD_OUT:,}")
    lengths_V = np.linalg.norm(rows_VD, axis=1)
    unknown = float(np.median(lengths_V[len(words) // 2 :]))
    store(options.out, words[:STORED], rows_VD[:STORED], unknown)
    longest = [words[n] for n in np.argsort(-lengths_V)[:8]], [words[n] for n in np.argsort(lengths_V)[:8]]
    print(
        f"{options.out}: {options.out.stat().st_size:,} bytes; says most: {longest[0]}, least: {longest[1]}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
