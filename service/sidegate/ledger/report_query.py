"""What a usage report is asked for: by what, from when to when, of which calls. Words from outside become a `Query`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from sidegate.errors import BadRequest

COLUMNS: Mapping[str, str] = {
    "caller": "calls.caller",
    "key_id": "calls.key_id",
    "end_user": "nullif(calls.end_user, '')",
    "team": "calls.team",
    "tag": "tag.value",
    "model": "nullif(calls.model_asked, '')",
    "served": "nullif(calls.model_served, '')",
    "provider": "calls.provider",
    "route": "calls.route",
    "operation": "calls.operation",
    "dialect": "calls.dialect",
    "delivery": "calls.delivery",
    "ending": "calls.ending",
}
"""What calls can be told apart by, and where it stands. Nothing else ever gets into a statement."""

TIMES = ("hour", "day", "month")
DIMENSIONS = (*COLUMNS, *TIMES)

PARAMETERS = ("by", "since", "until", "timezone", "where")

BY = "model"
SINCE = "7d"
MAX_CONDITIONS = 20
MAX_TEXT = 256

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
"""What lies outside holds no call, and time zones are walked through from start to end."""

_AGO = re.compile(r"([0-9]{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")


class Query(Struct, frozen=True, kw_only=True):
    """One question. `since` is included and `until` is not; both in the zone of `timezone`."""

    by: tuple[str, ...]
    since: datetime
    until: datetime
    timezone: str = "UTC"
    where: tuple[tuple[str, str], ...] = ()
    """Dimensions and what they must be; several of one dimension: any of them. Empty: where there is none."""
    caller: str | None = None
    """Only this caller's calls, whatever else is asked."""

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


def read_query(parameters: Mapping[str, Sequence[str]], now: datetime, caller: str | None = None) -> Query:
    """`by`, `since`, `until`, `timezone` and `where`, as a command line or a URL says them.

    Raises `BadRequest`, with the parameter's name as `param`.
    """
    for name in parameters:
        if name not in PARAMETERS:
            raise BadRequest(f"There is no parameter of this name; there are {', '.join(PARAMETERS)}.", param=name[:64])
    zone = _zone(_one(parameters, "timezone", "UTC"))
    since = moment(_one(parameters, "since", SINCE), "since", zone, now)
    until = moment(given, "until", zone, now) if (given := _one(parameters, "until", "")) else _within(now, zone)
    if since >= until:
        raise BadRequest("`since` must lie before `until`.", param="since")
    return Query(
        by=_by(_one(parameters, "by", BY)),
        since=since,
        until=until,
        timezone=zone.key,
        where=_where(parameters.get("where", ())),
        caller=caller,
    )


def _one(parameters: Mapping[str, Sequence[str]], name: str, default: str) -> str:
    given = parameters.get(name, ())
    if len(given) > 1:
        raise BadRequest(f"`{name}` stands there {len(given)} times.", param=name)
    return given[0] if given else default


def _by(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in DIMENSIONS:
            raise BadRequest(f"`by` is a list, with commas, of {', '.join(DIMENSIONS)}.", param="by")
    if len(set(names)) < len(names):
        raise BadRequest("`by` names a dimension twice.", param="by")
    return names


def _where(conditions: Sequence[str]) -> tuple[tuple[str, str], ...]:
    if len(conditions) > MAX_CONDITIONS:
        raise BadRequest(f"There are more than {MAX_CONDITIONS} conditions.", param="where")
    found = []
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals or name not in COLUMNS:
            raise BadRequest(f"`where` is DIMENSION=VALUE, with one of {', '.join(COLUMNS)}.", param="where")
        if len(value) > MAX_TEXT or not _is_text(value):
            raise BadRequest(f"A value is text of up to {MAX_TEXT} characters.", param="where")
        found.append((name, value))
    return tuple(found)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _zone(name: str) -> ZoneInfo:
    if len(name) <= 64 and _ZONE.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise BadRequest("No such time zone is known; expected a name such as Europe/Berlin, or UTC.", param="timezone")


def moment(text: str, name: str, zone: ZoneInfo, now: datetime) -> datetime:
    """`7d`, `24h`, a date (its first moment in `zone`), or a date and time (in `zone`, where it names no offset)."""
    if ago := _AGO.fullmatch(text):
        try:
            return _within(now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}), zone)
        except OverflowError:
            return EARLIEST.astimezone(zone)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        expected = "such as 7d, 24h, 2026-11-22 or 2026-11-22T10:00+01:00"
        raise BadRequest(f"`{name}` is a time {expected}.", param=name) from None
    return _within(found if found.tzinfo is not None else found.replace(tzinfo=zone), zone)


def _within(moment: datetime, zone: ZoneInfo) -> datetime:
    # By the year first: at the ends of the calendar a change of zone overflows.
    if moment.year < EARLIEST.year - 1:
        return EARLIEST.astimezone(zone)
    if moment.year > LATEST.year:
        return LATEST.astimezone(zone)
    return min(max(moment.astimezone(UTC), EARLIEST), LATEST).astimezone(zone)
