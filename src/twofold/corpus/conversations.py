"""Conversations: chats to learn to answer from, with a mask that says which tokens the model is to say.

What a line of such a file may hold is in tokens/conversation.py. Here files are read, and become a corpus:
each conversation is `<|endoftext|>` and then its rendering by the tokenizer's chat template, with its mask.

A line that is no conversation is told with its number and the reason. Reading goes on to the end, so that all
bad lines are found at once; then it stops, unless they are to be left out.

Not covered: pictures and sound in messages (they are let through, and the chat template decides).
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from twofold.base.errors import BadFileError, UsageError
from twofold.base.files import write_text
from twofold.corpus.build import Progress, fingerprint, sources, stamps
from twofold.corpus.documents import Paths, places
from twofold.corpus.opening import extension, open_bytes
from twofold.corpus.shards import Corpus, Spool, open_corpus, reusable
from twofold.tokens import Tokenizer
from twofold.tokens.conversation import Conversation, check, encode

LONGEST_LINE = 8_000_000  # bytes; a book has one
SHOWN = 10  # bad lines that are spelled out; the rest are counted
HELD_OUT = "val.jsonl"  # the conversations that were held out, as text
ENOUGH = 20  # held-out conversations, where there are enough of them
LEAST_SHARE, MOST_SHARE = 0.02, 0.2  # that are held out

BadLines = Literal["stop", "skip"]
T = TypeVar("T")


class Troubles:
    """What was wrong with lines: the first few in words, and how many. `what`: what they ought to be."""

    def __init__(self, what: str = "conversations") -> None:
        self.what = what
        self.first: list[str] = []
        self.count = 0

    def add(self, sentence: str) -> None:
        """Note one more."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(sentence)

    def listed(self) -> list[str]:
        """Return a sentence each for the first ones, and one that counts the rest."""
        rest = self.count - len(self.first)
        return [*self.first, *([f"… and {rest:,} more lines."] if rest else [])]

    def check(self) -> None:
        """Raise BadFileError when there were any."""
        if self.count == 1:
            raise BadFileError(self.first[0])
        if self.count:
            head = f"{self.count:,} lines are not {self.what} that can be learned from:"
            tail = "Mend them, or leave them out with --set bad_lines=skip."
            raise BadFileError("\n  ".join([head, *self.listed()]) + f"\n{tail}")


def conversations(paths: Paths, *, bad: Callable[[str], object] | None = None) -> Iterator[Conversation]:
    """Return the conversations of `.jsonl` files (or `.gz`, `.zst` of them) and folders of such, in order.

    `bad` is told of each line that is none: "FILE, line 7: why."; without it they raise one BadFileError when
    all has been read. Raises UsageError for paths that lead nowhere, BadFileError for damaged compression.
    """
    return checked(paths, check, "conversations", bad)


def checked(
    paths: Paths, check: Callable[[Any, str, str], T], what: str, bad: Callable[[str], object] | None
) -> Iterator[T]:
    """Return what `check` makes of the JSON on each line: of the record, its source and where it stands.

    `what` it ought to be, for messages to people. The rest as for `conversations`.
    """
    troubles = Troubles(what)
    for place in places(paths):
        if place.path is None:
            raise UsageError(f"{what.capitalize()} are read from files, and {place.name!r} is none.")
        if extension(place.path) != "jsonl":
            if place.named:
                raise UsageError(f"{place.name}: {what} are read from .jsonl files (also .gz and .zst).")
            continue
        with open_bytes(place.path) as stream:
            for number, line, size in _lines(stream):
                where = f"{place.name}, line {number}"
                try:
                    found = _read(line, size, place.name, where, check)
                except BadFileError as error:
                    (bad or troubles.add)(str(error))
                else:
                    yield found
    troubles.check()


def _lines(stream: io.BufferedReader) -> Iterator[tuple[int, bytes, int]]:
    """Yield (number, bytes, size) of each line that is not blank; of one that is too long no bytes."""
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        size = len(line)
        if size > LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = stream.readline(1 << 20)
                size += len(line)
            line = b""
        if line.strip() or size > LONGEST_LINE:
            yield number, line, size


def _read(line: bytes, size: int, source: str, where: str, check: Callable[[Any, str, str], T]) -> T:
    """Return what `check` makes of a line. Raises BadFileError."""
    if size > LONGEST_LINE:
        raise BadFileError(
            f"{where}: is {size / 1e6:,.1f} MB long, and a line may have {LONGEST_LINE / 1e6:.0f} MB."
        )
    try:
        record = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
        return check(record, source, where)
    except json.JSONDecodeError as error:
        raise BadFileError(f"{where}: not JSON ({error.msg}, at character {error.pos + 1}).") from error
    except UnicodeDecodeError as error:
        raise BadFileError(f"{where}: not UTF-8 text (byte {error.start + 1}).") from error
    except RecursionError as error:
        raise BadFileError(f"{where}: nested too deeply.") from error
    except ValueError as error:  # a number of thousands of digits
        raise BadFileError(f"{where}: not JSON that can be read ({error}).") from error


def prepare_conversations(
    data: Paths | Sequence[Conversation],
    folder: str | Path,
    *,
    tokenizer: Tokenizer,
    val_fraction: float | None = 0.02,
    seed: int = 0,
    max_tokens: int | None = None,
    bad_lines: BadLines = "stop",
    progress: Progress | None = None,
) -> Corpus:
    """Return the corpus, with masks, of the conversations in files or of a list, written to `folder`.

    Reuse and the held-out part work as in `prepare`; the held-out conversations are written to val.jsonl,
    too. `val_fraction` None: about twenty, a fiftieth of many and a fifth of few. `max_tokens`: leave out
    longer conversations, which would not fit the model's context; their number is reported in `skipped`.
    `bad_lines` "skip" leaves out lines that are no conversation and reports them there, too. `train_bytes`
    and `val_bytes` count what the assistant learns to say only. Raises UsageError or BadFileError.
    """
    if val_fraction is not None and not 0 < val_fraction < 1:
        raise UsageError(f"The held-out fraction must lie between 0 and 1, not {val_fraction}.")
    folder = Path(folder)
    given = _as_conversations(data)
    found = [] if given is not None else places(data)  # type: ignore[arg-type]
    inputs = {
        "train": stamps(found),
        "list": None if given is None else _list_hash(given),
        "tokenizer": fingerprint(tokenizer),
        "val_fraction": val_fraction,
        "seed": seed,
        "max_tokens": max_tokens,
        "bad_lines": bad_lines,
    }
    if reusable(folder, inputs):
        return open_corpus(folder)
    troubles = Troubles()
    read = given if given is not None else conversations([p.name for p in found], bad=troubles.add)
    with Spool(folder, tokenizer.vocab_size, masked=True) as spool:
        taken = _Taken(spool, tokenizer, seed, max_tokens, val_fraction or MOST_SHARE)
        for conversation in read:
            try:
                taken.add(conversation)
            except (BadFileError, UsageError) as error:  # the chat template refuses it
                where = conversation.where
                text = str(error)
                troubles.add(text if not where or text.startswith(where) else f"{where}: {text}")
            if progress is not None and len(spool.sizes) % 100 == 0:
                progress("tokenising conversations", sum(taken.bytes_by_source.values()))
        if bad_lines == "stop" or not len(spool.sizes):
            troubles.check()
        taken.split(val_fraction)
        write_text(folder / HELD_OUT, taken.held_out())
        listed = [{"path": name, "sha256": None, "bytes": n} for name, n in taken.bytes_by_source.items()]
        about = {
            "sources": listed if given is not None else sources(found, taken.bytes_by_source),
            "skipped": [*taken.skipped(), *({"path": "", "reason": text} for text in troubles.listed())],
            "inputs": inputs,
        }
        return spool.finish(tokenizer, seed, about)


class _Taken:
    """Conversations on their way into a spool: where they fall, and what became of those left out."""

    def __init__(
        self, spool: Spool, tokenizer: Tokenizer, seed: int, max_tokens: int | None, most_share: float
    ) -> None:
        self.spool, self.tokenizer, self.seed, self.max_tokens = spool, tokenizer, seed, max_tokens
        self.most_share = most_share
        self.fractions: list[float] = []
        self.bytes_by_source: dict[str, int] = {}
        self.too_long: dict[str, int] = {}
        self.attachments: dict[str, int] = {}
        self._texts: dict[int, str] = {}  # of those that may be held out
        self._last: Conversation | None = None

    def add(self, conversation: Conversation) -> None:
        """Take one conversation, unless it is too long. Raises BadFileError or UsageError."""
        ids, mask = encode(conversation, self.tokenizer)
        source = conversation.source
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            self.too_long[source] = self.too_long.get(source, 0) + 1
            return
        if conversation.attachments:
            self.attachments[source] = self.attachments.get(source, 0) + 1
        size, fraction = conversation.learned_bytes, _fraction(conversation, self.seed)
        self.spool.add(ids, size, 0, mask)
        if fraction < self.most_share:
            self._texts[len(self.fractions)] = json.dumps(conversation.record(), ensure_ascii=False)
        self.fractions.append(fraction)
        self._last = conversation
        self.bytes_by_source[source] = self.bytes_by_source.get(source, 0) + size

    def split(self, share: float | None) -> None:
        """Hold out the share that was asked for. Raises BadFileError for fewer than two conversations."""
        if share is None:
            share = min(MOST_SHARE, max(LEAST_SHARE, ENOUGH / max(1, len(self.fractions))))
        for index, fraction in enumerate(self.fractions):
            self.spool.splits[index] = int(fraction < share)
        self.spool.give_both_parts()
        if self._last is not None:
            self._texts[len(self.fractions) - 1] = json.dumps(self._last.record(), ensure_ascii=False)

    def held_out(self) -> str:
        """Return the held-out conversations, one per line, as far as they are known."""
        chosen = (self._texts.get(index) for index, part in enumerate(self.spool.splits) if part)
        return "".join(f"{text}\n" for text in chosen if text is not None)

    def skipped(self) -> Iterator[dict[str, str]]:
        """Return what was left out, or is not seen whole, and why."""
        for name, n in self.too_long.items():
            yield {"path": name, "reason": f"{n} conversations longer than {self.max_tokens} tokens"}
        for name, n in self.attachments.items():
            yield {
                "path": name,
                "reason": f"of {n} conversations the attachments (this model reads text only)",
            }


def held_out_conversations(corpus: Path) -> list[Conversation]:
    """Return the conversations that a corpus holds out; none when it was made by an older version."""
    path = corpus / HELD_OUT
    return list(conversations(path)) if path.is_file() else []


def _as_conversations(data: Paths | Sequence[Conversation]) -> list[Conversation] | None:
    """Return `data` as a list if it is one of conversations, None if it is paths."""
    if isinstance(data, str | Path):
        return None
    kinds = {isinstance(item, Conversation) for item in data}
    if len(kinds) > 1:
        raise UsageError("Give either paths or conversations, not both in one list.")
    return [item for item in data if isinstance(item, Conversation)] if kinds == {True} else None


def _list_hash(given: Iterable[Conversation]) -> str:
    digest = hashlib.sha256()
    for conversation in given:
        digest.update(json.dumps([conversation.messages, conversation.tools, conversation.source]).encode())
    return digest.hexdigest()


def _fraction(conversation: Conversation, seed: int) -> float:
    """Return a number in [0, 1) that depends on the messages and the seed alone."""
    text = json.dumps(conversation.messages, sort_keys=True).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=f"split{seed}".encode()).digest()) / 2**64


__all__ = [
    "Conversation", "check", "conversations", "encode", "held_out_conversations", "prepare_conversations",
]  # fmt: skip
