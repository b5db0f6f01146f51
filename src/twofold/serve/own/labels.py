"""The labelling desk: instructions, the next item, labels, agreement, export.

Labels go into the same file as those of the chat (kernel/labels.py), questions and second opinions come from
kernel/desk.py. Drafts and critiques the desk asks for as any client does, at /v1/chat/completions.
"""

import asyncio
import dataclasses
import json
from typing import Any

from starlette.routing import BaseRoute

from twofold.base.errors import BadFileError
from twofold.kernel.desk import Desk, labeller
from twofold.kernel.labels import Labels
from twofold.serve import operations
from twofold.serve.fields import either, listed, record, text
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result
from twofold.serve.own import identity, whole_number
from twofold.serve.refusals import Refusal
from twofold.serve.request import Request
from twofold.serve.state import State
from twofold.tokens import conversation

LAST = 50  # labels in a listing

MESSAGE = record(
    {"role": text(choices=["system", "user", "assistant", "tool"]), "content": text()}, ["role", "content"]
)
LABEL = record(
    {
        "kind": text(choices=["fix", "good", "compare", "why"]),
        "messages": listed(MESSAGE, least=1),
        "answer": text("What the model said; of a comparison the worse answer."),
        "better": text("What it should have said; of a comparison the better answer."),
        "model": either(text(), record({"name": text(), "sha256": text()})),
        "why": text("A reason; of kind `why` the note."),
        "of": text("The label that a note is about."),
        "who": text("A mark such as desk-1."),
    },
    ["kind"],
)
QUESTIONS = record(
    {"questions": listed(either(text(), listed(MESSAGE, least=1)), most=10_000)}, ["questions"]
)
INSTRUCTIONS = record({"text": text()}, ["text"])


class Labelling:
    """The desk of one server."""

    def __init__(self, state: State) -> None:
        self.labels = Labels(state.home / "labels")
        self.desk = Desk(self.labels)

    async def instructions(self, request: Request) -> Result:
        """Return the instructions that hold now, or ?version=N."""
        version = whole_number(request.query, "version", self.labels.version())
        return {"version": version, "text": self.labels.instructions(version), "last": self.labels.version()}

    async def instruct(self, request: Request) -> Result:
        """Keep new instructions as the next version."""
        return {"version": await asyncio.to_thread(self.labels.instruct, request.body["text"])}

    async def next(self, request: Request) -> Result:
        """Return what ?who= is to label next, passing over ?skip= items; no `messages` when none is left."""
        kind = request.query.get("kind") or None
        if kind not in (None, "fix", "compare"):
            raise Refusal("invalid", "?kind= is fix or compare.", where="kind")
        who = labeller(request.query.get("who"))
        skip = whole_number(request.query, "skip", 0)
        item = await asyncio.to_thread(self.desk.next, who, kind, skip)
        waiting = await asyncio.to_thread(self.desk.waiting)
        if item is None:
            return {"messages": [], "waiting": waiting}
        told = dataclasses.asdict(item)
        return {**told, "answer": item.answers[0] if len(item.answers) == 1 else None, "waiting": waiting}

    async def ask(self, request: Request) -> Result:
        """Add questions that wait for a label."""
        added = await asyncio.to_thread(self.desk.ask, request.body["questions"])
        return {"added": added, "waiting": await asyncio.to_thread(self.desk.waiting)}

    async def add(self, request: Request) -> Result:
        """Keep a label; return its id."""
        return {"id": await asyncio.to_thread(self._add, request)}

    def _add(self, request: Request) -> str:
        body, labels = request.body, self.labels
        kind, who, why = body["kind"], labeller(body.get("who")), body.get("why") or ""
        if kind == "why":
            labels.why(body.get("of") or "", why, who)
            return str(body["of"])
        if not body.get("messages"):
            raise Refusal("invalid", "A label needs the `messages` that led to the answer.", where="messages")
        messages, answer, better = body["messages"], body.get("answer") or "", body.get("better") or ""
        _check(messages, better or answer)
        model = self._model(request, body.get("model"))
        if kind == "compare":
            id_ = labels.compare(messages, answer, better, model, who)
        elif kind == "good" or (answer.strip() and answer.strip() == better.strip()):
            id_ = labels.good(messages, answer or better, model, who)  # a draft that was left as it is
        else:
            id_ = labels.fix(messages, answer, better, model, who)
        if why.strip():
            labels.why(id_, why, who)
        return id_

    def _model(self, request: Request, given: Any) -> dict[str, str]:
        """Return {name, sha256} of a model that the client names; of one that is not here as it says."""
        name = given if isinstance(given, str) else (given or {}).get("name") or ""
        known = request.state.models.known()
        if name in known:
            return identity(name, known[name])
        digest = "" if isinstance(given, str) else (given or {}).get("sha256") or ""
        return {"name": name, "sha256": digest}

    async def listing(self, request: Request) -> Result:
        """Return how many labels there are, and the last ones."""
        labels = await asyncio.to_thread(self.labels.all)
        counts = {kind: sum(label.kind == kind for label in labels) for kind in ("fix", "good", "compare")}
        return {"counts": counts, "labels": [dataclasses.asdict(label) for label in labels[-LAST:]]}

    async def agreement(self, request: Request) -> Result:
        """Return how far the labellers agree."""
        return await asyncio.to_thread(self.desk.agreement)

    async def export(self, request: Request) -> Result:
        """Return what the labels teach: lines for `twofold tune`, with ?form=pairs for `twofold prefer`."""
        form = request.query.get("form", "conversations")
        if form not in ("conversations", "pairs"):
            raise Refusal("invalid", "?form= is conversations or pairs.", where="form")

        def lines() -> list[dict[str, Any]]:
            if form == "pairs":
                return [
                    {"prompt": messages, "chosen": better, "rejected": worse}
                    for messages, better, worse in self.labels.comparisons()
                ]
            return [label.conversation() for label in self.labels.corrections()]

        found = await asyncio.to_thread(lines)
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in found)


def _check(messages: list[dict[str, Any]], answer: str) -> None:
    """Raise Refusal for a label that `twofold tune` could not learn from."""
    if messages[-1]["role"] not in ("user", "tool"):
        raise Refusal("invalid", "The `messages` of a label end where the model answers.", where="messages")
    try:
        conversation.check(
            {"messages": [*messages, {"role": "assistant", "content": answer or "-"}]}, "", "It"
        )
    except BadFileError as error:
        raise Refusal(
            "invalid", f"This is no conversation to learn from: {error}", where="messages"
        ) from error


def routes(state: State) -> list[BaseRoute]:
    """Return the routes."""
    desk = Labelling(state)
    instructions = "/twofold/labels/instructions"
    found = [
        Operation("GET", "/twofold/labels", "How many labels there are, and the last.", desk.listing),
        Operation("POST", "/twofold/labels", "Keep a label.", desk.add, LABEL),
        Operation("GET", instructions, "What labellers are told.", desk.instructions),
        Operation("PUT", instructions, "New instructions, as the next version.", desk.instruct, INSTRUCTIONS),
        Operation("POST", instructions, "The same.", desk.instruct, INSTRUCTIONS),
        Operation("GET", "/twofold/labels/next", "What to label next.", desk.next),
        Operation("POST", "/twofold/labels/questions", "Add questions.", desk.ask, QUESTIONS),
        Operation("GET", "/twofold/labels/agreement", "Whether labellers agree.", desk.agreement),
        Operation("GET", "/twofold/labels/export.jsonl", "Conversations, or pairs.", desk.export),
    ]
    return [*operations.routes(state, found, FAMILY)]
