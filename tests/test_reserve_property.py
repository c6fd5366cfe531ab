"""Whatever is done in whatever order, held and spent tell what was done; and processes that race never overspend."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from sidegate.contract import Claim
from sidegate.ledger import lease, money, sqlite_rows
from sidegate.ledger.rows import AttemptRow, CallRow
from sidegate.ledger.sqlite_file import open_memory
from tests.plugins.calls import EPOCH

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

    def __init__(self) -> None:
        super().__init__()
        self.file = open_memory()
        self.holds: dict[str, int] = {}
        self.owner: dict[str, str] = {}
        self.state: dict[str, str] = {}
        self.spent = 0
        self.overshoot = 0

    @rule(target=open, amount=some.integers(0, 600), owner=some.sampled_from(["a", "b"]))
    def reserve(self, amount: int, owner: str) -> str:
        id = f"c{len(self.state)}"
        self._reserve(id, amount, owner)
        return id

    @rule(id=open, amount=some.integers(0, 600))
    def reserve_again(self, id: str, amount: int) -> None:
        if self.state[id] == "reserved":
            self._reserve(id, amount, self.owner[id])

    def _reserve(self, id: str, amount: int, owner: str) -> None:
        used = self.spent + sum(held for call, held in self.holds.items() if call != id)
        self.file.execute("BEGIN")
        sqlite_rows.opened(self.file, rows(id, "reserved", None), owner)
        (standing,) = money.reserve(self.file, id, [Claim("b", "[]", "d", "d", amount, LIMIT)])
        self.file.execute("COMMIT")
        self.state[id] = "reserved"
        self.owner[id] = owner
        assert standing.used == used
        assert standing.granted == (used + amount <= LIMIT)
        if standing.granted:
            self.holds[id] = amount

    @rule(id=open, cost=some.one_of(some.none(), some.integers(0, 900)))
    def settle(self, id: str, cost: int | None) -> None:
        self.file.execute("BEGIN")
        sqlite_rows.write(self.file, rows(id, "settled" if cost is not None else "unknown", cost))
        self.file.execute("COMMIT")
        if self.state[id] not in ("reserved", "killed"):
            return
        self.state[id] = "settled" if cost is not None else "unknown"
        self._charge(id, cost)

    @rule(owner=some.sampled_from(["a", "b"]))
    def expire(self, owner: str) -> None:
        mine = [id for id, state in self.state.items() if state == "reserved" and self.owner[id] == owner]
        assert lease.abandon(self.file, [owner], NOW) == len(mine)
        self.state |= dict.fromkeys(mine, "killed")

    @rule(id=consumes(open), cost=some.integers(0, 900))
    def release(self, id: str, cost: int) -> None:
        """An operator's word on what is unknown."""
        if self.state[id] not in ("killed", "unknown"):
            return
        self.file.execute("BEGIN")
        self.file.execute("UPDATE calls SET state = 'settled' WHERE id = ?", (id,))
        money.settle(self.file, id, cost)
        self.file.execute("COMMIT")
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
        found = self.file.execute("SELECT spent, held, overshoot FROM budgets").fetchone() or (0, 0, 0)
        assert found == (self.spent, sum(self.holds.values()), self.overshoot)
        assert min(found) >= 0
        assert self.spent + sum(self.holds.values()) - self.overshoot <= LIMIT
        assert dict(self.file.execute("SELECT call_id, amount FROM holds")) == self.holds

    def teardown(self) -> None:
        self.file.close()


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


RACER = """
import asyncio, sys
from pathlib import Path
from sidegate.contract import Claim, SystemClock
from sidegate.ledger.sqlite import SqliteLedger
from tests.test_reserve import end, opened

async def main(path, name):
    ledger = SqliteLedger(Path(path), SystemClock(), 0.01)
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


def test_processes_that_race_on_one_file_never_overspend(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
        )
        for name in ("a", "b")
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
    with closing(sqlite3.connect(path)) as file:
        ((spent, held, overshoot),) = file.execute("SELECT spent, held, overshoot FROM budgets").fetchall()
        ((cost, calls),) = file.execute("SELECT sum(cost_nano_usd), count(*) FROM calls").fetchall()
        reserved = file.execute("SELECT count(*) FROM calls WHERE state = 'reserved'").fetchone()
    assert sum(granted) >= 1000 // 7
    assert 1000 - 7 < spent == cost <= 1000
    assert (held, overshoot) == (0, 0)
    assert reserved == (0,)
    assert calls > 400
