"""Ids of calls: in order of time, and not to be guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

import pytest

from sidegate.contract.ids import CallIds, new_call_id

NOW = datetime(2026, 11, 22, 12, 0, 0, 123000, tzinfo=UTC)


def test_an_id_is_a_uuid_of_version_7_with_the_time_of_its_call() -> None:
    made = UUID(new_call_id(NOW))
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == 1_795_348_800_123


@pytest.mark.parametrize("ahead", [1, 7, 64])
def test_ids_of_later_calls_stand_behind_those_of_earlier_ones_however_many_are_drawn_at_once(ahead: int) -> None:
    drawn = CallIds(ahead)
    ids = [drawn.new(NOW + timedelta(milliseconds=number)) for number in range(1000)]
    assert ids == sorted(ids)
    assert {len(id) for id in ids} == {32}


@pytest.mark.parametrize("ahead", [1, 7, 64])
def test_ids_of_one_moment_share_nothing_but_their_time(ahead: int) -> None:
    """Every bit that may be random is 1 in some ids, and 0 in others."""
    drawn_ahead = CallIds(ahead)
    made = [UUID(drawn_ahead.new(NOW)) for _ in range(500)]
    assert {(each.version, each.variant) for each in made} == {(7, RFC_4122)}
    seen = [each.int for each in made]
    assert len(set(seen)) == 500
    drawn = (1 << 62) - 1 | ((1 << 12) - 1) << 64
    ones, zeros = 0, 0
    for each in seen:
        ones, zeros = ones | each & drawn, zeros | ~each & drawn
    assert ones == zeros == drawn
