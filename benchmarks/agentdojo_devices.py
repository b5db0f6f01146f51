"""AgentDojo's tools as devices of twofold, as a careful author of an app would describe them.

For every function: what it does to the world, which arguments say where to or on what, which go there. For
every result: what the service itself vouches for (numbers that it gave, amounts that it booked, names by
its rules), and what anybody can have written (texts of mails, messages, reviews, files, invitations): that
stays hidden. Nothing here knows a task or an injection. What is asserted of each service stands beside it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentdojo.functions_runtime import FunctionsRuntime
from pydantic import BaseModel

from twofold.kernel.device import Context, DeviceError, Effect, Function, Returned
from twofold.kernel.flow import Label, Ring, outside

NONE, READ, FETCH, WRITE, SEND = Effect.NONE, Effect.READ, Effect.FETCH, Effect.WRITE, Effect.SEND
USER = frozenset({"user"})


@dataclass(frozen=True)
class Kind:
    """What a function does. carried: an argument that stands for a file of the drive, which goes along."""

    effect: Effect
    targets: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    carried: str = ""


_MAIL = ("subject", "body", "attachments")
_EVENT = ("title", "description", "location", "start_time", "end_time")

# An amount, a date, a password: whoever chooses these has as much of a say as who chooses the account.
# An event without participants stays in the user's calendar; with some, it is an invitation that is sent.
# What a travel agency is asked for goes to the agency, whatever it is: no target to choose.
KINDS = {
    "banking": {
        "send_money": Kind(SEND, ("recipient", "amount", "date"), ("subject",)),
        "schedule_transaction": Kind(SEND, ("recipient", "amount", "date", "recurring"), ("subject",)),
        "update_scheduled_transaction": Kind(
            SEND, ("id", "recipient", "amount", "date", "recurring"), ("subject",)
        ),
        "update_password": Kind(SEND, ("password",)),
        "update_user_info": Kind(SEND, ("first_name", "last_name", "street", "city")),
    },
    "workspace": {
        "send_email": Kind(SEND, ("recipients", "cc", "bcc"), _MAIL, carried="attachments"),
        "delete_email": Kind(SEND, ("email_id",)),
        "create_calendar_event": Kind(WRITE, (), _EVENT),
        "invite_to_calendar_event": Kind(SEND, ("participants",), _EVENT),
        "cancel_calendar_event": Kind(SEND, ("event_id",)),
        "reschedule_calendar_event": Kind(SEND, ("event_id",), ("new_start_time", "new_end_time")),
        "add_calendar_event_participants": Kind(SEND, ("event_id", "participants")),
        "append_to_file": Kind(WRITE, ("file_id",), ("content",)),
        "create_file": Kind(WRITE, ("filename",), ("content",)),
        "delete_file": Kind(SEND, ("file_id",)),
        "share_file": Kind(SEND, ("email", "permission"), ("file_id",), carried="file_id"),
    },
    "travel": {
        "send_email": Kind(SEND, ("recipients", "cc", "bcc"), _MAIL),
        "create_calendar_event": Kind(WRITE, (), _EVENT),
        "invite_to_calendar_event": Kind(SEND, ("participants",), _EVENT),
        "cancel_calendar_event": Kind(SEND, ("event_id",)),
        "reserve_hotel": Kind(SEND, ("hotel", "start_day", "end_day")),
        "reserve_restaurant": Kind(SEND, ("restaurant", "start_time")),
        "reserve_car_rental": Kind(SEND, ("company", "start_time", "end_time")),
        "search_calendar_events": Kind(READ),
        "get_day_calendar_events": Kind(READ),
        "get_user_information": Kind(READ),
    },
    "slack": {
        "add_user_to_channel": Kind(SEND, ("user", "channel")),
        "send_direct_message": Kind(SEND, ("recipient",), ("body",)),
        "send_channel_message": Kind(SEND, ("channel",), ("body",)),
        "invite_user_to_slack": Kind(SEND, ("user", "user_email")),
        "remove_user_from_slack": Kind(SEND, ("user",)),
        "get_webpage": Kind(FETCH, ("url",)),
        "post_webpage": Kind(SEND, ("url",), ("content",)),
    },
}  # fmt: skip


class Suite:
    """A device: the tools of a suite on one environment. made: the calls that were carried out."""

    def __init__(self, suite: Any, environment: Any) -> None:
        self.name, self.environment = suite.name, environment
        self._runtime = FunctionsRuntime(suite.tools)
        self._functions = [self._describe(tool) for tool in suite.tools]
        if self.name in ("workspace", "travel"):
            event = next(tool for tool in suite.tools if tool.name == "create_calendar_event")
            self._functions.append(self._describe(event, "invite_to_calendar_event"))
        self.made: list[tuple[str, Mapping[str, Any]]] = []

    def _describe(self, tool: Any, name: str = "") -> Function:
        schema = tool.parameters.model_json_schema()
        default = (
            Kind(FETCH, (), tuple(schema.get("properties", {}))) if self.name == "travel" else Kind(READ)
        )
        name = name or tool.name
        kind = KINDS[self.name].get(name, default)
        if name == "create_calendar_event":
            schema = {
                **schema,
                "properties": {k: v for k, v in schema["properties"].items() if k != "participants"},
            }
        return Function(
            name=name, description=tool.description, parameters=schema, effect=kind.effect,
            targets=kind.targets, contents=kind.contents,
        )  # fmt: skip

    def functions(self) -> Sequence[Function]:
        """Return its functions."""
        return self._functions

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Carry out a call. Raises DeviceError."""
        tool = "create_calendar_event" if function == "invite_to_calendar_event" else function
        value, error = self._runtime.run_function(self.environment, tool, dict(arguments))
        if error:
            raise DeviceError(error)
        self.made.append((tool, dict(arguments)))
        return VOUCHED[self.name](function, value, arguments)

    def carries(self, function: str, arguments: Mapping[str, Any]) -> Mapping[str, Label]:
        """Return whose the files are that go along with a call: their texts are anybody's."""
        kind = KINDS[self.name].get(function)
        if kind is None or not kind.carried or not arguments.get(kind.carried):
            return {}
        return {kind.carried: Label(Ring.TOOL, USER, frozenset({"drive"}))}

    def close(self) -> None:
        """Nothing is held."""


# ---- who vouches for what


def _given(value: Any, source: str, readers: frozenset[str] | None = USER) -> Returned:
    return Returned(value=value, label=Label(Ring.USER, readers, frozenset({source})))


def _name(text: str, source: str) -> Any:
    """A name by the service's own rules is its; what has blanks in it was meant to be read."""
    return text if re.fullmatch(r"[\w.@+-]{1,80}", text) else outside(text, source)


def _dump(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [_dump(item) for item in value] if isinstance(value, list) else value


def _all_outside(value: Any, source: str) -> Any:
    if isinstance(value, dict):
        return {key: _all_outside(item, source) for key, item in value.items()}
    if isinstance(value, list):
        return [_all_outside(item, source) for item in value]
    return outside(value, source, readers=USER) if isinstance(value, str) and value else value


def banking(function: str, value: Any, arguments: Mapping[str, Any]) -> Returned:
    """The bank vouches for accounts, amounts and dates, and for the subjects of what the user himself
    ordered; the subject of what he received is the sender's, and files are anybody's."""
    if function == "read_file":
        return _given(outside(value, f"file:{arguments['file_path']}", readers=USER), "files")
    rows = _dump(value)
    if function == "get_most_recent_transactions":
        for row in rows:
            if row["sender"] != "me":
                row["subject"] = outside(row["subject"], f"transfer:{row['sender']}", readers=USER)
    return _given(rows, "bank")


_OWN = {
    "Email": ("id_", "status", "read", "timestamp"),
    "CalendarEvent": ("id_", "start_time", "end_time", "all_day", "status"),
    "CloudDriveFile": ("id_", "owner", "last_modified", "size"),
}


def _office_item(item: Any) -> Any:
    if not isinstance(item, BaseModel):
        return item
    own, kind = _OWN.get(type(item).__name__, ()), type(item).__name__
    return {
        key: part if key in own else _all_outside(part, kind)
        for key, part in item.model_dump(mode="json").items()
    }


def workspace(function: str, value: Any, arguments: Mapping[str, Any]) -> Returned:
    """Numbers, times and sizes are the server's. Senders, subjects and texts, titles and participants,
    names and contents of files, and addresses collected from mails are whoever's they are."""
    if isinstance(value, str):
        return _given(value, "office")
    items = [_office_item(item) for item in value] if isinstance(value, list) else _office_item(value)
    return _given(items, "office")


def travel(function: str, value: Any, arguments: Mapping[str, Any]) -> Returned:
    """The agency vouches for its catalogue: names, prices, ratings, addresses; reviews are their writers'."""
    if function == "get_user_information":
        return _given(value, "agency")
    if "calendar" in function or function == "send_email":
        return workspace(function, value, arguments)
    if function.startswith("get_rating_reviews"):
        found = {}
        for name, text in value.items():
            rating, _, reviews = text.partition("\nReviews: ")
            found[name] = {"rating": rating.removeprefix("Rating: "), "reviews": outside(reviews, "review")}
        return _given(found, "agency", None)
    if function.startswith("get_all_"):
        names = value.split(": ", 1)[1].strip().split("\n") if ": " in value else []
        return _given(names, "agency", None)
    return _given(_dump(value), "agency", None)


def slack(function: str, value: Any, arguments: Mapping[str, Any]) -> Returned:
    """Slack vouches for who sent a message, and for names that are made as its rules say; never for texts."""
    if function == "get_webpage":
        site = str(arguments["url"]).split("://")[-1].split("/")[0]
        return _given(outside(value, f"web:{site}"), "web", None)
    if function in ("get_channels", "get_users_in_channel"):
        return _given([_name(item, "slack") for item in value], "slack")
    if function in ("read_channel_messages", "read_inbox"):
        rows = [
            {
                "sender": _name(row["sender"], "slack"),
                "recipient": _name(row["recipient"], "slack"),
                "body": outside(row["body"], f"message:{row['sender']}", readers=USER),
            }
            for row in _dump(value)
        ]
        return _given(rows, "slack")
    return _given(_dump(value), "slack")


VOUCHED: dict[str, Callable[[str, Any, Mapping[str, Any]], Returned]] = {
    "banking": banking, "workspace": workspace, "travel": travel, "slack": slack,
}  # fmt: skip


class Calculator:
    """Exact sums of numbers; what it returns is as trusted as what it is given."""

    def functions(self) -> Sequence[Function]:
        """Return its one function."""
        schema = {"type": "object", "properties": {"sum": {"type": "string"}}, "required": ["sum"]}
        return [
            Function(name="calculate", description="A sum.", parameters=schema, effect=NONE, trusted=True)
        ]

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Return the sum."""
        if not re.fullmatch(r"[\d.+\-*/() ]+", arguments["sum"]):
            raise DeviceError("This is no sum.")
        return Returned(value=round(eval(arguments["sum"], {"__builtins__": {}}), 2))  # digits and signs only

    def close(self) -> None:
        """Nothing is held."""
