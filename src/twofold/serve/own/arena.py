"""The arena: two models answer the same prompt side by side, and a person says which is better, blind.

Which model stands on which side is drawn here and told after the verdict only. A battle waits in memory for
its verdict; with it, it is kept (kernel/battles.py). The server's end, or many later battles, forget one that
nobody judged.
"""

import asyncio
import dataclasses
import functools
import random
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute

from twofold import parameters
from twofold.base.errors import TwofoldError
from twofold.kernel.battles import SIDES, Battles
from twofold.kernel.desk import labeller
from twofold.measure.arena import VERDICTS, Table
from twofold.serve import asking, operations
from twofold.serve.fields import either, listed, number, record, text, whole
from twofold.serve.models import Served
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result, event
from twofold.serve.own import identity
from twofold.serve.refusals import Refusal
from twofold.serve.replies import Reply, merged
from twofold.serve.request import Request
from twofold.serve.state import State

WAITING = 1000  # battles without a verdict that are remembered
MESSAGE = record(
    {"role": text(choices=["system", "user", "assistant"]), "content": text()}, ["role", "content"]
)
BATTLE = record(
    {
        "prompt": text(),
        "messages": listed(MESSAGE, least=1),
        "a": text("A model; default: drawn."),
        "b": text("Another one; default: drawn."),
        "max_tokens": whole(1, 1 << 20),
        "temperature": number(0, 2),
    }
)
VOTE = record(
    {"battle": text(), "verdict": text(choices=VERDICTS), "who": either(text(), about="A mark: desk-1.")},
    ["battle", "verdict"],
)


@dataclasses.dataclass
class Waiting:
    """A battle without a verdict. `models`: {name, sha256} by side; `over`: both answers are whole."""

    messages: list[dict[str, Any]]
    models: dict[str, dict[str, str]]
    answers: dict[str, str] = dataclasses.field(default_factory=lambda: dict.fromkeys(SIDES, ""))
    over: bool = False


class Arena:
    """The arena of one server."""

    def __init__(self, state: State) -> None:
        self.battles = Battles(state.home / "arena")
        self.waiting: OrderedDict[str, Waiting] = OrderedDict()

    async def battle(self, request: Request) -> Result:
        """Let two models answer; the stream tells the sides, not the models."""
        body = request.body
        messages = body.get("messages") or [{"role": "user", "content": body.get("prompt") or ""}]
        if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
            raise Refusal("invalid", "A battle needs a `prompt`, or `messages` that end with the user's.")
        names = await asyncio.to_thread(_drawn, request.state, body.get("a"), body.get("b"))
        replies: list[Reply] = []
        for name in names:
            served = await request.state.models.open(name)
            request.undo.callback(served.release)
            replies.append(self._reply(request, served, messages))
        models = {
            side: await asyncio.to_thread(identity, reply.served.name, reply.served.path)
            for side, reply in zip(SIDES, replies, strict=True)
        }
        id_ = secrets.token_hex(6)
        self.waiting[id_] = waiting = Waiting(messages, models)
        while len(self.waiting) > WAITING:
            self.waiting.popitem(last=False)
        return self._stream(id_, waiting, replies)

    def _reply(self, request: Request, served: Served, messages: list[dict[str, Any]]) -> Reply:
        settings = request.state.settings
        ids = asking.chat_ids(served, messages)
        wish = asking.Wish(
            ids=ids,
            max_tokens=asking.room(served, ids, request.body.get("max_tokens"), settings),
            sampler=asking.sampler(request.body, settings),
            owner=request.owner,
        )
        return request.reply(served, wish)

    async def _stream(self, id_: str, waiting: Waiting, replies: list[Reply]) -> AsyncIterator[str]:
        yield event({"battle": id_})
        async for number_, piece in merged(replies):
            side = SIDES[number_]
            if piece is None:
                yield event({"side": side, "done": True})
            elif piece.kind == "text":
                waiting.answers[side] += piece.text
                yield event({"side": side, "text": piece.text})
        waiting.over = True
        yield event({"finished": True})

    async def vote(self, request: Request) -> Result:
        """Keep the verdict and say who was who."""
        body = request.body
        waiting = self.waiting.get(body["battle"])
        if waiting is None:
            raise Refusal("unknown", "There is no such battle that waits for a verdict.", where="battle")
        if not waiting.over:
            raise Refusal("invalid", "Both answers have to be whole before one is judged.", where="battle")
        who = labeller(body.get("who"))
        del self.waiting[body["battle"]]
        await asyncio.to_thread(
            self.battles.add, waiting.messages, waiting.answers, waiting.models, body["verdict"],
            who=who, battle=body["battle"],
        )  # fmt: skip
        return {side: waiting.models[side]["name"] for side in SIDES} | {"verdict": body["verdict"]}

    async def ratings(self, request: Request) -> Result:
        """Return the ratings, with ?style=1 as they would be if all answers were of one style."""
        styled, anchor = request.query.get("style") == "1", request.query.get("anchor") or None
        table: Table = await asyncio.to_thread(
            lambda: self.battles.rated(style_control=styled, anchor=anchor)
        )
        return {**dataclasses.asdict(table), "warning": table.warning(), "controlled": styled}

    async def export(self, request: Request) -> Result:
        """Return the battles as they are kept, one JSON object a line."""
        path = self.battles.path
        return await asyncio.to_thread(lambda: path.read_text("utf-8") if path.exists() else "")


def _drawn(state: State, a: str | None, b: str | None) -> list[str]:
    """Return two models' names in random order: those asked for, others drawn among all that chat."""
    chance = random.SystemRandom()
    chosen = [state.models.resolve(name)[0] for name in (a, b) if name]
    known = state.models.known()
    others = [name for name in known if name not in chosen]
    chance.shuffle(others)
    for name in others:
        if len(chosen) < 2 and _chats(known[name]):
            chosen.append(name)
    if len({*chosen}) < 2:
        raise Refusal("invalid", "A battle needs two different models that chat: `twofold pull` brings more.")
    chance.shuffle(chosen)
    return chosen


@functools.lru_cache(maxsize=256)
def _chats(path: Path) -> bool:
    """Return whether the model at `path` can be talked to. Opens the file, once."""
    try:
        return bool(parameters.load(path).tokenizer.vocabulary.chat_template)
    except TwofoldError:
        return False


def routes(state: State) -> list[BaseRoute]:
    """Return the routes."""
    arena = Arena(state)
    found = [
        Operation("POST", "/twofold/arena/battle", "Two models answer, blind.", arena.battle, BATTLE),
        Operation("POST", "/twofold/arena/vote", "Say which answer is better.", arena.vote, VOTE),
        Operation("GET", "/twofold/arena/ratings", "Ratings from all battles.", arena.ratings),
        Operation("GET", "/twofold/arena/battles.jsonl", "All battles.", arena.export),
    ]
    return [*operations.routes(state, found, FAMILY)]
