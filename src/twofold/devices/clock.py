"""Clock: the time here and elsewhere, how long it is between two moments, and the moment so much later.

Lengths between moments are counted on the world's clock (UTC), so a night in which clocks are put forward has
23 hours; days, months and years are steps in the calendar of the zone. Where clocks are put back, an hour
stands twice: the first is meant, and it is said so. Time zones are the machine's (IANA).

Not covered: leap seconds, calendars other than the Gregorian.
"""

import calendar
import datetime
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twofold.base.errors import UsageError
from twofold.base.names import nearest
from twofold.devices import _forms
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned

DESCRIPTION = "Tells the date and time in any zone, and reckons with them."

_ZONE = _forms.text("such as Europe/Paris or UTC; the machine's own unless said", longest=60)
_MOMENT = "such as 2026-11-22 14:05, 2026-11-22, or now"
_STEPS = ("years", "months", "weeks", "days", "hours", "minutes")
_FUNCTIONS = (
    Function(
        name="clock",
        description="Tells the date and time.",
        parameters=_forms.object_of({"zone": _ZONE}, required=()),
        effect=Effect.NONE,
        trusted=True,
    ),
    Function(
        name="between",
        description="Tells how long it is from one moment to another.",
        parameters=_forms.object_of(
            {
                "start": _forms.text(_MOMENT, longest=60),
                "end": _forms.text(_MOMENT, longest=60),
                "zone": _ZONE,
            },
            required=("start", "end"),
        ),
        effect=Effect.NONE,
        trusted=True,
    ),
    Function(
        name="shift",
        description="Tells the moment so much later, or earlier with numbers below zero.",
        parameters=_forms.object_of(
            {
                "start": _forms.text(_MOMENT, longest=60),
                **{step: {"type": "integer", "minimum": -100_000, "maximum": 100_000} for step in _STEPS},
                "zone": _ZONE,
            },
            required=("start",),
        ),
        effect=Effect.NONE,
        trusted=True,
    ),
    Function(
        name="elsewhere",
        description="Tells what a moment in one zone is in another.",
        parameters=_forms.object_of(
            {"moment": _forms.text(_MOMENT, longest=60), "source": _ZONE, "target": _ZONE},
            required=("moment", "target"),
        ),
        effect=Effect.NONE,
        trusted=True,
    ),
)


class Clock:
    """The device. `now` returns the moment, in UTC; `own` is the zone of the machine or of the settings."""

    def __init__(self, now: Callable[[], datetime.datetime], own: datetime.tzinfo) -> None:
        self._now = now
        self._own = own

    def functions(self) -> Sequence[Function]:
        """Return what it can do."""
        return _FUNCTIONS

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Return moments as ISO 8601 texts, and a line to read. Raises DeviceError."""
        _forms.check(_FUNCTIONS, function, arguments)
        try:
            carry_out: Callable[[Mapping[str, Any]], Returned] = getattr(self, f"_{function}")
            return carry_out(arguments)
        except (OverflowError, ValueError):
            raise DeviceError("That is outside the calendar, which goes from year 1 to 9999.") from None

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    def _clock(self, arguments: Mapping[str, Any]) -> Returned:
        moment = self._now().astimezone(self._zone(arguments.get("zone")))
        zone = f" ({arguments['zone']})" if "zone" in arguments else ""
        return Returned(value=_told(moment), text=_spelled(moment) + zone)

    def _between(self, arguments: Mapping[str, Any]) -> Returned:
        zone = self._zone(arguments.get("zone"))
        (start, whole_days, said), (end, also_days, more) = (
            self._moment(arguments[name], zone) for name in ("start", "end")
        )
        # Two moments of one zone would be subtracted as their clocks show, without the change of summer time.
        seconds = round((end.astimezone(datetime.UTC) - start.astimezone(datetime.UTC)).total_seconds())
        days = (end.date() - start.date()).days
        value: dict[str, Any] = {"start": start.isoformat(), "end": end.isoformat(), "seconds": seconds}
        value["calendar_days"] = days
        if whole_days and also_days:
            text = f"{days} days" + (f", which is {_calendar(start, end)}" if abs(days) > 31 else "")
        else:
            text = _length(seconds)
        return Returned(value=value, text=f"{text}{said or more}")

    def _shift(self, arguments: Mapping[str, Any]) -> Returned:
        zone = self._zone(arguments.get("zone"))
        start, whole_day, said = self._moment(arguments["start"], zone)
        by = {step: arguments.get(step, 0) for step in _STEPS}
        month = start.year * 12 + start.month - 1 + by["years"] * 12 + by["months"]
        year, month = month // 12, month % 12 + 1
        day = min(start.day, calendar.monthrange(year, month)[1])
        local = start.replace(tzinfo=None, year=year, month=month, day=day)
        local += datetime.timedelta(weeks=by["weeks"], days=by["days"])
        moment, more = _placed(local, zone)
        # Hours and minutes are counted on the world's clock: noon and two hours is two hours later.
        later = datetime.timedelta(hours=by["hours"], minutes=by["minutes"])
        moment = (moment.astimezone(datetime.UTC) + later).astimezone(zone)
        only_date = whole_day and not by["hours"] and not by["minutes"]
        text = _spelled(moment).rpartition(", ")[0] if only_date else _spelled(moment)
        return Returned(value=_told(moment), text=text + (said or more))

    def _elsewhere(self, arguments: Mapping[str, Any]) -> Returned:
        source, target = self._zone(arguments.get("source")), self._zone(arguments["target"])
        moment, _, said = self._moment(arguments["moment"], source)
        there = moment.astimezone(target)
        return Returned(value=_told(there), text=f"{_spelled(there)} ({arguments['target']}){said}")

    def _zone(self, name: str | None) -> datetime.tzinfo:
        return self._own if name is None else zone_of(name)

    def _moment(self, text: str, zone: datetime.tzinfo) -> tuple[datetime.datetime, bool, str]:
        """Return a moment, whether it is a day without a time, and what has to be said about it."""
        text = text.strip()
        if text.casefold() in ("now", "today"):
            now = self._now().astimezone(zone)
            if text.casefold() == "now":
                return now, False, ""
            midnight = datetime.datetime.combine(now.date(), datetime.time())
            return _placed(midnight, zone)[0], True, ""
        try:
            whole_day = len(text) <= 10
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise DeviceError(f"{text!r} is no moment: write it as 2026-11-22 or 2026-11-22 14:05.") from None
        if moment.tzinfo is not None:
            return moment.astimezone(zone), False, ""
        placed, said = _placed(moment, zone)
        return placed, whole_day, said


def zone_of(name: str) -> datetime.tzinfo:
    """Return the time zone of that name. Raises DeviceError that names the nearest."""
    if name.upper() in ("UTC", "GMT", "Z"):
        return datetime.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = sorted(zoneinfo.available_timezones())
        ends = {zone.rpartition("/")[2].casefold(): zone for zone in known}
        guess = ends.get(name.casefold().replace(" ", "_")) or nearest(name, known)
        if not known:
            raise DeviceError("This machine has no time zones: install its package tzdata.") from None
        hint = f"; did you mean {guess!r}" if guess else ""
        raise DeviceError(f"There is no time zone {name[:60]!r}{hint}.") from None


def _placed(local: datetime.datetime, zone: datetime.tzinfo) -> tuple[datetime.datetime, str]:
    """Return when clocks of a zone show `local`, and a remark where they do so twice or never."""
    moment = local.replace(tzinfo=zone, fold=0)
    again = local.replace(tzinfo=zone, fold=1)
    real = moment.astimezone(datetime.UTC).astimezone(zone)
    if real.replace(tzinfo=None) != local:
        return real, f"; {local:%H:%M} is left out there on that day, when clocks go forward"
    if moment.utcoffset() != again.utcoffset():
        return moment, f"; {local:%H:%M} comes twice there on that day, and the first is meant"
    return moment, ""


def _told(moment: datetime.datetime) -> dict[str, Any]:
    """Return a moment for programs."""
    return {
        "iso": moment.isoformat(timespec="seconds"),
        "weekday": calendar.day_name[moment.weekday()],
        "week": moment.isocalendar().week,
        "unix_s": int(moment.timestamp()),
    }


def _spelled(moment: datetime.datetime) -> str:
    """Return a moment as a person reads it: Sunday, 22 November 2026, 14:05."""
    names = calendar.day_name[moment.weekday()], calendar.month_name[moment.month]
    return f"{names[0]}, {moment.day} {names[1]} {moment.year}, {moment:%H:%M}"


def _length(seconds: int) -> str:
    """Return a length of time in its two or three largest parts."""
    rest, parts = abs(seconds), []
    for name, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count:,} {name}{'s' if count > 1 else ''}")
    return ("-" if seconds < 0 else "") + (", ".join(parts[:3]) or "no time")


def _calendar(start: datetime.datetime, end: datetime.datetime) -> str:
    """Return the whole years, months and days from one date to another."""
    first, last = sorted((start.date(), end.date()))
    months = (last.year - first.year) * 12 + last.month - first.month
    if last.day < first.day and last.day < calendar.monthrange(last.year, last.month)[1]:
        months -= 1
    year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
    stepped = first.replace(
        year=year, month=month + 1, day=min(first.day, calendar.monthrange(year, month + 1)[1])
    )
    counts = ((months // 12, "year"), (months % 12, "month"), ((last - stepped).days, "day"))
    return ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for count, name in counts if count)


def open(settings: Mapping[str, Any]) -> Device:
    """Return the clock. Settings: `zone`, the user's own time zone; the machine's unless said."""
    _forms.settings("clock", settings, ("zone",))
    own: datetime.tzinfo | None = datetime.datetime.now().astimezone().tzinfo
    if "zone" in settings:
        try:
            own = zone_of(str(settings["zone"]))
        except DeviceError as error:
            raise UsageError(f"devices.toml, [clock]: {error}") from None
    else:
        own = _machine() or own
    return Clock(lambda: datetime.datetime.now(datetime.UTC), own or datetime.UTC)


def _machine() -> datetime.tzinfo | None:
    """Return the machine's zone with its rules, where it says its name; a bare offset knows no summer."""
    import os
    from pathlib import Path

    name = (
        os.environ.get("TZ", "").lstrip(":")
        or str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2]
    )
    try:
        return zoneinfo.ZoneInfo(name) if name else None
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None
