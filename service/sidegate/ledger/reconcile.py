"""Reconcile: the calls whose story is incomplete, and an operator's word on what they cost."""

from __future__ import annotations

from msgspec import Struct

from sidegate.contract.host import Clock
from sidegate.errors import ConfigError
from sidegate.ledger import lease, money
from sidegate.ledger.database import PLACE, is_postgres
from sidegate.ledger.opening import open_database
from sidegate.ledger.rows import stamp

_FIELDS = """calls.id, calls.state, calls.ending, calls.error, calls.caller, calls.model_asked, calls.provider,
        calls.started_at, owners.seen_at, coalesce(max(holds.amount), 0)"""
_FROM = "calls LEFT JOIN holds ON holds.call_id = calls.id LEFT JOIN owners ON owners.id = calls.owner"
_LIST = f"""SELECT {_FIELDS} FROM {_FROM} WHERE calls.id IN (
        SELECT id FROM calls WHERE state <> 'settled' AND reconciled IS NULL UNION SELECT call_id FROM holds)
    GROUP BY calls.id, owners.id ORDER BY calls.started_at, calls.id"""
_STATE = "SELECT state, reconciled, EXISTS (SELECT 1 FROM holds WHERE call_id = calls.id) FROM calls WHERE id = ?"
_OWNERS = """SELECT DISTINCT calls.owner, owners.host, owners.pid FROM calls JOIN owners ON owners.id = calls.owner
    WHERE calls.state = 'reserved'"""
_ANSWER = "UPDATE calls SET state = 'settled', cost_nano_usd = :cost, reconciled = :now WHERE id = :id"


PATIENCE_SECONDS = 60.0
"""The longest a statement may take: an operator waits for it, and no call."""


class Unfinished(Struct, frozen=True):
    """A call that is `reserved` or `unknown`, or whose cost is not known while a budget holds money for it."""

    id: str
    state: str
    ending: str
    error: str | None
    caller: str
    model_asked: str
    provider: str | None
    started_at: str
    gateway_seen_at: str | None
    """When the gateway of a reserved call last said that it lives."""
    held_nano_usd: int
    """What each of its budgets holds for it."""


class Reconciliation:
    """The ledger, opened for an operator. A gateway may run on it meanwhile."""

    def __init__(self, url: str, clock: Clock) -> None:
        """Raises `ConfigError` where there is no such ledger, or it cannot be used."""
        if not is_postgres(url):
            _must_exist(url)
        self._database = open_database(url, patience=PATIENCE_SECONDS)
        self._clock = clock

    def close(self) -> None:
        self._database.close()

    def unfinished(self) -> list[Unfinished]:
        """All of them, oldest first. What gateways left open that are known to be gone is marked `unknown` before."""
        self._bury()
        return [Unfinished(*row) for row in self._database.execute(_LIST).fetchall()]

    def answer(self, id: str, cost: int) -> None:
        """The call has cost this, in nano-USD: its budgets are charged and hold nothing for it any more.

        Raises `ConfigError` where there is nothing to answer: it is settled, runs, or is not on record.
        """
        database = self._database
        self._bury()
        with database.transaction():
            # In two steps: what it holds is read once nobody else can change the call.
            database.execute(f"SELECT id FROM calls WHERE id = ?{database.for_update}", (id,)).fetchone()
            found = database.execute(_STATE, (id,)).fetchone()
            if found is None or not (found[2] or (found[0] != "settled" and found[1] is None)):
                raise ConfigError("", f"call {id} is not among the unfinished ones")
            if found[0] == "reserved":
                raise ConfigError(
                    "", f"call {id} is in flight, as far as is known: its gateway has not been found dead"
                )
            database.execute(_ANSWER, {"id": id, "cost": cost, "now": stamp(self._clock.now())})
            money.settle(database, id, cost)

    def _bury(self) -> None:
        owners = self._database.execute(_OWNERS).fetchall()
        dead = [owner for owner, host, pid in owners if lease.is_gone(host, pid)]
        if dead:
            lease.abandon(self._database, dead, stamp(self._clock.now()))


def _must_exist(url: str) -> None:
    if not url:
        raise ConfigError(PLACE, "there is no ledger to reconcile: nothing outlives the gateway")
    from sidegate.ledger.sqlite_database import sqlite_path

    if not (path := sqlite_path(url)).exists():
        raise ConfigError(PLACE, f"{path} does not exist")
