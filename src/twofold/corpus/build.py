"""Preparing a corpus: read the documents, train a tokenizer on a sample, tokenise, hold a part out, write.

Which documents are held out depends on a hash of their text, so the same text is always on the same side, in
whatever order and company it comes, and a document that occurs twice is not in both parts. The files may
bring their own held-out one: called `val`, `valid` or `validation` (`val.jsonl.zst`), or named by `val_path`.

The result is kept: with the same files (path, size, time of change) and settings it is opened, not made
again.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twofold.base.errors import BadFileError, UsageError
from twofold.base.files import sha256
from twofold.corpus import hub
from twofold.corpus.documents import Document, Paths, Place, Skipped, places, read
from twofold.corpus.shards import Corpus, Spool, open_corpus, reusable
from twofold.tokens import Tokenizer

DEFAULT_VOCAB_SIZE = 8192
SAMPLE_BYTES = 20_000_000
CHUNK_BYTES = 4_000_000
HELD_OUT_NAMES = ("val", "valid", "validation")

Progress = Callable[[str, int], None]  # what is being done; bytes of text done so far


def prepare(
    paths: Paths,
    folder: str | Path,
    *,
    vocab_size: int | None = None,
    tokenizer: Tokenizer | None = None,
    val_fraction: float = 0.02,
    val_path: Paths | None = None,
    seed: int = 0,
    max_bytes: int | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Return the corpus of the documents in `paths`, written to `folder`, or opened if it is there already.

    `vocab_size`: of the tokenizer to train (default 8,192) when `tokenizer` is None. `val_fraction`: share of
    documents to hold out (at least one; a lone document gives its last tenth) when there is no held-out file.
    `seed` chooses which ones and the order. `max_bytes`: stop reading training text after so many UTF-8
    bytes. `progress` is told what is being done and the bytes done. Raises UsageError, BadFileError and
    MissingExtraError as `documents` does, and BadFileError when there is no text at all.
    """
    if not 0 < val_fraction < 1:
        raise UsageError(f"The held-out fraction must lie between 0 and 1, not {val_fraction}.")
    folder = Path(folder)
    train_places, val_places = _part(places(paths), val_path)
    train_places = [_here(place, folder, max_bytes) for place in train_places]
    val_places = [_here(place, folder, None) for place in val_places]
    size = tokenizer.vocab_size if tokenizer else vocab_size or DEFAULT_VOCAB_SIZE
    settings = {
        "vocab_size": size,
        "tokenizer": fingerprint(tokenizer) if tokenizer else None,
        "val_fraction": val_fraction,
        "seed": seed,
        "max_bytes": max_bytes,
    }
    inputs = {"train": stamps(train_places), "val": stamps(val_places), **settings}
    if reusable(folder, inputs):
        return open_corpus(folder)
    reader = _Reader(
        train_places, val_places, val_fraction, seed, max_bytes, progress or (lambda what, done: None)
    )
    if tokenizer is None:
        tokenizer = Tokenizer.train(reader.sample(), size)
    return reader.write(folder, tokenizer, inputs)


@dataclasses.dataclass
class _Reader:
    """Reads the same documents twice: once for a sample, once to tokenise them."""

    train_places: list[Place]
    val_places: list[Place]
    val_fraction: float
    seed: int
    max_bytes: int | None
    progress: Progress

    def documents(self, skipped: Callable[[Skipped], None] | None = None) -> Iterator[tuple[Document, int]]:
        """Return each document with its part: 0 to learn from, 1 held out."""
        for document in self._train_documents(skipped):
            drawn = document.fraction(f"split{self.seed}") < self.val_fraction
            yield document, int(drawn and not self.val_places)
        for place in self.val_places:
            yield from ((document, 1) for document in read(place, skipped))

    def _train_documents(self, skipped: Callable[[Skipped], None] | None) -> Iterator[Document]:
        total = 0
        for place in self.train_places:
            for document in read(place, skipped):
                yield document
                total += document.bytes
                if self.max_bytes is not None and total >= self.max_bytes:
                    return

    def sample(self) -> list[str]:
        """Return texts to train a tokenizer on: up to about 20 MB, evenly from all the training documents."""
        kept: list[tuple[float, str, int]] = []
        size, done, limit = 0, 0, 1.0
        for document, split in self.documents():
            done += document.bytes
            self.progress("reading a sample for the tokenizer", done)
            fraction = document.fraction(f"sample{self.seed}")
            if (split and kept) or fraction >= limit:  # a lone document will be in both parts
                continue
            kept.append((fraction, document.text, document.bytes))
            size += document.bytes
            while size > SAMPLE_BYTES and len(kept) > 1:
                limit /= 2
                kept = [entry for entry in kept if entry[0] < limit] or kept[:1]
                size = sum(entry[2] for entry in kept)
        self.progress("training the tokenizer", size)
        return [text[:SAMPLE_BYTES] for _, text, _ in kept]

    def write(self, folder: Path, tokenizer: Tokenizer, inputs: dict[str, Any]) -> Corpus:
        """Tokenise everything and write the corpus."""
        skipped: list[Skipped] = []
        given: dict[str, int] = {}
        separator = tokenizer.separator_id
        done = 0
        with Spool(folder, tokenizer.vocab_size, masked=False) as spool:
            for chunk in _chunks(self._both_parts(skipped.append)):
                for (document, split), ids in zip(
                    chunk, tokenizer.encode_batch([d.text for d, _ in chunk]), strict=True
                ):
                    spool.add([separator, *ids], document.bytes, split)
                    given[document.source] = given.get(document.source, 0) + document.bytes
                    done += document.bytes
                self.progress("tokenising", done)
            about = {
                "sources": sources(self.train_places + self.val_places, given),
                "skipped": [dataclasses.asdict(skip) for skip in skipped],
                "inputs": inputs,
            }
            return spool.finish(tokenizer, self.seed, about)

    def _both_parts(self, skipped: Callable[[Skipped], None]) -> Iterator[tuple[Document, int]]:
        """Return the documents, seeing to it that both parts get one.

        One document is kept back until the end: when chance gave a part nothing, it is given to that part,
        and when it is the only one, its last tenth is held out.
        """
        spare: Document | None = None
        seen = {0: 0, 1: 0}
        for document, split in self.documents(skipped):
            if spare is None and not self.val_places:
                spare, spare_split = document, split
                continue
            seen[split] += 1
            yield document, split
        if spare is None:
            if not seen[0] or not seen[1]:
                raise BadFileError(f"There is no text in the {'held-out' if seen[0] else 'training'} files.")
        elif not seen[0] and not seen[1]:
            head, tail = _last_tenth(spare.text)
            yield Document(head, spare.source), 0
            yield Document(tail, spare.source), 1
        else:
            yield spare, (0 if not seen[0] else 1 if not seen[1] else spare_split)


def _part(found: list[Place], val_path: Paths | None) -> tuple[list[Place], list[Place]]:
    """Return the places to learn from and the places held out."""
    if val_path is not None:
        held_out = places(val_path)
    else:
        held_out = [p for p in found if p.path and p.path.name.split(".")[0].lower() in HELD_OUT_NAMES]
        if len(held_out) == len(found):  # nothing else to learn from: then it is what the user means
            held_out = []
    names = {place.path.resolve() if place.path else place.name for place in held_out}
    rest = [place for place in found if (place.path.resolve() if place.path else place.name) not in names]
    if not rest:
        raise UsageError("Every file is held out, and none is left to learn from; name more files.")
    return rest, held_out


def _here(place: Place, folder: Path, max_bytes: int | None) -> Place:
    """Return the place, a data set on a hub downloaded into the corpus folder."""
    if place.path is not None:
        return place
    return dataclasses.replace(place, path=hub.keep(place.name, folder / "downloads", max_bytes))


def _last_tenth(text: str) -> tuple[str, str]:
    """Return a text cut where its last tenth begins: at a paragraph, a line, a word, or anywhere."""
    if len(text) < 2:
        raise BadFileError("The only document is a single character; there is nothing to hold out.")
    target = max(1, len(text) * 9 // 10)
    for mark in ("\n\n", "\n", " "):
        at = text.rfind(mark, len(text) * 3 // 4, target) + len(mark)
        if at >= len(mark) and text[:at].strip() and text[at:].strip():
            return text[:at], text[at:]
    return text[:target], text[target:]


def _chunks(documents: Iterator[tuple[Document, int]]) -> Iterator[list[tuple[Document, int]]]:
    """Return the documents in lists of about 4 MB, to be tokenised in parallel."""
    chunk: list[tuple[Document, int]] = []
    size = 0
    for document, split in documents:
        chunk.append((document, split))
        size += len(document.text)
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def stamps(found: list[Place]) -> list[list[Any]]:
    """Return [name, size in bytes, time of change in ns] of each place, to notice when it changes."""
    stats = [(place.name, place.path.stat() if place.path else None) for place in found]
    return [[name, stat.st_size, stat.st_mtime_ns] if stat else [name, 0, 0] for name, stat in stats]


def sources(found: list[Place], given: dict[str, int]) -> list[dict[str, Any]]:
    """Return {path, sha256 of the file (None for a data set), bytes of text} of each place that gave text."""
    used = [place for place in found if place.name in given]
    return [
        {"path": p.name, "sha256": sha256(p.path) if p.path else None, "bytes": given[p.name]} for p in used
    ]


def fingerprint(tokenizer: Tokenizer) -> str:
    """Return a hash of everything a tokenizer consists of, as hex digits."""
    vocabulary = json.dumps(dataclasses.asdict(tokenizer.vocabulary), sort_keys=True)
    return hashlib.sha256(vocabulary.encode("utf-8", "surrogatepass")).hexdigest()
