"""Time in reports: the ledger's UTC text as hours, days and months of a time zone. SQLite itself knows no zones, and
PostgreSQL may know other ones than the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from sidegate.ledger.database import Dialect
from sidegate.ledger.report_query import Query

_EXACT = "2026-11-22T10:00:00"
AT = "calls.at"
"""When a call began, as far as it is told apart."""
_SHIFTED: dict[Dialect, str] = {
    "sqlite": "strftime('%Y-%m-%dT%H:00', {moment}, {shift})",
    "postgresql": """to_char(({moment})::timestamp + ({shift})::interval, 'YYYY-MM-DD"T"HH24:00')""",
}
_OTHER_DAY: dict[Dialect, str] = {
    "sqlite": "date({day}, '{days} day')",
    "postgresql": "to_char({day}::date {days}, 'YYYY-MM-DD')",
}
_DAYS, _HOURS, _MINUTES, _SECONDS = (len(text) for text in ("2026-11-22", "2026-11-22T10", "2026-11-22T10:00", _EXACT))
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)

Span: TypeAlias = tuple[datetime, timedelta]


def bound(moment: datetime) -> str:
    """As the ledger writes times, so that they compare as text."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def label(query: Query, unit: str, width: int, dialect: Dialect) -> tuple[str, list[str]]:
    """An SQL expression for the `hour`, `day` or `month` of `calls.at`, which is `width` letters of when calls began;
    with its arguments.

    An hour is for `named` to complete: as long as hours begin when those of UTC do, it is UTC's.
    """
    spans = list(offsets(query))
    if unit == "hour":
        return (_first(_HOURS, width), []) if _width(spans) == _HOURS else _local_hour(spans, width, dialect)
    days = [_day_by(offset, width, dialect) for _, offset in spans]
    text, arguments = _chosen(spans, days, width)
    return (f"substr({text}, 1, 7)" if unit == "month" else text), arguments


def width(query: Query) -> int:
    """How much of a call's time has to be known to tell its hour, day and month, in letters of the ledger's text."""
    spans = list(offsets(query))
    if "hour" not in query.by and not any(offset for _, offset in spans):
        return _DAYS
    return _width(spans)


def _width(spans: list[Span]) -> int:
    """What is of one hour (or minute) in UTC must be of one in the zone as well."""
    seconds = [_seconds(offset) for _, offset in spans] + [at.minute * 60 + at.second for at, _ in spans[1:]]
    if not any(second % 3600 for second in seconds):
        return _HOURS
    return _SECONDS if any(second % 60 for second in seconds) else _MINUTES


def named(query: Query, hour: str) -> str:
    """The hour with its offset from UTC: where clocks are put back, there are two of the same name."""
    if len(hour) > _HOURS:
        return hour
    return datetime.fromisoformat(f"{hour}:00+00:00").astimezone(query.zone).isoformat(timespec="minutes")


def _local_hour(spans: list[Span], width: int, dialect: Dialect) -> tuple[str, list[str]]:
    shift, needed = _chosen(spans, [("?", [f"{_seconds(offset):+d} seconds"]) for _, offset in spans], width)
    suffix, more = _chosen(spans, [("?", [_said(offset)]) for _, offset in spans], width)
    moment = f"{AT} || '{_EXACT[width:]}'"
    return f"{_SHIFTED[dialect].format(moment=moment, shift=shift)} || {suffix}", [*needed, *more]


def _day_by(offset: timedelta, width: int, dialect: Dialect) -> tuple[str, list[str]]:
    """The day of UTC, but for calls late in it (early, west of Greenwich)."""
    day = _first(_DAYS, width)
    if not offset:
        return day, []
    if offset > timedelta():
        same, days, border = "<", "+1", _DAY - offset
    else:
        same, days, border = ">=", "-1", -offset
    other = _OTHER_DAY[dialect].format(day=day, days=days)
    seconds = _seconds(border)
    time = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"CASE WHEN substr({AT}, {_DAYS + 2}) {same} ? THEN {day} ELSE {other} END", [time[: width - _DAYS - 1]]


def _first(letters: int, width: int) -> str:
    return AT if letters == width else f"substr({AT}, 1, {letters})"


def offsets(query: Query) -> Iterator[Span]:
    """The zone's offsets from UTC during the query, each with the moment it begins at, UTC, to the second."""
    zone = query.zone
    moment, end = query.since.astimezone(UTC), query.until.astimezone(UTC)
    known = _offset(moment.astimezone(zone))
    yield moment, known
    while moment < end:
        later = min(moment + _DAY, end)
        offset = _offset(later.astimezone(zone))
        if offset != known:
            yield _change(moment, later, query), offset
            known = offset
        moment = later


def _change(before: datetime, after: datetime, query: Query) -> datetime:
    """The first whole second at which the offset is that of `after`."""
    zone, wanted = query.zone, _offset(after.astimezone(query.zone))
    low, high = before.replace(microsecond=0), after.replace(microsecond=0)
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        if _offset(middle.astimezone(zone)) == wanted:
            high = middle
        else:
            low = middle
    return high


def _chosen(spans: list[Span], values: list[tuple[str, list[str]]], width: int) -> tuple[str, list[str]]:
    """SQL for the value of the span a call began in."""
    last, needed = values[-1]
    if len(spans) == 1:
        return last, needed
    text = ""
    arguments: list[str] = []
    for (start, _), (value, more) in zip(spans[1:], values, strict=False):
        text += f"WHEN {AT} < ? THEN {value} "
        arguments += [bound(start)[:width], *more]
    return f"CASE {text}ELSE {last} END", [*arguments, *needed]


def _offset(moment: datetime) -> timedelta:
    return moment.utcoffset() or timedelta()


def _seconds(offset: timedelta) -> int:
    return offset // _SECOND


def _said(offset: timedelta) -> str:
    minutes = abs(_seconds(offset)) // 60
    return f"{'-' if offset < timedelta() else '+'}{minutes // 60:02d}:{minutes % 60:02d}"
