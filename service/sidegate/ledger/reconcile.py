"""Reconcile: the calls whose story is incomplete, and an operator's word on what they cost."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from sidegate.contract.host import Clock
from sidegate.errors import ConfigError
from sidegate.ledger import lease, money
from sidegate.ledger.rows import stamp
from sidegate.ledger.sqlite_file import open_file

_LIST = """SELECT calls.id, calls.state, calls.ending, calls.error, calls.caller, calls.model_asked, calls.provider,
        calls.started_at, owners.seen_at, coalesce(max(holds.amount), 0)
    FROM calls LEFT JOIN holds ON holds.call_id = calls.id LEFT JOIN owners ON owners.id = calls.owner
    WHERE calls.state <> 'settled' AND calls.reconciled IS NULL OR calls.id IN (SELECT call_id FROM holds)
    GROUP BY calls.id ORDER BY calls.started_at, calls.id"""
_OWNERS = """SELECT DISTINCT calls.owner, owners.host, owners.pid FROM calls JOIN owners ON owners.id = calls.owner
    WHERE calls.state = 'reserved'"""
_ANSWER = "UPDATE calls SET state = 'settled', cost_nano_usd = :cost, reconciled = :now WHERE id = :id"


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
    """The ledger's file, opened for an operator. A gateway may run on it meanwhile."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Raises `ConfigError` where there is no such file, or it cannot be used."""
        if not path.exists():
            raise ConfigError("ledger.url", f"{path} does not exist")
        self._connection = open_file(path)
        self._clock = clock

    def close(self) -> None:
        self._connection.close()

    def unfinished(self) -> list[Unfinished]:
        """All of them, oldest first. What gateways left open that are known to be gone is marked `unknown` before."""
        owners = self._connection.execute(_OWNERS).fetchall()
        dead = [owner for owner, host, pid in owners if lease.is_gone(host, pid)]
        if dead:
            lease.abandon(self._connection, dead, stamp(self._clock.now()))
        return [Unfinished(*row) for row in self._connection.execute(_LIST)]

    def answer(self, id: str, cost: int) -> None:
        """The call has cost this, in nano-USD: its budgets are charged and hold nothing for it any more.

        Raises `ConfigError` where there is nothing to answer: it is settled, runs, or is not on record.
        """
        found = {call.id: call for call in self.unfinished()}
        if id not in found:
            raise ConfigError("", f"call {id} is not among the unfinished ones")
        if found[id].state == "reserved":
            raise ConfigError("", f"call {id} is in flight, as far as is known: its gateway has not been found dead")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.execute(_ANSWER, {"id": id, "cost": cost, "now": stamp(self._clock.now())})
            money.settle(self._connection, id, cost)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def ledger_path(url: str) -> Path:
    """The file a ledger's URL means. Raises `ConfigError` where it means none."""
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path:
        raise ConfigError("ledger.url", "there is no ledger to reconcile: nothing outlives the gateway")
    return Path(path)
