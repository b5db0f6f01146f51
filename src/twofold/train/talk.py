"""The conversations of a finetuning run: one kind per file, with its weight, prepared and mixed.

Each file becomes a corpus of its own below `corpus/`, so that each has its held-out part and its line in the
comparison. Without weights every conversation counts alike; with them each kind gets its share of the tokens
that are read. The model's own answers (rehearsal.py) are one kind more.

Not covered: corpora that do not fit into memory, if there are several.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from twofold.base.errors import UsageError
from twofold.corpus import Corpus, open_corpus, prepare_conversations
from twofold.corpus.conversations import conversations, held_out_conversations
from twofold.corpus.shards import DESCRIPTION_FILE
from twofold.run import load as open_engine
from twofold.tokens import Tokenizer
from twofold.tokens.conversation import Conversation
from twofold.train import rehearsal
from twofold.train.data import Conversations, Data, Mixture
from twofold.train.evaluation import HeldOut, HeldOutMixture
from twofold.train.parent import model_file
from twofold.train.settings import FinetuneConfig, TuningConfig

FEW = 10  # own answers that are not worth reading


@dataclasses.dataclass(frozen=True)
class Talk:
    """A run's kinds of conversations by name, and their weights; None when all conversations are alike."""

    kinds: dict[str, Corpus]
    weights: list[float] | None
    tokenizer: Tokenizer

    def data(self, config: TuningConfig, context: int, rows: int) -> Data:
        """Return what the loop reads."""
        how = dict(
            context=context, rows=rows, seed=config.seed, shuffle=config.shuffle,
            separator=self.tokenizer.separator_id,
        )  # fmt: skip
        parts = [(one.train, one.train_mask) for one in self.kinds.values() if one.train_mask is not None]
        if len(parts) == 1:
            return Conversations(*parts[0], **how)  # type: ignore[arg-type]
        return Mixture(parts, self.shares(), **how)

    def held_out(self, context: int) -> HeldOut:
        """Return what the run is judged by on the way: every kind by its share."""
        parts = [
            HeldOut(one.val, one.val_mask, self.tokenizer, context=context) for one in self.kinds.values()
        ]
        return parts[0] if len(parts) == 1 else HeldOutMixture(parts, self.shares())

    def shares(self) -> list[float]:
        """Return the weight of each kind."""
        return self.weights or [float(len(one.train)) for one in self.kinds.values()]

    @property
    def new(self) -> list[Corpus]:
        """The kinds that are not the model's own words."""
        return [one for name, one in self.kinds.items() if name not in (rehearsal.NAME, rehearsal.TEXT)]

    @property
    def train_documents(self) -> int:
        """The number of conversations to learn from."""
        return sum(one.train_documents for one in self.kinds.values())

    def held_out_texts(self) -> dict[str, list[Conversation]]:
        """Return the held-out conversations of each kind, as text."""
        return {name: held_out_conversations(one.folder) for name, one in self.kinds.items()}


def prepare(
    config: FinetuneConfig, folder: Path, tokenizer: Tokenizer, context: int, say: Callable[[str], object]
) -> Talk:
    """Return the conversations of a run, read and written to its folder, or found there.

    `say` hears what there is and what was left out. Raises UsageError or BadFileError.
    """
    if config.corpus is not None:
        kinds = {config.corpus.name: _opened(config.corpus, tokenizer)}
    else:
        kinds = {
            name: _opened(Path(path), tokenizer)
            if (Path(path) / DESCRIPTION_FILE).exists()
            else _prepared(config, folder / "corpus" / name, [path], tokenizer, context)
            for name, path in zip(names(config.data), config.data, strict=True)
        }
    for name, corpus in kinds.items():
        if corpus.train_mask is None:
            raise UsageError(f"{corpus.folder} holds documents, not conversations.")
        say(
            f"{name}: {corpus.train_documents:,} conversations to learn from ({len(corpus.train):,} tokens), "
            f"{corpus.val_documents:,} held out."
        )
        for skip in corpus.skipped:
            say(
                f"left out: {skip['path']}: {skip['reason']}"
                if skip["path"]
                else f"left out: {skip['reason']}"
            )
    weights = list(config.weights) or None
    if config.rehearse:
        before = weights or [float(len(corpus.train)) for corpus in kinds.values()]
        asked = (
            message["content"]
            for one in conversations(list(config.data), bad=lambda _: None)
            for message in one.messages
            if message["role"] == "user" and isinstance(message["content"], str)
        )
        own = rehearsed(config, folder, tokenizer, context, asked, say)
        weights = [weight / sum(before) * (1 - config.rehearse) for weight in before]
        weights += [config.rehearse / len(own)] * len(own)
        kinds |= own
    return Talk(kinds, weights, tokenizer)


def names(data: Sequence[str]) -> list[str]:
    """Return a name for each file: what it is called, without its extensions, numbered if need be."""
    found: list[str] = []
    for path in data:
        stem = name = Path(path).name.split(".")[0] or "talk"
        number = 1
        while name in found:
            number += 1
            name = f"{stem}-{number}"
        found.append(name)
    return found


def _opened(folder: Path, tokenizer: Tokenizer) -> Corpus:
    """Return a corpus that was prepared before."""
    corpus = open_corpus(folder)
    if corpus.tokenizer.vocabulary.tokens != tokenizer.vocabulary.tokens:
        raise UsageError(f"The corpus {folder} was made with another tokenizer than the model's.")
    return corpus


def _prepared(
    config: TuningConfig, folder: Path, paths: list[str], tokenizer: Tokenizer, context: int
) -> Corpus:
    return prepare_conversations(
        paths, folder, tokenizer=tokenizer, val_fraction=config.val_fraction, seed=config.seed,
        max_tokens=context, bad_lines=config.bad_lines,
    )  # fmt: skip


def rehearsed(
    config: TuningConfig, folder: Path, tokenizer: Tokenizer, context: int, asked: Iterable[str],
    say: Callable[[str], object],
) -> dict[str, Corpus]:  # fmt: skip
    """Return the corpora of the model's own answers, to what is not `asked` elsewhere, and of its own text.

    Of a model that was never taught to answer there is only text.
    """
    path, text = folder / "own-answers.jsonl", folder / "corpus" / rehearsal.TEXT
    if not path.exists() or not (text / DESCRIPTION_FILE).exists():
        say("Letting the model answer general questions and write, to rehearse what it knows …")
        engine = open_engine(
            model_file(config.model), context=context, sequences=rehearsal.TOGETHER, threads=config.threads
        )
        rehearsal.write(engine, path, seed=config.seed, avoid=set(map(rehearsal.plain, asked)))
        rehearsal.own_text(engine, text, seed=config.seed, source=str(config.model))
    own = {rehearsal.TEXT: open_corpus(text)}
    if path.read_bytes().count(b"\n") < FEW:
        say("It gives no answers that end, so only plain text is rehearsed.")
        return own
    # The better part of them is not read often, so a fifth can be held out to see forgetting by.
    config = dataclasses.replace(config, val_fraction=rehearsal.HELD_OUT)
    answers = _prepared(config, folder / "corpus" / rehearsal.NAME, [str(path)], tokenizer, context)
    return {rehearsal.NAME: answers, **own}
