"""Whatever is done in whatever order, held and spent tell what was done; and processes that race never overspend."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from sidegate.contract import Claim
from sidegate.contract.host import SystemClock
from sidegate.ledger import lease, money
from sidegate.ledger.database import Database
from sidegate.ledger.journal import Journal
from sidegate.ledger.postgres import PostgresDatabase
from sidegate.ledger.postgres_journal import PostgresJournal
from sidegate.ledger.rows import AttemptRow, CallRow
from sidegate.ledger.sqlite_database import SqliteDatabase
from sidegate.ledger.sqlite_journal import SqliteJournal
from sidegate.ledger.work import Reservation, Settlement, Work
from tests.plugins.calls import EPOCH
from tests.stores import Store

LIMIT = 1000
NOW = "2026-11-22T12:00:00.000000+00:00"


def rows(id: str, state: str, cost: int | None) -> tuple[CallRow, tuple[AttemptRow, ...]]:
    call = CallRow(
        id=id,
        route="r",
        operation="chat",
        dialect="d",
        delivery="buffered",
        caller="ann",
        model_asked="m",
        status=200,
        ending="complete",
        cost_nano_usd=cost,
        state=state,  # type: ignore[arg-type]  # one of the three
        started_at=EPOCH,
        duration=0.0,
    )
    attempt = AttemptRow(
        call_id=id, number=1, provider="p", target="t", ending="in_flight", started_at=EPOCH, duration=0.0
    )
    return call, (attempt,)


class Money(RuleBasedStateMachine):
    """The ledger beside the simplest model of it: what each call holds, and what was spent."""

    open = Bundle("open")

    database: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        for table in ("calls", "attempts", "owners", "budgets", "holds"):
            self.database.execute(f"DELETE FROM {table}")
        # A gateway each: what one of them knows of its calls, the other does not.
        self.journals: dict[str, tuple[Journal, lease.Lease]] = {}
        for owner in ("a", "b"):
            mine = lease.Lease(SystemClock())
            mine.id = owner
            self.journals[owner] = journal_of(self.database), mine
        self.holds: dict[str, int] = {}
        self.owner: dict[str, str] = {}
        self.state: dict[str, str] = {}
        self.spent = 0
        self.overshoot = 0

    def write(self, owner: str, work: Work, twice: bool = False) -> None:
        """As the writer does; `twice` where the answer to the first commit was lost."""
        journal, mine = self.journals[owner]
        for _ in range(1 + twice):
            journal.write([work], mine, False)

    @rule(target=open, amount=some.integers(0, 600), owner=some.sampled_from(["a", "b"]), twice=some.booleans())
    def reserve(self, amount: int, owner: str, twice: bool) -> str:
        id = f"c{len(self.state)}"
        self._reserve(id, amount, owner, twice)
        return id

    @rule(id=open, amount=some.integers(0, 600), twice=some.booleans())
    def reserve_again(self, id: str, amount: int, twice: bool) -> None:
        if self.state[id] == "reserved":
            self._reserve(id, amount, self.owner[id], twice)

    def _reserve(self, id: str, amount: int, owner: str, twice: bool) -> None:
        used = self.spent + sum(held for call, held in self.holds.items() if call != id)
        work = Reservation(rows(id, "reserved", None), [Claim("b", "[]", "d", "d", amount, LIMIT)])
        self.write(owner, work, twice)
        (standing,) = work.standings
        self.state[id] = "reserved"
        self.owner[id] = owner
        assert standing.used == used
        assert standing.granted == (used + amount <= LIMIT)
        if standing.granted:
            self.holds[id] = amount

    @rule(id=open, cost=some.one_of(some.none(), some.integers(0, 900)), twice=some.booleans())
    def settle(self, id: str, cost: int | None, twice: bool) -> None:
        self.write(self.owner[id], Settlement(rows(id, "settled" if cost is not None else "unknown", cost)), twice)
        if self.state[id] not in ("reserved", "killed"):
            return
        self.state[id] = "settled" if cost is not None else "unknown"
        self._charge(id, cost)

    @rule(owner=some.sampled_from(["a", "b"]))
    def expire(self, owner: str) -> None:
        mine = [id for id, state in self.state.items() if state == "reserved" and self.owner[id] == owner]
        assert lease.abandon(self.database, [owner], NOW) == len(mine)
        self.state |= dict.fromkeys(mine, "killed")

    @rule(id=consumes(open), cost=some.integers(0, 900))
    def release(self, id: str, cost: int) -> None:
        """An operator's word on what is unknown."""
        if self.state[id] not in ("killed", "unknown"):
            return
        with self.database.transaction():
            self.database.execute("UPDATE calls SET state = 'settled' WHERE id = ?", (id,))
            money.settle(self.database, id, cost)
        self.state[id] = "settled"
        self._charge(id, cost)

    def _charge(self, id: str, cost: int | None) -> None:
        if cost is None or id not in self.holds:
            return
        held = self.holds.pop(id)
        self.spent += cost
        self.overshoot += max(0, cost - held)

    @invariant()
    def the_file_agrees(self) -> None:
        found = self.database.execute("SELECT spent, held, overshoot FROM budgets").fetchone() or (0, 0, 0)
        assert found == (self.spent, sum(self.holds.values()), self.overshoot)
        assert min(found) >= 0
        assert self.spent + sum(self.holds.values()) - self.overshoot <= LIMIT
        held = self.database.execute("SELECT call_id, amount FROM holds").fetchall()
        assert dict(held) == self.holds


def journal_of(database: Database) -> Journal:
    if isinstance(database, SqliteDatabase):
        return SqliteJournal(database)
    assert isinstance(database, PostgresDatabase)
    return PostgresJournal(database)


def test_what_is_held_and_spent_is_what_was_done(store: Store) -> None:
    with store.database() as opened:

        class Stored(Money):
            database = opened

        many = 50 if store.kind == "sqlite" else 20
        patient = [HealthCheck.too_slow]
        within = settings(max_examples=many, stateful_step_count=40, deadline=None, suppress_health_check=patient)
        run_state_machine_as_test(Stored, settings=within)


RACER = """
import asyncio, sys
from sidegate.contract import Claim, SystemClock
from sidegate.ledger.store import open_ledger
from tests.test_reserve import end, opened

async def main(url, name):
    ledger = open_ledger(url, SystemClock(), 0.01)
    await ledger.start()
    print("ready", flush=True)
    sys.stdin.readline()
    async def one(number):
        call = opened(f"{name}-{number}")
        (standing,) = await ledger.reserve(call, [Claim("b", "[]", "d", "d", 7, 1000)])
        if not standing.granted:
            call.attempts[0].sent = False
        end(ledger, call, number % 7 + 1)
        return standing.granted
    granted = sum(await asyncio.gather(*(one(number) for number in range(200))))
    number = 200
    while await one(number):
        number += 1
    await ledger.stop()
    print(granted)

asyncio.run(main(*sys.argv[1:]))
"""


def test_processes_that_race_on_one_store_never_overspend(store: Store) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, store.url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
        )
        for name in "abcd"
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == b"ready\n"
    # Who gets how much is chance: one batch of a racer's may take all there is at once.
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(b"\n")
        racer.stdin.flush()
    granted = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    ((spent, held, overshoot),) = store.rows("SELECT spent, held, overshoot FROM budgets")
    ((cost, calls),) = store.rows("SELECT sum(cost_nano_usd), count(*) FROM calls")
    reserved = store.rows("SELECT count(*) FROM calls WHERE state = 'reserved'")
    assert sum(granted) >= 1000 // 7
    # The last of them may be refused while each of the others still holds what it will not spend.
    assert 1000 - 4 * 7 < spent == cost <= 1000
    assert (held, overshoot) == (0, 0)
    assert reserved == [(0,)]
    assert calls > 800
