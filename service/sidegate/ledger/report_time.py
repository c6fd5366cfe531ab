"""Time in reports: the ledger's UTC text as hours, days and months of a time zone. SQLite itself knows no zones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sidegate.ledger.report_query import Query

_LENGTHS = {"hour": 13, "day": 10, "month": 7}
_FORMATS = {"hour": "%Y-%m-%dT%H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


def bound(moment: datetime) -> str:
    """As the ledger writes times, so that they compare as text."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def label(query: Query, unit: str) -> tuple[str, list[str | int]]:
    """An SQL expression for the `hour`, `day` or `month` a call began in, with its arguments.

    An hour names its offset from UTC: where clocks are put back, there are two of the same name.
    """
    spans = list(offsets(query))
    if all(not offset for _, offset in spans):
        text = f"substr(calls.started_at, 1, {_LENGTHS[unit]})"
        return (f"{text} || ':00+00:00'" if unit == "hour" else text), []
    shift, needed = _chosen(spans, [f"{_seconds(offset):+d} seconds" for _, offset in spans])
    # Without the fraction: SQLite would round the last half millisecond of a day up into the next one.
    text = f"strftime('{_FORMATS[unit]}', substr(calls.started_at, 1, 19), {shift})"
    if unit != "hour":
        return text, needed
    suffix, more = _chosen(spans, [_said(offset) for _, offset in spans])
    return f"{text} || {suffix}", [*needed, *more]


def offsets(query: Query) -> Iterator[tuple[datetime, timedelta]]:
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


def _chosen(spans: list[tuple[datetime, timedelta]], values: list[str]) -> tuple[str, list[str | int]]:
    """SQL for the value of the span a call began in."""
    arguments: list[str | int] = []
    for (start, _), value in zip(spans[1:], values, strict=False):
        arguments += [bound(start), value]
    if not arguments:
        return "?", [values[-1]]
    return f"CASE {'WHEN calls.started_at < ? THEN ? ' * (len(spans) - 1)}ELSE ? END", [*arguments, values[-1]]


def _offset(moment: datetime) -> timedelta:
    return moment.utcoffset() or timedelta()


def _seconds(offset: timedelta) -> int:
    return offset // _SECOND


def _said(offset: timedelta) -> str:
    minutes = abs(_seconds(offset)) // 60
    return f"{'-' if offset < timedelta() else '+'}{minutes // 60:02d}:{minutes % 60:02d}"
