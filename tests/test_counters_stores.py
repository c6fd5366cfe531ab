"""What holds of counters wherever they are kept: in memory for one gateway, on a real server for two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from sidegate.contract import RateClaim, SlotClaim
from sidegate.errors import Refusal
from tests.counted import LONG, Guest, Replica, replica
from tests.servers.redis import KINDS, empty, redis_server

Pair = tuple[Replica, Replica]


@pytest.fixture(scope="module", params=["memory", *KINDS])
def counters_server(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "memory":
        yield ""
        return
    try:
        with redis_server(request.param) as url:
            yield url
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def counters_url(counters_server: str) -> str:
    if counters_server:
        empty(counters_server)
    return counters_server


@pytest.fixture
async def pair(counters_url: str) -> AsyncIterator[Pair]:
    """Two gateways on one store; in memory that is the same one twice."""
    async with replica(counters_url) as one, replica(counters_url) as other:
        yield one, other if counters_url else one


def a_claim(key: str, amount: int, limit: int = 10) -> RateClaim:
    return RateClaim(key, limit, LONG, amount)


async def test_a_bucket_gives_its_limit_to_all_gateways_together(pair: Pair) -> None:
    one, other = pair
    assert [(await gate.take("a", 3)).remaining for gate in (one, other, one)] == [2, 1, 0]
    refused = await other.take("a", 3)
    assert (refused.allowed, refused.limit, refused.remaining) == (False, 3, 0)
    assert refused.retry_after == pytest.approx(LONG / 3, rel=0.01)
    assert refused.reset == pytest.approx(LONG, rel=0.01)


async def test_a_bucket_drains_at_the_pace_of_its_limit(pair: Pair) -> None:
    one, other = pair
    assert (await one.take("a", 100, 100, period=2.0)).allowed
    refused = await other.take("a", 100, 50, period=2.0)
    assert not refused.allowed
    assert 0 < refused.retry_after <= 1.001
    await asyncio.sleep(refused.retry_after + 0.05)
    assert (await other.take("a", 100, 50, period=2.0)).allowed


async def test_several_claims_are_granted_together_or_nothing_is_taken(pair: Pair) -> None:
    one, other = pair
    both = [a_claim("a", 6), a_claim("b", 6, limit=6)]
    assert [grant.remaining for grant in await one.rates.take(both)] == [4, 0]
    refused = await other.rates.take([a_claim("a", 2), a_claim("new", 1), a_claim("b", 1, limit=6)])
    assert [(grant.allowed, grant.remaining) for grant in refused] == [(True, 4), (True, 10), (False, 0)]
    assert await one.left("a", 10) == 4


async def test_two_claims_of_one_key_need_room_for_both(pair: Pair) -> None:
    one, _ = pair
    grants = await one.rates.take([a_claim("a", 6), a_claim("a", 6)])
    assert [grant.allowed for grant in grants] == [True, False]
    assert all(grant.allowed for grant in await one.rates.take([a_claim("a", 6), a_claim("a", 4)]))
    assert await one.left("a", 10) == 0


async def test_more_than_the_limit_never_has_room(pair: Pair) -> None:
    grant = await pair[0].take("a", 3, 4)
    assert (grant.allowed, grant.remaining, grant.retry_after) == (False, 3, LONG)


@pytest.mark.parametrize(
    "claim",
    [RateClaim("a", 0, 60.0), RateClaim("a", 1, 0.0), RateClaim("a", 1, float("nan")), RateClaim("a", 1, 1, -1)],
)
async def test_a_claim_that_means_nothing_is_refused(pair: Pair, claim: RateClaim) -> None:
    with pytest.raises(ValueError, match="must"):
        await pair[0].rates.take([claim])


async def test_key_limit_and_period_each_have_a_bucket_of_their_own(pair: Pair) -> None:
    one, _ = pair
    for key, limit, period in (("a", 1, LONG), ("b", 1, LONG), ("a", 2, LONG), ("a", 1, LONG + 1)):
        assert (await one.take(key, limit, period=period)).allowed
    assert not (await one.take("a", 1)).allowed


@pytest.mark.parametrize("key", ["", "ünï\x1f\x00", "x" * 5000, "\udcff lone", '"; DROP', "{other}tag"])
async def test_any_text_can_be_a_key(pair: Pair, key: str) -> None:
    one, other = pair
    assert (await one.take(key, 1)).allowed
    assert not (await other.take(key, 1)).allowed
    assert (await other.take(key + "2", 1)).allowed


async def test_what_was_claimed_too_much_is_given_back_and_what_is_missing_is_a_debt(pair: Pair) -> None:
    one, other = pair
    assert (await one.take("a", 10, 8)).allowed
    one.rates.correct(a_claim("a", 8), 3)
    await other.tells("a", 10, 7)
    assert (await other.take("a", 10, 7)).allowed
    other.rates.correct(a_claim("a", 7), 17)
    other.rates.correct(a_claim("b", 5), 0)
    other.rates.correct(a_claim("b", 5), 14)
    await one.tells("b", 10, 1)
    owing = await one.take("a", 10, 1)
    assert (owing.allowed, owing.remaining) == (False, 0)
    assert owing.retry_after == pytest.approx(1.1 * LONG, rel=0.01)


async def test_a_correction_gives_back_no_more_than_there_is(pair: Pair) -> None:
    one, other = pair
    assert (await one.take("a", 10, 2)).allowed
    one.rates.correct(a_claim("a", 9), 0)
    await other.tells("a", 10, 10)
    assert (await other.take("a", 10, 10)).allowed
    assert not (await one.take("a", 10)).allowed


async def test_racing_takes_are_never_more_than_the_limit(pair: Pair) -> None:
    claims = [pair[number % 2].take("a", 50) for number in range(400)]
    grants = await asyncio.gather(*claims)
    assert sum(grant.allowed for grant in grants) == 50


# --- slots ------------------------------------------------------------------------------------------------------------


async def refused(gate: Replica, *claims: SlotClaim) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await Guest(gate, *claims).in_()
    return refusal.value


async def test_slots_are_held_until_they_are_left(pair: Pair) -> None:
    one, other = pair
    slot = SlotClaim("a", 2)
    first, second = await Guest(one, slot).in_(), await Guest(other, slot).in_()
    refusal = await refused(one, slot)
    assert (refusal.status, refusal.code) == (429, "concurrency_limit_exceeded")
    assert refusal.retry_after
    await first.out()
    third = await Guest(other, SlotClaim("a", 2, queue=1, wait=20)).in_()
    await asyncio.gather(second.out(), third.out())


async def test_several_slots_are_held_together_or_none(pair: Pair) -> None:
    one, other = pair
    guest = await Guest(one, SlotClaim("b", 1)).in_()
    await refused(other, SlotClaim("a", 1), SlotClaim("b", 1))
    free = await Guest(other, SlotClaim("a", 1)).in_()
    await asyncio.gather(guest.out(), free.out())


async def test_first_come_is_first_served(pair: Pair) -> None:
    slot = SlotClaim("a", 1, queue=9, wait=20)
    served: list[int] = []
    holder = await Guest(pair[0], slot).in_()
    guests = []
    for number in range(5):
        guest = Guest(pair[number % 2], slot)
        guests.append(guest)
        await waiting(pair, guest)
    await holder.out()
    for _ in range(5):
        inside = await one_inside(guests)
        served.append(guests.index(inside))
        assert sum(guest.inside.is_set() for guest in guests) == 1
        await inside.out()
    assert served == [0, 1, 2, 3, 4]


async def waiting(pair: Pair, guest: Guest) -> None:
    """Gives it the time to take its place."""
    for gate in pair:
        await gate.left("any", 1)
    await asyncio.sleep(0)
    assert not guest.task.done()


async def one_inside(guests: list[Guest]) -> Guest:
    async with asyncio.timeout(20):
        while True:
            for guest in guests:
                if guest.inside.is_set():
                    return guest
            await asyncio.sleep(0.002)


async def test_a_full_queue_refuses(pair: Pair) -> None:
    one, other = pair
    slot = SlotClaim("a", 1, queue=1, wait=20)
    holder = await Guest(one, slot).in_()
    second = Guest(one, slot)
    await waiting(pair, second)
    await refused(other, slot)
    await holder.out()
    await (await second.in_()).out()


async def test_a_wait_in_vain_is_refused_and_leaves_no_trace(pair: Pair) -> None:
    one, other = pair
    holder = await Guest(one, SlotClaim("a", 1)).in_()
    await refused(other, SlotClaim("a", 1, queue=1, wait=0.01))
    await refused(other, SlotClaim("a", 1, queue=1, wait=0.01))
    await holder.out()
    await (await Guest(one, SlotClaim("a", 1, queue=1, wait=20)).in_()).out()


async def test_who_is_cancelled_leaves_the_slot_or_the_queue(pair: Pair) -> None:
    one, other = pair
    slot = SlotClaim("a", 1, queue=9, wait=20)
    holder, gone, last = await Guest(one, slot).in_(), Guest(other, slot), Guest(one, slot)
    await waiting(pair, last)
    gone.task.cancel()
    await asyncio.wait([gone.task])
    holder.task.cancel()
    await asyncio.wait([holder.task])
    await (await last.in_()).out()


async def test_who_waits_for_one_key_keeps_nobody_from_another(pair: Pair) -> None:
    one, other = pair
    everybody = SlotClaim("all", 2, queue=9, wait=20)
    ann, bob = SlotClaim("ann", 1, queue=9, wait=20), SlotClaim("bob", 1, queue=9, wait=20)
    first = await Guest(one, ann, everybody).in_()
    second = Guest(other, ann, everybody)
    await waiting(pair, second)
    third = await Guest(one, bob, everybody).in_()
    assert not second.inside.is_set()
    await first.out()
    await (await second.in_()).out()
    await third.out()


async def test_never_more_are_inside_than_the_limit(pair: Pair) -> None:
    inside, most = 0, 0

    async def visit(gate: Replica) -> None:
        nonlocal inside, most
        async with gate.slots.hold([SlotClaim("a", 3, queue=1000, wait=60)]):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(visit(pair[number % 2]) for number in range(60)))
    assert (most, inside) == (3, 0)
