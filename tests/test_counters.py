from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidegate.contract import Grant, RateClaim, SlotClaim, SystemClock
from sidegate.counters.rates import LocalRates
from sidegate.counters.slots import LocalSlots
from sidegate.errors import Refusal
from tests.plugins.calls import HandClock

# --- rates ------------------------------------------------------------------------------------------------------------


def taken(rates: LocalRates, key: str, limit: int, period: float, amount: int = 1) -> Grant:
    (grant,) = rates.take_now([RateClaim(key, limit, period, amount)])
    return grant


def test_a_bucket_gives_its_limit_and_then_says_when_to_come_back() -> None:
    clock = HandClock()
    rates = LocalRates(clock)
    assert [taken(rates, "a", 3, 60).remaining for _ in range(3)] == [2, 1, 0]
    refused = taken(rates, "a", 3, 60)
    assert (refused.allowed, refused.limit, refused.remaining) == (False, 3, 0)
    assert refused.retry_after == pytest.approx(20, abs=0.001)
    assert refused.reset == pytest.approx(60, abs=0.001)
    clock.pass_by(refused.retry_after)
    assert taken(rates, "a", 3, 60).allowed
    assert not taken(rates, "a", 3, 60).allowed


def test_a_refused_take_takes_nothing() -> None:
    clock = HandClock()
    rates = LocalRates(clock)
    taken(rates, "a", 10, 60, 8)
    for _ in range(100):
        assert not taken(rates, "a", 10, 60, 3).allowed
    assert taken(rates, "a", 10, 60, 2).allowed


def test_more_than_the_limit_is_refused_and_does_not_raise() -> None:
    rates = LocalRates(HandClock())
    grant = taken(rates, "a", 3, 60, 4)
    assert (grant.allowed, grant.remaining, grant.retry_after) == (False, 3, 60)
    assert len(rates) == 0


def test_a_negative_amount_cannot_give_back_what_others_took() -> None:
    with pytest.raises(ValueError, match="negative"):
        taken(LocalRates(HandClock()), "a", 3, 60, -1)


@pytest.mark.parametrize(("limit", "period"), [(0, 60.0), (1, 0.0), (1, float("inf")), (1, float("nan"))])
def test_a_limit_that_means_nothing_is_refused(limit: int, period: float) -> None:
    with pytest.raises(ValueError, match="limit must be"):
        taken(LocalRates(HandClock()), "a", limit, period)


def test_an_amount_of_nothing_looks_and_keeps_nothing() -> None:
    rates = LocalRates(HandClock())
    assert taken(rates, "a", 2, 60, 0).remaining == 2
    assert len(rates) == 0
    taken(rates, "a", 2, 60)
    assert [taken(rates, "a", 2, 60, 0).remaining for _ in range(5)] == [1] * 5


def test_key_limit_and_period_each_have_a_bucket_of_their_own() -> None:
    rates = LocalRates(HandClock())
    assert taken(rates, "a", 1, 60).allowed
    assert taken(rates, "b", 1, 60).allowed
    assert taken(rates, "a", 2, 60).allowed
    assert taken(rates, "a", 1, 3600).allowed
    assert not taken(rates, "a", 1, 60).allowed


def test_a_full_table_refuses_new_keys_and_never_forgets_one_in_use() -> None:
    clock = HandClock()
    rates = LocalRates(clock, max_keys=3)
    for key in "abc":
        assert taken(rates, key, 1, 60).allowed
        clock.pass_by(10)
    full = taken(rates, "d", 1, 60)
    assert not full.allowed
    assert full.retry_after == pytest.approx(30, abs=0.001)
    assert not taken(rates, "d", 1, 60, 0).allowed
    assert not taken(rates, "a", 1, 60).allowed
    clock.pass_by(full.retry_after)
    assert taken(rates, "d", 1, 60).allowed
    assert len(rates) == 3
    assert not taken(rates, "b", 1, 60).allowed


def test_what_is_only_put_in_forgets_what_has_drained_too() -> None:
    clock = HandClock()
    rates = LocalRates(clock, max_keys=10)
    for number in range(100):
        rates.add(RateClaim(f"{number}", 5, 1.0), 1, always=False)
        clock.pass_by(0.1)
    assert len(rates) <= 3
    for number in range(100, 200):
        rates.add(RateClaim(f"{number}", 5, 60.0), 1, always=False)
    assert len(rates) == 10
    rates.add(RateClaim("debt", 5, 60.0), 1)
    assert len(rates) == 11


def test_a_drained_bucket_is_found_behind_one_that_drains_slowly() -> None:
    clock = HandClock()
    rates = LocalRates(clock, max_keys=2)
    taken(rates, "slow", 1, 86_400)
    taken(rates, "fast", 1, 1)
    clock.pass_by(2)
    assert taken(rates, "new", 1, 60).allowed
    assert not taken(rates, "slow", 1, 86_400).allowed


def test_memory_follows_the_keys_in_use() -> None:
    clock = HandClock()
    rates = LocalRates(clock)
    for number in range(5000):
        taken(rates, f"caller-{number}", 5, 1)
        clock.pass_by(0.1)
    assert len(rates) < 20


def test_a_full_table_of_busy_keys_costs_a_new_key_a_bounded_look() -> None:
    clock = HandClock()
    rates = LocalRates(clock, max_keys=5000)
    for number in range(5000):
        taken(rates, f"{number}", 10, 10)
    clock.pass_by(0.5)
    for number in range(5000):
        taken(rates, f"{number}", 10, 10, 5)
    clock.pass_by(0.6)
    refused = taken(rates, "new", 10, 10)
    assert not refused.allowed
    assert refused.retry_after > 0


def test_no_loop_is_needed() -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert taken(LocalRates(SystemClock()), "a", 1, 60).allowed


@given(
    limit=st.integers(1, 50),
    period=st.sampled_from([0.5, 1.0, 7.3, 60.0, 3600.0]),
    steps=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 60)), max_size=60),
)
def test_never_more_than_a_burst_and_the_steady_pace(limit: int, period: float, steps: list[tuple[float, int]]) -> None:
    clock = HandClock()
    rates = LocalRates(clock)
    let: list[tuple[float, int]] = []
    for share, amount in steps:
        clock.pass_by(share * period)
        before = taken(rates, "k", limit, period, 0)
        grant = taken(rates, "k", limit, period, amount)
        assert grant.allowed == (amount <= before.remaining)
        assert 0 <= grant.remaining <= limit
        assert grant.remaining == before.remaining - (amount if grant.allowed else 0)
        assert (grant.retry_after == 0) == grant.allowed
        if grant.allowed:
            let.append((clock.seconds, amount))
        elif amount <= limit:
            clock.pass_by(grant.retry_after)
            assert taken(rates, "k", limit, period, amount).allowed
            let.append((clock.seconds, amount))
    for first in range(len(let)):
        total = 0
        for at, amount in let[first:]:
            total += amount
            assert total <= limit * (1 + (at - let[first][0]) / period) * (1 + 1e-9)


def test_what_has_drained_but_for_a_rounding_error_is_there_to_be_taken() -> None:
    """1 of 7.3 s has drained after 7.3 s, and 6e-15 of it has not."""
    clock = HandClock()
    rates = LocalRates(clock)
    for _ in range(100):
        grant = taken(rates, "k", 1, 7.3, 1)
        assert (grant.allowed, grant.remaining) == (True, 0)
        assert not taken(rates, "k", 1, 7.3, 1).allowed
        clock.pass_by(7.3)


class RunningClock(HandClock):
    """One that is a little later at each look, as real ones are."""

    def monotonic(self) -> float:
        self.pass_by(0.01)
        return super().monotonic()


@given(
    claims=st.lists(
        st.builds(RateClaim, st.sampled_from("abcd"), st.integers(1, 3), st.just(1.0), st.integers(0, 3)),
        min_size=1,
        max_size=6,
    ),
    max_keys=st.integers(1, 4),
)
def test_all_are_allowed_only_where_all_were_taken(claims: list[RateClaim], max_keys: int) -> None:
    """Also where time goes on while it is looked, and a table that is full has room the next moment."""
    rates = LocalRates(RunningClock(), max_keys)
    for _ in range(4):
        grants = rates.take_now(claims)
        if not all(grant.allowed for grant in grants):
            continue
        for key in {(claim.key, claim.limit, claim.period) for claim in claims}:
            of_it = [claim.amount for claim in claims if (claim.key, claim.limit, claim.period) == key]
            assert sum(of_it) <= key[1]
            assert not sum(of_it) or rates._buckets[key].level() > 0


@given(
    max_keys=st.integers(1, 4),
    steps=st.lists(st.tuples(st.sampled_from("abcdefg"), st.floats(0, 70), st.integers(1, 3)), max_size=60),
)
def test_bounded_memory_never_lets_through_what_unbounded_memory_refuses(
    max_keys: int, steps: list[tuple[str, float, int]]
) -> None:
    clock = HandClock()
    small, large = LocalRates(clock, max_keys), LocalRates(clock)
    for key, seconds, amount in steps:
        clock.pass_by(seconds)
        grant = taken(small, key, 3, 60, amount)
        assert len(small) <= max_keys
        assert not grant.allowed or taken(large, key, 3, 60, amount).allowed


def claim(key: str, amount: int, limit: int = 10, period: float = 60.0) -> RateClaim:
    return RateClaim(key, limit, period, amount)


def test_several_claims_are_granted_together_or_nothing_is_taken() -> None:
    rates = LocalRates(HandClock())
    both = [claim("a", 6), claim("b", 6, limit=6)]
    assert [grant.remaining for grant in rates.take_now(both)] == [4, 0]
    refused = rates.take_now([claim("a", 2), claim("new", 1), claim("b", 1, limit=6)])
    assert [(grant.allowed, grant.remaining) for grant in refused] == [(True, 4), (True, 10), (False, 0)]
    assert len(rates) == 2
    assert taken(rates, "a", 10, 60.0, 4).allowed


def test_two_claims_of_one_key_need_room_for_both() -> None:
    rates = LocalRates(HandClock())
    for _ in range(2):
        grants = rates.take_now([claim("new", 6), claim("new", 6)])
        assert [grant.allowed for grant in grants] == [True, False]
    assert all(grant.allowed for grant in rates.take_now([claim("new", 6), claim("new", 4)]))
    assert not taken(rates, "new", 10, 60.0).allowed


def test_what_was_claimed_too_much_is_given_back_and_what_is_missing_is_a_debt() -> None:
    clock = HandClock()
    rates = LocalRates(clock)
    asked = claim("a", 8)
    rates.take_now([asked])
    rates.correct(asked, 3)
    assert taken(rates, "a", 10, 60.0, 0).remaining == 7
    rates.take_now([claim("a", 7)])
    rates.correct(claim("a", 7), 17)
    owing = taken(rates, "a", 10, 60.0, 1)
    assert (owing.allowed, owing.remaining) == (False, 0)
    assert owing.retry_after == pytest.approx(66, abs=0.001)
    clock.pass_by(owing.retry_after)
    assert taken(rates, "a", 10, 60.0, 1).allowed


def test_of_what_has_drained_nothing_is_given_back() -> None:
    clock = HandClock()
    rates = LocalRates(clock)
    rates.take_now([claim("a", 10)])
    clock.pass_by(60)
    rates.take_now([claim("a", 4)])
    rates.correct(claim("a", 10), 0)
    assert taken(rates, "a", 10, 60.0, 0).remaining == 10
    rates.correct(claim("gone", 5), 0)
    assert taken(rates, "gone", 10, 60.0, 0).remaining == 10
    rates.correct(claim("gone", 5), 9)
    assert taken(rates, "gone", 10, 60.0, 0).remaining == 6


@given(
    limit=st.integers(1, 50),
    steps=st.lists(
        st.tuples(st.sampled_from(["take", "correct", "wait"]), st.integers(0, 60), st.integers(0, 90)), max_size=60
    ),
)
def test_whatever_is_taken_and_settled_no_grant_goes_over_the_limit(
    limit: int, steps: list[tuple[str, int, int]]
) -> None:
    clock = HandClock()
    rates = LocalRates(clock)
    claims: list[RateClaim] = []
    level = 0.0
    for what, number, used in steps:
        if what == "wait":
            clock.pass_by(number / 10)
            level = max(0.0, level - number / 10 * limit / 60)
        elif what == "take":
            asked = RateClaim("k", limit, 60.0, number)
            (grant,) = rates.take_now([asked])
            assert 0 <= grant.remaining <= limit
            assert grant.allowed == (level + number <= limit + 1e-9) or abs(level + number - limit) < 1e-6
            if grant.allowed:
                level += number
                claims.append(asked)
        elif claims:
            asked = claims.pop(number % len(claims))
            rates.correct(asked, used)
            level = max(0.0, level + used - asked.amount)


# --- slots ------------------------------------------------------------------------------------------------------------


class People:
    """Tasks that hold a slot until they are told to leave."""

    def __init__(self, slots: LocalSlots) -> None:
        self.slots = slots
        self.inside: list[str] = []
        self.order: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._leave: dict[str, asyncio.Event] = {}

    async def come(self, name: str, limit: int = 1, queue: int = 10, wait: float = 30) -> None:
        self._leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, limit, queue, wait))
        await settled()

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        await settled()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await settled()

    async def _stay(self, name: str, limit: int, queue: int, wait: float) -> None:
        async with self.slots.hold([SlotClaim("k", limit, queue, wait)]):
            self.inside.append(name)
            self.order.append(name)
            try:
                await self._leave[name].wait()
            finally:
                self.inside.remove(name)

    async def all_gone(self) -> list[Any]:
        for event in self._leave.values():
            event.set()
        return await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def settled() -> None:
    """Lets every task run as far as it can."""
    for _ in range(6):
        await asyncio.sleep(0)


async def test_first_come_is_first_served() -> None:
    people = People(LocalSlots(HandClock()))
    for name in "abcd":
        await people.come(name)
    assert (people.inside, people.slots.in_use("k"), people.slots.waiting("k")) == (["a"], 1, 3)
    await people.leave("a")
    assert people.inside == ["b"]
    await people.all_gone()
    assert people.order == ["a", "b", "c", "d"]
    assert len(people.slots) == 0


async def test_nobody_overtakes_the_queue() -> None:
    people = People(LocalSlots(HandClock()))
    await people.come("a")
    await people.come("b")
    people._leave["a"].set()
    await people.come("c", queue=0)
    await people.all_gone()
    assert people.order[:2] == ["a", "b"]


async def test_a_full_queue_refuses_and_says_when() -> None:
    clock = HandClock()
    slots = LocalSlots(clock)
    people = People(slots)
    await people.come("a")
    await people.come("b", queue=1)
    with pytest.raises(Refusal) as refused:
        async with slots.hold([SlotClaim("k", 1, 1, 30)]):
            pass
    assert (refused.value.status, refused.value.code) == (429, "concurrency_limit_exceeded")
    assert refused.value.retry_after == 1
    clock.pass_by(8)
    await people.leave("a")
    with pytest.raises(Refusal) as refused:
        async with slots.hold([SlotClaim("k", 1, 0, 30)]):
            pass
    assert refused.value.retry_after == 8
    await people.all_gone()


async def test_a_wait_in_vain_is_refused_and_leaves_no_trace() -> None:
    people = People(LocalSlots(HandClock()))
    await people.come("a")
    with pytest.raises(Refusal):
        async with people.slots.hold([SlotClaim("k", 1, 5, 0.001)]):
            pass
    assert people.slots.waiting("k") == 0
    await people.leave("a")
    assert len(people.slots) == 0
    await people.all_gone()


async def test_a_cancelled_holder_gives_its_slot_to_the_next() -> None:
    people = People(LocalSlots(HandClock()))
    await people.come("a")
    await people.come("b")
    await people.cancel("a")
    assert people.inside == ["b"]
    await people.all_gone()
    assert len(people.slots) == 0


async def test_a_slot_given_to_one_who_is_cancelled_in_that_moment_is_passed_on() -> None:
    people = People(LocalSlots(HandClock()))
    for name in "abc":
        await people.come(name)
    people._leave["a"].set()
    for _ in range(10):
        if people.slots.waiting("k") == 1:
            break
        await asyncio.sleep(0)
    assert people.order == ["a"]
    people.tasks["b"].cancel()
    await settled()
    assert people.inside == ["c"]
    assert people.order == ["a", "c"]
    await people.all_gone()
    assert len(people.slots) == 0


async def test_one_who_is_cancelled_while_a_slot_comes_free_is_passed_over() -> None:
    people = People(LocalSlots(HandClock()))
    for name in "abc":
        await people.come(name)
    people._leave["a"].set()
    people.tasks["b"].cancel()
    await settled()
    assert people.order == ["a", "c"]
    await people.all_gone()
    assert len(people.slots) == 0


async def test_an_error_in_the_block_frees_the_slot() -> None:
    slots = LocalSlots(HandClock())
    with pytest.raises(KeyError):
        async with slots.hold([SlotClaim("k", 1, 0, 0)]):
            raise KeyError
    assert (slots.in_use("k"), len(slots)) == (0, 0)


async def test_keys_do_not_share_slots() -> None:
    slots = LocalSlots(HandClock())
    async with slots.hold([SlotClaim("a", 1, 0, 0)]), slots.hold([SlotClaim("b", 1, 0, 0)]):
        assert len(slots) == 2


async def test_one_who_needs_an_emptier_room_lets_the_next_in_when_it_gives_up() -> None:
    people = People(LocalSlots(HandClock()))
    await people.come("a", limit=2)
    await people.come("modest", limit=1)
    await people.come("b", limit=2)
    assert people.inside == ["a"]
    await people.cancel("modest")
    assert people.inside == ["a", "b"]
    await people.all_gone()


async def test_several_slots_are_held_together_or_none() -> None:
    slots = LocalSlots(HandClock())
    async with slots.hold([SlotClaim("a", 2), SlotClaim("b", 1)]):
        with pytest.raises(Refusal):
            async with slots.hold([SlotClaim("a", 2), SlotClaim("b", 1)]):
                pass
        assert (slots.in_use("a"), slots.in_use("b")) == (1, 1)
    assert len(slots) == 0


async def holding(slots: LocalSlots, leave: asyncio.Event, *claims: SlotClaim) -> asyncio.Task[None]:
    async def stay() -> None:
        async with slots.hold(claims):
            await leave.wait()

    task = asyncio.create_task(stay())
    await settled()
    return task


async def test_who_waits_for_one_key_keeps_nobody_from_another() -> None:
    slots = LocalSlots(HandClock())
    leave, never = asyncio.Event(), asyncio.Event()
    own, everybody = SlotClaim("ann", 1, 9, 30), SlotClaim("all", 2, 9, 30)
    first = await holding(slots, leave, own, everybody)
    second = await holding(slots, leave, own, everybody)
    assert (slots.waiting("ann"), slots.waiting("all")) == (1, 0)
    other = await holding(slots, never, SlotClaim("bob", 1, 9, 30), everybody)
    assert slots.in_use("all") == 2
    leave.set()
    await asyncio.gather(first, second)
    never.set()
    await other
    assert len(slots) == 0


async def test_a_place_in_the_queue_is_by_when_one_came_also_when_another_key_stops_one_later() -> None:
    slots = LocalSlots(HandClock())
    held = [asyncio.Event() for _ in range(5)]
    a, b = SlotClaim("a", 1, 9, 30), SlotClaim("b", 1, 9, 30)
    first = await holding(slots, held[0], a)
    both = await holding(slots, held[1], a, b)
    second = await holding(slots, held[2], b)
    late = await holding(slots, held[3], b)
    held[0].set()
    await settled()
    assert (slots.waiting("a"), slots.waiting("b"), slots.in_use("a")) == (0, 2, 0)
    held[2].set()
    await settled()
    assert (slots.in_use("a"), slots.in_use("b"), slots.waiting("b")) == (1, 1, 1)
    held[1].set()
    held[3].set()
    await asyncio.gather(first, both, second, late)
    assert len(slots) == 0


async def test_the_most_impatient_claim_that_stops_a_call_says_whether_it_waits() -> None:
    slots = LocalSlots(HandClock())
    leave = asyncio.Event()
    task = await holding(slots, leave, SlotClaim("a", 1))
    with pytest.raises(Refusal):
        async with slots.hold([SlotClaim("a", 1, 0, 30), SlotClaim("b", 1, 9, 30)]):
            pass
    waiting = await holding(slots, leave, SlotClaim("a", 1, 9, 30), SlotClaim("b", 1, 0, 0))
    assert slots.waiting("a") == 1
    leave.set()
    await asyncio.gather(task, waiting)


async def test_who_holds_by_other_means_counts_and_is_never_kept_out() -> None:
    slots = LocalSlots(HandClock())
    claims = [SlotClaim("a", 1)]
    slots.occupy(claims)
    slots.occupy(claims)
    assert slots.in_use("a") == 2
    slots.leave(claims)
    with pytest.raises(Refusal):
        async with slots.hold(claims):
            pass
    slots.leave(claims)
    assert len(slots) == 0


Step = tuple[str, int]


@settings(deadline=None, max_examples=60)
@given(
    limit=st.integers(1, 3),
    queue=st.integers(0, 4),
    steps=st.lists(
        st.tuples(st.sampled_from(["come", "leave", "cancel", "leave+cancel", "both at once"]), st.integers(0, 9)),
        max_size=40,
    ),
)
def test_slots_are_neither_lost_nor_invented(limit: int, queue: int, steps: list[Step]) -> None:
    asyncio.run(_walk(limit, queue, steps))


async def _walk(limit: int, queue: int, steps: list[Step]) -> None:
    people = People(LocalSlots(HandClock()))
    for number, (what, whom) in enumerate(steps):
        names = list(people.tasks)
        if what == "come" or not names:
            await people.come(f"{number}", limit, queue)
        elif what == "leave":
            await people.leave(names[whom % len(names)])
        elif what == "cancel":
            await people.cancel(names[whom % len(names)])
        else:
            people._leave[names[whom % len(names)]].set()
            if what == "leave+cancel":
                await asyncio.sleep(0)
            await people.cancel(names[(whom + 1) % len(names)])
        assert people.slots.in_use("k") == len(people.inside) <= limit
        assert people.slots.waiting("k") <= queue
        assert not people.slots.waiting("k") or len(people.inside) == limit
    for outcome in await people.all_gone():
        assert outcome is None or isinstance(outcome, Refusal | asyncio.CancelledError)
    assert len(people.slots) == 0
