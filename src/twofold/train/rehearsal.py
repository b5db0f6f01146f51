"""Rehearsal: what the model says by itself, read again while it learns something new, so it forgets less.

A model that learns from a few conversations alone drifts in everything else it says (French 1999, Trends in
Cognitive Sciences 3(4)). Reading some of what it knew before, among the new, holds it; where that data is
gone, what the model says itself will do (Huang et al. 2024, arXiv:2403.01244). So the model is asked
general questions (questions.json) and answers as it is, and it writes plain text from nothing, as in
pretraining; both are mixed in. They are drawn at temperature 1: then what they teach a model that has not
changed is zero on average, whichever way it answers.

Not covered: keeping the probabilities of all tokens instead of the one drawn.
"""

import json
import re
from collections.abc import Collection
from importlib import resources
from pathlib import Path

from twofold.base.files import write_text
from twofold.corpus.shards import Corpus, Spool, open_corpus, reusable
from twofold.measure.likelihood import start_id
from twofold.run import Engine, batch
from twofold.tokens.conversation import Conversation

NAME, TEXT = "own answers", "own text"
LONGEST = 192  # tokens of an answer; one that goes on is left out: where it is cut is no end
DRAWS = 2  # answers to each question
TEXTS, TEXT_TOKENS = 160, 256
TOGETHER = 16  # answers and texts that are written side by side
HELD_OUT = 0.2


def questions() -> list[list[str]]:
    """Return general conversations by what the user says in them, turn by turn."""
    found: list[list[str]] = json.loads(
        (resources.files("twofold.train") / "questions.json").read_text("utf-8")
    )
    return found


def plain(text: str) -> str:
    """Return a question without what makes no difference: capitals, marks, spaces."""
    return re.sub(r"\W+", " ", text).strip().casefold()


def answers(engine: Engine, *, seed: int, avoid: Collection[str] = ()) -> list[Conversation]:
    """Return what comes of asking the model all questions but those to `avoid` (as `plain` spells them).

    Turn by turn, those of all conversations at once. One ends where there is no answer, or one without end.
    """
    tokenizer = engine.tokenizer
    asked = [turns for turns in questions() if not any(plain(turn) in avoid for turn in turns)] * DRAWS
    said: list[list[dict[str, str]]] = [[] for _ in asked]
    going = list(range(len(asked)))
    for turn in range(max(map(len, asked), default=0)):
        going = [n for n in going if turn < len(asked[n])]
        prompts = {}
        for n in going:
            messages = [*said[n], {"role": "user", "content": asked[n][turn]}]
            ids = tokenizer.chat(messages, add_generation_prompt=True)
            if len(ids) < engine.context:
                prompts[n] = ids
        seeds = [seed + 1000 * turn + n for n in prompts]
        found = batch.answers(engine, list(prompts.values()), max_tokens=LONGEST, seeds=seeds)
        going = []
        for n, answer in zip(prompts, found, strict=True):
            text = tokenizer.decode(answer.ids[:-1]).strip()
            if text and answer.ended:
                question = {"role": "user", "content": asked[n][turn]}
                said[n] += [question, {"role": "assistant", "content": text}]
                going.append(n)
    return [Conversation(messages, NAME) for messages in said if messages]


def write(engine: Engine, path: Path, *, seed: int, avoid: Collection[str] = ()) -> None:
    """Write a conversation file with the model's own answers."""
    lines = [json.dumps(one.record(), ensure_ascii=False) for one in answers(engine, seed=seed, avoid=avoid)]
    write_text(path, "".join(f"{line}\n" for line in lines))


def own_text(engine: Engine, folder: Path, *, seed: int, source: str) -> Corpus:
    """Return a corpus of plain text by the model, every token of it to be learned; `source`: who wrote it."""
    inputs = {"texts": TEXTS, "tokens": TEXT_TOKENS, "seed": seed, "model": source}
    if reusable(folder, inputs):
        return open_corpus(folder)
    tokenizer = engine.tokenizer
    start = start_id(tokenizer)
    ahead = [tokenizer.separator_id] if start == tokenizer.separator_id else [tokenizer.separator_id, start]
    most = min(TEXT_TOKENS, engine.context - 1)
    found = batch.answers(
        engine, [[start]] * TEXTS, max_tokens=most, seeds=[seed + n for n in range(TEXTS)],
        stop_ids=tokenizer.stop_ids | {start},
    )  # fmt: skip
    with Spool(folder, tokenizer.vocab_size, masked=True) as spool:
        for number, text in enumerate(found):
            ids = text.ids[: len(text.ids) - text.ended]
            size = len(tokenizer.decode(ids).encode())
            mask = [0] * len(ahead) + [1] * len(ids)
            spool.add([*ahead, *ids], size, int(number < HELD_OUT * TEXTS), mask)
        return spool.finish(tokenizer, seed, {"sources": [], "skipped": [], "inputs": inputs})
