"""The arena: two models answer the same prompt side by side, and a person says which is better, blind.

Which model stands on which side is drawn here and told after the verdict only. From when both answers are
whole a battle is kept (kernel/battles.py), and waits for its verdict over the server's end; only many later
battles push one out that nobody judged.
"""

import asyncio
import dataclasses
import functools
import random
import secrets
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

WAITING = 1000  # battles without a verdict that can still get one
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


class Arena:
    """The arena of one server."""

    def __init__(self, state: State) -> None:
        self.battles = Battles(state.home / "arena")
        self._begun: dict[str, None] = {}  # whose answers are not whole, or never will be
        self._waiting: dict[str, dict[str, Any]] | None = None  # as Battles.waiting has them, once asked for

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
        return self._stream(messages, models, replies)

    def _reply(self, request: Request, served: Served, messages: list[dict[str, Any]]) -> Reply:
        settings = request.state.settings
        ids = asking.chat_ids(served, messages)
        wish = asking.Wish(
            ids=ids,
            max_tokens=asking.room(served, ids, request.body.get("max_tokens"), settings),
            sampler=asking.sampler(request.body, settings, served),
            owner=request.owner,
        )
        return request.reply(served, wish)

    async def _stream(
        self, messages: list[dict[str, Any]], models: dict[str, dict[str, str]], replies: list[Reply]
    ) -> AsyncIterator[str]:
        id_, answers = secrets.token_hex(6), dict.fromkeys(SIDES, "")
        self._begun[id_] = None
        _shorten(self._begun)
        yield event({"battle": id_})
        async for number_, piece in merged(replies):
            side = SIDES[number_]
            if piece is None:
                yield event({"side": side, "done": True})
            elif piece.kind == "text":
                answers[side] += piece.text
                yield event({"side": side, "text": piece.text})
        waiting = await self._unjudged()
        waiting[id_] = await asyncio.to_thread(self.battles.fought, messages, answers, models, id_)
        _shorten(waiting)
        self._begun.pop(id_, None)
        yield event({"finished": True})

    async def _unjudged(self) -> dict[str, dict[str, Any]]:
        """Return the battles that wait for a verdict, those of earlier servers first."""
        if self._waiting is None:
            found = await asyncio.to_thread(self.battles.waiting, WAITING)
            self._waiting = found if self._waiting is None else self._waiting
        return self._waiting

    async def waiting(self, request: Request) -> Result:
        """Return the battles that wait for a verdict, the newest first, and not which models they are of."""
        shown = ("battle", "time", "messages", "answers")
        found = (await self._unjudged()).values()
        return [{key: one[key] for key in shown} for one in reversed(found)]

    async def vote(self, request: Request) -> Result:
        """Keep the verdict and say who was who."""
        id_, verdict = request.body["battle"], request.body["verdict"]
        who, waiting = labeller(request.body.get("who")), await self._unjudged()
        if id_ in self._begun:
            raise Refusal("invalid", "Both answers have to be whole before one is judged.", where="battle")
        battle = waiting.pop(id_, None)  # nobody else can judge it from here on
        if battle is None:
            raise Refusal("unknown", "There is no such battle that waits for a verdict.", where="battle")
        try:
            await asyncio.to_thread(
                self.battles.add, battle["messages"], battle["answers"], battle["models"], verdict,
                who=who, battle=id_,
            )  # fmt: skip
        except BaseException:
            waiting[id_] = battle
            raise
        return {side: battle["models"][side]["name"] for side in SIDES} | {"verdict": verdict}

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


def _shorten(battles: dict[str, Any]) -> None:
    """Forget the oldest battles beyond WAITING."""
    for id_ in list(battles)[:-WAITING]:
        del battles[id_]


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
        Operation("GET", "/twofold/arena/waiting", "Battles without a verdict.", arena.waiting),
        Operation("GET", "/twofold/arena/ratings", "Ratings from all battles.", arena.ratings),
        Operation("GET", "/twofold/arena/battles.jsonl", "All battles.", arena.export),
    ]
    return [*operations.routes(state, found, FAMILY)]
