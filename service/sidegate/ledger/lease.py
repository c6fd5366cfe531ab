"""Leases: which process a reservation belongs to, and whether it lives. What the dead left open becomes `unknown`.

A process counts its own beats up in the file. Whoever watches takes it for dead when the count has not moved for
`LEASE_SECONDS` of the watcher's own monotonic clock: no two clocks are ever compared, so a clock that jumps frees
nothing. On the same machine a process that is gone is known at once.
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from typing import Final

from sidegate.contract.host import Clock
from sidegate.ledger.database import Database, Dialect
from sidegate.ledger.rows import stamp

BEAT_SECONDS: Final = 5.0
COUNT_SECONDS: Final = 60.0
LEASE_SECONDS: Final = 30.0
GATEWAY_KILLED: Final = "gateway_killed"

_BEAT = """INSERT INTO owners (id, host, pid, beats, seen_at) VALUES (:id, :host, :pid, :beats, :now)
    ON CONFLICT (id) DO UPDATE SET beats = excluded.beats, seen_at = excluded.seen_at"""
_OWNERS = """SELECT DISTINCT calls.owner, owners.host, owners.pid, owners.beats
    FROM calls LEFT JOIN owners ON owners.id = calls.owner
    WHERE calls.state = 'reserved' AND calls.owner IS NOT NULL AND calls.owner <> ?"""
_ABANDON_ATTEMPTS = """UPDATE attempts SET ending = 'failed', error = :error WHERE ending = 'in_flight' AND call_id IN
    (SELECT id FROM calls WHERE state = 'reserved' AND owner = :owner)"""
_LASTED: dict[Dialect, str] = {
    "sqlite": "max(0.0, coalesce((julianday({seen}) - julianday(started_at)) * 86400, 0.0))",
    "postgresql": "greatest(0.0, coalesce(extract(epoch FROM {seen}::timestamptz - started_at::timestamptz), 0.0))",
}
_ABANDON = """UPDATE calls SET state = 'unknown', status = 500, ending = 'failed', error = :error, settled_at = :now,
    duration = {lasted} WHERE state = 'reserved' AND owner = :owner"""
_UNSETTLED = """SELECT count(*) FROM (SELECT id FROM calls WHERE state = 'unknown' AND reconciled IS NULL
    UNION SELECT calls.id FROM holds JOIN calls ON calls.id = holds.call_id
    WHERE calls.state <> 'reserved') AS waiting"""
_SEEN = "(SELECT seen_at FROM owners WHERE id = :owner)"


class Lease:
    """This process's own, and what it has seen of the others. For one thread."""

    def __init__(self, clock: Clock) -> None:
        self.id = secrets.token_hex(8)
        """This process, this time: a restart is another owner."""
        self._clock = clock
        self._machine = ""
        self._beats = 0
        self._beaten = 0.0
        self._looked = 0.0
        self._saw = 0.0
        """When the others were seen last: while the store is away nobody can beat, and nobody is silent."""
        self._seen: dict[str, tuple[int | None, float]] = {}
        self._counted = 0.0
        self.unsettled: int | None = None
        """How many calls wait for an operator, as of the last minute; `None` before it was asked."""

    def due(self) -> bool:
        """Whether a beat is due, where something is reserved in this process's name."""
        return not self._beats or self._clock.monotonic() - self._beaten >= BEAT_SECONDS

    def beat(self, database: Database) -> None:
        """Within a transaction: say that this process lives."""
        self._machine = self._machine or machine()
        self._beats += 1
        self._beaten = self._clock.monotonic()
        now = stamp(self._clock.now())
        names = {"id": self.id, "host": self._machine, "pid": os.getpid(), "beats": self._beats, "now": now}
        database.execute(_BEAT, names)

    def leave(self, database: Database) -> None:
        """This process ends, and has left nothing open."""
        database.execute("DELETE FROM owners WHERE id = ?", (self.id,))

    def abandon(self, database: Database, at_once: bool = False) -> int | None:
        """Mark what dead processes left open, in a transaction of its own. Gives how many calls; `None` where it is too
        soon to look again, if that need not be `at_once`."""
        if self._looked and not at_once and self._clock.monotonic() - self._looked < BEAT_SECONDS:
            return None
        try:
            dead = self._dead(database)
            return abandon(database, dead, stamp(self._clock.now())) if dead else 0
        finally:
            self._looked = self._clock.monotonic()

    def count(self, database: Database) -> None:
        """See how many calls wait for an operator, every minute."""
        now = self._clock.monotonic()
        if self.unsettled is None or now - self._counted >= COUNT_SECONDS:
            self._counted = now
            (self.unsettled,) = database.execute(_UNSETTLED).fetchone() or (0,)

    def _dead(self, database: Database) -> list[str]:
        now = self._clock.monotonic()
        found = database.execute(_OWNERS, (self.id,)).fetchall()
        if now - self._saw > LEASE_SECONDS / 2:
            self._seen.clear()
        self._saw = now
        dead = []
        seen: dict[str, tuple[int | None, float]] = {}
        for owner, host, pid, beats in found:
            before = self._seen.get(owner)
            seen[owner] = before if before is not None and before[0] == beats else (beats, now)
            if now - seen[owner][1] >= LEASE_SECONDS or is_gone(host, pid):
                dead.append(owner)
        self._seen = seen
        return dead


def abandon(database: Database, owners: list[str], now: str) -> int:
    """Mark all that these owners left open, once: a call that is no longer `reserved` stays as it is."""
    count = 0
    lasted = _LASTED[database.dialect].format(seen=_SEEN)
    with database.transaction():
        for owner in sorted(owners):
            names = {"owner": owner, "error": GATEWAY_KILLED, "now": now}
            database.execute(_ABANDON_ATTEMPTS, names)
            count += database.execute(_ABANDON.format(lasted=lasted), names).rowcount
            database.execute("DELETE FROM owners WHERE id = ?", (owner,))
    return count


def machine() -> str:
    """This machine since it started, and the process ids' name space: where a process id means the same process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def is_gone(host: str | None, pid: int | None) -> bool:
    """Whether the process is known to have ended. False where that cannot be said from here."""
    if host is None or pid is None or " " not in host or host != machine():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
