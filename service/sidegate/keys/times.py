"""Times that people write: `90d`, `2027-01-01`, `2027-01-01T12:00+01:00`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from sidegate.errors import BadRequest

_DURATION = re.compile(r"([0-9]{1,6})(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
LONGEST = timedelta(days=36_525)
"""A century: longer is a mistake."""

LONGEST_GRACE = timedelta(days=90)


def read_expiry(text: str, now: datetime) -> datetime:
    """The moment meant: so long from now, or a date (its first moment, UTC), or a date and time with its zone.

    Raises `BadRequest` where it is neither, has passed, or is more than a century away.
    """
    length = _length(text)
    try:
        moment = now + length if length is not None else _moment(text)
    except (OverflowError, ValueError) as error:
        raise _wrong("expires", "write 90d, 12h, 2027-01-01, or a date and time with its zone") from error
    if moment <= now:
        raise _wrong("expires", "that time has passed")
    if moment - now > LONGEST:
        raise _wrong("expires", "more than a century away; leave it out for never")
    return moment


def read_grace(text: str) -> timedelta:
    """How long an old key lives on, 0 to 90 days. Raises `BadRequest`."""
    length = timedelta() if text == "0" else _length(text)
    if length is None or length > LONGEST_GRACE:
        raise _wrong("grace", "write 24h, 30m, 7d, or 0 for none; 90d at most")
    return length


def _length(text: str) -> timedelta | None:
    found = _DURATION.fullmatch(text)
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]]) if found else None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        if len(text) > len("2027-01-01"):
            raise ValueError("a time without its zone")
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def _wrong(param: str, problem: str) -> BadRequest:
    return BadRequest(f"{param}: {problem}", param=param)
