"""Keys: used in turn, put to rest by what the provider says of them, and never left unused for good."""

from __future__ import annotations

import pytest

from sidegate.errors import ProviderError
from sidegate.upstream.credentials import Credentials, auth_headers
from tests.upstream.scene import HandClock, fails, unreachable


class Keys:
    """Credentials `k0`, `k1`, ... with the clock and what was told."""

    def __init__(self, count: int) -> None:
        self.clock = HandClock()
        self.told: list[str] = []
        headers = [auth_headers("openai", f"k{number}") for number in range(count)]
        self.credentials = Credentials(headers, self.clock, rest=300, limited_rest=10, rested=self.told.append)

    def take(self, count: int) -> list[int]:
        return [self.credentials.take().number for _ in range(count)]

    def fail(self, number: int, error: ProviderError) -> None:
        self.credentials.failed(self.credentials.all[number], error)


def test_keys_are_used_in_turn() -> None:
    assert Keys(3).take(7) == [0, 1, 2, 0, 1, 2, 0]


def test_a_provider_without_a_key_is_sent_none() -> None:
    credentials = Credentials([], HandClock())
    assert credentials.take().headers == {}
    assert not credentials.has_another()


@pytest.mark.parametrize("status", [401, 402, 403, 407])
def test_a_key_that_is_not_accepted_rests_for_long(status: int) -> None:
    keys = Keys(2)
    keys.fail(0, fails(status))
    keys.clock.at += 299
    assert keys.take(3) == [1, 1, 1]
    keys.clock.at += 1
    assert set(keys.take(2)) == {0, 1}
    assert keys.told == ["auth"]


def test_an_account_without_quota_rests_for_long() -> None:
    keys = Keys(2)
    keys.fail(1, fails(429, code="insufficient_quota"))
    keys.clock.at += 299
    assert keys.take(2) == [0, 0]
    assert keys.told == ["quota"]


@pytest.mark.parametrize(("headers", "seconds"), [({"retry_after": "42"}, 42), ({}, 10)])
def test_a_key_that_is_rate_limited_rests_as_long_as_it_was_told(headers: dict[str, str], seconds: float) -> None:
    keys = Keys(2)
    keys.fail(0, fails(429, **headers))
    keys.clock.at += seconds - 0.1
    assert keys.take(2) == [1, 1]
    keys.clock.at += 0.1
    assert set(keys.take(2)) == {0, 1}
    assert keys.told == ["rate_limit"]


@pytest.mark.parametrize("error", [fails(500), fails(503), fails(400), fails(404), unreachable()])
def test_what_is_not_about_the_key_puts_none_to_rest(error: ProviderError) -> None:
    keys = Keys(2)
    keys.fail(0, error)
    assert keys.take(2) == [0, 1]
    assert keys.told == []


def test_where_all_rest_the_first_to_come_back_is_used() -> None:
    keys = Keys(3)
    for number, seconds in enumerate((30, 5, 60)):
        assert keys.credentials.has_another()
        keys.fail(number, fails(429, retry_after=str(seconds)))
    assert keys.credentials.all_rest()
    assert not keys.credentials.has_another()
    assert keys.take(2) == [1, 1]
    keys.clock.at += 5
    assert not keys.credentials.all_rest()


def test_a_later_short_rest_does_not_end_a_long_one() -> None:
    keys = Keys(2)
    keys.fail(0, fails(401))
    keys.fail(0, fails(429, retry_after="1"))
    keys.clock.at += 200
    assert keys.take(2) == [1, 1]


def test_a_resting_key_that_works_need_not_rest() -> None:
    keys = Keys(1)
    keys.fail(0, fails(401))
    taken = keys.credentials.take()
    keys.credentials.worked(taken, taken.until)
    assert not keys.credentials.all_rest()


def test_a_call_from_before_a_key_was_put_to_rest_does_not_wake_it() -> None:
    keys = Keys(1)
    before = keys.credentials.all[0].until
    keys.fail(0, fails(401))
    keys.credentials.worked(keys.credentials.all[0], before)
    assert keys.credentials.all_rest()


def test_a_call_that_went_well_does_not_end_a_rest_that_was_set_meanwhile() -> None:
    keys = Keys(1)
    keys.fail(0, fails(429))
    taken, until = keys.credentials.take(), keys.credentials.all[0].until
    keys.fail(0, fails(401))
    keys.credentials.worked(taken, until)
    assert keys.credentials.all_rest()


def test_a_single_key_is_used_although_it_rests() -> None:
    keys = Keys(1)
    keys.fail(0, fails(429))
    assert keys.credentials.all_rest()
    assert not keys.credentials.has_another()
    assert keys.take(2) == [0, 0]


def test_each_kind_of_provider_is_sent_its_key_in_its_own_header() -> None:
    assert auth_headers("openai", "k") == {"Authorization": "Bearer k"}
    assert auth_headers("anthropic", "k")["x-api-key"] == "k"
