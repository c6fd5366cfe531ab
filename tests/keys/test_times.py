from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sidegate.errors import BadRequest
from sidegate.keys.times import read_expiry, read_grace

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90d", NOW + timedelta(days=90)),
        ("30s", NOW + timedelta(seconds=30)),
        ("12h", NOW + timedelta(hours=12)),
        ("2w", NOW + timedelta(weeks=2)),
        ("2027-01-01", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T12:00Z", datetime(2027, 1, 1, 12, tzinfo=UTC)),
        ("2027-01-01T12:00:00+01:00", datetime(2027, 1, 1, 11, tzinfo=UTC)),
    ],
)
def test_an_expiry_is_a_length_or_a_moment(text: str, moment: datetime) -> None:
    assert read_expiry(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["", "0d", "-1d", "90", "d", "1y", "٣d", "2026-11-22", "2026-11-22T11:59Z", "2027-01-01T12:00", "2127-01-01"]
    + ["999999w", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "2027-13-01", "now"],
)
def test_what_is_no_time_to_come_is_no_expiry(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^expires: "):
        read_expiry(text, NOW)


def test_a_grace_is_none_or_at_most_ninety_days() -> None:
    assert (read_grace("0"), read_grace("24h"), read_grace("90d")) == (
        timedelta(),
        timedelta(days=1),
        timedelta(days=90),
    )
    for text in ("91d", "-1h", "", "forever", "2027-01-01"):
        with pytest.raises(BadRequest, match=r"^grace: "):
            read_grace(text)
