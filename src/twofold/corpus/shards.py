"""Shards: all token ids of a corpus in two flat files, one to learn from and one held out.

`train.bin` and `val.bin` are arrays of little-endian uint16 (uint32 when the vocabulary needs it), one
document after the other, each beginning with `<|endoftext|>`. They are memory-mapped, so a corpus may be
larger than memory. A corpus of conversations has `train_mask.bin` and `val_mask.bin` beside them: one byte
per token, 1 where the model is to learn to say that token. `corpus.json` describes them all and is written
last: a folder without it is unfinished.
"""

import array
import contextlib
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from twofold.base.errors import BadFileError
from twofold.base.files import atomic_write, write_text
from twofold.tokens import Tokenizer

VERSION = 1
SPLITS = ("train", "val")
TOKENIZER_FILE = "tokenizer.json"
DESCRIPTION_FILE = "corpus.json"
STALE_S = 600.0

Ids = npt.NDArray[np.unsignedinteger[Any]]
Mask = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """A prepared corpus: its tokenizer, its two shards, and where the text came from.

    `train`, `val`: token ids [N], uint16 or uint32, memory-mapped; every document begins with
    `<|endoftext|>`. `train_bytes`, `val_bytes`: UTF-8 bytes of their text, separators not counted; in a
    corpus of conversations only of the text that counts in the loss. `train_mask`, `val_mask`: uint8 [N]
    beside the ids, 1 where the token is a target that counts, or None when every token counts. `sources`:
    {path, sha256, bytes} of each file that gave text. `skipped`: {path, reason} of each file left out.
    """

    folder: Path
    tokenizer: Tokenizer
    train: Ids
    val: Ids
    train_bytes: int
    val_bytes: int
    train_documents: int
    val_documents: int
    train_mask: Mask | None
    val_mask: Mask | None
    sources: list[dict[str, Any]]
    skipped: list[dict[str, Any]]
    inputs: dict[str, Any]

    @property
    def documents(self) -> int:
        """The number of documents in both parts."""
        return self.train_documents + self.val_documents


def open_corpus(folder: str | Path) -> Corpus:
    """Return the corpus that `prepare` or `prepare_conversations` wrote to `folder`.

    Raises BadFileError when it is missing, unfinished, or its files do not fit together.
    """
    folder = Path(folder)
    about = _description(folder)
    try:
        dtype = np.dtype({"uint16": "<u2", "uint32": "<u4"}[about["dtype"]])
        fields: dict[str, Any] = {"sources": about["sources"], "skipped": about["skipped"]}
        fields["inputs"] = about["inputs"]
        for split in SPLITS:
            part = about[split]
            fields[split] = _map(folder / f"{split}.bin", dtype, part["tokens"])
            masked = about["masked"]
            mask = _map(folder / f"{split}_mask.bin", np.dtype(np.uint8), part["tokens"]) if masked else None
            fields |= {f"{split}_mask": mask, f"{split}_bytes": part["bytes"]}
            fields[f"{split}_documents"] = part["documents"]
    except (KeyError, TypeError) as error:
        raise BadFileError(f"{folder / DESCRIPTION_FILE} lacks {error}; prepare the corpus again.") from error
    return Corpus(folder=folder, tokenizer=Tokenizer.load(folder / TOKENIZER_FILE), **fields)


def reusable(folder: Path, inputs: Mapping[str, Any]) -> bool:
    """Return whether `folder` holds a finished corpus made from exactly these inputs."""
    try:
        return bool(_description(folder).get("inputs") == inputs)
    except BadFileError:
        return False


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION_FILE
    try:
        about = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise BadFileError(f"{folder} holds no finished corpus ({DESCRIPTION_FILE} is missing).") from error
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path} cannot be read ({error}); prepare the corpus again.") from error
    if not isinstance(about, dict) or about.get("version") != VERSION:
        raise BadFileError(f"{path} was written by another version of twofold; prepare the corpus again.")
    return about


def _map(path: Path, dtype: np.dtype[Any], length: int) -> npt.NDArray[Any]:
    size = path.stat().st_size if path.exists() else -1
    if length < 1 or size != length * dtype.itemsize:
        raise BadFileError(f"{path} does not have the size that {DESCRIPTION_FILE} states; prepare it again.")
    return np.memmap(path, dtype=dtype, mode="r")


class Spool:
    """Documents on their way into shards: a temporary file that takes them as they come.

    `finish` then deals them out to the two parts, shuffled, since neighbouring files resemble each other and
    a training run may read in order. Documents of a later phase come after all of the earlier ones; the order
    within a phase does not depend on the others. A context manager that removes the temporary file.
    """

    def __init__(self, folder: Path, vocab_size: int, *, masked: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".*.tmp"):  # left by a process that was killed
            with contextlib.suppress(FileNotFoundError):
                if time.time() - stale.stat().st_mtime > STALE_S:
                    stale.unlink()
        self.folder, self.masked = folder, masked
        self.dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
        self._path = folder / ".documents.tmp"
        self._mask_path = folder / ".masks.tmp"
        self._file = open(self._path, "wb")  # noqa: SIM115 (closed by __exit__)
        self._mask_file = open(self._mask_path, "wb")  # noqa: SIM115
        self.ends = array.array("Q", [0])
        self.sizes = array.array("Q")
        self.splits = array.array("B")
        self.phases = array.array("B")

    def add(
        self, ids: Sequence[int] | Ids, size_bytes: int, split: int, mask: Sequence[int] | None = None,
        phase: int = 0,
    ) -> None:  # fmt: skip
        """Take one document: its ids, its text's size in bytes, its part (0 train, 1 held out), its mask."""
        self._file.write(np.asarray(ids, self.dtype).tobytes())
        if mask is not None:
            self._mask_file.write(np.asarray(mask, np.uint8).tobytes())
        self.ends.append(self.ends[-1] + len(ids))
        self.sizes.append(size_bytes)
        self.splits.append(split)
        self.phases.append(phase)

    def give_both_parts(self) -> None:
        """See to it that chance left neither part empty. Raises BadFileError for fewer than two documents."""
        if len(self.splits) < 2:
            raise BadFileError("At least two are needed, one to learn from and one to hold out.")
        if len(set(self.splits)) == 1:
            self.splits[-1] = 1 - self.splits[-1]

    def finish(self, tokenizer: Tokenizer, seed: int, about: Mapping[str, Any]) -> Corpus:
        """Return the corpus of the documents taken, written to the folder; `about` is kept in corpus.json."""
        assert set(self.splits) == {0, 1}, "both parts need a document"
        self._file.flush()
        self._mask_file.flush()
        (self.folder / DESCRIPTION_FILE).unlink(missing_ok=True)  # unfinished from here to the last line
        tokenizer.save(self.folder / TOKENIZER_FILE)
        splits = np.asarray(self.splits)
        sizes, phases = np.asarray(self.sizes), np.asarray(self.phases)
        description: dict[str, Any] = {"version": VERSION, **about, "masked": self.masked}
        description["dtype"] = {2: "uint16", 4: "uint32"}[self.dtype.itemsize]
        for number, name in enumerate(SPLITS):
            chosen = np.concatenate([
                self._shuffled(np.flatnonzero((splits == number) & (phases == phase)), seed, number, phase)
                for phase in np.unique(phases).tolist()
            ])  # fmt: skip
            tokens = self._write(self._path, self.dtype, chosen, f"{name}.bin")
            if self.masked:
                self._write(self._mask_path, np.dtype(np.uint8), chosen, f"{name}_mask.bin")
            part = {"tokens": tokens, "documents": len(chosen), "bytes": int(sizes[chosen].sum())}
            description[name] = part
        write_text(self.folder / DESCRIPTION_FILE, json.dumps(description, indent=1) + "\n")
        return open_corpus(self.folder)

    @staticmethod
    def _shuffled(chosen: npt.NDArray[Any], seed: int, number: int, phase: int) -> npt.NDArray[Any]:
        np.random.default_rng([seed, number, phase] if phase else [seed, number]).shuffle(chosen)
        return chosen

    def _write(self, source: Path, dtype: np.dtype[Any], chosen: npt.NDArray[Any], name: str) -> int:
        """Write the chosen documents one after the other to `name`; return the number of tokens."""
        ids = np.memmap(source, dtype=dtype, mode="r")
        tokens = 0
        with atomic_write(self.folder / name) as file:
            for index in chosen.tolist():
                start, end = self.ends[index], self.ends[index + 1]
                file.write(ids[start:end].tobytes())
                tokens += end - start
        return tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._mask_file.close()
        self._path.unlink(missing_ok=True)
        self._mask_path.unlink(missing_ok=True)
