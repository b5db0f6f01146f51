"""The text that the model in the box is pretrained on, as one stream in the order in which it is read.

The first part is prose and drills in looking back (box_drills.py), many at first. The second, read while the
learning rate falls, is a mixture: prose, dictionary entries, dialogues and tool calls in the chat template,
every token of which counts, and a few drills. What is read while the rate falls is remembered best (Hu et al.
2024, arXiv:2404.06395, section 5), and the rows of the tokens for turns, tools and thinking are not blank
when tuning begins. Nothing is read twice unless the prose runs out.

A step of training reads neighbouring windows. So that these are not all of one document, the windows of each
part are shuffled, too; the price is one target in a window that belongs to another text.

Tuning gets a text of its own (`text_for_tuning`), mixed into its conversations.

Not covered: choosing the shares by experiment; they are a guess (docs/log.md says what became of it).
"""

import dataclasses
import itertools
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from box_drills import drills

from twofold.base.errors import UsageError
from twofold.base.files import atomic_write, write_text
from twofold.corpus import Conversation, Corpus, open_corpus
from twofold.corpus.formats.jsonl import records
from twofold.corpus.opening import open_bytes
from twofold.corpus.shards import Spool, reusable
from twofold.tokens import Tokenizer
from twofold.tokens.conversation import encode
from twofold.tokens.specials import END_OF_TEXT

MIXED = 0.35  # of the tokens: the last part, with the decay of the rate
FIRST, MANY, FEW = 0.2, 0.4, 0.12  # many drills until so much is read, then few until the mixture
TUNING = ("far", "sums")  # kinds of drills beside prose in the text that is mixed into tuning
EASY = ("disorder", "far")  # kinds of the drills that are many at first
SHARES = {"prose": 0.64, "glosses": 0.06, "talk": 0.20, "drills": 0.10}  # of the tokens of the last part
PROSE_SAMPLE, TALK_SAMPLE = 16_000_000, 3_000_000  # bytes that the tokenizer learns from
MOST_EPOCHS = 4  # that the prose may be read
GLOSSES = 12  # dictionary entries in one document

Ids = npt.NDArray[np.unsignedinteger[Any]]


@dataclasses.dataclass(frozen=True)
class Stream:
    """The corpus in reading order, and the number of tokens before the mixture begins."""

    corpus: Corpus
    border: int


def learn_tokenizer(path: Path, prose: Path, talk: Iterable[Conversation], vocab: int) -> Tokenizer:
    """Return the tokenizer learned from prose and conversations together, kept at `path`."""
    if path.exists():
        return Tokenizer.load(path)
    texts: list[str] = []
    size = 0
    for text in some_texts(prose, PROSE_SAMPLE):
        texts.append(text)
    for conversation in talk:
        text = plain(conversation)
        texts.append(text)
        size += len(text)
        if size > TALK_SAMPLE:
            break
    tokenizer = Tokenizer.train(texts, vocab)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(path)
    return tokenizer


def some_texts(path: Path, most: int) -> Iterator[str]:
    """Return texts of a file of prose, spread over it, up to about `most` characters."""
    total = sum(len(row["text"]) for row in rows(path))
    every = max(1, total // max(1, most))
    yield from (row["text"] for number, row in enumerate(rows(path)) if number % every == 0)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Return the rows of a JSON Lines file."""
    with open_bytes(path) as stream:
        for _, row in records(stream, str(path)):
            yield row


def plain(conversation: Conversation) -> str:
    """Return the text of a conversation without its special tokens, tools and calls as JSON."""
    lines = [json.dumps(tool) for tool in conversation.tools or ()]
    for message in conversation.messages:
        lines += [str(message.get("reasoning_content") or ""), str(message["content"])]
        lines += [json.dumps(call) for call in message.get("tool_calls") or ()]
    return "\n".join(line for line in lines if line)


def make(
    folder: Path, prose: Corpus, glosses: Iterable[str], talk: Iterable[Conversation], tokens: int,
    *, context: int, skip: int = 0, anew: bool = False, seed: int = 0,
) -> Stream:  # fmt: skip
    """Return the stream of `tokens` tokens, for windows of `context`, written to `folder` or found there.

    `anew`: write it again, with other glosses and talk; the part before the mixture stays as it was, so a run
    that has not come so far may go on with it. `skip`: so many tokens of prose have been read in an earlier
    life. Raises UsageError when there is far too little prose.
    """
    first, border = (int(share * tokens) // context * context for share in (FIRST, 1 - MIXED))
    inputs = {
        "tokens": tokens, "context": context, "prose": int(prose.train.size), "seed": seed, "mixed": MIXED,
        "shuffled": True, "skip": skip, "drills before": [FIRST, MANY, FEW, *EASY], **SHARES,
    }  # fmt: skip
    if not anew and (folder / "corpus.json").exists():
        found = open_corpus(folder)
        if found.inputs == inputs:
            return Stream(found, border)
    tokenizer = prose.tokenizer
    separator = tokenizer.special_id(END_OF_TEXT)
    lengths = np.array([len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)])
    lengths[separator] = 0
    with Spool(folder, tokenizer.vocab_size, masked=False) as spool:

        def take(some: Iterable[Ids], phase: int, wanted: float, split: int = 0) -> float:
            """Add documents until so many tokens are taken; return how many more were."""
            for ids in some:
                spool.add(ids, int(lengths[ids].sum()), split, phase=phase)
                wanted -= len(ids)
                if wanted <= 0:
                    break
            return -wanted

        text = itertools.chain.from_iterable(documents(prose.train, separator) for _ in range(MOST_EPOCHS))
        while skip > 0:
            skip -= len(next(text))
        # Passages come from the end of the prose, which is read last if at all.
        late = documents(prose.train[len(prose.train) // 2 :], separator)
        looks = drills(late, tokenizer, random.Random(seed), reach=context)
        easy = drills(late, tokenizer, random.Random(seed + 1), EASY, reach=context)
        take(easy, 0, MANY * first)
        take(text, 0, first - spool.ends[-1])
        take(looks, 1, FEW * (border - first))
        take(text, 1, border - spool.ends[-1])
        mixed = tokens - spool.ends[-1]
        random_ = random.Random(seed)
        words = encoded(tokenizer, blocks(glosses, random_))
        take(words, 2, SHARES["glosses"] * mixed)
        take(conversed(tokenizer, talk), 2, SHARES["talk"] * mixed)
        take(looks, 2, SHARES["drills"] * mixed)
        have = spool.ends[-1]
        short = -take(text, 2, tokens - have + 1)
        if short > 0:
            raise UsageError(
                f"The stream is {short:,.0f} tokens short of {tokens:,}: read more tiers or shards of prose, "
                "or take a smaller budget."
            )
        take(documents(prose.val, separator), 0, float("inf"), split=1)
        about = {"sources": prose.sources, "skipped": [], "inputs": {**inputs, "shuffled": False}}
        made = spool.finish(tokenizer, seed, about)
    shuffle(made, [first // context, border // context], context, seed)
    description = json.loads((folder / "corpus.json").read_bytes())
    write_text(folder / "corpus.json", json.dumps({**description, "inputs": inputs}, indent=1) + "\n")
    return Stream(open_corpus(folder), border)


def text_for_tuning(folder: Path, prose: Corpus, tokens: int, *, window: int, seed: int) -> Corpus:
    """Return documents to mix into tuning, all of whose tokens count, each within `window`; made or found.

    A third is prose, lest the model forget it, a third drills over distances as long as the window, and a
    third small sums, which conversations ask for far too seldom to be learned by heart.
    """
    about = {"tokens": tokens, "window": window, "seed": seed, "prose": int(prose.train.size)}
    inputs = {**about, "drills": [*TUNING]}
    if reusable(folder, inputs):
        return open_corpus(folder)
    tokenizer = prose.tokenizer
    separator = tokenizer.special_id(END_OF_TEXT)
    late = documents(prose.train[len(prose.train) // 2 :], separator)
    read = (one[: window // 2] for one in late)
    looks, learned = (
        drills(late, tokenizer, random.Random(seed), (kind,), reach=window * 4 // 5) for kind in TUNING
    )
    with Spool(folder, tokenizer.vocab_size, masked=True) as spool:
        each = (looks, read, read, learned, learned, learned)  # about as many tokens of each kind
        for number, texts in enumerate(zip(*each, strict=False)):
            for ids in (one[:window] for one in texts):
                size = len(tokenizer.decode(ids[1:].tolist()).encode())
                spool.add(ids, size, int(number % 50 == 0), np.arange(len(ids)) > 0)
            if spool.ends[-1] >= tokens:
                break
        spool.give_both_parts()
        return spool.finish(tokenizer, seed, {"sources": prose.sources, "skipped": [], "inputs": inputs})


def shuffle(corpus: Corpus, borders: list[int], context: int, seed: int) -> None:
    """Shuffle the windows of a corpus's training text, those between two borders among themselves."""
    ids = np.array(corpus.train)
    count = (len(ids) - 1) // context
    windows = ids[: count * context].reshape(count, context)
    order = np.arange(count)
    for part, some in enumerate(np.split(order, borders)):
        np.random.default_rng([seed, part]).shuffle(some)
    with atomic_write(corpus.folder / "train.bin") as file:
        file.write(windows[order].tobytes())
        file.write(ids[count * context :].tobytes())


def documents(ids: Ids, separator: int) -> Iterator[Ids]:
    """Return the documents of a stream of tokens, each beginning with the separator."""
    starts = np.flatnonzero(np.asarray(ids) == separator)
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(ids)], strict=True):
        yield ids[start:end]


def blocks(texts: Iterable[str], rng: random.Random) -> Iterator[str]:
    """Return the texts in random order, some to a document."""
    some = list(texts)
    rng.shuffle(some)
    for at in range(0, len(some), GLOSSES):
        yield "\n".join(some[at : at + GLOSSES])


def encoded(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[Ids]:
    """Return the ids of texts, each with the separator before it."""
    separator = tokenizer.special_id(END_OF_TEXT)
    for text in texts:
        yield np.array([separator, *tokenizer.encode(text)])


def conversed(tokenizer: Tokenizer, talk: Iterable[Conversation]) -> Iterator[Ids]:
    """Return the ids of conversations as the chat template writes them, the separator first."""
    for conversation in talk:
        yield np.array(encode(conversation, tokenizer)[0])
