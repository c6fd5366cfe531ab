"""Where it is noted whose the responses are that providers keep: on each store, and while one does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from sidegate.contract import Attempt, Call, Caller, Claim, Ending, Reply, Usage
from sidegate.contract.call import Asked
from sidegate.errors import BadRequest, Refusal
from sidegate.ledger.database import Unfit
from sidegate.ledger.opening import database_of
from sidegate.ledger.settlement import settle
from sidegate.ledger.store import Ledger, open_ledger
from sidegate.responses.desk import BILL_SECONDS, Responses
from sidegate.responses.kept import REMEMBERED, Bill, Kept, Recent
from sidegate.responses.sql import SqlStore
from tests.plugins.calls import ListOutlet
from tests.stores import Store
from tests.upstream.scene import HandClock

NOW = "2026-11-22T12:00:00.000000+00:00"
KEPT = Kept(
    id="resp_1",
    provider="p",
    target="real",
    model="m",
    caller="ann",
    call_id="0" * 32,
    credential="",
    background=True,
    kept_at=NOW,
)
USED = Usage(100, 20, cache_read_tokens=5, reasoning_tokens=3)


@pytest.fixture
async def noted(store: Store) -> AsyncIterator[SqlStore]:
    ledger = open_ledger(store.url, HandClock(), 0)
    await ledger.start()
    await ledger.stop()
    opened = SqlStore(database_of(store.url))
    yield opened
    await opened.close()


async def test_what_is_noted_is_found_until_it_is_removed(noted: SqlStore) -> None:
    other = replace(KEPT, provider="q", caller="bob", kept_at=NOW.replace("12:", "13:"))
    await noted.add([KEPT, other])
    await noted.add([replace(KEPT, caller="eve")])
    assert await noted.find("resp_1") == [other, KEPT], "whoever comes later takes nothing over"
    assert await noted.find("resp_2") == []
    await noted.remove(KEPT)
    assert await noted.find("resp_1") == [other]


def a_call(**asked: Any) -> Call:
    fields = {name: Raw(value.encode()) for name, value in asked.items()}
    call = Call(
        id="0" * 32,
        operation="chat",
        dialect="openai.responses",
        model="m",
        delivery="buffered",
        outlet=ListOutlet(),
        started=1000.0,
        started_at=datetime(2026, 11, 22, 12, tzinfo=UTC),
        asked=Asked(fields=fields),
    )
    call.caller = Caller("ann")
    return call


def attempt_of(call: Call, number: int = 1, **more: Any) -> Attempt:
    attempt = Attempt(number=number, provider="p", target="real", started=1000.0, started_at=call.started_at, **more)
    attempt.ended, attempt.sent, attempt.status, attempt.input_bytes = 1001.0, True, 200, 400
    attempt.ending = attempt.ending or Ending.COMPLETE
    call.attempts.append(attempt)
    return attempt


async def opened_ledger(store: Store) -> Ledger:
    ledger = open_ledger(store.url, HandClock(), 0)
    await ledger.start()
    return ledger


BILL = Bill(kept=KEPT, usage=USED, route="", rates='{"input":1}', cost=777, now=NOW)


async def test_what_came_later_is_charged_once_to_its_call_and_its_budget(store: Store) -> None:
    ledger = await opened_ledger(store)
    call = a_call()
    attempt_of(call, background=True, provider_id="resp_1", committed=True)
    claim = Claim("b", "ann", "2026-11", "2026-11", 5000, 10_000, True)
    await ledger.reserve(call, [claim])
    responses = SqlStore(database_of(store.url))
    assert not await responses.settle(BILL), "its own record is not written yet"
    ledger.settle(*settle(call, Reply(), 1.0, datetime(2026, 11, 22, tzinfo=UTC)))
    await ledger.flush()
    found = await ledger.call(call.id)
    assert found is not None
    assert (found[0].state, found[0].input_tokens, found[0].output_tokens, found[0].estimated) == (
        "unknown", 100, None, True,
    )  # fmt: skip
    for _ in range(2):
        assert await responses.settle(BILL)
        assert await responses.settle(replace(BILL, cost=5))
    row, (attempt,) = (await ledger.call(call.id)) or pytest.fail("it is gone")
    assert (row.state, row.input_tokens, row.output_tokens, row.cost_nano_usd) == ("settled", 100, 20, 777)
    assert (row.cache_read_tokens, row.reasoning_tokens, row.audio_input_tokens, row.estimated) == (5, 3, None, False)
    assert (attempt.output_tokens, attempt.cost_nano_usd, attempt.rates) == (20, 777, '{"input":1}')
    later = a_call()
    later.id = "1" * 32
    attempt_of(later)
    (standing,) = await ledger.reserve(later, [replace_claim(claim)])
    assert standing.used == 777, "held no longer, and spent"
    await responses.close()
    await ledger.stop()


def replace_claim(claim: Claim) -> Claim:
    return Claim(claim.budget, claim.subject, claim.period, claim.since, 1, claim.limit, claim.hard)


async def test_a_price_that_is_not_known_leaves_the_money_held(store: Store) -> None:
    ledger = await opened_ledger(store)
    call = a_call()
    attempt_of(call, ending=Ending.PROVIDER_ERROR, status=None)
    attempt_of(call, 2, background=True, provider_id="resp_1", committed=True)
    ledger.settle(*settle(call, Reply(), 1.0, datetime(2026, 11, 22, tzinfo=UTC)))
    await ledger.flush()
    responses = SqlStore(database_of(store.url))
    assert await responses.settle(replace(BILL, cost=None, rates=None))
    row, attempts = (await ledger.call(call.id)) or pytest.fail("it is gone")
    # What the first attempt has used nobody knows: an operator is to say.
    assert (row.state, row.cost_nano_usd) == ("unknown", None)
    assert attempts[1].output_tokens == 20
    await responses.close()
    await ledger.stop()


async def test_a_bill_settles_the_call_of_a_gateway_that_was_killed(store: Store) -> None:
    """What was on record by then does not say which id its provider gave."""
    ledger = await opened_ledger(store)
    call = a_call()
    attempt_of(call, background=True)
    ledger.settle(*settle(call, Reply(ending=Ending.CUT), 1.0, datetime(2026, 11, 22, tzinfo=UTC)))
    await ledger.flush()
    responses = SqlStore(database_of(store.url))
    assert await responses.settle(BILL)
    row, (attempt,) = (await ledger.call(call.id)) or pytest.fail("it is gone")
    assert (row.state, row.input_tokens, row.output_tokens, row.cost_nano_usd) == ("settled", 100, 20, 777)
    assert (attempt.provider_id, attempt.output_tokens) == ("resp_1", 20)
    await responses.close()
    await ledger.stop()


@pytest.mark.parametrize(("route", "state"), [("", "settled"), ("reads", "unknown")])
async def test_a_route_without_prices_leaves_it_to_that_by_which_a_response_was_made(
    store: Store, route: str, state: str
) -> None:
    ledger = await opened_ledger(store)
    call = a_call()
    attempt_of(call, background=True, provider_id="resp_1", committed=True)
    ledger.settle(*settle(call, Reply(), 1.0, datetime(2026, 11, 22, tzinfo=UTC)))
    await ledger.flush()
    responses = SqlStore(database_of(store.url))
    assert await responses.settle(replace(BILL, cost=None, rates=None, route=route))
    assert ((await ledger.call(call.id)) or pytest.fail("it is gone"))[0].state == state
    assert await responses.settle(BILL)
    row, _ = (await ledger.call(call.id)) or pytest.fail("it is gone")
    assert (row.state, row.cost_nano_usd) == ("settled", None if state == "settled" else 777)
    await responses.close()
    await ledger.stop()


async def test_an_id_that_no_store_takes_is_that_of_no_response(noted: SqlStore) -> None:
    assert await noted.find("resp\0") == []


# --- the desk ---------------------------------------------------------------------------------------------------------


def test_what_is_remembered_is_bounded() -> None:
    recent = Recent()
    for number in range(REMEMBERED + 10):
        assert recent.add(replace(KEPT, id=str(number)))
    assert not recent.add(replace(KEPT, id=str(REMEMBERED)))
    assert (recent.find("9"), len(recent.find("10"))) == ([], 1)


class Broken:
    """A store that answers when it is told to."""

    def __init__(self) -> None:
        self.well = False
        self.error: Exception = Refusal(503, "responses_unavailable", "Away.", retry_after=1)
        self.added: list[Kept] = []
        self.bills = 0

    def _check(self) -> None:
        if not self.well:
            raise self.error

    async def add(self, kept: Any) -> None:
        self._check()
        self.added += kept

    async def find(self, id: str) -> list[Kept]:
        self._check()
        return [kept for kept in self.added if kept.id == id]

    async def remove(self, kept: Kept) -> None:
        self._check()

    async def settle(self, bill: Bill) -> bool:
        self._check()
        self.bills += 1
        return False

    async def close(self) -> None:
        """Nothing is open."""


def desk(store: Broken, clock: HandClock) -> Responses:
    made = Responses("", {}, clock, "refuse", clock.sleep)
    made._store = store
    return made


async def flushed(responses: Responses) -> None:
    responses.tick()
    if responses._flushing is not None:
        await asyncio.wait([responses._flushing])


@pytest.mark.parametrize("error", [None, RuntimeError("a fault")])
async def test_what_a_store_does_not_take_is_written_when_it_is_back(
    caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    store, clock = Broken(), HandClock()
    store.error = error or store.error
    responses = desk(store, clock)
    responses._waiting = [KEPT]
    for _ in range(3):
        await flushed(responses)
    assert (responses._waiting, len(caplog.records)) == ([KEPT], 1)
    store.well = True
    await flushed(responses)
    assert (responses._waiting, store.added) == ([], [KEPT])


class Picky(Broken):
    """Takes everything but what calls itself `poison`."""

    def __init__(self) -> None:
        super().__init__()
        self.well = True
        self.settled: list[str] = []

    async def add(self, kept: Any) -> None:
        kept = list(kept)
        if any(one.id == "poison" for one in kept):
            raise Unfit("out of range")
        self.added += kept

    async def settle(self, bill: Bill) -> bool:
        if bill.kept.id == "poison":
            raise Unfit("out of range")
        self.settled.append(bill.kept.id)
        return True


async def test_what_a_store_can_never_take_keeps_nothing_else_from_it(caplog: pytest.LogCaptureFixture) -> None:
    store, clock = Picky(), HandClock()
    responses = desk(store, clock)
    poison = replace(KEPT, id="poison")
    responses._waiting = [poison, KEPT, poison, replace(KEPT, id="resp_2")]
    responses._bills = [(clock.monotonic() + BILL_SECONDS, replace(BILL, kept=kept)) for kept in (poison, KEPT)]
    await flushed(responses)
    assert [kept.id for kept in store.added] == ["resp_1", "resp_2"]
    assert store.settled == ["resp_1"]
    assert (responses._waiting, responses._bills, len(caplog.records)) == ([], [], 3)


async def test_a_bill_waits_for_the_record_of_its_call_but_not_for_ever() -> None:
    store, clock = Broken(), HandClock()
    store.well = True
    responses = desk(store, clock)
    responses._bills = [(clock.monotonic() + BILL_SECONDS, BILL)]
    await flushed(responses)
    assert (store.bills, len(responses._bills)) == (1, 1)
    await clock.sleep(BILL_SECONDS + 1)
    await flushed(responses)
    assert responses._bills == []


async def test_an_id_that_is_not_known_is_looked_for_a_moment_longer() -> None:
    store, clock = Broken(), HandClock()
    store.well = True
    responses = desk(store, clock)
    call = a_call(previous_response_id='"resp_9"')
    with pytest.raises(BadRequest, match="previous_response_id"):
        await responses.ask(call, answer)
    assert 0 < sum(clock.slept) <= 1
    store.well = False
    with pytest.raises(Refusal) as caught:
        await responses.ask(call, answer)
    assert (caught.value.status, caught.value.retry_after) == (503, 1)


async def answer(call: Call) -> Reply:
    return Reply()


@pytest.mark.parametrize("wrong", ["1", "{}", '"\ud800"'.encode("utf-8", "surrogatepass").decode("latin-1")])
async def test_an_id_that_is_no_text_is_a_mistake(wrong: str) -> None:
    responses = desk(Broken(), HandClock())
    call = a_call()
    call.asked = replace(call.asked, fields={"previous_response_id": Raw(wrong.encode("latin-1"))})
    with pytest.raises(BadRequest):
        await responses.ask(call, answer)
