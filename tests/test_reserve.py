"""What is reserved is there before the provider is reached, settled once, and found again after a kill."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sidegate.contract import Attempt, Claim, Ending, Reply, Standing, Usage
from sidegate.contract.call import Call
from sidegate.errors import ConfigError, SidegateError
from sidegate.ledger import lease as lease_module
from sidegate.ledger import stored as stored_module
from sidegate.ledger import writer as writer_module
from sidegate.ledger.database import Row
from sidegate.ledger.reconcile import Reconciliation
from sidegate.ledger.settlement import settle
from sidegate.ledger.store import NullLedger
from sidegate.ledger.stored import StoredLedger
from tests.plugins.calls import EPOCH, HandClock, a_call
from tests.relaying import until
from tests.stores import Store

NEVER = 3600.0
DAY = 86_400.0


class Jumping(HandClock):
    """Its wall clock can be set apart from its monotonic one."""

    def __init__(self) -> None:
        super().__init__()
        self.off = timedelta()

    def now(self) -> datetime:
        return super().now() + self.off


def opened(id: str, clock: HandClock | None = None, attempts: int = 1) -> Call:
    call = a_call(clock or HandClock())
    call.id = id
    for number in range(1, attempts + 1):
        call.attempts.append(
            Attempt(number=number, provider="p", target="t", started=1000.0, started_at=EPOCH, sent=True)
        )
    return call


def claim(amount: int, limit: int = 100, **given: object) -> Claim:
    fields: dict[str, object] = {"budget": "b", "subject": "[]", "period": "2026-11-22", "since": "2026-11-22"}
    return Claim(**{**fields, **given}, amount=amount, limit=limit)  # type: ignore[arg-type]


def end(ledger: StoredLedger | NullLedger, call: Call, cost: int | None = 7) -> None:
    """Settle a call as the core does, at this cost."""
    call.notes.price = lambda _: cost
    for attempt in call.attempts:
        if attempt.sent:
            attempt.usage, attempt.finish = Usage(1, 1), "stop"
    ledger.settle(*settle(call, Reply(), 1.0))


def open_at(
    store: Store, clock: HandClock | None = None, batch_seconds: float = 0.0
) -> AbstractAsyncContextManager[StoredLedger]:
    return store.ledger(clock or HandClock(), batch_seconds)


def states(store: Store) -> list[Row]:
    return store.rows("SELECT id, state, error, cost_nano_usd FROM calls ORDER BY id")


def money(store: Store) -> tuple[int, int, int]:
    sums = "SELECT coalesce(sum(spent), 0), coalesce(sum(held), 0), coalesce(sum(overshoot), 0) FROM budgets"
    ((spent, held, overshoot),) = store.rows(sums)
    return int(spent), int(held), int(overshoot)


def as_if_killed(store: Store, owner: str, host: str = "elsewhere boot ns", pid: int = 1) -> None:
    """Give what is reserved to a process on another machine, of which no more is heard."""
    store.execute("UPDATE calls SET owner = ? WHERE state = 'reserved'", owner)
    store.execute("DELETE FROM owners")
    store.execute("INSERT INTO owners VALUES (?, ?, ?, 1, '2026-11-22T12:00:30.000000+00:00')", owner, host, pid)


# --- openings ---------------------------------------------------------------------------------------------------------


async def test_a_call_that_opens_an_attempt_is_reserved_in_the_name_of_its_process(store: Store) -> None:
    async with open_at(store) as ledger:
        ledger.opened(opened("c1"))
        await ledger.flush()
        row = store.rows(
            "SELECT state, ending, cost_nano_usd, input_tokens, pid FROM calls JOIN owners ON owners.id = owner"
        )
        tried = store.rows("SELECT provider, target, ending, cost_nano_usd FROM attempts")
    assert row == [("reserved", "in_flight", None, None, os.getpid())]
    assert tried == [("p", "t", "in_flight", None)]


async def test_every_attempt_is_on_record_and_the_settlement_takes_their_place(store: Store) -> None:
    async with open_at(store) as ledger:
        call = opened("c1")
        ledger.opened(call)
        call.attempts.append(Attempt(number=2, provider="q", target="t", started=1000.0, started_at=EPOCH, sent=True))
        ledger.opened(call)
        await ledger.flush()
        assert store.rows("SELECT number, provider FROM attempts") == [(1, "p"), (2, "q")]
        assert store.rows("SELECT provider FROM calls") == [("q",)]
        end(ledger, call)
        await ledger.flush()
        found = await ledger.call("c1")
    assert found is not None
    assert [attempt.cost_nano_usd for attempt in found[1]] == [7, 7]
    assert states(store) == [("c1", "settled", None, 14)]


async def test_what_ends_within_its_batch_is_written_once(store: Store) -> None:
    async with open_at(store, batch_seconds=NEVER) as ledger:
        call = opened("c1")
        ledger.opened(call)
        assert ledger.waiting == 1
        end(ledger, call)
        assert ledger.waiting == 1
        await ledger.flush()
    assert states(store) == [("c1", "settled", None, 7)]


async def test_what_is_only_reserved_is_no_record_yet(store: Store) -> None:
    async with open_at(store) as ledger:
        ledger.opened(opened("c1"))
        await ledger.flush()
        assert await ledger.call("c1") is None


async def test_an_opening_that_comes_late_reopens_nothing(store: Store) -> None:
    async with open_at(store) as ledger:
        call = opened("c1")
        end(ledger, call)
        await ledger.flush()
        ledger.opened(call)
        await ledger.flush()
    assert states(store) == [("c1", "settled", None, 7)]


# --- money ------------------------------------------------------------------------------------------------------------


async def test_a_reservation_is_in_the_file_when_it_is_granted(store: Store) -> None:
    async with open_at(store, batch_seconds=NEVER) as ledger:
        (standing,) = await ledger.reserve(opened("c1"), [claim(60)])
        assert (standing.granted, standing.used, standing.remaining) == (True, 0, 40)
        assert money(store) == (0, 60, 0)
        assert states(store) == [("c1", "reserved", None, None)]


async def test_settlement_charges_what_it_cost_and_holds_nothing_more(store: Store) -> None:
    async with open_at(store) as ledger:
        call = opened("c1")
        await ledger.reserve(call, [claim(60)])
        end(ledger, call)
        end(ledger, call)
        await ledger.flush()
        end(ledger, call, 50)
        await ledger.flush()
    assert money(store) == (7, 0, 0)


async def test_what_costs_more_than_it_held_is_overshoot(store: Store) -> None:
    async with open_at(store) as ledger:
        call = opened("c1")
        await ledger.reserve(call, [claim(60)])
        end(ledger, call, 65)
    assert money(store) == (65, 0, 5)


async def test_an_unknown_cost_keeps_its_hold(store: Store) -> None:
    async with open_at(store) as ledger:
        call = opened("c1")
        await ledger.reserve(call, [claim(60)])
        end(ledger, call, None)
        await ledger.flush()
        (standing,) = await ledger.reserve(opened("c2"), [claim(41)])
        assert (standing.granted, standing.used, standing.remaining) == (False, 60, 40)
    assert money(store) == (0, 60, 0)


async def test_of_several_budgets_all_have_room_or_none_holds(store: Store) -> None:
    async with open_at(store) as ledger:
        both = [claim(60), claim(60, 50, budget="small")]
        assert [each.granted for each in await ledger.reserve(opened("c1"), both)] == [True, False]
        assert money(store) == (0, 0, 0)
        both = [claim(60), claim(60, 50, budget="small", hard=False)]
        assert [each.granted for each in await ledger.reserve(opened("c1"), both)] == [True, True]
    assert money(store) == (0, 120, 0)


async def test_the_next_attempt_takes_the_place_of_the_first_and_its_refusal_leaves_that(store: Store) -> None:
    async with open_at(store) as ledger:
        call = opened("c1", attempts=3)
        await ledger.reserve(call, [claim(60)])
        (standing,) = await ledger.reserve(call, [claim(101)])
        assert not standing.granted
        assert money(store) == (0, 60, 0)
        (standing,) = await ledger.reserve(call, [claim(90)])
        assert (standing.granted, standing.used) == (True, 0)
        assert money(store) == (0, 90, 0)
        end(ledger, call)
    assert money(store) == (21, 0, 0)


async def test_periods_that_count_are_summed_and_later_ones_too(store: Store) -> None:
    async with open_at(store) as ledger:
        for number, period in enumerate(("T10", "T11", "T12")):
            await ledger.reserve(opened(str(number)), [claim(20, period=period, since="T10")])
        (standing,) = await ledger.reserve(opened("a"), [claim(20, period="T12", since="T11")])
        assert standing.used == 40
        # A clock that was set back does not give the amount a second time.
        (standing,) = await ledger.reserve(opened("b"), [claim(30, period="T10", since="T10")])
        assert (standing.used, standing.granted) == (80, False)


async def test_steps_of_a_rolling_budget_are_forgotten_two_days_after_its_window_unless_they_hold(store: Store) -> None:
    steps = [f"2026-11-{day}T{hour:02}:00" for day in (18, 19, 20, 21, 22) for hour in (0, 6, 12, 18)]
    async with open_at(store) as ledger:
        for number, step in enumerate(steps):
            call = opened(step)
            since = "2026-11-01T00:00" if number < len(steps) - 1 else "2026-11-22T12:00"
            await ledger.reserve(call, [claim(1, 1000, period=step, since=since)])
            if number:
                end(ledger, call)
        await ledger.flush()
        kept = [step for (step,) in store.rows("SELECT period FROM budgets ORDER BY period")]
    assert kept == [steps[0], *[step for step in steps if step >= "2026-11-20T12:00"]]


async def test_two_hundred_racing_claims_never_hold_more_than_the_limit(store: Store) -> None:
    async with open_at(store) as ledger:
        taken = await asyncio.gather(*(ledger.reserve(opened(str(n)), [claim(3)]) for n in range(200)))
    assert money(store) == (0, 99, 0)
    assert sum(standing.granted for (standing,) in taken) == 33


async def test_what_a_call_let_go_is_there_for_the_next_of_its_batch(store: Store) -> None:
    async with open_at(store, batch_seconds=NEVER) as ledger:
        first = opened("c1")
        await ledger.reserve(first, [claim(100)])
        end(ledger, first)
        (standing,) = await ledger.reserve(opened("c2"), [claim(93)])
        assert (standing.granted, standing.used) == (True, 7)
    assert money(store) == (7, 93, 0)


async def test_gateways_that_race_in_different_steps_of_a_rolling_budget_never_hold_more_than_the_limit(
    store: Store,
) -> None:
    periods = ("T10", "T11", "T12", "T13")
    async with AsyncExitStack() as gateways:
        ledgers = [await gateways.enter_async_context(open_at(store)) for _ in periods]
        taken = await asyncio.gather(
            *(
                ledger.reserve(opened(f"{period}-{number}"), [claim(3, period=period, since="T10")])
                for number in range(50)
                for ledger, period in zip(ledgers, periods, strict=True)
            )
        )
    assert money(store) == (0, 99, 0)
    assert sum(standing.granted for (standing,) in taken) == 33


async def test_nor_do_they_in_memory() -> None:
    memory = NullLedger(HandClock())
    taken = await asyncio.gather(*(memory.reserve(opened(str(n)), [claim(3)]) for n in range(200)))
    await memory.stop()
    assert sum(standing.granted for (standing,) in taken) == 33


async def test_without_a_file_money_is_held_in_memory() -> None:
    ledger = NullLedger(HandClock())
    call = opened("c1")
    await ledger.reserve(call, [claim(60)])
    end(ledger, call)
    (standing,) = await ledger.reserve(opened("c2"), [claim(94)])
    assert (standing.used, standing.granted) == (7, False)
    await ledger.stop()


async def test_a_given_up_reservation_is_released_by_its_calls_settlement(store: Store) -> None:
    async with open_at(store) as ledger:
        call = opened("c1")
        task = asyncio.ensure_future(ledger.reserve(call, [claim(60)]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        call.attempts[0].sent = False
        call.attempts[0].ending = Ending.CANCELLED
        ledger.settle(*settle(call, Reply(ending=Ending.CANCELLED), 1.0))
        await ledger.flush()
    assert money(store) == (0, 0, 0)
    assert states(store) == [("c1", "settled", None, 0)]


async def test_a_claim_no_database_takes_is_refused_and_holds_nothing(store: Store) -> None:
    async with open_at(store) as ledger:
        with pytest.raises(SidegateError) as caught:
            await ledger.reserve(opened("c1"), [claim(2**70, 2**71)])
        assert (caught.value.status, caught.value.code) == (503, "ledger_unavailable")
        assert (await ledger.reserve(opened("c2"), [claim(100)]))[0].granted


async def test_a_locked_store_refuses_what_must_be_durable_and_not_what_need_not(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sidegate.ledger.sqlite_file.BUSY_SECONDS", 0.01)
    monkeypatch.setattr("sidegate.ledger.postgres.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(stored_module, "RESERVE_SECONDS", 0.1)
    async with open_at(store) as ledger:
        with store.locked():
            with pytest.raises(SidegateError) as caught:
                await ledger.reserve(opened("c1"), [claim(60)])
            assert (caught.value.status, caught.value.code) == (503, "ledger_unavailable")
            ledger.opened(opened("c2"))
            await until(lambda: "cannot write" in caplog.text)
            assert ledger.room, "a lock passes by itself"
        await ledger.flush()
        call = opened("c1")
        call.attempts[0].sent = False
        ledger.settle(*settle(call, Reply(ending=Ending.REFUSED), 1.0))
        await ledger.flush()
        assert money(store) == (0, 0, 0)


# --- who lives --------------------------------------------------------------------------------------------------------


async def test_what_a_killed_gateway_left_is_unknown_once_and_its_hold_stays(store: Store) -> None:
    async with open_at(store) as ledger:
        await ledger.reserve(opened("c1"), [claim(60)])
        as_if_killed(store, "them", lease_module.machine(), gone_pid())
    for _ in range(2):
        async with open_at(store) as ledger:
            found = await ledger.call("c1")
            assert found is not None
            row, (attempt,) = found
            assert (row.state, row.ending, row.error, row.status) == ("unknown", "failed", "gateway_killed", 500)
            assert (row.cost_nano_usd, row.input_tokens) == (None, None)
            assert row.duration == pytest.approx(30.0, abs=0.01)
            assert (attempt.ending, attempt.error) == ("failed", "gateway_killed")
    assert money(store) == (0, 60, 0)
    assert store.rows("SELECT count(*) FROM owners") == [(0,)]


def gone_pid() -> int:
    """The id of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


async def test_another_machines_gateway_is_dead_when_it_has_been_silent_for_a_lease(store: Store) -> None:
    clock = HandClock()
    async with open_at(store, clock) as ledger:
        ledger.opened(opened("c1"))
        await ledger.flush()
        as_if_killed(store, "them")
    async with open_at(store, clock) as ledger:
        for _ in range(6):
            clock.pass_by(5)
            await look(ledger)
            assert states(store)[0][1] == ("reserved" if clock.seconds < 1030 else "unknown")


async def look(ledger: StoredLedger) -> None:
    """Have the writer look, as it does every five seconds."""
    count = ledger._lease._looked
    ledger.settle(*settle(opened(f"tick-{ledger._clock.monotonic()}"), Reply(), 0.0))
    await ledger.flush()
    await until(lambda: ledger._lease._looked != count)
    await ledger.flush()


async def test_a_gateway_that_beats_is_left_alone_whatever_its_stamps_say(store: Store) -> None:
    clock = HandClock()
    async with open_at(store, clock) as ledger:
        ledger.opened(opened("c1"))
        await ledger.flush()
        as_if_killed(store, "them")
        for number in range(20):
            clock.pass_by(10)
            store.execute("UPDATE owners SET beats = ?, seen_at = '2020-01-01' WHERE id = 'them'", number + 2)
            await look(ledger)
            assert states(store)[0][:2] == ("c1", "reserved")


@pytest.mark.parametrize("days", [1, -1])
async def test_a_clock_that_jumps_frees_nothing_and_doubles_nothing(store: Store, days: int) -> None:
    mine, theirs = Jumping(), Jumping()
    async with open_at(store, mine) as ledger, open_at(store, theirs) as other:
        call = opened("c1")
        await ledger.reserve(call, [claim(60)])
        mine.off = theirs.off = timedelta(days=days)
        theirs.pass_by(6)
        await look(other)
        assert money(store) == (0, 60, 0)
        assert states(store)[0][:2] == ("c1", "reserved")
        end(ledger, call)
        await ledger.flush()
    assert money(store) == (7, 0, 0)
    assert states(store)[0][:2] == ("c1", "settled")


async def test_a_process_that_only_stood_still_settles_after_all(store: Store) -> None:
    clock = HandClock()
    async with open_at(store, HandClock()) as sleeper, open_at(store, clock) as other:
        call = opened("c1")
        await sleeper.reserve(call, [claim(60)])
        store.execute("UPDATE owners SET host = 'elsewhere boot ns'")
        for _ in range(7):
            clock.pass_by(6)
            await look(other)
        assert states(store)[0][:3] == ("c1", "unknown", "gateway_killed")
        end(sleeper, call)
        end(sleeper, call)
        await sleeper.flush()
    assert states(store)[0] == ("c1", "settled", None, 7)
    assert money(store) == (7, 0, 0)


async def test_while_nobody_can_look_nobody_is_silent(store: Store) -> None:
    clock = HandClock()
    async with open_at(store, HandClock()) as silent, open_at(store, clock) as other:
        await silent.reserve(opened("c1"), [claim(60)])
        store.execute("UPDATE owners SET host = 'elsewhere boot ns'")
        clock.pass_by(6)
        await look(other)
        clock.pass_by(600)
        await look(other)
        assert states(store)[0][:2] == ("c1", "reserved"), "the store may have been away: it could not beat"
        for _ in range(6):
            clock.pass_by(6)
            await look(other)
        assert states(store)[0][:2] == ("c1", "unknown")


async def test_an_idle_ledger_writes_nothing_and_a_clean_end_leaves_no_lease(store: Store) -> None:
    async with open_at(store) as ledger:
        assert store.rows("SELECT count(*) FROM owners") == [(0,)]
        ledger.opened(opened("c1"))
        await ledger.flush()
        assert store.rows("SELECT count(*) FROM owners") == [(1,)]
        end(ledger, opened("c1"))
    assert store.rows("SELECT count(*) FROM owners") == [(0,)]


# --- reconcile --------------------------------------------------------------------------------------------------------


@contextmanager
def reconciling(store: Store) -> Iterator[Reconciliation]:
    found = Reconciliation(store.url, HandClock())
    try:
        yield found
    finally:
        found.close()


async def test_all_that_is_incomplete_is_listed_and_nothing_else(store: Store) -> None:
    async with open_at(store) as ledger:
        done, unknown, unpriced = (opened(name) for name in ("done", "unknown", "unpriced"))
        for call in (done, unknown, unpriced, opened("running")):
            await ledger.reserve(call, [claim(10)])
        end(ledger, done)
        end(ledger, unpriced, None)
        ledger.settle(*settle(unknown, Reply(ending=Ending.TIMED_OUT), 1.0))
        await ledger.flush()
        with reconciling(store) as found:
            listed = {call.id: (call.state, call.held_nano_usd) for call in found.unfinished()}
    assert listed == {"unknown": ("unknown", 10), "unpriced": ("settled", 10), "running": ("reserved", 10)}


async def test_an_operator_settles_once_and_never_what_runs(store: Store) -> None:
    async with open_at(store) as ledger:
        for name, cost in (("a", None), ("b", None)):
            call = opened(name)
            await ledger.reserve(call, [claim(10)])
            end(ledger, call, cost)
        await ledger.reserve(opened("running"), [claim(10)])
        await ledger.flush()
        with reconciling(store) as found:
            found.answer("a", 4)
            found.answer("b", 0)
            for id in ("a", "b", "nobody"):
                with pytest.raises(ConfigError, match="not among the unfinished"):
                    found.answer(id, 4)
            with pytest.raises(ConfigError, match="in flight"):
                found.answer("running", 4)
            assert [call.id for call in found.unfinished()] == ["running"]
        assert money(store) == (4, 10, 0)


async def test_what_an_operator_settled_stays_when_its_process_comes_back(store: Store) -> None:
    async with open_at(store) as ledger:
        call = opened("c1")
        await ledger.reserve(call, [claim(60)])
        store.execute("UPDATE calls SET state = 'unknown', error = 'gateway_killed'")
        with reconciling(store) as found:
            found.answer("c1", 30)
        end(ledger, call)
        await ledger.flush()
    assert money(store) == (30, 0, 0)
    assert states(store)[0][1:] == ("settled", "gateway_killed", 30)


def test_there_is_nothing_to_reconcile_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        Reconciliation(f"sqlite:///{tmp_path}/none.db", HandClock())


def test_a_standing_tells_what_is_left() -> None:
    assert Standing(claim(60), 50).remaining == 50
    assert Standing(claim(60), 40).remaining == 0
    assert Standing(claim(60), 150).remaining == 0
    assert Standing(claim(60, hard=False), 50).granted
