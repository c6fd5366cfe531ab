"""What a failure calls for, how long the pause is, and that retries stay within their budget."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidegate.errors import CutError, PhaseTimeout, ProviderError, ReplyError
from sidegate.settings import Retry
from sidegate.upstream.circuit import Outcome
from sidegate.upstream.retry import Budget, ProviderBusy, Verdict, judge, more_telling, outcome, pause
from tests.upstream.scene import HandClock, Longest, fails, unreachable

SPENT = {"code": "insufficient_quota"}

# --- verdicts ---------------------------------------------------------------------------------------------------------

CASES: list[tuple[ProviderError, Verdict, Outcome]] = [
    (unreachable(), Verdict.LATER, Outcome.FAILED),
    (PhaseTimeout("connect", 5), Verdict.LATER, Outcome.FAILED),
    (PhaseTimeout("first_token", 5), Verdict.LATER, Outcome.FAILED),
    (PhaseTimeout("idle", 5), Verdict.LATER, Outcome.FAILED),
    (PhaseTimeout("total", 5), Verdict.FAIL, Outcome.GOOD),
    (fails(429, retry_after="3"), Verdict.LATER, Outcome.UNKNOWN),
    (fails(429, **SPENT), Verdict.NEXT, Outcome.UNKNOWN),
    (fails(503), Verdict.LATER, Outcome.FAILED),
    (fails(529), Verdict.LATER, Outcome.FAILED),
    (fails(500), Verdict.AGAIN, Outcome.FAILED),
    (fails(502), Verdict.AGAIN, Outcome.FAILED),
    (fails(504), Verdict.AGAIN, Outcome.FAILED),
    (fails(408), Verdict.AGAIN, Outcome.FAILED),
    (fails(204), Verdict.AGAIN, Outcome.FAILED),
    (CutError("cut"), Verdict.AGAIN, Outcome.FAILED),
    (ReplyError("html"), Verdict.AGAIN, Outcome.FAILED),
    (ProviderBusy(), Verdict.NEXT, Outcome.UNKNOWN),
    *[(fails(status), Verdict.NEXT, Outcome.UNKNOWN) for status in (401, 402, 403, 407)],
    *[(fails(status), Verdict.FAIL, Outcome.GOOD) for status in (301, 400, 404, 409, 413, 422)],
]


@pytest.mark.parametrize(
    ("error", "verdict", "says"), CASES, ids=[f"{case[0].code}-{case[0].provider_status}" for case in CASES]
)
def test_a_failure_calls_for_what_may_help_and_says_what_it_shows_of_its_target(
    error: ProviderError, verdict: Verdict, says: Outcome
) -> None:
    assert (judge(error), outcome(error)) == (verdict, says)


# --- pauses -----------------------------------------------------------------------------------------------------------


def test_pauses_double_up_to_the_cap() -> None:
    longest = [pause(Retry(base=0.25, cap=1.5), tries, fails(500), Longest()) for tries in range(1, 6)]
    assert longest == [0.25, 0.5, 1.0, 1.5, 1.5]


@given(st.integers(1, 10), st.floats(0.001, 100), st.floats(0.001, 100), st.randoms(use_true_random=False))
def test_a_pause_is_anything_from_nothing_to_its_bound(tries: int, base: float, cap: float, random: Random) -> None:
    assert 0 <= pause(Retry(base=base, cap=cap), tries, fails(500), random) <= min(cap, base * 2**tries)


@given(st.floats(0, 1000), st.randoms(use_true_random=False))
def test_a_target_is_never_asked_before_its_retry_after(seconds: float, random: Random) -> None:
    error = fails(429, retry_after=str(seconds))
    wait = pause(Retry(), 1, error, random)
    assert error.retry_after is not None
    assert error.retry_after <= wait <= error.retry_after + Retry().base


def test_those_who_wait_for_the_same_retry_after_do_not_come_back_at_once() -> None:
    assert pause(Retry(base=0.25), 1, fails(429, retry_after="3"), Longest()) == 3.25


# --- which error is told ----------------------------------------------------------------------------------------------

BY_WORTH: list[ProviderError] = [
    fails(401),
    ProviderBusy(),
    unreachable(),
    PhaseTimeout("first_token", 1),
    fails(500),
    fails(429, retry_after="2"),
]


@pytest.mark.parametrize("low", range(len(BY_WORTH)))
def test_the_client_hears_what_helps_it_most(low: int) -> None:
    for error in BY_WORTH[low + 1 :]:
        assert more_telling(BY_WORTH[low], error) is error
        assert more_telling(error, BY_WORTH[low]) is error


def test_of_equals_the_later_is_told() -> None:
    one, other = fails(500), fails(502)
    assert more_telling(None, one) is one
    assert more_telling(one, other) is other


# --- the budget -------------------------------------------------------------------------------------------------------


def test_a_provider_that_fails_every_call_gets_its_reserve_and_its_share() -> None:
    budget = Budget(0.2, 10, HandClock())
    retried = 0
    for _ in range(1000):
        budget.called()
        retried += budget.take()
    assert 205 <= retried <= 210


def test_the_reserve_comes_back_within_a_minute() -> None:
    clock = HandClock()
    budget = Budget(0, 10, clock)
    assert sum(budget.take() for _ in range(20)) == 10
    clock.at += 6.1
    assert [budget.take(), budget.take()] == [True, False]
    clock.at += 3600
    assert sum(budget.take() for _ in range(20)) == 10


def test_looking_takes_nothing() -> None:
    budget = Budget(0, 1, HandClock())
    assert all(budget.left() for _ in range(5))
    assert budget.take()
    assert not budget.left()


EVENTS = st.lists(
    st.sampled_from(["call", "retry"]) | st.floats(0, 100).map(lambda seconds: round(seconds, 3)), max_size=200
)


@given(st.floats(0, 1), st.integers(1, 20), EVENTS)
def test_in_no_stretch_of_time_are_there_more_retries_than_the_budget_says(
    share: float, reserve: int, events: list[Any]
) -> None:
    clock = HandClock()
    budget = Budget(share, reserve, clock)
    # Allowed so far, of which retries were made; the lowest slack seen is where a stretch would begin.
    slack = highest = 0.0
    for event in events:
        if event == "call":
            budget.called()
            slack += share
        elif event == "retry":
            slack -= budget.take()
        else:
            clock.at += event
            slack += event * reserve / 60
        highest = max(highest, slack)
        assert highest - slack <= reserve + 1e-6
