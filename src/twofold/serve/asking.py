"""From what a client sent to what the model reads: a `Wish`, the same for every family of APIs."""

import contextlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twofold.kernel.elsewhere import Chat, Kernel
from twofold.run import Sampler
from twofold.run.batcher import Ask
from twofold.run.constraints import Constraint
from twofold.serve import elsewhere, forms
from twofold.serve.models import Served
from twofold.serve.refusals import Refusal
from twofold.serve.request import Request
from twofold.serve.settings import Settings
from twofold.tokens.conversation import THINKING
from twofold.tokens.specials import END_OF_TEXT
from twofold.tokens.speech import CLOSE, OPEN

Message = dict[str, Any]
_BIASED, _DIGITS = 1024, 9  # tokens that a `logit_bias` may have, and digits of an id
_USUAL = {"temperature": 0.7, "top_k": 0, "top_p": 1.0, "min_p": 0.05, "repetition_penalty": 1.0}


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a request asks for.

    `ids`: what stands before the answer. `max_tokens`: of the answer; its thoughts are not counted when they
    have a budget of their own, `thoughts`. `constraint` makes a new one for each answer. `chat`: it is a turn
    of a conversation, in which thoughts are told from text, and calls if there are `tools`. `goes_on`: from a
    given beginning. `echo`: the prompt's own tokens are wanted with their probabilities.
    """

    ids: Sequence[int]
    max_tokens: int
    sampler: Sampler
    stops: Sequence[str] = ()
    constraint: Callable[[], Constraint] | None = None
    alternatives: int = 0
    owner: str = ""
    chat: bool = True
    tools: bool = False
    thoughts: int | None = None
    goes_on: bool = False
    echo: bool = False

    def ask(self, **changes: Any) -> Ask:
        """Return it as the batcher takes it."""
        given: dict[str, Any] = {
            "ids": self.ids, "max_tokens": self.max_tokens, "sampler": self.sampler, "owner": self.owner,
            "alternatives": self.alternatives,
        }  # fmt: skip
        return Ask(**(given | changes))


def sampler(
    body: Mapping[str, Any], settings: Settings, served: Served, *, penalty: str = "repetition_penalty"
) -> Sampler:
    """Return how to choose tokens: as the request says, else the server's settings, else the model's card.

    `penalty`: what the family calls the repetition penalty. Raises Refusal for a `logit_bias` that is none.
    """

    given = {"temperature": settings.temperature, "min_p": settings.min_p}
    advice = {**_USUAL, **served.engine.card.get("sampling", {})}
    advice |= {name: value for name, value in given.items() if value is not None}

    def said(name: str, asked: str | None = None) -> Any:
        value = body.get(asked or name)
        return advice.get(name) if value is None else value

    return Sampler(
        temperature=said("temperature"),
        top_p=said("top_p") or 1e-6,
        top_k=max(0, said("top_k")),
        min_p=said("min_p"),
        repetition_penalty=said("repetition_penalty", penalty),
        presence_penalty=said("presence_penalty") or 0.0,
        frequency_penalty=said("frequency_penalty") or 0.0,
        bias=_bias(body.get("logit_bias") or {}),
        seed=secrets.randbelow(2**31) if body.get("seed") is None else body["seed"],
    )


def _bias(given: Mapping[str, Any]) -> tuple[tuple[int, float], ...]:
    """Return what OpenAI's `logit_bias` says, from tokens' ids as text. Raises Refusal."""
    if len(given) > _BIASED:
        raise Refusal("invalid", f"`logit_bias` takes {_BIASED:,} tokens at most.", where="logit_bias")
    wrong = "`logit_bias` must map a token's id (a whole number) to a number from -100 to 100."
    found = {}
    for token, gain in given.items():
        real = isinstance(gain, int | float) and not isinstance(gain, bool) and -100 <= gain <= 100
        if not real or not token.isdecimal() or len(token) > _DIGITS:
            raise Refusal("invalid", wrong, where="logit_bias")
        found[int(token)] = float(gain)
    return tuple(found.items())


Turn = Wish | Chat  # of a model here, or of one on another server


def numbered(turn: Turn, number: int) -> Turn:
    """Return the turn for the answer of that number, which is to be another one."""
    if isinstance(turn, Wish):
        return replace(turn, sampler=reseeded(turn.sampler, number))
    seed = turn.sampling.get("seed")
    return turn if seed is None else replace(turn, sampling={**turn.sampling, "seed": seed + number})


def reseeded(given: Sampler, number: int) -> Sampler:
    """Return the sampler of the answer of that number to one prompt."""
    return replace(given, seed=given.seed + number)


def stops(value: Any) -> list[str]:
    """Return stop strings from one text, a list of them, or nothing."""
    return [value] if isinstance(value, str) else [stop for stop in value or () if stop]


def room(served: Served, ids: Sequence[int], wanted: int | None, settings: Settings) -> int:
    """Return how many tokens the answer may have. Raises Refusal when the prompt leaves no room."""
    context = served.engine.context
    if len(ids) >= context:
        raise Refusal(
            "invalid",
            f"That is {len(ids):,} tokens; {served.name} sees {context:,} with its answer: shorten it.",
            where="messages",
            code="context_length_exceeded",
        )
    return min(wanted or settings.max_tokens, context - len(ids))


def turn(
    request: Request,
    served: Served | Kernel,
    messages: Sequence[Message],
    *,
    options: Mapping[str, Any] | None = None,
    penalty: str = "repetition_penalty",
    stops: Sequence[str] = (),
    probabilities: int | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
    choice: str = "auto",
    parallel: bool = True,
    schema: Mapping[str, Any] | bool | None = None,
    thoughts: int | None = None,
    goes_on: bool = False,
    ids: Sequence[int] = (),
    values: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
) -> Turn:
    """Return the wish for the next turn of a conversation.

    options: of sampling, the repetition penalty by the name of `penalty`. probabilities: of the tokens are
    wanted, and of so many alternatives; None: they are not. thoughts: for how many tokens the model may think
    first; 0: it shall not; None: as it likes. goes_on: the last message is the beginning of the answer; so
    are `ids`, after it. values: what else the chat template knows. Raises UsageError or Refusal.
    """
    tools = forms.choose(tools, choice)
    options, settings = options or {}, request.state.settings
    if isinstance(served, Kernel):
        local = {"continue_tokens": ids, "chat_template_kwargs": values}
        return elsewhere.turn(
            served,
            [arranged(message) for message in messages],
            local=local,
            sampling=elsewhere.sampling(options, penalty),
            stops=stops,
            tools=tools,
            choice=choice,
            parallel=parallel,
            schema=schema,
            thoughts=thoughts,
            goes_on=goes_on,
            max_tokens=max_tokens,
            most=settings.max_tokens,
        )
    known = dict(values or {})
    if thoughts is not None:
        known = {"enable_thinking": thoughts > 0, **known}
    prompt = [*chat_ids(served, messages, tools=tools, goes_on=goes_on, **known), *ids]
    return Wish(
        ids=prompt,
        max_tokens=room(served, prompt, max_tokens, settings),
        sampler=sampler(options, settings, served, penalty=penalty),
        stops=stops,
        alternatives=probabilities or 0,
        constraint=forms.form(served, schema, tools, choice, parallel=parallel),
        tools=bool(tools),
        thoughts=thoughts or None,
        goes_on=goes_on or bool(ids),
        owner=request.owner,
    )


def raw_ids(served: Served, text: str) -> list[int]:
    """Return the ids of a text that is to be continued, after BOS where the model wants one.

    Who asks for this writes all that the model reads, so what is spelled like a control token is one.
    """
    vocabulary = served.engine.tokenizer.vocabulary
    start = [vocabulary.bos_id] if vocabulary.add_bos and vocabulary.bos_id is not None else []
    ids = start + served.engine.tokenizer.encode(text, specials=True)
    if not ids and END_OF_TEXT in vocabulary.tokens:
        ids = [served.engine.tokenizer.special_id(END_OF_TEXT)]
    if not ids:
        raise Refusal(
            "invalid", "This model has no token that starts a document: give it some text.", where="prompt"
        )
    return ids


def chat_ids(
    served: Served,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    goes_on: bool = False,
    **values: Any,
) -> list[int]:
    """Return the ids of a conversation up to the answer; with `goes_on` into the last message, the answer's.

    Raises UsageError or Refusal when the model cannot take it.
    """
    tokenizer = served.engine.tokenizer
    template = tokenizer.vocabulary.chat_template
    if not template:
        raise Refusal("invalid", f"{served.name} has no chat template: it continues texts (/v1/completions).")
    if tools and "tools" not in template:
        raise Refusal("invalid", f"{served.name} was not made to call tools.", where="tools")
    if goes_on and (not messages or messages[-1]["role"] != "assistant"):
        raise Refusal(
            "invalid", "Only a last message of the assistant can be gone on with.", where="messages"
        )
    before = [arranged(message) for message in (messages[:-1] if goes_on else messages)]
    ids = tokenizer.chat(before, tools=list(tools) or None, add_generation_prompt=True, **values)
    if goes_on:
        last = messages[-1]
        if thought := next((last[key] for key in THINKING if last.get(key)), None):
            ids += tokenizer.encode(f"{OPEN}\n{thought}\n{CLOSE}\n\n", specials=True)
        ids += tokenizer.encode(last.get("content") or "")
    return ids


def arranged(message: Message) -> Message:
    """Return a message as chat templates know it: a developer is the system, arguments are objects."""
    found = dict(message)
    if found["role"] == "developer":
        found["role"] = "system"
    if thought := next((found[key] for key in THINKING if found.get(key)), None):
        found["reasoning_content"] = thought
    if calls := found.get("tool_calls"):
        found["content"] = found.get("content") or ""
        found["tool_calls"] = [_call(call) for call in calls]
    return found


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or call)
    if isinstance(function.get("arguments"), str):
        with contextlib.suppress(ValueError, RecursionError):  # what is no JSON is shown as it is
            function["arguments"] = json.loads(function["arguments"] or "{}")
    return {**call, "type": "function", "function": function}


def plain(content: Any, where: str) -> str:
    """Return the text of a message's content, which may come in parts. Raises Refusal for pictures."""
    if not isinstance(content, list):
        return content or ""
    for part in content:
        if part["type"] not in ("text", "input_text", "output_text", "refusal"):
            raise Refusal("invalid", f"This model reads text only, not {part['type']}.", where=where)
    return "".join(part.get("text") or "" for part in content)
