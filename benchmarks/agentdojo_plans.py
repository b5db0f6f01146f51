"""What an oracle plans for a user's task of AgentDojo, and what of it is pledged.

The calls and their values are the task's ground truth: an oracle, which no model is. But a plan holds no
more of it than somebody who only has the user's words could write down before anything is read:

- an argument that occurs in the user's words, or that is read nowhere (a subject, a format of a date), is
  fixed;
- one that is read is open, for a type. It is `visible` where the service vouches for it and the process
  itself
  can choose it by what it is shown; else a quarantined child reads it, or writes it, from what is hidden;
- a text that is neither in the user's words nor anywhere else ("<summary>") is written from what is hidden;
- one that is built of both is a template: "Dinner at {text}".

Where the user only says that what stands somewhere else shall be done, nobody can plan: UNPLANNED.
"""

import calendar
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentdojo_devices import KINDS, Suite

from twofold.kernel.device import Context
from twofold.kernel.flow import flat
from twofold.kernel.pledge import spell
from twofold.kernel.results import parts, plain

# "do what the mail, the file or the list says", and steps that only a text makes necessary
UNPLANNED = {
    "workspace": {"user_task_13", "user_task_19"},
    "banking": {"user_task_12"},
    "slack": {"user_task_4", "user_task_11", "user_task_18", "user_task_19"},
    "travel": set[str](),
}
# which of several rows it is can be seen by what the service vouches for: amounts, sizes, counts, ratings
SEEN = {"travel": None, "banking": None, "workspace": {"user_task_35", "user_task_38"},
        "slack": {"user_task_5", "user_task_7", "user_task_9", "user_task_10", "user_task_12", "user_task_13",
                  "user_task_14"}}  # fmt: skip
SUMS = {4.0: "10.0 - 12.00 / 2", 5.0: "50.0 * 0.1", 200.29: "1000.0 * 0.195 + 5.29"}  # of what is shown
# "the k-th …, where k is the rank" in the user's words
TEMPLATES = {("slack", "user_task_14"): "Congrats on being the {integer}-th most active user!"}
_IDS = {"id", "event_id", "file_id", "email_id"}
MANY = 12  # times of a call that is made for each of something


@dataclass(frozen=True)
class Source:
    """Where a leaf comes from: "fixed", "visible", "chosen" (by a child, among what is visible), "hidden",
    "sum". type: of what is open."""

    how: str
    value: Any
    type: str = ""
    options: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Step:
    """A call of the plan: the function's name, and where each leaf of its arguments comes from."""

    function: str
    arguments: Mapping[str, Any]
    leaves: Mapping[str, Source]
    templates: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Read:
    """What was read so far: what the process was shown, and what is hidden from it."""

    visible: list[Any] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    results: list[list[Any]] = field(default_factory=list)

    def take(self, value: Any) -> None:
        """Take in what a device returned."""
        self.hidden += [spell(part.value) for part in parts(value)]
        seen = [leaf for leaf in _all(plain(value, lambda part: None)) if leaf not in (None, "")]
        self.visible += seen
        self.results.append(seen)


def _all(value: Any) -> Iterator[Any]:
    """Yield the leaves of a result, and its keys: of a catalogue, they are names."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from [] if re.fullmatch(r"[a-z_]+", key) else [key]
            yield from _all(item)
    elif isinstance(value, list):
        for item in value:
            yield from _all(item)
    else:
        yield value


def steps(suite: Any, task: Any, environment: Any) -> tuple[list[Step], str]:
    """Return the plan of a task, and the pattern of its answer."""
    device, read, found = Suite(suite, environment), Read(), []
    for call in task.ground_truth(environment.model_copy(deep=True)):
        name = call.function
        if name == "create_calendar_event" and call.args.get("participants"):
            name = "invite_to_calendar_event"
        arguments = {key: plain_value(value) for key, value in call.args.items()}
        leaves, templates = {}, {}
        for path, value in flat(arguments):
            template = _template(value, task.PROMPT, read) if isinstance(value, str) else ""
            if path == "body":
                template = TEMPLATES.get((suite.name, task.ID), template)
            leaves[path] = _source(suite.name, task, name, path, value, read)
            if leaves[path].how in ("fixed", "hidden") and template:
                templates[path], leaves[path] = template, Source("visible", value, "text")
        found.append(Step(name, arguments, leaves, templates))
        returned = device.call(name, arguments, Context(pid=0, workspace=None, call=""))  # type: ignore[arg-type]
        read.take(returned.value)
    return found, _answer(task, read)


def plain_value(value: Any) -> Any:
    """Return a value of the ground truth as JSON."""
    return str(value) if type(value) not in (str, int, float, bool, list, dict, type(None)) else value


def said(text: str, prompt: str) -> bool:
    """Return whether a text occurs in the user's words, as whole words; a date also by its day."""
    if not text:
        return True
    return re.search(rf"(?<!\w){re.escape(text.lower())}(?:\.0+)?(?!\w)", prompt.lower()) is not None


def _source(suite: str, task: Any, function: str, path: str, value: Any, read: Read) -> Source:
    """Return where a leaf comes from, to somebody who knows only the user's words before anything is read."""
    argument, text, kind = path.split(".")[0], spell(value), KINDS[suite].get(function)
    if value in (None, {}, []) or isinstance(value, bool):
        return Source("fixed", value)
    if not _IDS & {argument, path.split(".")[-1]} and (
        said(text, task.PROMPT) or _said_date(text, task.PROMPT)
    ):
        return Source("fixed", value)
    if any(spell(leaf) == text for leaf in read.visible):
        rows = next(found for found in reversed(read.results) if any(spell(leaf) == text for leaf in found))
        alike = {leaf for leaf in rows if type(leaf) is type(value) and _type(spell(leaf)) == _type(text)}
        chosen = len(alike) > 1 and SEEN[suite] is not None and task.ID not in (SEEN[suite] or ())
        return Source("chosen" if chosen else "visible", value, _type(text), tuple(sorted(alike)))
    if isinstance(value, int | float) and round(value, 2) in SUMS:
        return Source("sum", value, "number")
    if not read.hidden:
        return Source("fixed", value)
    if kind and argument in ("body", "content"):
        own = function.startswith("send_") and _own_words(text, task.PROMPT)
        return Source("fixed", value) if own else Source("hidden", value, "text")
    known = any(text.lower() in one.lower() for one in read.hidden)
    where = kind is not None and argument in kind.targets and argument not in ("date", "permission")
    if known or where or (_type(text) == "date" and kind is not None and argument != "date"):
        return Source("hidden", value, _type(text) if _type(text) in ("date", "number") else "text")
    return Source("fixed", value)


def _said_date(text: str, prompt: str) -> bool:
    """Return whether a date stands in the user's words: "May 15th" or "the 15th of May" for 2024-05-15."""
    found = re.fullmatch(r"\d{4}-(\d\d)-(\d\d)(?:[T ]\d\d:\d\d)?", text)
    if not found:
        return False
    month, day = calendar.month_name[int(found[1])], int(found[2])
    forms = rf"{month} {day}(?!\d)|\b{day}(?:st|nd|rd|th)? of {month}|{text[:10]}"
    return re.search(forms, prompt) is not None


def _own_words(text: str, prompt: str) -> bool:
    """Return whether the longer words of a text are the user's own, put another way."""
    words = re.findall(r"[a-z]{4,}", text.lower())
    return len(words) > 2 and all(said(word, prompt) for word in words)


def _type(text: str) -> str:
    if re.fullmatch(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?", text):
        return "date"
    if re.fullmatch(r"[-+]?\d+(\.\d+)?", text):
        return "number"
    return "name" if re.fullmatch(r"[\w.@+-]{1,80}", text) else "text"


def _template(value: str, prompt: str, read: Read) -> str:
    """Return a text with a slot for each name that was read, "" where it is all the process's own."""
    names = {
        leaf for leaf in read.visible if isinstance(leaf, str) and len(leaf) > 3 and not said(leaf, prompt)
    }
    names = {name for name in names if not re.fullmatch(r"[\d\s:.-]+", name)}
    pattern = value
    for name in sorted(names, key=len, reverse=True):
        pattern = pattern.replace(name, "{text}")
    return pattern if pattern not in (value, "{text}") and "{text}" in pattern else ""


def _answer(task: Any, read: Read) -> str:
    """Return the pattern of the answer: slots for what the process was shown, or can reckon from it. Where
    a piece of the answer is neither shown nor in the user's words, a child writes it all from what is
    hidden."""
    catalogue = "travel" in type(task).__module__  # nothing that an answer may need is hidden there
    shown = {spell(leaf) for leaf in read.visible}
    pattern = task.GROUND_TRUTH_OUTPUT
    for name in sorted(filter(None, shown), key=len, reverse=True):
        pattern = re.sub(rf"(?<![\w{{.]){re.escape(name)}(?:\.0)?(?!\w|\.\d)", "{text}", pattern)
    found = []
    for piece in pattern.split(", "):
        number = re.fullmatch(r"([a-z_ ]+: )?\d+(?:\.\d+)?(-\d+)?", piece)
        if re.fullmatch(r"\{text\}(-\{text\})?", piece) or said(piece, task.PROMPT):
            found.append(piece)
        elif number and catalogue:
            found.append((number[1] or "") + "{number}" + ("-{number}" if number[2] else ""))
        elif catalogue:
            found.append("{text}")
        else:
            return "{quote}"
    return ", ".join(found)


def pledge(suite: str, plan: Sequence[Step], answer: str) -> dict[str, Any]:
    """Return the pledge of a plan: calls of the same form stand in it once, for as many times as may be."""
    calls: list[dict[str, Any]] = []
    for step in plan:
        call = {"function": f"{suite}_{step.function}", "arguments": _open(step.arguments, step)}
        same = next((other for other in calls if {k: other[k] for k in call} == call), None)
        if same:
            same["times"] = MANY
        else:
            calls.append({**call, "times": 1})
    if any(source.how == "sum" for step in plan for source in step.leaves.values()):
        calls.append({"function": "calculate", "arguments": {"sum": {"open": "text"}}})
    return {"calls": calls, "answer": answer}


def _open(value: Any, step: Step, path: str = "") -> Any:
    if isinstance(value, Mapping) and value:
        return {key: _open(item, step, f"{path}.{key}" if path else key) for key, item in value.items()}
    if isinstance(value, list) and value:
        inner = [_open(item, step, f"{path}.{place}") for place, item in enumerate(value)]
        opened = all(isinstance(one, dict) and set(one) == {"open"} for one in inner)
        return (
            {"each": inner[0] if all(one == inner[0] for one in inner) else {"open": "text"}}
            if opened
            else inner
        )
    source = step.leaves[path]
    if path in step.templates:
        return {"like": step.templates[path]}
    return source.value if source.how == "fixed" else {"open": source.type}
